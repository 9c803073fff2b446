//! "Fragmentation needed" and "packet too big": what the appliance says to the sender of a packet
//! that its tunnel has no room for (RFC 1191, RFC 2003 section 5.1, RFC 4443 section 3.2).

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet};
use crate::wire::checksum::Sum;
use crate::wire::family::{Emit, Family};
use crate::wire::{ethernet, icmp};

/// An error to the packet's sender, as from its destination, by the way it came: at most `mtu`
/// bytes get through. `None` when the pool is empty, or nothing may be said: no error is sent about
/// ICMP, which may be an error itself, nor by IPv4 about a later fragment (RFC 1812, section
/// 4.3.2.7).
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
    fn equals_an_error_built_plainly() {
        let segment = data("198.18.1.10:40000", "203.0.113.10:80");
        let packet = Packet::new(HeapBuffer::new(&segment.frame()));
        let error = answer::<V4, _>(&packet, 1400, &mut HeapPool::default()).unwrap();
        let quoted = &segment.packet()[..548];
        let expected = icmp_error("203.0.113.10", "198.18.1.10", 3, 4, quoted);
        assert_eq!(error.frame(), expected);
        assert!(answer::<V4, _>(&packet, 1400, &mut HeapPool::with_limit(0)).is_none());
    }

    #[test]
    fn equals_one_of_ipv6() {
        let segment = data("[2001:db8::1]:40000", "[2001:db8::2]:80");
        let packet = Packet::new(HeapBuffer::new(&segment.frame()));
        let error = answer::<V6, _>(&packet, 1400, &mut HeapPool::default()).unwrap();
        let quoted = &segment.packet()[..1232];
        assert_eq!(error.frame(), icmp_error("2001:db8::2", "2001:db8::1", 2, 0, quoted));
    }

    #[test]
    fn nothing_is_said_about_errors_and_later_fragments() {
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
