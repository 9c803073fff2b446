//! ICMP errors (RFC 792, RFC 4443) and the packets that they quote.

use super::checksum::{Delta, Sum};
use super::{ipv4, ipv6, put_u16, put_u32, tunnel, u16_at, u32_at};
use crate::wire::family::Version;

/// Length of the ICMP header in front of the quoted packet, in bytes.
pub const HEADER: usize = 8;
const CHECKSUM: usize = 2;
/// Offset of the word in front of the quoted packet, which has the MTU in a "too big" error.
const WORD: usize = 4;
/// Number of payload bytes that every router quotes: for TCP the ports and the sequence number.
const LEAST_QUOTED: usize = 8;

/// Type of a neighbour solicitation (RFC 4861).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Type of a neighbour advertisement (RFC 4861).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

/// Returns the type of an echo request.
pub const fn echo_request(version: Version) -> u8 {
    match version {
        Version::V4 => 8,
        Version::V6 => 128,
    }
}

/// Returns the type of an echo reply.
pub const fn echo_reply(version: Version) -> u8 {
    match version {
        Version::V4 => 0,
        Version::V6 => 129,
    }
}

/// Returns whether messages of this type quote the packet that caused them.
///
/// IPv4: destination unreachable, source quench, redirect, time exceeded, parameter problem. IPv6:
/// destination unreachable, packet too big, time exceeded, parameter problem.
pub fn is_error(version: Version, kind: u8) -> bool {
    match version {
        Version::V4 => matches!(kind, 3 | 4 | 5 | 11 | 12),
        Version::V6 => matches!(kind, 1..=4),
    }
}

/// Returns whether a message reports that a packet was larger than the MTU of the path.
pub fn is_too_big(version: Version, message: &[u8]) -> bool {
    match version {
        Version::V4 => message.get(..2) == Some(&[3, 4]),
        Version::V6 => message.first() == Some(&2),
    }
}

/// The offsets of the headers in an ICMP error that quotes a TCP packet, from the start of the
/// message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of the quoted IP header in front of TCP: the inner one if a tunnel is quoted.
    pub ip: usize,
    /// Offset of the quoted TCP header.
    pub tcp: usize,
    /// IP family of the packet at `ip`.
    pub version: Version,
    /// Offset of the quoted outer header if a tunnel is quoted.
    pub outer: Option<usize>,
}

/// Finds the TCP packet that an ICMP error quotes, plain or in one tunnel.
///
/// Returns `None` if the message is not an error of this family, or does not quote the ports of a
/// TCP packet.
///
/// ```rust
/// use firstack_packets::Segment;
/// use pipeline::wire::family::Version;
/// use pipeline::wire::icmp;
///
/// // Destination unreachable, fragmentation needed, MTU 1400.
/// let mut message = vec![3, 4, 0, 0, 0, 0, 5, 120];
/// message.extend(Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).packet());
/// assert_eq!(icmp::mtu(Version::V4, &message), 1400);
///
/// let quoted = icmp::quoted_tcp(Version::V4, &message);
/// assert_eq!(quoted.map(|place| (place.ip, place.tcp)), Some((8, 28)));
/// assert_eq!(icmp::quoted_tcp(Version::V4, &message[..30]), None);
/// ```
pub fn quoted_tcp(version: Version, message: &[u8]) -> Option<Place> {
    if !is_error(version, *message.first()?) {
        return None;
    }
    let (protocol, offset) = payload(version, message.get(HEADER..)?)?;
    let at = HEADER + offset;
    if protocol == ipv4::TCP {
        let place = Place { ip: HEADER, tcp: at, version, outer: None };
        return (message.len() >= at + LEAST_QUOTED).then_some(place);
    }
    let bytes = message.get(at..)?;
    // Passes the header's own length, because the quote may be shorter than the datagram was.
    let length = bytes.get(4..6).map_or(0, |field| usize::from(u16_at(field, 0)));
    let header = tunnel::parse(protocol, bytes, length)?.ok()?;
    let ip = at + header.length;
    let (protocol, offset) = payload(header.inner, message.get(ip..)?)?;
    let tcp = ip + offset;
    let place = Place { ip, tcp, version: header.inner, outer: Some(HEADER) };
    (protocol == ipv4::TCP && message.len() >= tcp + LEAST_QUOTED).then_some(place)
}

/// Returns the protocol and the offset of a quoted IP header's payload. Returns `None` for a
/// malformed header or a later fragment's.
fn payload(version: Version, ip: &[u8]) -> Option<(u8, usize)> {
    match version {
        Version::V4 => {
            if ip.len() < ipv4::HEADER || ip[0] >> 4 != 4 || ipv4::is_later_fragment(ip) {
                return None;
            }
            let header = usize::from(ip[0] & 0xf) * 4;
            (header >= ipv4::HEADER).then_some((ipv4::protocol(ip), header))
        }
        Version::V6 => {
            if ip.len() < ipv6::HEADER || ip[0] >> 4 != 6 {
                return None;
            }
            // The quote may be shorter than the packet was.
            let chain = ipv6::walk(ip, ipv6::length(ip).min(ip.len())).ok()?;
            let later = chain.fragment.is_some_and(|at| ipv6::is_later_fragment(ip, at));
            (!later).then_some((chain.protocol, chain.offset))
        }
    }
}

/// Applies a change to the message's checksum.
pub fn adjust(message: &mut [u8], delta: Delta) {
    let checksum = delta.apply(u16_at(message, CHECKSUM));
    put_u16(message, CHECKSUM, checksum);
}

/// Returns whether the checksum is correct. `pseudo` is the sum of the pseudo header for IPv6, and
/// zero for IPv4.
pub fn checksum_ok(message: &[u8], pseudo: Sum) -> bool {
    Sum::of(message).plus(pseudo).fold() == 0xffff
}

/// Computes and sets the checksum. `pseudo` is the sum of the pseudo header for IPv6, and zero for
/// IPv4.
pub fn set_checksum(message: &mut [u8], pseudo: Sum) {
    put_u16(message, CHECKSUM, 0);
    let checksum = Sum::of(message).plus(pseudo).checksum();
    put_u16(message, CHECKSUM, checksum);
}

/// Returns the MTU in a "too big" error, in bytes.
pub fn mtu(version: Version, message: &[u8]) -> u32 {
    match version {
        Version::V4 => u16_at(message, WORD + 2).into(),
        Version::V6 => u32_at(message, WORD),
    }
}

/// Sets the MTU in a "too big" error. Does not update the checksum.
pub fn set_mtu(version: Version, message: &mut [u8], mtu: u32) {
    match version {
        Version::V4 => put_u16(message, WORD + 2, mtu as u16),
        Version::V6 => put_u32(message, WORD, mtu),
    }
}

/// Writes type, code, MTU and checksum of a "too big" error in front of the packet that it quotes.
pub fn emit_too_big(message: &mut [u8], version: Version, mtu: u16, pseudo: Sum) {
    message[..HEADER].fill(0);
    (message[0], message[1]) = if version.is_v6() { (2, 0) } else { (3, 4) };
    set_mtu(version, message, mtu.into());
    set_checksum(message, pseudo);
}

/// Returns the offset of the end of the quote by the length in the header (RFC 4884), behind which
/// extensions start. `None` if the message has no such length: the quote ends with the message.
pub fn quote_end(version: Version, message: &[u8]) -> Option<usize> {
    quote_length(version, message).map(|(_, end)| end)
}

/// Clears the length of the quoted packet in the header (RFC 4884), which says where extensions
/// start.
///
/// Returns the offset of the end of the quote, or `None` if the message has no such length.
pub fn take_quote_length(version: Version, message: &mut [u8]) -> Option<usize> {
    let (at, end) = quote_length(version, message)?;
    message[at] = 0;
    Some(end)
}

/// Returns the offset of the length of the quoted packet, and that of the end of the quote.
fn quote_length(version: Version, message: &[u8]) -> Option<(usize, usize)> {
    let (at, unit) = match version {
        Version::V4 => (WORD + 1, 4),
        Version::V6 => (WORD, 8),
    };
    // In other errors the field is part of an MTU, a pointer or a gateway's address.
    let has_length = match version {
        Version::V4 => matches!(message[0], 3 | 11 | 12),
        Version::V6 => matches!(message[0], 1 | 3),
    };
    if !has_length || message[at] == 0 {
        return None;
    }
    Some((at, HEADER + usize::from(message[at]) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Segment, tunnel_in};
    use crate::wire::tunnel::Format;

    fn message(kind: u8, quoted: &[u8]) -> Vec<u8> {
        [&[kind, 4, 0, 0, 0, 0, 5, 120], quoted].concat()
    }

    #[test]
    fn only_a_quoted_tcp_header_is_found() {
        let quoted = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).packet();
        let quoted_tcp = |message: &[u8]| Some(super::quoted_tcp(Version::V4, message)?.tcp);
        assert_eq!(quoted_tcp(&message(3, &quoted)), Some(28));
        assert_eq!(quoted_tcp(&message(3, &quoted[..28])), Some(28));
        assert_eq!(quoted_tcp(&message(3, &quoted[..27])), None);
        assert_eq!(quoted_tcp(&message(8, &quoted)), None, "an echo request");
        assert_eq!(quoted_tcp(&[]), None);
        assert_eq!(quoted_tcp(&message(3, &[])), None);
        let with = |at: usize, value: u8| {
            let mut quoted = quoted.clone();
            quoted[at] = value;
            quoted_tcp(&message(11, &quoted))
        };
        assert_eq!([with(0, 0x65), with(0, 0x44), with(0, 0x4f), with(9, 17)], [None; 4]);
        assert_eq!(with(7, 1), None, "a later fragment");
    }

    #[test]
    fn a_quoted_tcp_header_is_found_in_ipv6_and_in_tunnels() {
        let v4 = Segment::ack("198.18.1.10:40000", "203.0.113.10:80", 7, 9).packet();
        let v6 = Segment::ack("[2001:db8::1]:40000", "[2001:db8::2]:80", 7, 9).packet();
        let plain = quoted_tcp(Version::V6, &message(1, &v6)).unwrap();
        assert_eq!((plain.ip, plain.tcp, plain.outer), (8, 48, None));
        for format in Format::ALL {
            for (inner, version) in [(&v4, Version::V4), (&v6, Version::V6)] {
                let outer = tunnel_in(format, ("192.0.2.1", "192.0.2.2"), (0, 5), inner);
                let place = quoted_tcp(Version::V4, &message(3, &outer)).unwrap();
                let ip = 8 + 20 + format.header();
                assert_eq!((place.ip, place.outer, place.version), (ip, Some(8), version));
                let shortest = place.tcp + 8;
                let cut = |end: usize| quoted_tcp(Version::V4, &message(3, &outer)[..end]);
                assert!(cut(shortest).is_some() && cut(shortest - 1).is_none());
            }
        }
    }

    #[test]
    fn the_quote_length_is_cleared() {
        let mut error = message(3, &[0; 200]);
        assert_eq!(take_quote_length(Version::V4, &mut error), None);
        error[5] = 32;
        assert_eq!(take_quote_length(Version::V4, &mut error), Some(8 + 128));
        assert_eq!(error[5], 0);
    }

    #[test]
    fn only_some_errors_have_a_quote_length() {
        let take = |version, kind: u8, at: usize| {
            let mut message = [kind, 0, 0, 0, 0, 0, 0, 0];
            message[at] = 4;
            (take_quote_length(version, &mut message), message[at])
        };
        for kind in [3, 11, 12] {
            assert_eq!(take(Version::V4, kind, 5), (Some(8 + 16), 0));
        }
        assert_eq!(take(Version::V4, 5, 5), (None, 4), "a gateway's address");
        for kind in [1, 3] {
            assert_eq!(take(Version::V6, kind, 4), (Some(8 + 32), 0));
        }
        assert_eq!(take(Version::V6, 2, 4), (None, 4), "an MTU");
        assert_eq!(take(Version::V6, 4, 4), (None, 4), "a pointer");
    }
}
