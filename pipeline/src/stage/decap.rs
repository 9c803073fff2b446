//! Decapsulation, which the patent calls "cracking" a packet: the outer headers are checked and
//! removed (ops 410, 535, 554, 658).

use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, TunnelHeaders, View};
use crate::stage::encap;
use crate::verdict::Verdict;
use crate::wire::checksum::Sum;
use crate::wire::family::{Family, V4, V6, Version};
use crate::wire::{ethernet, put_u16, tunnel, u16_at};

/// The ECN bits of a traffic class.
const ECN: u8 = 0x03;
/// "Congestion experienced" in the ECN bits.
const CONGESTION: u8 = 0x03;

/// Removes the outer headers of a packet of kind [`Kind::Tunnel`]. `inner` is its [`View::inner`].
///
/// The outer IP and UDP checksums and the inner IPv4 header checksum are verified; the inner TCP
/// checksum is not.
///
/// # Errors
/// The verdict says why the packet is dropped: the inner packet is a tunnel, malformed, or neither
/// TCP nor ICMP; a checksum is wrong; its TTL or hop limit is 0, so that it must not be sent on (RFC
/// 2003, section 3.1; RFC 8200, section 3); or congestion was experienced on the way and the inner
/// packet cannot say so. The packet's contents are then unspecified.
#[inline(always)]
pub fn open<B: Buffer>(packet: &mut Packet<B>, inner: View) -> Result<(), Verdict> {
    match inner.kind {
        Kind::Tcp | Kind::Icmp | Kind::FirstFragment | Kind::Fragment => {}
        Kind::Tunnel | Kind::BadTunnel => return Err(Verdict::TunnelNested),
        Kind::Other(Verdict::OtherProtocol) => return Err(Verdict::TunnelOtherProtocol),
        _ => return Err(Verdict::TunnelMalformed),
    }
    if !(packet.buffer.ip_checksum_is_good() || packet.ip_checksum_ok())
        || !udp_checksum_ok(packet, inner)
    {
        return Err(Verdict::TunnelChecksum);
    }
    let outer_ecn = traffic_class(packet) & ECN;
    let l3 = usize::from(packet.view.l3);
    let removed = usize::from(inner.l3) - l3;
    packet.buffer.truncate(inner.end as usize);
    let bytes = packet.buffer.head_mut();
    // After the move: written before it, the move's load would have to wait for this store.
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
    if hop_limit(packet) == 0 {
        return Err(Verdict::TunnelHopLimit);
    }
    decapsulate_ecn(packet, outer_ecn)
}

/// Returns whether [`open`] succeeds on a frame with these headers and leaves the inner packet as it
/// is: both checksums are right, a hop is left, and the outer ECN bits change nothing.
#[inline(always)]
pub(crate) fn opens_unchanged<F: Family, B: Buffer>(
    frame: &B,
    headers: &TunnelHeaders<'_, F>,
) -> bool {
    /// One bit for each pair of inner (upper half of the number) and outer ECN.
    const UNCHANGED: u16 = 0b1111_0101_0111_0111;
    let (outer, inner) = (headers.outer(), headers.inner());
    let ecn = [inner, outer].map(|ip| F::traffic_class(ip) & ECN);
    (frame.ip_checksum_is_good() || F::header_ok(outer, F::HEADER))
        && F::header_ok(inner, F::HEADER)
        && F::hop_limit(inner) != 0
        && UNCHANGED >> (ecn[0] << 2 | ecn[1]) & 1 != 0
}

/// Removes the outer header of a frame with [`TunnelHeaders`], as [`open`] does where
/// [`opens_unchanged`] is true. `inner` is the view of the inner packet; returns its view afterwards.
#[inline(always)]
pub(crate) fn open_plain<F: Family, B: Buffer>(frame: &mut B, inner: &View) -> View {
    frame.truncate(inner.end as usize);
    // The EtherType stays the same.
    ethernet::relocate(frame.head_mut(), 0, F::HEADER, ethernet::HEADER);
    frame.trim_front(F::HEADER);
    inner.without_plain_outer::<F>()
}

/// Returns whether the outer UDP checksum is right, or absent: zero means none, over IPv6 too (RFC
/// 6935). Bytes that the inner TCP checksum covers are not summed again; see [`encap::sum_of`].
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
    // Bytes that follow the inner packet within the datagram belong to the sum. Usually there are
    // none, and then the packet may be spread over several buffer segments.
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

#[inline(always)]
fn hop_limit<B: Buffer>(packet: &Packet<B>) -> u8 {
    match packet.view.version {
        Version::V4 => V4::hop_limit(packet.ip()),
        Version::V6 => V6::hop_limit(packet.ip()),
    }
}

fn set_ecn<B: Buffer>(packet: &mut Packet<B>, class: u8, ecn: u8) {
    let value = class & !ECN | ecn;
    match packet.view.version {
        Version::V4 => V4::set_traffic_class(packet.ip_mut(), value),
        Version::V6 => V6::set_traffic_class(packet.ip_mut(), value),
    }
}

/// Combines outer and inner ECN (RFC 6040, section 4.2, figure 4).
#[inline(always)]
fn decapsulate_ecn<B: Buffer>(packet: &mut Packet<B>, outer: u8) -> Result<(), Verdict> {
    let class = traffic_class(packet);
    match (class & ECN, outer) {
        (0b00, CONGESTION) => return Err(Verdict::TunnelCongestion),
        // Outer ECT(1) replaces inner ECT(0); outer congestion replaces both.
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

    fn decapsulate(frame: &[u8]) -> Result<Vec<u8>, Verdict> {
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
    fn returns_the_packet_inside_a_tunnel_of_any_format_without_padding() {
        for inner in [syn(), syn6(), syn().payload(b"odd")] {
            for ends in OUTER {
                for format in Format::ALL {
                    let packet = tunnel_in(format, ends, (0, 77), &inner.packet());
                    let mut frame = ethernet_frame(inner.macs, &packet);
                    frame.extend([0xee; 3]);
                    assert_eq!(decapsulate(&frame), Ok(inner.frame()), "{ends:?} {format:?}");
                }
            }
        }
    }

    #[test]
    fn the_verdict_says_why_a_tunnel_is_dropped() {
        let mut frame = syn().tunnelled(OUTER[0].0, OUTER[0].1);
        frame[24] ^= 1;
        assert_eq!(decapsulate(&frame), Err(Verdict::TunnelChecksum));
        frame[24] ^= 1;
        frame[44] ^= 1;
        assert_eq!(decapsulate(&frame), Err(Verdict::TunnelInnerChecksum));
        let packet = syn().packet();
        let nested = tunnel(OUTER[0].0, OUTER[0].1, 0, &packet);
        assert_eq!(decapsulate(&outer(0, &nested)), Err(Verdict::TunnelNested));
        assert_eq!(decapsulate(&outer(0, &packet[..39])), Err(Verdict::TunnelMalformed));
        let mut udp = packet;
        udp[9] = 17;
        assert_eq!(decapsulate(&outer(0, &udp)), Err(Verdict::TunnelOtherProtocol));
    }

    /// A frame with [`TunnelHeaders`] is opened in one step exactly where [`open`] leaves the packet as
    /// it is, and then with the same result. Returns whether it is.
    fn check_one_step<F: Family>(frame: &[u8]) -> bool {
        let mut slowly = Packet::new(HeapBuffer::new(frame));
        let (mut view, outer) = (View::NOTHING, slowly.view);
        let headers = view.parse_plain_inner::<F>(&outer, frame).unwrap();
        let mut buffer = HeapBuffer::new(frame);
        let unchanged = opens_unchanged(&buffer, &headers);
        let result = open(&mut slowly, view);
        let inner = &frame[14 + F::HEADER..view.end as usize];
        let is_same = result.is_ok() && slowly.buffer.frame()[14..] == *inner;
        assert_eq!(unchanged, is_same, "{result:?} {frame:02x?}");
        if unchanged {
            let view = open_plain::<F, _>(&mut buffer, &view);
            assert_eq!((buffer.frame(), view), (slowly.buffer.frame(), slowly.view));
        }
        unchanged
    }

    #[test]
    fn plain_tunnels_of_ipv6_are_opened_in_one_step_where_nothing_changes() {
        let mut opened = [0; 2];
        let mut check = |frame: &[u8]| opened[usize::from(check_one_step::<V6>(frame))] += 1;
        for (inside, outside) in (0..4).flat_map(|inside| (0..4).map(move |out| (inside, out))) {
            let inner = syn6().payload(b"odd").traffic_class(0x88 | inside).packet();
            let tunnel = tunnel(OUTER[1].0, OUTER[1].1, 0x88 | outside, &inner);
            let mut frame = ethernet_frame(syn6().macs, &tunnel);
            check(&frame);
            frame.extend([0xee; 6]);
            check(&frame);
            // Every bit of both headers but version, length and next header.
            for at in (14..94).filter(|at| !matches!((at - 14) % 40, 4..=6)) {
                for bit in 0..if (at - 14) % 40 == 0 { 4 } else { 8 } {
                    frame[at] ^= 1 << bit;
                    check(&frame);
                    frame[at] ^= 1 << bit;
                }
            }
            // No hop left.
            frame[54 + 7] = 0;
            assert!(!check_one_step::<V6>(&frame));
        }
        assert!(opened.iter().all(|&count| count > 20), "{opened:?}");
    }

    #[test]
    fn plain_tunnels_are_opened_in_one_step_where_nothing_changes() {
        let mut opened = [0; 2];
        let mut check = |frame: &[u8]| opened[usize::from(check_one_step::<V4>(frame))] += 1;
        for (inside, outside) in (0..4).flat_map(|inside| (0..4).map(move |out| (inside, out))) {
            let inner = syn().payload(b"odd").traffic_class(0x88 | inside).packet();
            let mut frame = outer(0x88 | outside, &inner);
            check(&frame);
            frame.extend([0xee; 6]);
            check(&frame);
            // Every bit of both headers that leaves them plain.
            for at in (14..54).filter(|at| {
                !matches!(at - 14, 0 | 2 | 3 | 6 | 7 | 9 | 20 | 22 | 23 | 26 | 27 | 29)
            }) {
                for bit in 0..8 {
                    frame[at] ^= 1 << bit;
                    check(&frame);
                    frame[at] ^= 1 << bit;
                }
            }
        }
        // No hop left.
        let mut inner = syn().packet();
        inner[8] = 0;
        inner[10..12].fill(0);
        let checksum = Sum::of(&inner[..20]).checksum();
        inner[10..12].copy_from_slice(&checksum.to_be_bytes());
        check(&outer(0, &inner));
        assert!(opened.iter().all(|&count| count > 20), "{opened:?}");
    }

    #[test]
    fn a_header_that_the_port_has_verified_is_not_verified_again() {
        /// A frame whose port has verified its IP header.
        struct Verified(HeapBuffer);
        impl Buffer for Verified {
            fn head(&self) -> &[u8] {
                self.0.head()
            }
            fn head_mut(&mut self) -> &mut [u8] {
                self.0.head_mut()
            }
            fn frame_len(&self) -> usize {
                self.0.frame_len()
            }
            fn prepend(&mut self, count: usize) -> bool {
                self.0.prepend(count)
            }
            fn trim_front(&mut self, count: usize) {
                self.0.trim_front(count);
            }
            fn truncate(&mut self, len: usize) {
                self.0.truncate(len);
            }
            fn ip_checksum_is_good(&self) -> bool {
                true
            }
        }
        let mut frame = syn().tunnelled(OUTER[0].0, OUTER[0].1);
        // Wrong, so that it shows whether it is looked at.
        frame[24] ^= 1;
        let headers = TunnelHeaders::<V4>::of(&frame).unwrap();
        assert!(opens_unchanged(&Verified(HeapBuffer::new(&frame)), &headers));
        assert!(!opens_unchanged(&HeapBuffer::new(&frame), &headers));
        let mut packet = Packet::new(Verified(HeapBuffer::new(&frame)));
        let inner = packet.view.inner(&frame);
        assert_eq!(open(&mut packet, inner), Ok(()));
        // It has not verified what is inside.
        frame[44] ^= 1;
        let headers = TunnelHeaders::<V4>::of(&frame).unwrap();
        assert!(!opens_unchanged(&Verified(HeapBuffer::new(&frame)), &headers));
    }

    #[test]
    fn a_packet_without_a_hop_left_is_dropped() {
        for (inner, at) in [(syn().packet(), 8), (syn6().packet(), 7)] {
            for (hops, expected) in [(0, Some(Verdict::TunnelHopLimit)), (1, None), (255, None)] {
                let mut inner = inner.clone();
                inner[at] = hops;
                if at == 8 {
                    inner[10..12].fill(0);
                    let checksum = Sum::of(&inner[..20]).checksum();
                    inner[10..12].copy_from_slice(&checksum.to_be_bytes());
                }
                assert_eq!(decapsulate(&outer(0, &inner)).err(), expected, "{hops}");
            }
        }
    }

    #[test]
    fn a_wrong_udp_checksum_is_dropped_and_an_absent_one_accepted() {
        let packet = tunnel_in(Format::Gue, OUTER[1], (0, 77), &syn6().payload(b"x").packet());
        let mut frame = ethernet_frame(syn6().macs, &packet);
        // The source port, the inner flow label, the checksum itself. The inner TCP checksum covers
        // the inner addresses.
        for at in [54, 54 + 12 + 2, 60] {
            frame[at] ^= 1;
            assert_eq!(decapsulate(&frame), Err(Verdict::TunnelChecksum), "byte {at}");
            frame[at] ^= 1;
        }
        assert!(decapsulate(&frame).is_ok());
        frame[60..62].fill(0);
        assert!(decapsulate(&frame).is_ok());
        // Over IPv4 another implementation may send a checksum, too.
        let packet = tunnel_in(Format::Gue, OUTER[0], (0, 77), &syn().packet());
        let mut frame = ethernet_frame(syn().macs, &packet);
        frame[40] ^= 1;
        assert_eq!(decapsulate(&frame), Err(Verdict::TunnelChecksum));
    }

    #[test]
    fn the_udp_checksum_is_verified_when_the_payload_is_in_another_segment() {
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
                    let result = decapsulate(&outer(outside, &packet));
                    let expected = expected
                        .map(|ecn| syn().traffic_class(0x88 | ecn).frame())
                        .ok_or(Verdict::TunnelCongestion);
                    assert_eq!(result, expected, "inner {inner:02b} outer {outside:02b}");
                }
            }
        }
    }
}
