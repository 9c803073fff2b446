//! Packets within packets.

use std::net::IpAddr;

use super::Ip;
use super::transport::{Sum, Udp};

/// The UDP port of GUE.
pub const GUE_PORT: u16 = 6080;
/// The source port of a GUE tunnel unless another is given.
pub const GUE_SOURCE: u16 = 49152;

/// The content of a tunnel or of an ICMP message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// A packet.
    pub packet: Option<Box<Ip>>,
    /// Length that the packet is cut off at.
    pub cut: Option<usize>,
    /// Bytes behind the packet, or instead of it.
    pub data: Vec<u8>,
}

impl Content {
    /// Returns its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.packet.as_ref().map_or(Vec::new(), |packet| packet.bytes());
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes.extend(&self.data);
        bytes
    }

    /// Returns the IP protocol number of the content: 41 if it looks like IPv6, else 4.
    pub fn protocol(&self) -> u8 {
        if self.bytes().first().is_some_and(|byte| byte >> 4 == 6) { 41 } else { 4 }
    }
}

/// GRE (RFC 2784, RFC 2890).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gre {
    /// Flags and version.
    pub flags: u16,
    /// EtherType, where it differs from that of the content.
    pub protocol: Option<u16>,
    /// Checksum, key and sequence number. Their length may contradict the flags.
    pub options: Vec<u8>,
}

/// GUE (draft-ietf-intarea-gue).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gue {
    /// The UDP header. Its data is not used.
    pub udp: Udp,
    /// Variant.
    pub version: u8,
    /// Whether this is a control message.
    pub control: bool,
    /// Length of the options in words, where it is wrong.
    pub wrong_length: Option<u8>,
    /// IP protocol, where it differs from that of the content.
    pub protocol: Option<u8>,
    /// Flags.
    pub flags: u16,
    /// Optional fields, a multiple of 4 bytes.
    pub options: Vec<u8>,
}

/// The encapsulation: what is between the outer and the inner header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// IP in IP. The protocol number, where it differs from that of the content.
    Ipip(Option<u8>),
    /// GRE.
    Gre(Gre),
    /// GUE.
    Gue(Gue),
}

impl Format {
    /// All of them, without anything unusual.
    pub const ALL: [Self; 3] = [Self::IPIP, Self::GRE, Self::GUE];
    /// IP in IP.
    pub const IPIP: Self = Self::Ipip(None);
    /// GRE without options.
    pub const GRE: Self = Self::Gre(Gre { flags: 0, protocol: None, options: Vec::new() });
    /// GUE without options.
    pub const GUE: Self = Self::Gue(Gue {
        udp: Udp {
            source: GUE_SOURCE,
            destination: GUE_PORT,
            sum: Sum::Usual,
            wrong_length: None,
            data: Vec::new(),
        },
        version: 0,
        control: false,
        wrong_length: None,
        protocol: None,
        flags: 0,
        options: Vec::new(),
    });
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its encapsulation.
    pub format: Format,
    /// Its content.
    pub content: Content,
}

impl Tunnel {
    pub(super) fn is_sound(&self) -> bool {
        let format = match &self.format {
            Format::Ipip(number) => number.is_none(),
            Format::Gre(gre) => *gre == Gre::default(),
            Format::Gue(gue) => {
                let (source, destination) = (gue.udp.source, gue.udp.destination);
                let udp = Udp { source, destination, ..Udp::default() };
                destination == GUE_PORT && *gue == Gue { udp, ..Gue::default() }
            }
        };
        let content = &self.content;
        let packet = content.packet.as_ref().is_some_and(|packet| packet.is_sound());
        format && packet && content.cut.is_none() && content.data.is_empty()
    }

    /// Returns protocol number and bytes.
    pub(super) fn bytes(&self, ends: (IpAddr, IpAddr)) -> (u8, Vec<u8>) {
        let (content, protocol) = (self.content.bytes(), self.content.protocol());
        match &self.format {
            Format::Ipip(number) => (number.unwrap_or(protocol), content),
            Format::Gre(gre) => {
                let kind = if protocol == 41 { 0x86dd } else { 0x0800 };
                let mut bytes = gre.flags.to_be_bytes().to_vec();
                bytes.extend(gre.protocol.unwrap_or(kind).to_be_bytes());
                bytes.extend(&gre.options);
                bytes.extend(content);
                (47, bytes)
            }
            Format::Gue(gue) => {
                let words = gue.wrong_length.unwrap_or((gue.options.len() / 4) as u8);
                let first = gue.version << 6 | u8::from(gue.control) << 5 | words & 0x1f;
                let mut data = vec![first, gue.protocol.unwrap_or(protocol)];
                data.extend(gue.flags.to_be_bytes());
                data.extend(&gue.options);
                data.extend(content);
                (17, gue.udp.bytes(ends, &data, usual_sum(ends.0)))
            }
        }
    }
}

/// Returns the usual checksum field of a tunnel's UDP header: zero over IPv4, which allows it, the
/// checksum over IPv6.
pub fn usual_sum(source: IpAddr) -> Sum {
    if source.is_ipv4() { Sum::Zero } else { Sum::Right }
}
