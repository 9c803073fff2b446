//! Resets: that of a responder that has lost the race (op 514), and those that tell both ends of a
//! connection that it is lost.

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::wire::family::{Emit, Endpoint, Family};
use crate::wire::{ethernet, ipv4, tcp};

/// The Ethernet header of a reset: that of a frame of the connection.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// The same: it goes where that frame went.
    Along(&'a [u8]),
    /// With both addresses swapped: it goes where that frame came from.
    Back(&'a [u8]),
}

/// Returns a RST that answers a segment as the TCP that it is for would: the sequence number is the
/// segment's acknowledgement number, and there is no ACK (RFC 9293, section 3.5.2). Its frame goes
/// back to the sender of the segment's frame.
///
/// `None` when the pool is empty.
pub fn answer<F: Family, P: Pool>(segment: &Packet<P::Buffer>, pool: &mut P) -> Option<P::Buffer> {
    let way = Way::Back(&segment.buffer.head()[..usize::from(segment.view.l3)]);
    let ends = (segment.destination::<F>(), segment.source::<F>());
    make(way, ends, tcp::ack_number(segment.tcp()), pool)
}

/// Returns a RST with this sequence number and without ACK, between these ends.
///
/// `None` when the pool is empty.
pub fn make<F: Family, P: Pool>(
    way: Way<'_>,
    (from, to): (Endpoint<F>, Endpoint<F>),
    sequence: u32,
    pool: &mut P,
) -> Option<P::Buffer> {
    let (Way::Along(ethernet) | Way::Back(ethernet)) = way;
    let l3 = ethernet.len();
    let mut buffer = pool.alloc(l3 + F::HEADER + tcp::HEADER)?;
    let frame = buffer.head_mut();
    frame[..l3].copy_from_slice(ethernet);
    if let Way::Back(_) = way {
        ethernet::reverse(frame);
    }
    let header = Emit {
        traffic_class: 0,
        length: F::HEADER + tcp::HEADER,
        protocol: ipv4::TCP,
        from: from.address,
        to: to.address,
        flow_label: from.entropy(),
    };
    F::emit(&mut frame[l3..], header);
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
    fn goes_along_with_the_frame_whose_header_it_has() {
        let header = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let ends = (endpoint("203.0.113.10:80"), endpoint("198.18.1.10:40000"));
        let pool = &mut HeapPool::default();
        let reset = Packet::new(make::<V4, _>(Way::Along(&header), ends, 77, pool).unwrap());
        assert_eq!(reset.buffer.frame()[..14], header);
        assert_eq!((reset.source::<V4>(), reset.destination::<V4>()), ends);
        assert_eq!(tcp::sequence(reset.tcp()), 77);
    }

    #[test]
    fn an_empty_pool_gives_none() {
        let frame = Segment::syn_ack("198.51.100.10:80", "198.18.1.10:40000", 500, 8).frame();
        let loser = Packet::new(HeapBuffer::new(&frame));
        assert!(answer::<V4, _>(&loser, &mut HeapPool::with_limit(0)).is_none());
    }
}
