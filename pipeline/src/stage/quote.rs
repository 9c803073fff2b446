//! Rewriting of the packet that an ICMP error quotes, so that path MTU discovery and other uses of
//! ICMP work across translation and tunnels.

use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, View};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::family::{Endpoint, Family, Version};
use crate::wire::{icmp, tcp};

/// The endpoints of the TCP packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted<F: Family> {
    /// Its source.
    pub source: Endpoint<F>,
    /// Its destination.
    pub destination: Endpoint<F>,
    /// The outer source and destination, if the packet was in a tunnel.
    pub outer: Option<(F::Address, F::Address)>,
    place: icmp::Place,
}

impl<F: Family> Quoted<F> {
    /// Returns the offset of the quoted IP header in the ICMP message: of the inner one if a tunnel
    /// is quoted.
    pub(super) fn ip_offset(&self) -> usize {
        self.place.ip
    }

    /// Returns the offset of the quoted TCP header in the ICMP message.
    pub(super) fn tcp_offset(&self) -> usize {
        self.place.tcp
    }
}

/// The endpoint of a quoted packet that is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its source.
    Source,
    /// Its destination.
    Destination,
}

/// Reads the TCP packet that an ICMP error quotes. `None` unless the packet is an error about TCP
/// of its own family, plain or in a tunnel of that family.
pub fn read<F: Family, B: Buffer>(packet: &Packet<B>) -> Option<Quoted<F>> {
    read_at(packet.buffer.head(), packet.view)
}

/// Reads the TCP packet that an ICMP error quotes, as [`read`] does, where `view` is the view of
/// the ICMP packet: of a tunnelled one, for example.
pub fn read_at<F: Family>(head: &[u8], view: View) -> Option<Quoted<F>> {
    if view.version != F::VERSION {
        return None;
    }
    let message = head.get(usize::from(view.l4)..head.len().min(view.end as usize))?;
    let place = icmp::quoted_tcp(F::VERSION, message)?;
    if place.version != F::VERSION {
        return None;
    }
    let (ip, tcp) = (&message[place.ip..], &message[place.tcp..]);
    let ends = |at: usize| (F::source(&message[at..]), F::destination(&message[at..]));
    Some(Quoted {
        source: Endpoint::new(F::source(ip), tcp::source_port(tcp)),
        destination: Endpoint::new(F::destination(ip), tcp::destination_port(tcp)),
        outer: place.outer.map(ends),
        place,
    })
}

/// Returns the contiguous part of the ICMP message.
fn message<B: Buffer>(packet: &Packet<B>) -> Option<&[u8]> {
    let head = packet.buffer.head();
    head.get(usize::from(packet.view.l4)..head.len().min(packet.view.end as usize))
}

fn message_mut<B: Buffer>(packet: &mut Packet<B>) -> &mut [u8] {
    let (l4, limit) = (usize::from(packet.view.l4), packet.view.end as usize);
    let head = packet.buffer.head_mut();
    let limit = limit.min(head.len());
    &mut head[l4..limit]
}

/// Returns whether a packet is an ICMP error that says that a packet was larger than a link's MTU.
pub fn is_too_big<F: Family, B: Buffer>(packet: &Packet<B>) -> bool {
    message(packet).is_some_and(|message| icmp::is_too_big(F::VERSION, message))
}

/// Returns whether the ICMP message is contiguous and its checksum right.
pub fn checksum_ok<F: Family, B: Buffer>(packet: &Packet<B>) -> bool {
    let length = packet.view.end as usize - usize::from(packet.view.l4);
    let whole = message(packet).filter(|message| message.len() == length);
    whole.is_some_and(|message| icmp::checksum_ok(message, pseudo_header::<F, B>(packet, length)))
}

/// Returns the sum of the pseudo header: the ICMPv6 checksum covers it, the ICMP checksum does not.
fn pseudo_header<F: Family, B: Buffer>(packet: &Packet<B>, length: usize) -> Sum {
    match F::VERSION {
        Version::V4 => Sum::default(),
        Version::V6 => {
            let ip = packet.ip();
            F::pseudo_header(F::source(ip), F::destination(ip), F::ICMP, length)
        }
    }
}

/// Replaces an endpoint of the quoted packet, and updates the checksums of the quoted IP header, of
/// the quoted TCP header if its checksum is quoted, and of the ICMP message.
pub fn rewrite<F: Family, B: Buffer>(
    packet: &mut Packet<B>,
    quoted: Quoted<F>,
    end: End,
    to: Endpoint<F>,
) {
    let message = message_mut(packet);
    let icmp::Place { ip: ip_at, tcp: tcp_at, .. } = quoted.place;
    // All changes are before the end of the quoted TCP checksum. Headers start at even offsets, so
    // the bytes of the sum need not be swapped.
    let touched = ip_at..message.len().min(tcp_at + TCP_CHECKSUM_END);
    let before = Sum::of(&message[touched.clone()]);
    let (ip, tcp) = message[ip_at..].split_at_mut(tcp_at - ip_at);
    let delta = match end {
        End::Source => F::set_source(ip, to.address).plus(tcp::set_source_port(tcp, to.port)),
        End::Destination => {
            F::set_destination(ip, to.address).plus(tcp::set_destination_port(tcp, to.port))
        }
    };
    if tcp.len() >= TCP_CHECKSUM_END {
        tcp::adjust(tcp, delta);
    }
    let after = Sum::of(&message[touched]);
    icmp::adjust(message, Delta::removed(before).plus(Delta::added(after)));
}

/// The offset of the end of the checksum in a TCP header.
const TCP_CHECKSUM_END: usize = 18;

/// Sets the source address of the ICMP packet itself, and updates its checksums.
pub fn set_source<F: Family, B: Buffer>(packet: &mut Packet<B>, address: F::Address) {
    let delta = F::set_source(packet.ip_mut(), address);
    adjust_for_address::<F, B>(packet, delta);
}

/// Sets the destination address of the ICMP packet itself, and updates its checksums.
pub fn set_destination<F: Family, B: Buffer>(packet: &mut Packet<B>, address: F::Address) {
    let delta = F::set_destination(packet.ip_mut(), address);
    adjust_for_address::<F, B>(packet, delta);
}

fn adjust_for_address<F: Family, B: Buffer>(packet: &mut Packet<B>, delta: Delta) {
    if F::VERSION.is_v6() {
        icmp::adjust(message_mut(packet), delta);
    }
}

/// Strips the tunnel headers from the packet that an error quotes, because its sender does not know
/// the tunnel. The MTU that a "too big" reports is lowered by the tunnel's overhead. Returns the
/// quoted packet at its new place; without a tunnel nothing changes.
///
/// `None`, and nothing changes, when the error is spread over several buffer segments, or has a
/// wrong checksum, which a new one would hide.
pub fn peel<F: Family, B: Buffer>(packet: &mut Packet<B>, quoted: Quoted<F>) -> Option<Quoted<F>> {
    let Some(outer) = quoted.place.outer else { return Some(quoted) };
    let removed = quoted.place.ip - outer;
    if !checksum_ok::<F, B>(packet) {
        return None;
    }
    packet.buffer.truncate(packet.view.end as usize);
    if let Some(end) = icmp::take_quote_length(F::VERSION, message_mut(packet)) {
        let limit = usize::from(packet.view.l4) + end.max(quoted.place.tcp + TCP_CHECKSUM_END);
        packet.view.end = packet.view.end.min(limit as u32);
        packet.buffer.truncate(packet.view.end as usize);
    }
    let headers = usize::from(packet.view.l4) + icmp::HEADER;
    packet.buffer.head_mut().copy_within(0..headers, removed);
    packet.buffer.trim_front(removed);
    packet.view.end -= removed as u32;
    let length = packet.ip_len();
    F::set_length(packet.ip_mut(), length);
    let message_length = length - usize::from(packet.view.l4 - packet.view.l3);
    let pseudo = pseudo_header::<F, B>(packet, message_length);
    let message = message_mut(packet);
    if icmp::is_too_big(F::VERSION, message) {
        let mtu = icmp::mtu(F::VERSION, message).saturating_sub(removed as u32);
        icmp::set_mtu(F::VERSION, message, mtu);
    }
    icmp::set_checksum(message, pseudo);
    let icmp::Place { ip, tcp, .. } = quoted.place;
    let place = icmp::Place { ip: ip - removed, tcp: tcp - removed, outer: None, ..quoted.place };
    Some(Quoted { outer: None, place, ..quoted })
}

/// Returns a copy of an ICMP error whose IP packet is at most `limit` bytes long: it quotes less of
/// the packet that it is about.
///
/// `None` when the pool is empty, when the error is spread over several buffer segments, or when
/// `limit` leaves no space for a quotation.
pub fn shortened<F: Family, P: Pool>(
    packet: &Packet<P::Buffer>,
    limit: usize,
    pool: &mut P,
) -> Option<P::Buffer> {
    let (l3, l4) = (usize::from(packet.view.l3), usize::from(packet.view.l4));
    let frame = packet.buffer.head().get(..packet.view.end as usize)?;
    let length = limit.min(frame.len() - l3);
    let message = (length + l3).checked_sub(l4).filter(|length| *length > icmp::HEADER)?;
    let mut buffer = pool.alloc(l3 + length)?;
    let short = buffer.head_mut();
    short.copy_from_slice(&frame[..l3 + length]);
    F::set_length(&mut short[l3..], length);
    icmp::set_checksum(&mut short[l4..], pseudo_header::<F, _>(packet, message));
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::testing::{Segment, endpoint, icmp_error, tunnel_in};
    use crate::wire::family::{V4, V6};
    use crate::wire::tunnel::Format;

    fn error(to: &str, quoted: usize) -> Vec<u8> {
        let segment = Segment::ack("198.18.1.10:40000", to, 7, 9).payload(&[1, 2, 3]);
        icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &segment.packet()[..quoted])
    }

    #[test]
    fn a_rewritten_error_equals_one_about_the_other_packet_however_much_it_quotes() {
        for quoted_bytes in [28, 36, 38, 40, 43] {
            let mut packet =
                Packet::new(HeapBuffer::new(&error("198.51.100.10:8080", quoted_bytes)));
            let quoted = read::<V4, _>(&packet).unwrap();
            assert_eq!(quoted.source, endpoint("198.18.1.10:40000"));
            assert_eq!(quoted.destination, endpoint("198.51.100.10:8080"));
            rewrite(&mut packet, quoted, End::Destination, endpoint("203.0.113.10:80"));
            let expected = error("203.0.113.10:80", quoted_bytes);
            assert_eq!(packet.buffer.frame(), expected, "{quoted_bytes} bytes quoted");
        }
    }

    #[test]
    fn the_quoted_source_is_rewritten_too() {
        let quote = |from| Segment::ack(from, "198.18.1.10:40000", 7, 9).packet();
        let error = |from| icmp_error("198.18.1.1", "203.0.113.10", 11, 0, &quote(from));
        let mut packet = Packet::new(HeapBuffer::new(&error("203.0.113.10:80")));
        let quoted = read::<V4, _>(&packet).unwrap();
        rewrite(&mut packet, quoted, End::Source, endpoint("198.51.100.10:8080"));
        assert_eq!(packet.buffer.frame(), error("198.51.100.10:8080"));
    }

    #[test]
    fn errors_of_ipv6_are_rewritten_with_their_own_addresses() {
        let quote = |to| Segment::ack("[2001:db8::1]:40000", to, 7, 9).packet();
        let error = |from, to| icmp_error(from, "2001:db8::1", 1, 4, &quote(to));
        let before = error("2001:db8:3::10", "[2001:db8:3::10]:8080");
        let mut packet = Packet::new(HeapBuffer::new(&before));
        assert!(checksum_ok::<V6, _>(&packet));
        let quoted = read::<V6, _>(&packet).unwrap();
        rewrite(&mut packet, quoted, End::Destination, endpoint("[2001:db8:2::10]:80"));
        set_source::<V6, _>(&mut packet, "2001:db8:2::10".parse().unwrap());
        let after = error("2001:db8:2::10", "[2001:db8:2::10]:80");
        assert_eq!(packet.buffer.frame(), after);
        set_destination::<V6, _>(&mut packet, "2001:db8::9".parse().unwrap());
        assert!(checksum_ok::<V6, _>(&packet));
    }

    #[test]
    fn a_quoted_tunnel_is_stripped_and_the_mtu_lowered() {
        let inner = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).payload(&[3; 9]);
        for format in Format::ALL {
            let outer =
                tunnel_in(format, ("198.18.1.10", "198.51.100.10"), (0, 5), &inner.packet());
            let frame = icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &outer);
            let mut packet = Packet::new(HeapBuffer::new(&frame));
            let quoted = read::<V4, _>(&packet).unwrap();
            let (source, destination) = quoted.outer.unwrap();
            assert_eq!(
                (source.to_string(), destination.to_string()),
                ("198.18.1.10".to_owned(), "198.51.100.10".to_owned())
            );
            let quoted = peel(&mut packet, quoted).unwrap();
            let mut expected = icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &inner.packet());
            let mtu = 1400 - 20 - format.header() as u16;
            expected[40..42].copy_from_slice(&mtu.to_be_bytes());
            expected[36..38].fill(0);
            let sum = Sum::of(&expected[34..]).checksum();
            expected[36..38].copy_from_slice(&sum.to_be_bytes());
            assert_eq!(packet.buffer.frame(), expected, "{format:?}");
            assert_eq!(read::<V4, _>(&packet), Some(quoted));
        }
    }

    #[test]
    fn a_wrong_checksum_is_not_replaced_by_a_right_one() {
        let inner = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9);
        let outer =
            tunnel_in(Format::Ipip, ("198.18.1.10", "198.51.100.10"), (0, 5), &inner.packet());
        let mut frame = icmp_error("192.0.2.1", "198.18.1.10", 3, 4, &outer);
        frame[41] ^= 1;
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        let quoted = read::<V4, _>(&packet).unwrap();
        assert_eq!(peel(&mut packet, quoted), None);
        assert_eq!(packet.buffer.frame(), frame);
    }

    #[test]
    fn a_quoted_tunnel_over_ipv6_is_stripped_too() {
        let inner = Segment::ack("[2001:db8::1]:40000", "[2001:db8::2]:80", 7, 9).payload(&[3; 9]);
        let outer = tunnel_in(Format::Gue, ("2001:db8::1", "2001:db8::3"), (0, 5), &inner.packet());
        let frame = icmp_error("2001:db8::9", "2001:db8::1", 2, 0, &outer);
        let mut packet = Packet::new(HeapBuffer::new(&frame));
        let quoted = read::<V6, _>(&packet).unwrap();
        peel(&mut packet, quoted).unwrap();
        assert!(checksum_ok::<V6, _>(&packet));
        assert_eq!(icmp::mtu(Version::V6, message(&packet).unwrap()), 1400 - 52);
        assert_eq!(packet.buffer.frame().len(), 54 + 8 + inner.packet().len());
    }

    #[test]
    fn a_shortened_error_equals_one_that_quotes_less() {
        let segment = Segment::ack("[2001:db8::2]:80", "[2001:db8::1]:40000", 7, 9);
        let quoted = segment.payload(&[7; 1400]).packet();
        let error = |bytes: usize| icmp_error("2001:db8::9", "2001:db8::2", 2, 0, &quoted[..bytes]);
        let packet = Packet::new(HeapBuffer::new(&error(1232)));
        let pool = &mut HeapPool::default();
        let short = shortened::<V6, _>(&packet, 1228, pool).unwrap();
        assert_eq!(short.frame(), error(1228 - 48));
        assert_eq!(shortened::<V6, _>(&packet, 1500, pool).unwrap().frame(), error(1232));
        assert!(shortened::<V6, _>(&packet, 48, pool).is_none());
        let v4 = Packet::new(HeapBuffer::new(&self::error("198.51.100.10:8080", 40)));
        let short = shortened::<V4, _>(&v4, 28 + 36, pool).unwrap();
        assert_eq!(short.frame(), self::error("198.51.100.10:8080", 36));
    }
}
