//! The ICMP messages that a router originates: errors and echo replies.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firstack_packets::{Content, Header, Icmp, Ip, Payload};

use super::frame::{ICMP, ICMPV6, IPV6_HEADER, ip_addresses, ip_length, ipv4_at, ipv6_at, u16_at};

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
    let quoted = &packet[..packet.len().min(LONGEST_V4 - 28)];
    Some(message((us.into(), source.into()), (kind, code), mtu.into(), quoted))
}

/// Returns the IP packet of an ICMP message: type and code, second word, and data.
fn message(ends: (IpAddr, IpAddr), (kind, code): (u8, u8), word: u32, data: &[u8]) -> Vec<u8> {
    let protocol = if ends.0.is_ipv6() { ICMPV6 } else { ICMP };
    let content = Content { data: data.to_vec(), ..Content::default() };
    let message = Icmp { protocol, kind, code, word, content, bad_checksum: false };
    let mut ip = Ip::new(ends.0, ends.1, Payload::Icmp(message));
    if let Header::V4 { df, .. } = &mut ip.header {
        *df = false;
    }
    ip.bytes()
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
    let quoted = &packet[..packet.len().min(LONGEST_V6 - 48)];
    Some(message((us.into(), source.into()), (kind, code), mtu.into(), quoted))
}

/// Returns the reply to an echo request, and `None` for any other packet.
#[must_use]
pub fn echo_reply(packet: &[u8]) -> Option<Vec<u8>> {
    let packet = &packet[..ip_length(packet)];
    let (header, is_icmp, [request, reply]) = if packet[0] >> 4 == 4 {
        let whole = u16_at(packet, 6) & 0x3fff == 0;
        (usize::from(packet[0] & 0xf) * 4, packet[9] == ICMP && whole, Icmp::echo(ICMP))
    } else {
        (IPV6_HEADER, packet[6] == ICMPV6, Icmp::echo(ICMPV6))
    };
    let echo = packet.get(header..).filter(|echo| echo.len() >= 8 && echo[0] == request)?;
    let (from, to) = ip_addresses(packet);
    let word = u32::from(u16_at(echo, 4)) << 16 | u32::from(u16_at(echo, 6));
    is_icmp.then(|| message((to, from), (reply, 0), word, &echo[8..]))
}

#[cfg(test)]
mod tests {
    use firstack_packets::checksum::{checksum, transport};
    use firstack_packets::{address, ip_packet};

    use super::super::frame::{ipv4_is_sound, ipv6_is_sound};
    use super::*;

    const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 10);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 1);

    fn packet(from: Ipv4Addr, to: Ipv4Addr, message: &[u8]) -> Vec<u8> {
        ip_packet(from.into(), to.into(), ICMP, 0, message)
    }

    #[test]
    fn a_big_packet_is_answered_with_the_mtu_and_quoted() {
        let server = Ipv4Addr::new(203, 0, 113, 10);
        let packet = ip_packet(CLIENT.into(), server.into(), 6, 0, &[7; 1400]);
        let answer = error(&packet, Trouble::TooBig(1300), Some(ROUTER), None).unwrap();
        assert!(ipv4_is_sound(&answer));
        assert_eq!((ipv4_at(&answer, 12), ipv4_at(&answer, 16)), (ROUTER, CLIENT));
        assert_eq!((answer[20], answer[21], u16_at(&answer, 26)), (3, 4, 1300));
        assert_eq!(checksum(&[&answer[20..]]), 0);
        assert_eq!(answer[28..], packet[..LONGEST_V4 - 28]);
    }

    #[test]
    fn no_error_about_an_error() {
        let packet = packet(CLIENT, ROUTER, &[3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!(error(&packet, Trouble::NoRoute, Some(ROUTER), None), None);
        let (a, b) = (address("2001:db8::1"), address("2001:db8::2"));
        let v6 = ip_packet(a, b, ICMPV6, 0, &[1; 8]);
        assert_eq!(error(&v6, Trouble::NoRoute, None, Some(Ipv6Addr::LOCALHOST)), None);
    }

    #[test]
    fn echo_requests_are_answered_in_both_families() {
        let request = packet(CLIENT, ROUTER, &[8, 0, 0, 0, 1, 2, 3, 4, 5]);
        let reply = echo_reply(&request).unwrap();
        assert!(ipv4_is_sound(&reply) && checksum(&[&reply[20..]]) == 0);
        assert_eq!((reply[20], &reply[24..]), (0, &request[24..]));

        let (a, b) = (address("2001:db8::1"), address("2001:db8::2"));
        let reply = echo_reply(&ip_packet(a, b, ICMPV6, 0, &[128, 0, 0, 0, 1, 2, 3, 4])).unwrap();
        assert!(ipv6_is_sound(&reply));
        assert_eq!(ip_addresses(&reply), (b, a));
        assert_eq!(transport((b, a), ICMPV6, &reply[IPV6_HEADER..]), 0);
    }
}
