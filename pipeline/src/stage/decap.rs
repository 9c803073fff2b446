//! Cracking: the outer header checked and taken off (ops 410, 535, 554, 658).

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, View};
use crate::stage::encap;
use crate::verdict::Verdict;
use crate::wire::checksum::Sum;
use crate::wire::family::{Family, V4, V6, Version};
use crate::wire::{ethernet, put_u16, tunnel, u16_at};

const ECN: u8 = 0x03;
const CONGESTION: u8 = 0x03;

/// Takes the outer headers off a packet of kind [`Kind::Tunnel`], of which `inner` is
/// [`View::inner`]: IP packets of any kind come out but tunnels and what is malformed. Header
/// checksums are verified, that of the inner TCP is not. When the verdict says what is wrong,
/// the packet is as it was or not to be used any more.
#[inline(always)]
pub fn open<B: Buffer>(packet: &mut Packet<B>, inner: View) -> Result<(), Verdict> {
    match inner.kind {
        Kind::Tcp | Kind::Icmp | Kind::FirstFragment | Kind::Fragment => {}
        Kind::Tunnel | Kind::BadTunnel => return Err(Verdict::TunnelNested),
        Kind::Other(Verdict::OtherProtocol) => return Err(Verdict::TunnelOtherProtocol),
        _ => return Err(Verdict::TunnelMalformed),
    }
    if !packet.ip_checksum_ok() || !udp_checksum_ok(packet, inner) {
        return Err(Verdict::TunnelChecksum);
    }
    let outer_ecn = traffic_class(packet) & ECN;
    let l3 = usize::from(packet.view.l3);
    let removed = usize::from(inner.l3) - l3;
    packet.buffer.truncate(inner.end as usize);
    let bytes = packet.buffer.head_mut();
    // Behind the move, which would have to wait for it.
    ethernet::relocate(bytes, 0, removed, l3);
    put_u16(bytes, removed + l3 - 2, inner.version.ethertype());
    packet.buffer.trim_front(removed);
    let back = |offset: u16| offset - removed as u16;
    packet.view = View {
        l3: back(inner.l3),
        l4: back(inner.l4),
        payload: back(inner.payload),
        end: inner.end - removed as u32,
        ..inner
    };
    if !packet.ip_checksum_ok() {
        return Err(Verdict::TunnelInnerChecksum);
    }
    decapsulate_ecn(packet, outer_ecn)
}

/// A UDP checksum of zero is none, over IPv6 as well (RFC 6935). Of one that is there, what
/// the inner TCP checksum covers is left to that.
fn udp_checksum_ok<B: Buffer>(packet: &Packet<B>, inner: View) -> bool {
    fn pseudo<F: Family>(ip: &[u8], length: usize) -> Sum {
        F::pseudo_header(F::source(ip), F::destination(ip), tunnel::UDP, length)
    }
    let View { l4, payload, end, version, .. } = packet.view;
    let header = &packet.buffer.head()[usize::from(l4)..usize::from(payload)];
    let is_udp = header.len() > tunnel::UDP_HEADER;
    if !is_udp || u16_at(header, tunnel::UDP_CHECKSUM) == 0 {
        return true;
    }
    let length = end as usize - usize::from(l4);
    let pseudo = match version {
        Version::V4 => pseudo::<V4>(packet.ip(), length),
        Version::V6 => pseudo::<V6>(packet.ip(), length),
    };
    let bytes = packet.buffer.head();
    let Some(inside) = encap::sum_of(bytes, inner) else { return false };
    // What follows the inner packet within the datagram is summed with it. Most often nothing does,
    // and then the packet may be spread over several buffer segments.
    let rest = inner.end as usize..end as usize;
    let Some(rest) = bytes.get(rest.clone()).or(rest.is_empty().then_some(&[])) else {
        return false;
    };
    let rest = if inner.end.is_multiple_of(2) == inner.l3.is_multiple_of(2) {
        Sum::of(rest)
    } else {
        Sum::of_at_odd(rest)
    };
    Sum::of(header).plus(pseudo).plus(inside).plus(rest).fold() == 0xffff
}

#[inline(always)]
fn traffic_class<B: Buffer>(packet: &Packet<B>) -> u8 {
    match packet.view.version {
        Version::V4 => V4::traffic_class(packet.ip()),
        Version::V6 => V6::traffic_class(packet.ip()),
    }
}

fn set_ecn<B: Buffer>(packet: &mut Packet<B>, class: u8, ecn: u8) {
    let value = class & !ECN | ecn;
    match packet.view.version {
        Version::V4 => V4::set_traffic_class(packet.ip_mut(), value),
        Version::V6 => V6::set_traffic_class(packet.ip_mut(), value),
    }
}

/// RFC 6040, section 4.2, figure 4.
#[inline(always)]
fn decapsulate_ecn<B: Buffer>(packet: &mut Packet<B>, outer: u8) -> Result<(), Verdict> {
    let class = traffic_class(packet);
    match (class & ECN, outer) {
        (0b00, CONGESTION) => return Err(Verdict::TunnelCongestion),
        // ECT(1) outside stands over ECT(0) inside, congestion over both.
        (0b10, 0b01) => set_ecn(packet, class, 0b01),
        (0b01 | 0b10, CONGESTION) => set_ecn(packet, class, CONGESTION),
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::testing::{Segment, ethernet_frame, tunnel, tunnel_in};
    use crate::wire::tunnel::Format;

    const OUTER: [(&str, &str); 2] =
        [("203.0.113.10", "198.51.100.10"), ("2001:db8:2::10", "2001:db8:3::10")];

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7)
    }

    fn syn6() -> Segment {
        Segment::syn("[2001:db8::1]:40000", "[2001:db8::2]:80", 7)
    }

    fn outer(class: u8, inner: &[u8]) -> Vec<u8> {
        ethernet_frame(syn().macs, &tunnel(OUTER[0].0, OUTER[0].1, class, inner))
    }

    fn crack(frame: &[u8]) -> Result<Vec<u8>, Verdict> {
        let mut packet = Packet::new(HeapBuffer::new(frame));
        if packet.view.kind != Kind::Tunnel {
            return Err(Verdict::ForeignTunnel);
        }
        let inner = packet.view.inner(frame);
        open(&mut packet, inner)?;
        let plain = packet.buffer.frame().to_vec();
        assert_eq!(packet.view, View::parse(&plain, plain.len()));
        Ok(plain)
    }

    #[test]
    fn uncovers_what_was_put_in_by_any_format_and_drops_padding() {
        for inner in [syn(), syn6(), syn().payload(b"odd")] {
            for ends in OUTER {
                for format in Format::ALL {
                    let packet = tunnel_in(format, ends, (0, 77), &inner.packet());
                    let mut frame = ethernet_frame(inner.macs, &packet);
                    frame.extend([0xee; 3]);
                    assert_eq!(crack(&frame), Ok(inner.frame()), "{ends:?} {format:?}");
                }
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut frame = syn().tunnelled(OUTER[0].0, OUTER[0].1);
        frame[24] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelChecksum));
        frame[24] ^= 1;
        frame[44] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelInnerChecksum));
        let packet = syn().packet();
        let nested = tunnel(OUTER[0].0, OUTER[0].1, 0, &packet);
        assert_eq!(crack(&outer(0, &nested)), Err(Verdict::TunnelNested));
        assert_eq!(crack(&outer(0, &packet[..39])), Err(Verdict::TunnelMalformed));
        let mut udp = packet;
        udp[9] = 17;
        assert_eq!(crack(&outer(0, &udp)), Err(Verdict::TunnelOtherProtocol));
    }

    #[test]
    fn a_wrong_udp_checksum_is_found_and_none_is_taken() {
        let packet = tunnel_in(Format::Gue, OUTER[1], (0, 77), &syn6().payload(b"x").packet());
        let mut frame = ethernet_frame(syn6().macs, &packet);
        // A source port, the inner flow label, the checksum itself. Inner addresses are covered by
        // the inner TCP checksum.
        for at in [54, 54 + 12 + 2, 60] {
            frame[at] ^= 1;
            assert_eq!(crack(&frame), Err(Verdict::TunnelChecksum), "byte {at}");
            frame[at] ^= 1;
        }
        assert!(crack(&frame).is_ok());
        frame[60..62].fill(0);
        assert!(crack(&frame).is_ok());
        // Over IPv4 too, where somebody else may send one.
        let packet = tunnel_in(Format::Gue, OUTER[0], (0, 77), &syn().packet());
        let mut frame = ethernet_frame(syn().macs, &packet);
        frame[40] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelChecksum));
    }

    #[test]
    fn the_udp_checksum_does_not_need_the_whole_packet_at_hand() {
        let inner = syn6().payload(&[7; 600]);
        for ends in OUTER {
            let packet = tunnel_in(Format::Gue, ends, (0, 77), &inner.packet());
            let mut frame = ethernet_frame(inner.macs, &packet);
            for right in [true, false] {
                let mut packet = Packet::new(HeapBuffer::segmented(&frame, 192));
                let view = packet.view.inner(packet.buffer.head());
                let result = open(&mut packet, view).map(|()| packet.buffer.frame().to_vec());
                let expected = if right { Ok(inner.frame()) } else { Err(Verdict::TunnelChecksum) };
                let checked = ends != OUTER[0];
                assert_eq!(result, if checked { expected } else { Ok(inner.frame()) });
                // The inner flow label, which the TCP checksum does not cover.
                frame[14 + 40 + 12 + 2] ^= u8::from(checked);
            }
        }
    }

    #[test]
    fn ecn_follows_the_table_of_rfc_6040() {
        // Rows: inner; columns: outer Not-ECT, ECT(1), ECT(0), CE.
        let table = [
            (0b00, [Some(0b00), Some(0b00), Some(0b00), None]),
            (0b10, [Some(0b10), Some(0b01), Some(0b10), Some(0b11)]),
            (0b01, [Some(0b01), Some(0b01), Some(0b01), Some(0b11)]),
            (0b11, [Some(0b11); 4]),
        ];
        for syn in [syn, syn6] {
            for (inner, row) in table {
                for (outside, expected) in [0b00, 0b01, 0b10, 0b11].into_iter().zip(row) {
                    let packet = syn().traffic_class(0x88 | inner).packet();
                    let result = crack(&outer(outside, &packet));
                    let expected = expected
                        .map(|ecn| syn().traffic_class(0x88 | ecn).frame())
                        .ok_or(Verdict::TunnelCongestion);
                    assert_eq!(result, expected, "inner {inner:02b} outer {outside:02b}");
                }
            }
        }
    }
}
