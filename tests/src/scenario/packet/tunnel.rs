//! Packets within packets.

use std::net::IpAddr;

use super::Ip;
use super::transport::{Sum, Udp};

/// The UDP port of GUE.
pub const GUE_PORT: u16 = 6080;
/// The source port of a GUE tunnel that says nothing else.
pub const GUE_SOURCE: u16 = 49152;

/// What is in a tunnel, or what an ICMP message bears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// A packet.
    pub packet: Option<Box<Ip>>,
    /// Only so many bytes of it.
    pub cut: Option<usize>,
    /// What stands behind it, or instead.
    pub data: Vec<u8>,
}

impl Content {
    /// Its bytes.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.packet.as_ref().map_or(Vec::new(), |packet| packet.bytes());
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes.extend(&self.data);
        bytes
    }

    /// The IP protocol number of what this is: that of IPv4 unless it looks like IPv6.
    pub fn protocol(&self) -> u8 {
        if self.bytes().first().is_some_and(|byte| byte >> 4 == 6) { 41 } else { 4 }
    }
}

/// GRE (RFC 2784, RFC 2890).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gre {
    /// Flags and version.
    pub flags: u16,
    /// EtherType, where it is not that of the content.
    pub protocol: Option<u16>,
    /// Checksum, key, sequence number: as many bytes as the flags say, or not.
    pub options: Vec<u8>,
}

/// GUE (draft-ietf-intarea-gue).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gue {
    /// The header below it; its data is not used.
    pub udp: Udp,
    /// Variant.
    pub version: u8,
    /// Whether this is a control message.
    pub control: bool,
    /// Length of the options in words, where it is not what it should be.
    pub wrong_length: Option<u8>,
    /// IP protocol, where it is not that of the content.
    pub protocol: Option<u8>,
    /// Flags.
    pub flags: u16,
    /// What the flags say follows, a multiple of 4 bytes.
    pub options: Vec<u8>,
}

/// What stands between the outer and the inner header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing; the protocol number, where it is not that of the content.
    Ipip(Option<u8>),
    /// GRE.
    Gre(Gre),
    /// GUE.
    Gue(Gue),
}

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its kind.
    pub format: Format,
    /// What is in it.
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

    /// Protocol number and bytes.
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

/// What the checksum of a tunnel's UDP header is from this address: none over IPv4, where it
/// may be left out.
pub fn usual_sum(source: IpAddr) -> Sum {
    if source.is_ipv4() { Sum::Zero } else { Sum::Right }
}
