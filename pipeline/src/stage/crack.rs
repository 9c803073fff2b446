//! Cracking: the outer header checked and taken off (ops 410, 535, 554).

use crate::buffer::Buffer;
use crate::family::V4;
use crate::verdict::Verdict;
use crate::view::{Kind, Packet};
use crate::wire::ipv4;

const ECN: u8 = 0x03;
const CONGESTION: u8 = 0x03;

/// Takes the outer header of a packet of kind [`Kind::Tunnel4`] off and looks at what was
/// inside: whole TCP with right checksums. Otherwise the verdict says what is wrong, and the
/// packet is as it was or not to be used any more.
pub fn ipip<B: Buffer>(packet: &mut Packet<B>) -> Result<(), Verdict> {
    if !packet.ip_checksum_ok() {
        return Err(Verdict::TunnelChecksum);
    }
    if ipv4::protocol(packet.ip()) != ipv4::IPIP {
        return Err(Verdict::TunnelMalformed);
    }
    let outer_ecn = ipv4::traffic_class(packet.ip()) & ECN;
    let header = usize::from(packet.view.l4 - packet.view.l3);
    let l3 = usize::from(packet.view.l3);
    packet.buffer.truncate(packet.view.end as usize);
    packet.buffer.head_mut().copy_within(0..l3, header);
    packet.buffer.trim_front(header);
    packet.look_again();
    match packet.view.kind {
        Kind::Tcp4 => {}
        Kind::Tunnel4 => return Err(Verdict::TunnelNested),
        Kind::Icmp4 | Kind::Other(Verdict::OtherProtocol) => return Err(Verdict::TunnelNotStart),
        _ => return Err(Verdict::TunnelMalformed),
    }
    if !packet.ip_checksum_ok() || !packet.tcp_checksum_ok::<V4>() {
        return Err(Verdict::TunnelInnerChecksum);
    }
    decapsulate_ecn(packet, outer_ecn)
}

/// RFC 6040, section 4.2, figure 4.
fn decapsulate_ecn<B: Buffer>(packet: &mut Packet<B>, outer: u8) -> Result<(), Verdict> {
    let class = ipv4::traffic_class(packet.ip());
    match (class & ECN, outer) {
        (0b00, CONGESTION) => Err(Verdict::TunnelCongestion),
        // ECT(1) outside stands over ECT(0) inside, congestion over both.
        (0b10, 0b01) => {
            ipv4::set_traffic_class(packet.ip_mut(), class & !ECN | 0b01);
            Ok(())
        }
        (0b01 | 0b10, CONGESTION) => {
            ipv4::set_traffic_class(packet.ip_mut(), class | CONGESTION);
            Ok(())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::testing::{Segment, ethernet_frame, tunnel};

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7)
    }

    fn outer(class: u8, inner: &[u8]) -> Vec<u8> {
        ethernet_frame(syn().macs, &tunnel("203.0.113.10", "198.51.100.10", class, inner))
    }

    fn crack(frame: &[u8]) -> Result<Vec<u8>, Verdict> {
        let mut packet = Packet::new(HeapBuffer::new(frame));
        ipip(&mut packet).map(|()| packet.buffer.frame().to_vec())
    }

    #[test]
    fn uncovers_the_inner_packet_and_drops_padding() {
        let mut frame = syn().tunnelled("203.0.113.10", "198.51.100.10");
        frame.extend([0xee; 3]);
        assert_eq!(crack(&frame), Ok(syn().frame()));
    }

    #[test]
    fn says_what_is_wrong() {
        let mut frame = syn().tunnelled("203.0.113.10", "198.51.100.10");
        frame[24] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelChecksum));
        frame[24] ^= 1;
        frame[44] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelInnerChecksum));
        frame[44] ^= 1;
        frame[70] ^= 1;
        assert_eq!(crack(&frame), Err(Verdict::TunnelInnerChecksum));
        let packet = syn().packet();
        let nested = tunnel("203.0.113.10", "198.51.100.10", 0, &packet);
        assert_eq!(crack(&outer(0, &nested)), Err(Verdict::TunnelNested));
        assert_eq!(crack(&outer(0, &packet[..39])), Err(Verdict::TunnelMalformed));
        assert_eq!(crack(&outer(0, &[])), Err(Verdict::TunnelMalformed));
        let mut udp = packet.clone();
        udp[9] = 17;
        assert_eq!(crack(&outer(0, &udp)), Err(Verdict::TunnelNotStart));
        let mut fragment = packet;
        fragment[6] = 0x20;
        assert_eq!(crack(&outer(0, &fragment)), Err(Verdict::TunnelMalformed));
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
