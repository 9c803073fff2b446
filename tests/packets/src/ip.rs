//! IPv4 and IPv6.

use std::net::IpAddr;

use super::checksum::{checksum, octets, spoiled};
use super::{Icmp, Neighbour, Sum, Tcp, Tunnel, Udp, icmp};

/// An IP packet. Header and both addresses are of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// DSCP and ECN.
    pub tos: u8,
    /// Identification. IPv6 carries it in the fragment header.
    pub id: u32,
    /// More fragments.
    pub mf: bool,
    /// Fragment offset in bytes.
    pub offset: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The fields of one family only.
    pub header: Header,
    /// Its payload.
    pub payload: Payload,
    /// The wrong fields.
    pub wrong: Wrong,
}

/// The header fields that only one family has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Header {
    /// IPv4.
    V4 {
        /// Don't fragment.
        df: bool,
        /// Options, a multiple of 4 bytes.
        options: Vec<u8>,
    },
    /// IPv6.
    V6 {
        /// Flow label.
        flow: u32,
        /// Extension headers.
        extensions: Vec<Extension>,
    },
}

/// An extension header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Extension {
    /// The fragment header, from the packet's fields.
    Fragment,
    /// Any other: its kind, and its bytes from the second on. The first is the kind of the next.
    Other(u8, Vec<u8>),
}

/// Kind of the routing header.
const ROUTING: u8 = 43;
/// Kind of the fragment header.
pub const FRAGMENT: u8 = 44;

/// Wrong header fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrong {
    /// Whether the checksum is wrong (IPv4).
    pub checksum: bool,
    /// Version, where it is wrong.
    pub version: Option<u8>,
    /// Header length in words (IPv4), where it is wrong.
    pub words: Option<u8>,
    /// Total length (IPv4) or payload length (IPv6), where it is wrong.
    pub length: Option<u16>,
}

/// The payload of an IP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// Another IP packet.
    Tunnel(Tunnel),
    /// ICMP, ICMPv6.
    Icmp(Icmp),
    /// Neighbour discovery.
    Neighbour(Neighbour),
    /// Any bytes with this protocol number.
    Other(u8, Vec<u8>),
}

impl Ip {
    /// Creates a packet with DF set and TTL 64, nothing else set.
    pub fn new(source: IpAddr, destination: IpAddr, payload: Payload) -> Self {
        let header = match source {
            IpAddr::V4(_) => Header::V4 { df: true, options: Vec::new() },
            IpAddr::V6(_) => Header::V6 { flow: 0, extensions: Vec::new() },
        };
        Self {
            source,
            destination,
            tos: 0,
            id: 0,
            mf: false,
            offset: 0,
            ttl: 64,
            header,
            payload,
            wrong: Wrong::default(),
        }
    }

    /// Returns source and destination.
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        (self.source, self.destination)
    }

    /// Returns whether it is an IPv6 packet.
    pub fn header_is_v6(&self) -> bool {
        matches!(self.header, Header::V6 { .. })
    }

    /// Clears DF (IPv4), or adds a fragment header (IPv6).
    pub fn allow_fragment(&mut self) {
        match &mut self.header {
            Header::V4 { df, .. } => *df = false,
            Header::V6 { extensions, .. } if !extensions.contains(&Extension::Fragment) => {
                extensions.push(Extension::Fragment);
            }
            Header::V6 { .. } => {}
        }
    }

    /// Turns the packet, or fragment, into the fragment of `length` bytes at `offset` of the whole
    /// payload. Returns `None` when it does not contain these bytes.
    pub fn piece(&mut self, offset: u16, length: usize) -> Option<()> {
        let (protocol, data) = self.payload.bytes(self.ends());
        let start = usize::from(offset.checked_sub(self.offset)?);
        let piece = data.get(start..start + length)?.to_vec();
        self.mf |= start + length < data.len();
        self.offset = offset;
        self.payload = Payload::Other(protocol, piece);
        self.allow_fragment();
        Some(())
    }

    /// Returns header and payload.
    pub fn bytes(&self) -> Vec<u8> {
        let (protocol, payload) = self.payload.bytes(self.ends());
        match &self.header {
            Header::V4 { df, options } => self.v4(*df, options, protocol, &payload),
            Header::V6 { flow, extensions } => self.v6(*flow, extensions, protocol, &payload),
        }
    }

    fn v4(&self, df: bool, options: &[u8], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let words = 5 + options.len() / 4;
        let total = self.wrong.length.unwrap_or((words * 4 + payload.len()) as u16);
        let flags = u16::from(df) << 14 | u16::from(self.mf) << 13 | (self.offset / 8);
        let (version, words) =
            (self.wrong.version.unwrap_or(4), self.wrong.words.unwrap_or(words as u8));
        let mut bytes = vec![version << 4 | words, self.tos];
        for word in [total, self.id as u16, flags] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend([self.ttl, protocol, 0, 0]);
        bytes.extend(octets(self.source));
        bytes.extend(octets(self.destination));
        bytes.extend(options);
        let sum = spoiled(checksum(&[&bytes]), self.wrong.checksum);
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    fn v6(&self, flow: u32, extensions: &[Extension], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let kind = |at: usize| match extensions.get(at) {
            None => protocol,
            Some(Extension::Fragment) => FRAGMENT,
            Some(Extension::Other(kind, _)) => *kind,
        };
        let mut chain = Vec::new();
        for (at, extension) in extensions.iter().enumerate() {
            chain.push(kind(at + 1));
            match extension {
                Extension::Fragment => {
                    chain.push(0);
                    chain.extend((self.offset & !7 | u16::from(self.mf)).to_be_bytes());
                    chain.extend(self.id.to_be_bytes());
                }
                Extension::Other(_, rest) => chain.extend(rest),
            }
        }
        let length = self.wrong.length.unwrap_or((chain.len() + payload.len()) as u16);
        let version = u32::from(self.wrong.version.unwrap_or(6));
        let mut bytes = (version << 28 | u32::from(self.tos) << 20 | flow).to_be_bytes().to_vec();
        bytes.extend(length.to_be_bytes());
        bytes.extend([kind(0), self.ttl]);
        bytes.extend(octets(self.source));
        bytes.extend(octets(self.destination));
        bytes.extend(chain);
        bytes.extend(payload);
        bytes
    }

    pub(super) fn is_sound(&self) -> bool {
        let payload = match &self.payload {
            Payload::Tcp(tcp) => tcp.is_sound(),
            Payload::Tunnel(tunnel) => tunnel.is_sound(),
            Payload::Icmp(icmp) => icmp.is_sound(self.ends()),
            Payload::Neighbour(neighbour) => !neighbour.bad_checksum && self.ttl == 255,
            // The payload is arbitrary bytes.
            Payload::Udp(_) | Payload::Other(..) => false,
        };
        payload && self.has_sound_header()
    }

    /// Returns the length of the header, without extension headers.
    pub(super) fn header_length(&self) -> usize {
        match &self.header {
            Header::V4 { options, .. } => 20 + options.len(),
            Header::V6 { .. } => 40,
        }
    }

    pub(super) fn has_sound_header(&self) -> bool {
        let extensions: &[Extension] = match &self.header {
            Header::V4 { .. } => &[],
            Header::V6 { extensions, .. } => extensions,
        };
        let sound = |(at, extension): (usize, &Extension)| match extension {
            Extension::Fragment => true,
            Extension::Other(0, _) if at > 0 => false,
            // With segments left, the checksum would have to cover the final destination.
            Extension::Other(ROUTING, rest) if rest.get(2) != Some(&0) => false,
            Extension::Other(kind, rest) => {
                let unit = if *kind == AUTHENTICATION { (4, 2) } else { (8, 1) };
                let length = rest.first().map(|&units| (usize::from(units) + unit.1) * unit.0);
                length == Some(rest.len() + 1)
            }
        };
        self.wrong == Wrong::default() && extensions.iter().enumerate().all(sound)
    }
}

/// Kind of the authentication header. Its length is in units of 4 bytes.
pub const AUTHENTICATION: u8 = 51;

impl Payload {
    /// Returns protocol number and bytes.
    pub fn bytes(&self, ends: (IpAddr, IpAddr)) -> (u8, Vec<u8>) {
        match self {
            Payload::Tcp(tcp) => (6, tcp.bytes(ends)),
            Payload::Udp(udp) => (17, udp.bytes(ends, &udp.data, Sum::Right)),
            Payload::Tunnel(tunnel) => tunnel.bytes(ends),
            Payload::Icmp(icmp) => (icmp.protocol, icmp.bytes(ends)),
            Payload::Neighbour(neighbour) => (icmp::V6, neighbour.bytes(ends)),
            Payload::Other(protocol, data) => (*protocol, data.clone()),
        }
    }

    /// Returns source and destination port of TCP or UDP.
    pub fn ports(&self) -> Option<(u16, u16)> {
        match self {
            Payload::Tcp(tcp) => Some((tcp.source, tcp.destination)),
            Payload::Udp(udp) => Some((udp.source, udp.destination)),
            _ => None,
        }
    }

    /// Returns the ports of TCP or UDP, to be changed.
    pub fn ports_mut(&mut self) -> Option<(&mut u16, &mut u16)> {
        match self {
            Payload::Tcp(tcp) => Some((&mut tcp.source, &mut tcp.destination)),
            Payload::Udp(udp) => Some((&mut udp.source, &mut udp.destination)),
            _ => None,
        }
    }
}
