//! IP in IP (RFC 2003): the outer header on a packet, or on a copy of it (op 312).

use std::net::Ipv4Addr;

use crate::buffer::{Buffer, Pool};
use crate::view::Packet;
use crate::wire::{ethernet, ipv4};

/// Puts an outer header between the Ethernet header and the IP packet; padding goes.
/// DSCP and ECN are copied (RFC 6040, section 4.1), DF is set, TTL is 64.
/// `false`, and nothing changed, when the buffer has no headroom, or the packet would be longer
/// than an IPv4 header can say.
#[must_use]
pub fn ipip<B: Buffer>(packet: &mut Packet<B>, source: Ipv4Addr, destination: Ipv4Addr) -> bool {
    let l3 = usize::from(packet.view.l3);
    let Some(outer) = outer_header(packet, source, destination) else { return false };
    if !packet.buffer.prepend(ipv4::HEADER) {
        return false;
    }
    packet.buffer.truncate(packet.view.end as usize + ipv4::HEADER);
    let bytes = packet.buffer.head_mut();
    bytes.copy_within(ipv4::HEADER..ipv4::HEADER + l3, 0);
    outer.emit(&mut bytes[l3..]);
    packet.look_again();
    true
}

/// A copy of the packet in a tunnel, addressed back toward where the packet came from.
/// `None` when the pool is empty, or the packet is spread over several buffer segments.
pub fn copy_back<P: Pool>(
    packet: &Packet<P::Buffer>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    pool: &mut P,
) -> Option<P::Buffer> {
    let l3 = usize::from(packet.view.l3);
    let inner = packet.buffer.head().get(l3..packet.view.end as usize)?;
    let outer = outer_header(packet, source, destination)?;
    let mut copy = pool.alloc(l3 + ipv4::HEADER + inner.len())?;
    let frame = copy.head_mut();
    frame[..l3].copy_from_slice(&packet.buffer.head()[..l3]);
    ethernet::reverse(frame);
    outer.emit(&mut frame[l3..]);
    frame[l3 + ipv4::HEADER..].copy_from_slice(inner);
    Some(copy)
}

fn outer_header<B: Buffer>(
    packet: &Packet<B>,
    source: Ipv4Addr,
    destination: Ipv4Addr,
) -> Option<ipv4::Header> {
    let length = packet.view.end as usize - usize::from(packet.view.l3) + ipv4::HEADER;
    Some(ipv4::Header {
        traffic_class: ipv4::traffic_class(packet.ip()),
        total_length: u16::try_from(length).ok()?,
        ttl: 64,
        protocol: ipv4::IPIP,
        source,
        destination,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::{HeapBuffer, HeapPool};
    use crate::testing::Segment;

    fn syn() -> Segment {
        Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).traffic_class(0xba)
    }

    const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    const REPLICA: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

    #[test]
    fn equals_a_tunnel_built_plainly_and_drops_padding() {
        let mut frame = syn().frame();
        frame.extend([0xee; 5]);
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        assert!(ipip(&mut packet, SOURCE, REPLICA));
        assert_eq!(packet.buffer.frame(), syn().tunnelled("203.0.113.10", "198.51.100.10"));
    }

    #[test]
    fn a_copy_goes_back_where_the_packet_came_from() {
        let packet = Packet::new(HeapBuffer::new(&syn().frame()));
        let copy = copy_back(&packet, SOURCE, REPLICA, &mut HeapPool::default()).unwrap();
        let mut expected = syn();
        expected.macs = (expected.macs.1, expected.macs.0);
        assert_eq!(copy.frame(), expected.tunnelled("203.0.113.10", "198.51.100.10"));
        assert!(copy_back(&packet, SOURCE, REPLICA, &mut HeapPool::with_limit(0)).is_none());
    }
}
