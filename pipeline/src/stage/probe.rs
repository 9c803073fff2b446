//! Probes of a tunnel: the switch sends an ICMP echo request in the tunnel to a replica, and the
//! replica's appliance answers outside the tunnel. A reply shows that the path works, that the
//! replica accepts the tunnel's format and its peer, and that it accepts new connections.

use std::net::IpAddr;

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet};
use crate::wire::checksum::Sum;
use crate::wire::family::{Emit, Family, Version};
use crate::wire::{ethernet, icmp};

/// The longest ICMP message that is answered, in bytes.
const LONGEST: usize = 256;

/// Returns the ICMP message if it is contiguous and its checksum is right.
fn message<F: Family, B: Buffer>(packet: &Packet<B>) -> Option<&[u8]> {
    if packet.view.kind != Kind::Icmp || packet.view.version != F::VERSION {
        return None;
    }
    let (l4, end) = (usize::from(packet.view.l4), packet.view.end as usize);
    let message = packet.buffer.head().get(l4..end)?;
    let (from, to) = (F::source(packet.ip()), F::destination(packet.ip()));
    let sound = message.len() >= icmp::HEADER
        && icmp::checksum_ok(message, pseudo_header::<F>(from, to, message.len()));
    sound.then_some(message)
}

fn pseudo_header<F: Family>(from: F::Address, to: F::Address, length: usize) -> Sum {
    match F::VERSION {
        Version::V4 => Sum::default(),
        Version::V6 => F::pseudo_header(from, to, F::ICMP, length),
    }
}

/// Returns whether a decapsulated packet is an echo request between the ends of its tunnel. Any
/// other source would get an unsolicited reply.
pub fn is_request<F: Family, B: Buffer>(packet: &Packet<B>, tunnel: (IpAddr, IpAddr)) -> bool {
    let Some(message) = message::<F, B>(packet) else { return false };
    let (from, to) = (F::source(packet.ip()).into(), F::destination(packet.ip()).into());
    message[..2] == [icmp::echo_request(F::VERSION), 0]
        && message.len() <= LONGEST
        && (from, to) == tunnel
}

/// Reads an echo reply; `None` when the packet is none, or not contiguous, or has a wrong checksum.
pub fn read_reply<F: Family, B: Buffer>(packet: &Packet<B>) -> Option<Reply<'_, F>> {
    let message = message::<F, B>(packet)?;
    if message[..2] != [icmp::echo_reply(F::VERSION), 0] {
        return None;
    }
    Some(Reply {
        from: F::source(packet.ip()),
        to: F::destination(packet.ip()),
        identifier: u16::from_be_bytes([message[4], message[5]]),
        sequence: u16::from_be_bytes([message[6], message[7]]),
        data: &message[icmp::HEADER..],
    })
}

/// An ICMP echo reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a, F: Family> {
    /// Its source.
    pub from: F::Address,
    /// Its destination.
    pub to: F::Address,
    /// The identifier of the request.
    pub identifier: u16,
    /// The sequence number of the request.
    pub sequence: u16,
    /// The data of the request.
    pub data: &'a [u8],
}

/// An ICMP echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<F: Family> {
    /// Its source.
    pub from: F::Address,
    /// Its destination.
    pub to: F::Address,
    /// Its identifier.
    pub identifier: u16,
    /// Its sequence number.
    pub sequence: u16,
    /// Its data, which the reply repeats.
    pub data: [u8; 8],
}

/// Returns the reply to a decapsulated request, in a frame back to the sender of the request's
/// frame. `None` when the packet is no contiguous ICMP message, or the pool is empty.
pub fn answer<F: Family, P: Pool>(request: &Packet<P::Buffer>, pool: &mut P) -> Option<P::Buffer> {
    let message = message::<F, _>(request)?;
    let l3 = usize::from(request.view.l3);
    let (from, to) = (F::destination(request.ip()), F::source(request.ip()));
    let mut frame = emit::<F, P>(&request.buffer.head()[..l3], from, to, message, pool)?;
    ethernet::reverse(frame.head_mut());
    let reply = &mut frame.head_mut()[l3 + F::HEADER..];
    reply[0] = icmp::echo_reply(F::VERSION);
    icmp::set_checksum(reply, pseudo_header::<F>(from, to, message.len()));
    Some(frame)
}

/// Returns a frame with an echo request behind this Ethernet header, still to be encapsulated.
/// `None` when the pool is empty.
pub fn request<F: Family, P: Pool>(
    ethernet_header: &[u8],
    request: &Request<F>,
    pool: &mut P,
) -> Option<P::Buffer> {
    let Request { from, to, identifier, sequence, data } = *request;
    let mut message = [0; icmp::HEADER + 8];
    message[0] = icmp::echo_request(F::VERSION);
    message[4..6].copy_from_slice(&identifier.to_be_bytes());
    message[6..8].copy_from_slice(&sequence.to_be_bytes());
    message[8..].copy_from_slice(&data);
    let pseudo = pseudo_header::<F>(from, to, message.len());
    icmp::set_checksum(&mut message, pseudo);
    emit::<F, P>(ethernet_header, from, to, &message, pool)
}

fn emit<F: Family, P: Pool>(
    ethernet_header: &[u8],
    from: F::Address,
    to: F::Address,
    message: &[u8],
    pool: &mut P,
) -> Option<P::Buffer> {
    let (l3, length) = (ethernet_header.len(), F::HEADER + message.len());
    let mut frame = pool.alloc(l3 + length)?;
    let bytes = frame.head_mut();
    bytes[..l3].copy_from_slice(ethernet_header);
    // The request may have come in a tunnel of the other family.
    bytes[l3 - 2..l3].copy_from_slice(&F::VERSION.ethertype().to_be_bytes());
    let emit = Emit { traffic_class: 0, length, protocol: F::ICMP, from, to, flow_label: 0 };
    F::emit(&mut bytes[l3..], emit);
    bytes[l3 + F::HEADER..].copy_from_slice(message);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::HeapPool;
    use crate::testing::{INSIDE_MAC, OUTSIDE_MAC};
    use crate::wire::family::{V4, V6};

    fn round_trip<F: Family>(switch: &str, replica: &str) {
        let own = |text: &str| F::from_ip(text.parse().unwrap()).unwrap();
        let header = [&INSIDE_MAC[..], &OUTSIDE_MAC, &[0, 0]].concat();
        let (from, to) = (own(switch), own(replica));
        let mut pool = HeapPool::default();
        let echo = Request::<F> { from, to, identifier: 77, sequence: 9, data: *b"payload!" };
        let request = Packet::new(request::<F, _>(&header, &echo, &mut pool).unwrap());
        let [switch, replica] = [switch, replica].map(|text| text.parse().unwrap());
        assert!(is_request::<F, _>(&request, (switch, replica)));
        assert!(!is_request::<F, _>(&request, (switch, switch)), "to another address");
        assert!(!is_request::<F, _>(&request, (replica, replica)), "from another address");
        assert_eq!(read_reply::<F, _>(&request), None);
        let reply = Packet::new(answer::<F, _>(&request, &mut pool).unwrap());
        assert_eq!(reply.buffer.frame()[..12], [OUTSIDE_MAC, INSIDE_MAC].concat());
        let read = read_reply::<F, _>(&reply).unwrap();
        assert_eq!((read.from, read.to), (to, from));
        assert_eq!((read.identifier, read.sequence, read.data), (77, 9, &b"payload!"[..]));
        assert!(reply.ip_checksum_ok());
        let mut broken = reply.buffer.frame().to_vec();
        *broken.last_mut().unwrap() ^= 1;
        let broken = Packet::new(crate::packet::buffer::HeapBuffer::new(&broken));
        assert_eq!(read_reply::<F, _>(&broken), None);
    }

    #[test]
    fn a_request_is_answered_and_the_reply_read() {
        round_trip::<V4>("203.0.113.10", "198.51.100.10");
        round_trip::<V6>("2001:db8:2::10", "2001:db8:3::10");
    }
}
