//! The two IP families behind one set of types, chosen at compile time. Code that is generic over
//! [`Family`] is compiled once for each family, so that IPv4 does not pay for IPv6.

mod v4;
mod v6;

use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use crate::base::stored::{Stored, stored};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::{ethernet, ipv4};

pub use v4::V4;
pub use v6::V6;

/// An IP family that is known only at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Returns the family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Version::V4 } else { Version::V6 }
    }

    /// Returns whether this is IPv6.
    pub const fn is_v6(self) -> bool {
        matches!(self, Version::V6)
    }

    /// Returns the family with this EtherType, or `None` if it is neither's.
    pub fn from_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ethernet::IPV4 => Some(Version::V4),
            ethernet::IPV6 => Some(Version::V6),
            _ => None,
        }
    }

    /// Returns the family with this protocol number within IP, or `None` if it is neither's.
    #[inline]
    pub fn from_protocol(protocol: u8) -> Option<Self> {
        match protocol {
            ipv4::IPIP => Some(Version::V4),
            ipv4::IPV6 => Some(Version::V6),
            _ => None,
        }
    }

    /// Returns the EtherType of the family.
    pub const fn ethertype(self) -> u16 {
        match self {
            Version::V4 => ethernet::IPV4,
            Version::V6 => ethernet::IPV6,
        }
    }

    /// Returns the protocol number of the family within IP (RFC 2003, RFC 4213).
    pub const fn protocol(self) -> u8 {
        match self {
            Version::V4 => ipv4::IPIP,
            Version::V6 => ipv4::IPV6,
        }
    }
}

/// The fields of the header of a packet that the appliance originates, or of an outer header.
#[derive(Clone, Copy, Debug)]
pub struct Emit<A> {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Length of header and payload in bytes.
    pub length: usize,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Source address.
    pub from: A,
    /// Destination address.
    pub to: A,
    /// Flow label; only used by IPv6.
    pub flow_label: u32,
}

/// An IP family: its address type and the layout of its header.
///
/// The functions take the bytes from the IP header on, which must have passed the family's length
/// check ([`ipv4::check`], [`ipv6::check`](crate::wire::ipv6::check)).
///
/// ```rust
/// use firstack_packets::Segment;
/// use pipeline::wire::family::{Family, V4, V6};
///
/// fn addresses<F: Family>(ip: &[u8]) -> String {
///     format!("{} > {}", F::source(ip), F::destination(ip))
/// }
///
/// let v4 = Segment::syn("198.18.1.10:40000", "203.0.113.10:80", 7).packet();
/// assert_eq!(addresses::<V4>(&v4), "198.18.1.10 > 203.0.113.10");
/// let v6 = Segment::syn("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80", 7).packet();
/// assert_eq!(addresses::<V6>(&v6), "2001:db8:1::10 > 2001:db8:2::10");
/// ```
pub trait Family: Copy + Debug + Default + PartialEq + Eq + Hash + Send + Sync + 'static {
    /// The type of an address.
    type Address: Copy
        + Debug
        + Display
        + PartialEq
        + Eq
        + Hash
        + Into<IpAddr>
        + Stored
        + Send
        + Sync;
    /// The run-time value of the family.
    const VERSION: Version;
    /// The unspecified address, which no endpoint has.
    const UNSPECIFIED: Self::Address;
    /// Length in bytes of the headers that the appliance originates.
    const HEADER: usize;
    /// Protocol number of the family's ICMP.
    const ICMP: u8;
    /// Largest number of bytes of a packet that the appliance quotes in an ICMP error.
    const QUOTED: usize;

    /// Returns the source address.
    fn source(ip: &[u8]) -> Self::Address;
    /// Returns the destination address.
    fn destination(ip: &[u8]) -> Self::Address;
    /// Sets the source address and updates the header checksum. Returns the change for the
    /// payload's checksum.
    fn set_source(ip: &mut [u8], address: Self::Address) -> Delta;
    /// Sets the destination address and updates the header checksum. Returns the change for the
    /// payload's checksum.
    fn set_destination(ip: &mut [u8], address: Self::Address) -> Delta;
    /// Sets the length of the packet, header included, and updates the header checksum.
    fn set_length(ip: &mut [u8], length: usize);
    /// Returns DSCP and ECN.
    fn traffic_class(ip: &[u8]) -> u8;
    /// Sets DSCP and ECN and updates the header checksum.
    fn set_traffic_class(ip: &mut [u8], value: u8);
    /// Returns the TTL, or the hop limit.
    fn hop_limit(ip: &[u8]) -> u8;
    /// Returns whether the checksum of a header of `header` bytes is correct. Always true for IPv6,
    /// which has none.
    fn header_ok(ip: &[u8], header: usize) -> bool;
    /// Returns whether a router may fragment the packet (IPv4 without DF).
    fn may_be_fragmented(ip: &[u8]) -> bool;
    /// Returns the sum of the pseudo header for a payload of `length` bytes with this protocol.
    fn pseudo_header(from: Self::Address, to: Self::Address, protocol: u8, length: usize) -> Sum;
    /// Writes a header of [`Family::HEADER`] bytes for a packet that must not be fragmented, with
    /// hop limit 64.
    fn emit(ip: &mut [u8], header: Emit<Self::Address>);
    /// Returns whether a host beyond a router can have the address: it is neither multicast nor
    /// broadcast, and neither unspecified, loopback, link-local nor, in IPv6, an IPv4 address
    /// (RFC 1122, section 3.2.1.3; RFC 1812, section 5.3.7; RFC 4291, section 2.5; RFC 3927,
    /// section 2.7).
    ///
    /// ```rust
    /// use pipeline::wire::family::{Family, V4, V6};
    ///
    /// assert!(V4::is_unicast("198.51.100.10".parse().unwrap()));
    /// assert!(!V4::is_unicast("127.0.0.1".parse().unwrap()));
    /// assert!(V6::is_unicast("2001:db8::1".parse().unwrap()));
    /// assert!(!V6::is_unicast("::ffff:198.51.100.10".parse().unwrap()));
    /// ```
    fn is_unicast(address: Self::Address) -> bool;
    /// Returns the address if it is of this family.
    fn from_ip(address: IpAddr) -> Option<Self::Address>;
    /// Returns the words that the table hashes: address and port in as few words as possible.
    fn key(address: Self::Address, port: u16) -> [u64; 3];
    /// Number of words that [`Family::key`] uses.
    const KEY_WORDS: usize;
    /// Returns the fragmentation fields of a fragment.
    fn fragment(ip: &[u8]) -> Fragment;
}

/// The fragmentation fields of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Identification, which all fragments of the packet share.
    pub identification: u32,
    /// Whether the fragment is a later one, without the first bytes of the packet.
    pub later: bool,
    /// Protocol of the whole packet's payload.
    pub protocol: u8,
}

impl Fragment {
    /// Returns whether this is the first fragment of a TCP packet.
    pub fn is_first_tcp(self) -> bool {
        !self.later && self.protocol == ipv4::TCP
    }

    /// Returns whether this is a later fragment of a TCP packet.
    pub fn is_later_tcp(self) -> bool {
        self.later && self.protocol == ipv4::TCP
    }
}

/// An IP address and a TCP port.
///
/// ```rust
/// use std::net::{Ipv4Addr, SocketAddr};
///
/// use pipeline::wire::family::{Endpoint, V4};
///
/// let server = Endpoint::<V4>::new(Ipv4Addr::new(203, 0, 113, 10), 80);
/// assert_eq!(format!("{server:?}"), "203.0.113.10:80");
/// assert_eq!(SocketAddr::from(server).port(), 80);
/// assert_ne!(server, Endpoint::NONE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Endpoint<F: Family> {
    /// IP address.
    pub address: F::Address,
    /// TCP port.
    pub port: u16,
}

stored!(Endpoint<F>, [F: Family] { address: F::Address, port: u16 });

impl<F: Family> Endpoint<F> {
    /// A placeholder that no packet has: the unspecified address and port 0.
    pub const NONE: Self = Self { address: F::UNSPECIFIED, port: 0 };

    /// Creates an endpoint.
    pub fn new(address: F::Address, port: u16) -> Self {
        Self { address, port }
    }

    /// Returns a value whose bits differ between connections, for GUE source ports and flow labels
    /// (RFC 6438).
    ///
    /// It is not secret. The same packet has the same value at every appliance.
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
    fn martians_are_not_unicast() {
        let v4 = |text: &str| V4::is_unicast(text.parse().unwrap());
        let v6 = |text: &str| V6::is_unicast(text.parse().unwrap());
        for text in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.255", "169.254.1.1"] {
            assert!(!v4(text), "{text}");
        }
        for text in ["224.0.0.1", "239.255.255.255", "255.255.255.255"] {
            assert!(!v4(text), "{text}");
        }
        for text in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.0.1", "223.255.255.254"] {
            assert!(v4(text), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "100.64.0.1", "240.0.0.1"] {
            assert!(v4(text), "{text}");
        }
        for text in ["::", "::1", "::7f00:1", "::ffff:127.0.0.1", "fe80::1", "febf::1", "ff02::1"] {
            assert!(!v6(text), "{text}");
        }
        for text in ["64:ff9b::1", "2001:db8::1", "fc00::1", "fec0::1", "::1:0:0:1"] {
            assert!(v6(text), "{text}");
        }
    }

    #[test]
    fn connections_of_one_client_have_different_gue_source_ports() {
        let low = |text: &str| {
            let entropy = match text.starts_with('[') {
                true => endpoint::<V6>(text).entropy(),
                false => endpoint::<V4>(text).entropy(),
            };
            entropy & 0x3fff
        };
        for client in ["198.18.1.10", "[2001:db8::1]"] {
            let mut all: Vec<_> =
                (40000..40064).map(|port| low(&format!("{client}:{port}"))).collect();
            all.sort_unstable();
            all.dedup();
            assert!(all.len() > 60, "{client}: {} of 64 are distinct", all.len());
        }
    }
}
