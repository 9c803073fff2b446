//! Rewriting of addresses and ports, checksums updated incrementally (ops 512, 612, 636).

use crate::buffer::Buffer;
use crate::family::{Endpoint, Family};
use crate::view::Packet;
use crate::wire::tcp;

/// Sets the source of a TCP packet.
#[inline(always)]
pub fn source<F: Family, B: Buffer>(packet: &mut Packet<B>, to: Endpoint<F>) {
    let delta = F::set_source(packet.ip_mut(), to.address);
    let tcp = packet.tcp_mut();
    let delta = delta.plus(tcp::set_source_port(tcp, to.port));
    tcp::adjust(tcp, delta);
}

/// Sets the destination of a TCP packet.
#[inline(always)]
pub fn destination<F: Family, B: Buffer>(packet: &mut Packet<B>, to: Endpoint<F>) {
    let delta = F::set_destination(packet.ip_mut(), to.address);
    let tcp = packet.tcp_mut();
    let delta = delta.plus(tcp::set_destination_port(tcp, to.port));
    tcp::adjust(tcp, delta);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::family::V4;
    use crate::testing::{Segment, endpoint, socket};

    #[test]
    fn both_directions_equal_a_packet_built_afresh() {
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
