//! "Fragmentation needed" and "packet too big": the ICMP error to the sender of a packet that
//! exceeds its tunnel's inner MTU (RFC 1191; RFC 2003, section 5.1; RFC 4443, section 3.2).

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet};
use crate::wire::checksum::Sum;
use crate::wire::family::{Emit, Family};
use crate::wire::{ethernet, icmp};

/// Returns an ICMP error that tells the packet's sender that at most `mtu` bytes get through. Its
/// source is the packet's destination, and its frame goes back to the sender of the packet's frame.
///
/// `None` when the pool is empty, or when no error may be sent: about ICMP, which may be an error
/// itself, and about a later fragment over IPv4 (RFC 1812, section 4.3.2.7).
pub fn answer<F: Family, P: Pool>(
    packet: &Packet<P::Buffer>,
    mtu: u16,
    pool: &mut P,
) -> Option<P::Buffer> {
    if packet.view.kind == Kind::Icmp || packet.view.kind == Kind::Fragment && !F::VERSION.is_v6() {
        return None;
    }
    let l3 = usize::from(packet.view.l3);
    let head = packet.buffer.head();
    let limit = head.len().min(packet.view.end as usize).min(l3 + F::QUOTED);
    let quoted = &head[l3..limit];
    let length = F::HEADER + icmp::HEADER + quoted.len();
    let mut buffer = pool.alloc(l3 + length)?;
    let frame = buffer.head_mut();
    frame[..l3].copy_from_slice(&head[..l3]);
    ethernet::reverse(frame);
    let (from, to) = (F::destination(quoted), F::source(quoted));
    let protocol = F::ICMP;
    F::emit(&mut frame[l3..], Emit { traffic_class: 0, length, protocol, from, to, flow_label: 0 });
    let message = &mut frame[l3 + F::HEADER..];
    message[icmp::HEADER..].copy_from_slice(quoted);
    let pseudo = match F::VERSION.is_v6() {
        true => F::pseudo_header(from, to, F::ICMP, message.len()),
        false => Sum::default(),
    };
    icmp::emit_too_big(message, F::VERSION, mtu, pseudo);
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::testing::{Segment, icmp_error};
    use crate::wire::family::{V4, V6};

    fn data(from: &str, to: &str) -> Segment {
        Segment::ack(from, to, 7, 9).payload(&[7; 1450])
    }

    #[test]
    fn the_error_equals_one_built_by_the_test_codec() {
        let segment = data("198.18.1.10:40000", "203.0.113.10:80");
        let packet = Packet::new(HeapBuffer::new(&segment.frame()));
        let error = answer::<V4, _>(&packet, 1400, &mut HeapPool::default()).unwrap();
        let quoted = &segment.packet()[..548];
        let expected = icmp_error("203.0.113.10", "198.18.1.10", 3, 4, quoted);
        assert_eq!(error.frame(), expected);
        assert!(answer::<V4, _>(&packet, 1400, &mut HeapPool::with_limit(0)).is_none());
    }

    #[test]
    fn the_error_of_ipv6_equals_one_built_by_the_test_codec() {
        let segment = data("[2001:db8::1]:40000", "[2001:db8::2]:80");
        let packet = Packet::new(HeapBuffer::new(&segment.frame()));
        let error = answer::<V6, _>(&packet, 1400, &mut HeapPool::default()).unwrap();
        let quoted = &segment.packet()[..1232];
        assert_eq!(error.frame(), icmp_error("2001:db8::2", "2001:db8::1", 2, 0, quoted));
    }

    #[test]
    fn no_error_is_sent_about_icmp_or_a_later_fragment() {
        let quoted = data("198.18.1.10:40000", "203.0.113.10:80").packet();
        let error = icmp_error("198.18.1.1", "203.0.113.10", 3, 4, &quoted);
        let mut later = data("198.18.1.10:40000", "203.0.113.10:80").frame();
        later[20..22].copy_from_slice(&[0x40, 9]);
        for frame in [error, later] {
            let packet = Packet::new(HeapBuffer::new(&frame));
            assert!(answer::<V4, _>(&packet, 1400, &mut HeapPool::default()).is_none());
        }
    }
}
