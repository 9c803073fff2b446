//! ICMP, ICMPv6, and of the latter neighbour discovery.

use std::net::{IpAddr, Ipv6Addr};

use super::checksum::{self, checksum, spoiled};
use super::{Content, Mac};

/// Protocol number of ICMP.
pub const V4: u8 = 1;
/// Protocol number of ICMPv6.
pub const V6: u8 = 58;

/// An ICMP or ICMPv6 message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Protocol number: [`V4`] or [`V6`].
    pub protocol: u8,
    /// Type.
    pub kind: u8,
    /// Configuration.
    pub code: u8,
    /// The second word of the header.
    pub word: u32,
    /// The quoted packet, or the data of an echo.
    pub content: Content,
    /// Whether the checksum is wrong.
    pub bad_checksum: bool,
}

impl Icmp {
    /// Returns the types of an echo request and its reply.
    pub fn echo(protocol: u8) -> [u8; 2] {
        if protocol == V6 { [128, 129] } else { [8, 0] }
    }

    /// Returns whether messages of this type quote a packet.
    pub fn is_error(protocol: u8, kind: u8) -> bool {
        if protocol == V6 { kind < 128 } else { matches!(kind, 3 | 4 | 5 | 11 | 12) }
    }

    pub(super) fn is_sound(&self, ends: (IpAddr, IpAddr)) -> bool {
        let quote = self.content.packet.as_ref().is_some_and(|packet| {
            let seen = self.content.cut.is_none_or(|cut| cut >= packet.header_length());
            packet.has_sound_header() && seen
        });
        let content = quote || !Self::is_error(self.protocol, self.kind);
        !self.bad_checksum && content && ends.0.is_ipv6() == (self.protocol == V6)
    }

    pub(super) fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.code, 0, 0];
        bytes.extend(self.word.to_be_bytes());
        bytes.extend(self.content.bytes());
        let sum = match self.protocol {
            V6 => checksum::transport(ends, V6, &bytes),
            _ => checksum(&[&bytes]),
        };
        bytes[2..4].copy_from_slice(&spoiled(sum, self.bad_checksum).to_be_bytes());
        bytes
    }
}

/// A neighbour solicitation or advertisement (RFC 4861).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whether it is a solicitation.
    pub solicits: bool,
    /// Flags of an advertisement, in the upper three bits: router, solicited, override.
    pub flags: u8,
    /// The address asked for, or advertised.
    pub target: Ipv6Addr,
    /// Link-layer address option: of the sender or, in an advertisement, of the target.
    pub mac: Option<Mac>,
    /// Whether the checksum is wrong.
    pub bad_checksum: bool,
}

/// Flags of an advertisement and the letters for them.
pub const NEIGHBOUR_FLAGS: [(char, u8); 3] = [('R', 0x80), ('S', 0x40), ('O', 0x20)];

impl Neighbour {
    pub(super) fn bytes(&self, ends: (IpAddr, IpAddr)) -> Vec<u8> {
        let (kind, option) = if self.solicits { (135, 1) } else { (136, 2) };
        let mut data = self.target.octets().to_vec();
        if let Some(mac) = self.mac {
            data.extend([option, 1]);
            data.extend(mac);
        }
        let content = Content { data, ..Content::default() };
        let (word, bad_checksum) = (u32::from(self.flags) << 24, self.bad_checksum);
        Icmp { protocol: V6, kind, code: 0, word, content, bad_checksum }.bytes(ends)
    }

    /// Returns the multicast address that solicitations for an address are sent to.
    pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
        const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
        Ipv6Addr::from_bits(PREFIX | address.to_bits() & 0xff_ffff)
    }

    /// Returns the MAC address of an IPv6 multicast address (RFC 2464, section 7).
    pub fn multicast_mac(address: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = address.octets();
        [0x33, 0x33, a, b, c, d]
    }
}
