//! The reset that ends the connection of a responder that has lost the race (op 514).

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::wire::family::{Emit, Family};
use crate::wire::{ethernet, ipv4, tcp};

/// Returns a RST that answers a SYN/ACK as its client would: the sequence number is the SYN/ACK's
/// acknowledgement number, and there is no ACK (RFC 9293, section 3.5.2). Its frame goes back to
/// the sender of the SYN/ACK's frame.
///
/// `None` when the pool is empty.
pub fn answer<F: Family, P: Pool>(syn_ack: &Packet<P::Buffer>, pool: &mut P) -> Option<P::Buffer> {
    let l3 = usize::from(syn_ack.view.l3);
    let mut buffer = pool.alloc(l3 + F::HEADER + tcp::HEADER)?;
    let frame = buffer.head_mut();
    frame[..l3].copy_from_slice(&syn_ack.buffer.head()[..l3]);
    ethernet::reverse(frame);
    let (from, to) = (syn_ack.destination::<F>(), syn_ack.source::<F>());
    let header = Emit {
        traffic_class: 0,
        length: F::HEADER + tcp::HEADER,
        protocol: ipv4::TCP,
        from: from.address,
        to: to.address,
        flow_label: from.entropy(),
    };
    F::emit(&mut frame[l3..], header);
    let sequence = tcp::ack_number(syn_ack.tcp());
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
    fn answers_the_syn_ack_with_the_same_vlan_tag() {
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
