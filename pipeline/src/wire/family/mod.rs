//! The two IP families behind one set of types, chosen at compile time: what is generic over
//! [`Family`] is compiled once for each, and IPv4 pays nothing for IPv6.

mod v4;
mod v6;

use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::wire::checksum::{Delta, Sum};
use crate::wire::{ethernet, ipv4};

pub use v4::V4;
pub use v6::V6;

/// Which family a packet is of, where that is known at run time only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Version::V4 } else { Version::V6 }
    }

    /// Whether it is IPv6.
    pub const fn is_v6(self) -> bool {
        matches!(self, Version::V6)
    }

    /// From a header's EtherType.
    pub fn from_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ethernet::IPV4 => Some(Version::V4),
            ethernet::IPV6 => Some(Version::V6),
            _ => None,
        }
    }

    /// From a protocol number within IP; `None` when that is neither family's.
    #[inline]
    pub fn from_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            ipv4::IPIP => Some(Version::V4),
            ipv4::IPV6 => Some(Version::V6),
            _ => None,
        }
    }

    /// EtherType.
    pub const fn ethertype(self) -> u16 {
        match self {
            Version::V4 => ethernet::IPV4,
            Version::V6 => ethernet::IPV6,
        }
    }

    /// Protocol number within IP (RFC 2003, RFC 4213).
    pub const fn protocol(self) -> u8 {
        match self {
            Version::V4 => ipv4::IPIP,
            Version::V6 => ipv4::IPV6,
        }
    }
}

/// The header of a packet that the appliance originates, or puts around another.
#[derive(Clone, Copy, Debug)]
pub struct Emit<A> {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Header and payload in bytes.
    pub length: usize,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub from: A,
    /// Destination address.
    pub to: A,
    /// Flow label, in IPv6.
    pub flow_label: u32,
}

/// One IP family: its address type and how its header carries addresses.
pub trait Family: Copy + Debug + Default + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// An address.
    type Address: Copy + Debug + Display + PartialEq + Eq + Hash + Into<IpAddr> + Send + Sync;
    /// Which one it is.
    const VERSION: Version;
    /// The unspecified address, which no endpoint has.
    const UNSPECIFIED: Self::Address;
    /// Header bytes of what the appliance originates.
    const HEADER: usize;
    /// Protocol number of its ICMP.
    const ICMP: u8;
    /// Of a quoted packet, the most bytes in an ICMP error that the appliance sends.
    const QUOTED: usize;

    /// Source address of the header at the start of `ip`.
    fn source(ip: &[u8]) -> Self::Address;
    /// Destination address.
    fn destination(ip: &[u8]) -> Self::Address;
    /// Sets the source, keeps the header right, gives the payload checksum's change.
    fn set_source(ip: &mut [u8], address: Self::Address) -> Delta;
    /// Sets the destination likewise.
    fn set_destination(ip: &mut [u8], address: Self::Address) -> Delta;
    /// The header's length field set to a packet of `length` bytes, header included.
    fn set_length(ip: &mut [u8], length: usize);
    /// DSCP and ECN.
    fn traffic_class(ip: &[u8]) -> u8;
    /// Sets DSCP and ECN, keeps the header right.
    fn set_traffic_class(ip: &mut [u8], value: u8);
    /// Whether the header of `header` bytes has a right checksum, if it has one.
    fn header_ok(ip: &[u8], header: usize) -> bool;
    /// Whether a router may fragment the packet (DF is not set).
    fn may_be_fragmented(ip: &[u8]) -> bool;
    /// Sum of the pseudo header of a payload of this protocol.
    fn pseudo_header(from: Self::Address, to: Self::Address, protocol: u8, length: usize) -> Sum;
    /// Writes a header of [`Family::HEADER`] bytes: hop limit 64, not to be fragmented.
    fn emit(ip: &mut [u8], header: Emit<Self::Address>);
    /// The address of this family in a general one.
    fn from_ip(address: IpAddr) -> Option<Self::Address>;
    /// The key that the table hashes: address and port in as few words as hold them.
    fn key(address: Self::Address, port: u16) -> [u64; 3];
    /// How many of the words [`Family::key`] uses.
    const KEY_WORDS: usize;
    /// The packet's identification and payload protocol, of a fragment.
    fn fragment(ip: &[u8]) -> Fragment;
}

/// What the header of a fragment says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Which fragments of one packet share.
    pub identification: u32,
    /// Whether it is without the packet's first bytes.
    pub later: bool,
    /// Protocol of the whole packet's payload.
    pub protocol: u8,
}

impl Fragment {
    /// Whether it is the first fragment of a TCP packet.
    pub fn is_first_tcp(self) -> bool {
        !self.later && self.protocol == ipv4::TCP
    }

    /// Whether it is a later fragment of a TCP packet.
    pub fn is_later_tcp(self) -> bool {
        self.later && self.protocol == ipv4::TCP
    }
}

/// An address and a TCP port.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoint<F: Family> {
    /// IP address.
    pub address: F::Address,
    /// TCP port.
    pub port: u16,
}

impl<F: Family> Endpoint<F> {
    /// The endpoint that stands for none.
    pub const NONE: Self = Self { address: F::UNSPECIFIED, port: 0 };

    /// An endpoint.
    pub fn new(address: F::Address, port: u16) -> Self {
        Self { address, port }
    }

    /// Tells connections apart where a few bits have to: source ports of GUE, flow labels
    /// (RFC 6438). No secret: the same packet gives the same bits at every appliance.
    #[inline]
    pub fn entropy(self) -> u32 {
        let [a, b, c] = F::key(self.address, self.port);
        let rotation_seed =
            (a ^ b.rotate_left(23) ^ c.rotate_left(7)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (rotation_seed >> 32) as u32
    }
}

impl<F: Family> From<Endpoint<F>> for SocketAddr {
    fn from(endpoint: Endpoint<F>) -> Self {
        SocketAddr::new(endpoint.address.into(), endpoint.port)
    }
}

impl<F: Family> Debug for Endpoint<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(&SocketAddr::from(*self), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::endpoint;

    #[test]
    fn connections_of_one_client_differ_where_a_source_port_is_made_of_them() {
        let low = |text: &str| {
            let own = match text.starts_with('[') {
                true => endpoint::<V6>(text).entropy(),
                false => endpoint::<V4>(text).entropy(),
            };
            own & 0x3fff
        };
        for client in ["198.18.1.10", "[2001:db8::1]"] {
            let mut all: Vec<_> =
                (40000..40064).map(|port| low(&format!("{client}:{port}"))).collect();
            all.sort_unstable();
            all.dedup();
            assert!(all.len() > 60, "{client}: {} of 64 differ", all.len());
        }
    }
}
