//! Rewriting of addresses and ports, with incremental checksum updates (ops 512, 612, 636).

use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::wire::family::{Endpoint, Family};
use crate::wire::{ethernet, tcp};

/// Sets the source address and port of a TCP packet, and updates its checksums.
#[inline(always)]
pub fn source<F: Family, B: Buffer>(packet: &mut Packet<B>, to: Endpoint<F>) {
    in_place::<F, B>(
        packet,
        #[inline(always)]
        |ip, tcp_at| {
            let delta = F::set_source(ip, to.address);
            let tcp = &mut ip[tcp_at..];
            let delta = delta.plus(tcp::set_source_port(tcp, to.port));
            tcp::adjust(tcp, delta);
        },
    );
}

/// Sets the destination address and port of a TCP packet, and updates its checksums.
#[inline(always)]
pub fn destination<F: Family, B: Buffer>(packet: &mut Packet<B>, to: Endpoint<F>) {
    in_place::<F, B>(
        packet,
        #[inline(always)]
        |ip, tcp_at| {
            let delta = F::set_destination(ip, to.address);
            let tcp = &mut ip[tcp_at..];
            let delta = delta.plus(tcp::set_destination_port(tcp, to.port));
            tcp::adjust(tcp, delta);
        },
    );
}

/// Calls `work` with the IP packet and the offset of its TCP header. For headers at their usual
/// places the offset is a constant, and the compiler can drop the bounds checks.
#[inline(always)]
fn in_place<F: Family, B: Buffer>(packet: &mut Packet<B>, work: impl Fn(&mut [u8], usize)) {
    let is_plain = packet.view.is_plain::<F>();
    let (l3, l4) = (usize::from(packet.view.l3), usize::from(packet.view.l4));
    let head = packet.buffer.head_mut();
    if is_plain && head.len() >= ethernet::HEADER + F::HEADER + tcp::HEADER {
        work(&mut head[ethernet::HEADER..][..F::HEADER + tcp::HEADER], F::HEADER);
    } else {
        work(&mut head[l3..], l4 - l3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapBuffer;
    use crate::testing::{Segment, endpoint, socket};
    use crate::wire::family::V4;

    #[test]
    fn a_rewritten_packet_equals_one_built_with_the_new_endpoints() {
        let mut segment =
            Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).payload(b"odd");
        let mut packet = Packet::new(HeapBuffer::new(&segment.frame()));
        destination::<V4, _>(&mut packet, endpoint("198.51.100.20:8080"));
        segment.to = socket("198.51.100.20:8080");
        assert_eq!(packet.buffer.frame(), segment.frame());
        source::<V4, _>(&mut packet, endpoint("203.0.113.10:443"));
        segment.from = socket("203.0.113.10:443");
        assert_eq!(packet.buffer.frame(), segment.frame());
    }

    #[test]
    fn a_wrong_checksum_stays_wrong() {
        let mut frame = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).frame();
        frame[50] ^= 0x40;
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        destination::<V4, _>(&mut packet, endpoint("198.51.100.20:8080"));
        assert!(packet.ip_checksum_ok() && !packet.tcp_checksum_ok::<V4>());
    }
}
