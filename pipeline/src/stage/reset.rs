//! The reset that ends a loser's connection (op 514).

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::wire::family::{Emit, Family};
use crate::wire::{ethernet, ipv4, tcp};

/// A RST as from the client to the sender of this acknowledgement, which it answers by the way
/// it came: sequence number = its acknowledgement number, no ACK (RFC 9293, section 3.5.2).
/// `None` when the pool is empty.
pub fn answer<F: Family, P: Pool>(
    acknowledgement: &Packet<P::Buffer>,
    pool: &mut P,
) -> Option<P::Buffer> {
    let l3 = usize::from(acknowledgement.view.l3);
    let mut buffer = pool.alloc(l3 + F::HEADER + tcp::HEADER)?;
    let frame = buffer.head_mut();
    frame[..l3].copy_from_slice(&acknowledgement.buffer.head()[..l3]);
    ethernet::reverse(frame);
    let (from, to) = (acknowledgement.destination::<F>(), acknowledgement.source::<F>());
    let header = Emit {
        traffic_class: 0,
        length: F::HEADER + tcp::HEADER,
        protocol: ipv4::TCP,
        from: from.address,
        to: to.address,
        flow_label: from.entropy(),
    };
    F::emit(&mut frame[l3..], header);
    let sequence = tcp::ack_number(acknowledgement.tcp());
    let pseudo = F::pseudo_header(from.address, to.address, ipv4::TCP, tcp::HEADER);
    tcp::emit_reset(&mut frame[l3 + F::HEADER..], from.port, to.port, sequence, pseudo);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::testing::{Segment, endpoint};
    use crate::wire::family::V4;
    use crate::wire::tcp::Flags;

    #[test]
    fn goes_back_by_the_way_it_came_vlan_tag_and_all() {
        let mut frame = Segment::syn_ack("198.51.100.10:80", "198.18.1.10:40000", 500, 8).frame();
        frame.splice(12..12, [0x81, 0, 0, 5]);
        let loser = Packet::new(HeapBuffer::new(&frame));
        let reset = Packet::new(answer::<V4, _>(&loser, &mut HeapPool::default()).unwrap());
        assert_eq!(reset.buffer.frame()[..6], frame[6..12]);
        assert_eq!(reset.buffer.frame()[6..12], frame[..6]);
        assert_eq!(reset.buffer.frame()[12..18], frame[12..18]);
        assert_eq!(reset.source::<V4>(), endpoint("198.18.1.10:40000"));
        assert_eq!(reset.destination::<V4>(), endpoint("198.51.100.10:80"));
        let tcp = reset.tcp();
        assert_eq!((tcp::flags(tcp), tcp::sequence(tcp)), (Flags(Flags::RST), 8));
        assert!(reset.ip_checksum_ok() && reset.tcp_checksum_ok::<V4>());
        assert_eq!(reset.buffer.frame_len(), 18 + 40);
    }

    #[test]
    fn an_empty_pool_gives_none() {
        let frame = Segment::syn_ack("198.51.100.10:80", "198.18.1.10:40000", 500, 8).frame();
        let loser = Packet::new(HeapBuffer::new(&frame));
        assert!(answer::<V4, _>(&loser, &mut HeapPool::with_limit(0)).is_none());
    }
}
