//! The ICMP messages that a router sends of its own: errors and echo replies.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::frame::{
    ICMP, ICMPV6, IPV6_HEADER, checksum, icmpv6_checksum, ip_length, ipv4_at, ipv6_at, put_u16,
    u16_at,
};

/// Longest IPv4 error, IP header included (RFC 1812, 4.3.2.3).
const LONGEST_V4: usize = 576;
/// Longest IPv6 error: the least MTU of a link (RFC 4443, 2.4 c).
const LONGEST_V6: usize = 1280;

/// What went wrong with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// TTL or hop limit ran out.
    TimeExceeded,
    /// No route.
    NoRoute,
    /// Bigger than the link's MTU, which is this.
    TooBig(u16),
}

/// The error about a sound packet, as an IP packet; none where the RFCs forbid one.
#[must_use]
pub fn error(
    packet: &[u8],
    trouble: Trouble,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
) -> Option<Vec<u8>> {
    let packet = &packet[..ip_length(packet)];
    if packet[0] >> 4 == 4 {
        error_v4(packet, trouble, v4?)
    } else {
        error_v6(packet, trouble, v6?)
    }
}

fn error_v4(packet: &[u8], trouble: Trouble, us: Ipv4Addr) -> Option<Vec<u8>> {
    let header = usize::from(packet[0] & 0xf) * 4;
    let later_fragment = u16_at(packet, 6) & 0x1fff != 0;
    let is_error =
        packet[9] == ICMP && packet.get(header).is_none_or(|kind| !matches!(kind, 0 | 8 | 13 | 14));
    let source = ipv4_at(packet, 12);
    if later_fragment || is_error || source.is_unspecified() || source.is_multicast() {
        return None;
    }
    let (kind, code, mtu) = match trouble {
        Trouble::TimeExceeded => (11, 0, 0),
        Trouble::NoRoute => (3, 0, 0),
        Trouble::TooBig(mtu) => (3, 4, mtu),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&packet[..packet.len().min(LONGEST_V4 - 28)]);
    let sum = checksum(&message);
    put_u16(&mut message, 2, sum);
    Some(ipv4(us, source, &message))
}

fn ipv4(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    let total = (20 + message.len()) as u16;
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, ICMP, 0, 0];
    put_u16(&mut packet, 2, total);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    let sum = checksum(&packet);
    put_u16(&mut packet, 10, sum);
    packet.extend_from_slice(message);
    packet
}

fn error_v6(packet: &[u8], trouble: Trouble, us: Ipv6Addr) -> Option<Vec<u8>> {
    let is_error = packet[6] == ICMPV6 && packet.get(IPV6_HEADER).is_none_or(|kind| *kind < 128);
    let source = ipv6_at(packet, 8);
    if is_error || source.is_unspecified() || source.is_multicast() {
        return None;
    }
    let (kind, code, mtu) = match trouble {
        Trouble::TimeExceeded => (3, 0, 0),
        Trouble::NoRoute => (1, 0, 0),
        Trouble::TooBig(mtu) => (2, 0, mtu),
    };
    let mut message = vec![kind, code, 0, 0, 0, 0];
    message.extend_from_slice(&mtu.to_be_bytes());
    message.extend_from_slice(&packet[..packet.len().min(LONGEST_V6 - 48)]);
    let sum = icmpv6_checksum(us, source, &message);
    put_u16(&mut message, 2, sum);
    Some(ipv6(us, source, &message))
}

fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, ICMPV6, 64];
    put_u16(&mut packet, 4, message.len() as u16);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(message);
    packet
}

/// The reply to an echo request; none for any other packet.
#[must_use]
pub fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let packet = &packet[..ip_length(packet)];
    if packet[0] >> 4 == 4 {
        let header = usize::from(packet[0] & 0xf) * 4;
        let whole = u16_at(packet, 6) & 0x3fff == 0;
        if packet[9] != ICMP || !whole || packet.len() < header + 8 || packet[header] != 8 {
            return None;
        }
        let mut message = packet[header..].to_vec();
        message[0] = 0;
        put_u16(&mut message, 2, 0);
        let sum = checksum(&message);
        put_u16(&mut message, 2, sum);
        Some(ipv4(ipv4_at(packet, 16), ipv4_at(packet, 12), &message))
    } else {
        let (source, destination) = (ipv6_at(packet, 8), ipv6_at(packet, 24));
        if packet[6] != ICMPV6 || packet.len() < IPV6_HEADER + 8 || packet[IPV6_HEADER] != 128 {
            return None;
        }
        let mut message = packet[IPV6_HEADER..].to_vec();
        message[0] = 129;
        put_u16(&mut message, 2, 0);
        let sum = icmpv6_checksum(destination, source, &message);
        put_u16(&mut message, 2, sum);
        Some(ipv6(destination, source, &message))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{ipv4_is_sound, ipv6_is_sound};
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 10);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

    #[test]
    fn a_big_packet_is_answered_with_the_mtu_and_quoted() {
        let mut packet = ipv4(CLIENT, Ipv4Addr::new(203, 0, 113, 10), &[7; 1400]);
        packet[9] = 6;
        let answer = error(&packet, Trouble::TooBig(1300), Some(ROUTER), None).unwrap();
        assert!(ipv4_is_sound(&answer));
        assert_eq!((ipv4_at(&answer, 12), ipv4_at(&answer, 16)), (ROUTER, CLIENT));
        assert_eq!((answer[20], answer[21], u16_at(&answer, 26)), (3, 4, 1300));
        assert_eq!(checksum(&answer[20..]), 0);
        assert_eq!(answer[28..], packet[..LONGEST_V4 - 28]);
    }

    #[test]
    fn no_error_about_an_error() {
        let packet = ipv4(CLIENT, ROUTER, &[3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(error(&packet, Trouble::NoRoute, Some(ROUTER), None), None);
        let v6 = ipv6("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap(), &[1; 8]);
        assert_eq!(error(&v6, Trouble::NoRoute, None, Some(Ipv6Addr::LOCALHOST)), None);
    }

    #[test]
    fn echo_requests_are_answered_in_both_families() {
        let request = ipv4(CLIENT, ROUTER, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
        let reply = echo_reply(&request).unwrap();
        assert!(ipv4_is_sound(&reply) && checksum(&reply[20..]) == 0);
        assert_eq!((reply[20], &reply[24..]), (0, &request[24..]));

        let (a, b) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let reply = echo_reply(&ipv6(a, b, &[128, 0, 0, 0, 1, 2, 3, 4])).unwrap();
        assert!(ipv6_is_sound(&reply));
        assert_eq!((ipv6_at(&reply, 8), ipv6_at(&reply, 24)), (b, a));
        assert_eq!(icmpv6_checksum(b, a, &reply[IPV6_HEADER..]), 0);
    }
}
