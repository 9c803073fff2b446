//! Packets in tunnels (docs/protocol.md, "Tunnels"): written by the tests' packet builder, read
//! back by `etherparse`.

use std::net::IpAddr;

use etherparse::{EtherType, Ethernet2Header, Ipv4Header, Ipv6Header};
use firstack_packets::tunnel::GUE_PORT;
use firstack_packets::{Content, Gre, Gue, Ip, Payload, Sum, Tunnel, Wrong, checksum};
use pipeline::wire::tunnel::Format;

use super::packet::vlans;

/// UDP source port of GUE.
const SOURCE: u16 = 50_000;
const UDP: u8 = 17;
const GRE: u8 = 47;

/// The UDP checksum of GUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// Zero: no checksum.
    None,
    /// Correct.
    Right,
    /// Wrong.
    Wrong,
}

/// The outer headers of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// Its format.
    pub format: Format,
    /// Outer source.
    pub from: IpAddr,
    /// Outer destination.
    pub to: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether the IP header checksum is correct; always `true` in IPv6, which has none.
    pub ip_checksum: bool,
    /// The UDP checksum of GUE; none in other formats.
    pub udp: Udp,
}

/// Returns the overhead of a tunnel in bytes.
pub fn overhead(format: Format, is_v6: bool) -> usize {
    let header = match format {
        Format::Ipip => 0,
        Format::Gre => 4,
        Format::Gue => 12,
    };
    header + if is_v6 { 40 } else { 20 }
}

impl Outer {
    /// Creates the outer header that an appliance writes for a packet of this traffic class.
    pub fn new(format: Format, from: IpAddr, to: IpAddr, traffic_class: u8) -> Self {
        let udp = if format == Format::Gue && from.is_ipv6() { Udp::Right } else { Udp::None };
        Self { format, from, to, traffic_class, ttl: 64, ip_checksum: true, udp }
    }

    /// Returns the frame with its IP packet, or the bytes in its place, in the tunnel. The frame has
    /// no padding. A frame without an Ethernet header is returned unchanged.
    pub fn around(&self, frame: &[u8]) -> Vec<u8> {
        let Ok((ethernet, rest)) = Ethernet2Header::from_slice(frame) else {
            return frame.to_vec();
        };
        let Ok((ethertype, _, inner)) = vlans(ethernet.ether_type, rest) else {
            return frame.to_vec();
        };
        let mut l2 = frame[..frame.len() - inner.len()].to_vec();
        let at = l2.len() - 2;
        l2[at..].copy_from_slice(if self.from.is_ipv6() { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        let content = Content { data: inner.to_vec(), ..Content::default() };
        let format = self.built(ethertype == EtherType::IPV6);
        let payload = Payload::Tunnel(Tunnel { format, content });
        let wrong = Wrong { checksum: !self.ip_checksum, ..Wrong::default() };
        let ip = Ip::new(self.from, self.to, payload);
        let ip = Ip { tos: self.traffic_class, ttl: self.ttl, wrong, ..ip };
        [l2, ip.bytes()].concat()
    }

    /// Returns the encapsulation. The frame's EtherType, not its content, says what is inside.
    fn built(&self, is_v6: bool) -> firstack_packets::Format {
        let protocol = if is_v6 { 41 } else { 4 };
        match self.format {
            Format::Ipip => firstack_packets::Format::Ipip(Some(protocol)),
            Format::Gre => {
                let protocol = Some(if is_v6 { 0x86dd } else { 0x0800 });
                firstack_packets::Format::Gre(Gre { protocol, ..Gre::default() })
            }
            Format::Gue => {
                let sum = match self.udp {
                    Udp::None => Sum::Zero,
                    Udp::Right => Sum::Right,
                    Udp::Wrong => Sum::Wrong,
                };
                let (source, destination) = (SOURCE, GUE_PORT);
                let udp = firstack_packets::Udp { source, destination, sum, ..Default::default() };
                firstack_packets::Format::Gue(Gue {
                    udp,
                    protocol: Some(protocol),
                    ..Gue::default()
                })
            }
        }
    }

    /// Decapsulates a frame. Returns the outer header, the inner frame, and the source port of GUE.
    /// Lengths, DF and identification must be as an appliance writes them.
    pub fn peel(frame: &[u8]) -> Result<(Self, Vec<u8>, Option<u16>), String> {
        let (ethernet, rest) = Ethernet2Header::from_slice(frame).map_err(|e| e.to_string())?;
        let (ethertype, _, ip) = vlans(ethernet.ether_type, rest)?;
        let (mut outer, protocol, payload) = match ethertype {
            EtherType::IPV4 => Self::ipv4(ip)?,
            EtherType::IPV6 => Self::ipv6(ip)?,
            _ => return Err("not IP".into()),
        };
        let word = |at: usize| match payload.get(at..at + 2) {
            Some(bytes) => Ok(u16::from_be_bytes([bytes[0], bytes[1]])),
            None => Err("cut off".to_owned()),
        };
        let (is_v6, header, port) = match protocol {
            4 => (false, 0, None),
            41 => (true, 0, None),
            GRE if word(0)? == 0 => (word(2)? == 0x86dd, 4, None),
            UDP if word(2)? == GUE_PORT
                && usize::from(word(4)?) == payload.len()
                && word(10)? == 0 =>
            {
                (word(8)? == 41, 12, Some(word(0)?))
            }
            _ => return Err(format!("protocol {protocol}")),
        };
        outer.format = match header {
            0 => Format::Ipip,
            4 => Format::Gre,
            _ => Format::Gue,
        };
        if port.is_some() {
            let sum = checksum::transport((outer.from, outer.to), UDP, payload);
            outer.udp = match (word(6)?, sum) {
                (0, _) => Udp::None,
                (_, 0) => Udp::Right,
                _ => Udp::Wrong,
            };
        }
        let mut l2 = frame[..frame.len() - ip.len()].to_vec();
        let at = l2.len() - 2;
        l2[at..].copy_from_slice(if is_v6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        Ok((outer, [&l2[..], &payload[header..]].concat(), port))
    }

    fn ipv4(bytes: &[u8]) -> Result<(Self, u8, &[u8]), String> {
        let (ip, payload) = Ipv4Header::from_slice(bytes).map_err(|e| e.to_string())?;
        let whole = usize::from(ip.total_len) == bytes.len() && ip.options.is_empty();
        if !whole || !ip.dont_fragment || ip.is_fragmenting_payload() || ip.identification != 0 {
            return Err("not an outer header of an appliance".into());
        }
        let class = ip.dscp.value() << 2 | ip.ecn.value();
        let mut outer = Self::new(Format::Ipip, ip.source.into(), ip.destination.into(), class);
        outer.ttl = ip.time_to_live;
        outer.ip_checksum = ip.header_checksum == ip.calc_header_checksum();
        Ok((outer, ip.protocol.0, payload))
    }

    fn ipv6(bytes: &[u8]) -> Result<(Self, u8, &[u8]), String> {
        let (ip, payload) = Ipv6Header::from_slice(bytes).map_err(|e| e.to_string())?;
        if usize::from(ip.payload_length) != payload.len() {
            return Err("not an outer header of an appliance".into());
        }
        let class = ip.traffic_class;
        let mut outer = Self::new(Format::Ipip, ip.source.into(), ip.destination.into(), class);
        (outer.ttl, outer.udp) = (ip.hop_limit, Udp::None);
        Ok((outer, ip.next_header.0, payload))
    }
}

/// Returns the traffic class after decapsulation (RFC 6040, section 4.2), or `None` when the packet
/// must be dropped.
pub fn decapsulated_class(inner: u8, outer: u8) -> Option<u8> {
    match (inner & 3, outer & 3) {
        (0, 3) => None,
        (1 | 2, 3) => Some(inner | 3),
        (2, 1) => Some(inner & !3 | 1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::super::packet::{ACK, Packet};
    use super::*;

    #[test]
    fn what_goes_in_comes_out() {
        let ends = [("198.18.1.10", "203.0.113.10"), ("2001:db8::1", "2001:db8::2")];
        for (from, to) in ends {
            for (inside_from, inside_to) in ends {
                let end = |text: &str| (text.parse::<IpAddr>().unwrap(), 80).into();
                let mut inner = Packet::new(end(inside_from), end(inside_to), ACK);
                (inner.vlans, inner.payload) = (vec![(0x8100, 5)], b"odd".to_vec());
                for format in Format::ALL {
                    let outer = Outer::new(format, from.parse().unwrap(), to.parse().unwrap(), 7);
                    let frame = outer.around(&inner.frame());
                    let added = overhead(format, outer.from.is_ipv6());
                    assert_eq!(frame.len(), inner.frame().len() + added);
                    let (read, inside, port) = Outer::peel(&frame).unwrap();
                    assert_eq!((read, inside), (outer, inner.frame()));
                    assert_eq!(port.is_some(), format == Format::Gue);
                }
            }
        }
    }
}
