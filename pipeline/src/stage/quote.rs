//! Rewriting of what an ICMP error quotes, so that path MTU discovery and its like work across
//! the translation.

use crate::buffer::Buffer;
use crate::family::{Endpoint, Family, V4};
use crate::view::Packet;
use crate::wire::checksum::{Delta, Sum};
use crate::wire::{icmp, tcp};

/// The endpoints of the TCP packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent it.
    pub source: Endpoint<V4>,
    /// Whom it was for.
    pub destination: Endpoint<V4>,
    /// Where its TCP header is in the ICMP message.
    tcp: usize,
}

/// Which end of the quoted packet is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The sender.
    Source,
    /// The receiver.
    Destination,
}

/// What an ICMP packet quotes; `None` unless it is an error about a TCP packet.
pub fn read<B: Buffer>(packet: &Packet<B>) -> Option<Quoted> {
    let message = message(packet)?;
    let tcp_at = icmp::quoted_tcp(message)?;
    let (ip, tcp) = (&message[icmp::HEADER..], &message[tcp_at..]);
    Some(Quoted {
        source: Endpoint::new(V4::source(ip), tcp::source_port(tcp)),
        destination: Endpoint::new(V4::destination(ip), tcp::destination_port(tcp)),
        tcp: tcp_at,
    })
}

/// The contiguous part of the ICMP message.
fn message<B: Buffer>(packet: &Packet<B>) -> Option<&[u8]> {
    let head = packet.buffer.head();
    head.get(usize::from(packet.view.l4)..head.len().min(packet.view.end as usize))
}

/// Puts another endpoint into the quoted packet and keeps all three checksums right: the quoted
/// header's, the quoted segment's where it was quoted, and the message's.
pub fn rewrite<B: Buffer>(packet: &mut Packet<B>, quoted: Quoted, end: End, to: Endpoint<V4>) {
    let (l4, limit) = (usize::from(packet.view.l4), packet.view.end as usize);
    let head = packet.buffer.head_mut();
    let limit = limit.min(head.len());
    let message = &mut head[l4..limit];
    // All that changes lies before the end of the quoted TCP checksum.
    let touched = icmp::HEADER..message.len().min(quoted.tcp + TCP_CHECKSUM_END);
    let before = Sum::of(&message[touched.clone()]);
    let (ip, tcp) = message[icmp::HEADER..].split_at_mut(quoted.tcp - icmp::HEADER);
    let delta = match end {
        End::Source => V4::set_source(ip, to.address).plus(tcp::set_source_port(tcp, to.port)),
        End::Destination => {
            V4::set_destination(ip, to.address).plus(tcp::set_destination_port(tcp, to.port))
        }
    };
    if tcp.len() >= TCP_CHECKSUM_END {
        tcp::adjust(tcp, delta);
    }
    let after = Sum::of(&message[touched]);
    icmp::adjust(message, Delta::removed(before).plus(Delta::added(after)));
}

/// Where the checksum ends in a TCP header.
const TCP_CHECKSUM_END: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::HeapBuffer;
    use crate::testing::{Segment, endpoint, icmp_error};

    fn error(to: &str, quoted: usize) -> Vec<u8> {
        let segment = Segment::ack("198.18.1.10:40000", to, 7, 9).payload(&[1, 2, 3]);
        icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &segment.packet()[..quoted])
    }

    #[test]
    fn equals_an_error_about_the_other_packet_however_much_it_quotes() {
        for quoted_bytes in [28, 36, 38, 40, 43] {
            let mut packet =
                Packet::new(HeapBuffer::new(&error("198.51.100.10:8080", quoted_bytes)));
            let quoted = read(&packet).unwrap();
            assert_eq!(quoted.source, endpoint("198.18.1.10:40000"));
            assert_eq!(quoted.destination, endpoint("198.51.100.10:8080"));
            rewrite(&mut packet, quoted, End::Destination, endpoint("203.0.113.10:80"));
            let expected = error("203.0.113.10:80", quoted_bytes);
            assert_eq!(packet.buffer.frame(), expected, "{quoted_bytes} bytes quoted");
        }
    }

    #[test]
    fn the_source_end_works_alike() {
        let quote = |from| Segment::ack(from, "198.18.1.10:40000", 7, 9).packet();
        let error = |from| icmp_error("198.18.1.1", "203.0.113.10", 11, 0, &quote(from));
        let mut packet = Packet::new(HeapBuffer::new(&error("203.0.113.10:80")));
        let quoted = read(&packet).unwrap();
        rewrite(&mut packet, quoted, End::Source, endpoint("198.51.100.10:8080"));
        assert_eq!(packet.buffer.frame(), error("198.51.100.10:8080"));
    }
}
