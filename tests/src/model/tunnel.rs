//! Packets in tunnels, made and read as protocol.md 4.1, 4.2, 4.3 and the RFCs say.

use std::net::IpAddr;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header};
use pipeline::wire::tunnel::Format;

use super::packet::vlans;
use super::sum::{checksum, pseudo};

/// UDP destination port of GUE.
const GUE: u16 = 6080;
const UDP: u8 = 17;
const GRE: u8 = 47;

/// The UDP checksum of GUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Udp {
    /// Zero: there is none.
    None,
    /// Right.
    Right,
    /// Wrong.
    Wrong,
}

/// What stands around a packet in a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outer {
    /// How the packet is in it.
    pub format: Format,
    /// Outer source.
    pub from: IpAddr,
    /// Outer destination.
    pub to: IpAddr,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether the IP header checksum is right; IPv6 has none, and it is always so.
    pub ip_checksum: bool,
    /// The UDP checksum of GUE; none in other formats.
    pub udp: Udp,
}

/// Bytes that a tunnel adds.
pub fn overhead(format: Format, is_v6: bool) -> usize {
    let header = match format {
        Format::Ipip => 0,
        Format::Gre => 4,
        Format::Gue => 12,
    };
    header + if is_v6 { 40 } else { 20 }
}

impl Outer {
    /// The header that an appliance writes around a packet of this traffic class.
    pub fn new(format: Format, from: IpAddr, to: IpAddr, traffic_class: u8) -> Self {
        let udp = if format == Format::Gue && from.is_ipv6() { Udp::Right } else { Udp::None };
        Self { format, from, to, traffic_class, ttl: 64, ip_checksum: true, udp }
    }

    /// The frame's IP packet, or what stands in its place, in the tunnel. The frame bears no
    /// padding. A frame without an Ethernet header stays as it is.
    pub fn around(&self, frame: &[u8]) -> Vec<u8> {
        let Ok((ethernet, rest)) = Ethernet2Header::from_slice(frame) else {
            return frame.to_vec();
        };
        let Ok((ethertype, _, inner)) = vlans(ethernet.ether_type, rest) else {
            return frame.to_vec();
        };
        let is_v6 = ethertype == EtherType::IPV6;
        let payload = [self.header(is_v6, inner), inner.to_vec()].concat();
        let protocol = match self.format {
            Format::Ipip => {
                if is_v6 {
                    41
                } else {
                    4
                }
            }
            Format::Gre => GRE,
            Format::Gue => UDP,
        };
        let mut l2 = frame[..frame.len() - inner.len()].to_vec();
        let at = l2.len() - 2;
        l2[at..].copy_from_slice(if self.from.is_ipv6() { &[0x86, 0xdd] } else { &[0x08, 0x00] });
        let mut ip = ip_header((self.from, self.to), protocol, self.traffic_class, payload.len());
        match self.from {
            IpAddr::V6(_) => ip[7] = self.ttl,
            IpAddr::V4(_) => {
                ip[8] = self.ttl;
                ip[10..12].fill(0);
                let checksum = checksum(&ip) ^ if self.ip_checksum { 0 } else { 0x5a5a };
                ip[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
        }
        [l2, ip, payload].concat()
    }

    /// What stands between the outer IP header and the inner one.
    fn header(&self, is_v6: bool, inner: &[u8]) -> Vec<u8> {
        match self.format {
            Format::Ipip => Vec::new(),
            Format::Gre if is_v6 => vec![0, 0, 0x86, 0xdd],
            Format::Gre => vec![0, 0, 0x08, 0x00],
            Format::Gue => {
                let length = 12 + inner.len() as u16;
                let mut udp = [50_000u16, GUE, length, 0].map(u16::to_be_bytes).concat();
                udp.extend([0, if is_v6 { 41 } else { 4 }, 0, 0]);
                if self.udp != Udp::None {
                    let whole =
                        [&pseudo(self.from, self.to, UDP, length.into())[..], &udp, inner].concat();
                    let right = checksum(&whole);
                    let right = if right == 0 { 0xffff } else { right };
                    let written = if self.udp == Udp::Right { right } else { right ^ 0x5a5a };
                    udp[6..8].copy_from_slice(&written.to_be_bytes());
                }
                udp
            }
        }
    }

    /// Takes the tunnel off a frame: what was around it, the frame without it, and the source
    /// port of GUE. Lengths, DF and the identification must be as an appliance writes them.
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
            UDP if word(2)? == GUE && usize::from(word(4)?) == payload.len() && word(10)? == 0 => {
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
            let whole = [pseudo(outer.from, outer.to, UDP, payload.len()), payload.to_vec()];
            outer.udp = match (word(6)?, checksum(&whole.concat())) {
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

/// An IP header as an appliance writes it: DF set, 64 hops, a right checksum.
pub fn ip_header(ends: (IpAddr, IpAddr), protocol: u8, class: u8, length: usize) -> Vec<u8> {
    let length = u16::try_from(length).expect("short");
    match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let (from, to) = (from.octets(), to.octets());
            let mut ip = Ipv4Header::new(length, 64, IpNumber(protocol), from, to).expect("short");
            ip.dscp = (class >> 2).try_into().expect("six bits");
            ip.ecn = (class & 3).try_into().expect("two bits");
            (ip.identification, ip.dont_fragment) = (0, true);
            ip.header_checksum = ip.calc_header_checksum();
            ip.to_bytes().to_vec()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => Ipv6Header {
            traffic_class: class,
            payload_length: length,
            next_header: IpNumber(protocol),
            hop_limit: 64,
            source: from.octets(),
            destination: to.octets(),
            ..Ipv6Header::default()
        }
        .to_bytes()
        .to_vec(),
        (from, to) => panic!("{from} and {to} are of two families"),
    }
}

/// What of a packet's traffic class is left behind a tunnel (RFC 6040, section 4.2); `None` when
/// the packet must go.
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
