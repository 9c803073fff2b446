//! The two IP families behind one set of types, chosen at compile time: what is generic over
//! [`Family`] is compiled once for IPv4, which then pays nothing for IPv6.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::wire::checksum::{Delta, Sum};
use crate::wire::ipv4;

/// One IP family: its address type and how its header carries addresses.
pub trait Family: Copy + Debug + Default + PartialEq + Eq + Hash + 'static {
    /// An address.
    type Address: Copy + Debug + Display + PartialEq + Eq + Hash + Into<IpAddr>;
    /// The unspecified address, which no endpoint has.
    const UNSPECIFIED: Self::Address;
    /// Header bytes of what the appliance originates.
    const HEADER: usize;

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
    /// Sum of the TCP pseudo header.
    fn pseudo_header(from: Self::Address, to: Self::Address, length: u16) -> Sum;
    /// Writes the header of a TCP packet of `length` bytes, header included.
    fn emit(ip: &mut [u8], from: Self::Address, to: Self::Address, length: usize);
    /// The address of this family in a general one.
    fn from_ip(address: IpAddr) -> Option<Self::Address>;
    /// The key that the table hashes: address and port in as few words as hold them.
    fn key(address: Self::Address, port: u16) -> [u64; 3];
    /// How many of the words [`Family::key`] uses.
    const KEY_WORDS: usize;
}

/// IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4;

impl Family for V4 {
    type Address = Ipv4Addr;
    const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const HEADER: usize = ipv4::HEADER;
    const KEY_WORDS: usize = 1;

    fn source(ip: &[u8]) -> Ipv4Addr {
        ipv4::source(ip)
    }

    fn destination(ip: &[u8]) -> Ipv4Addr {
        ipv4::destination(ip)
    }

    fn set_source(ip: &mut [u8], address: Ipv4Addr) -> Delta {
        ipv4::set_source(ip, address)
    }

    fn set_destination(ip: &mut [u8], address: Ipv4Addr) -> Delta {
        ipv4::set_destination(ip, address)
    }

    fn set_length(ip: &mut [u8], length: usize) {
        ipv4::set_total_length(ip, length as u16);
    }

    fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, length: u16) -> Sum {
        ipv4::pseudo_header(from, to, ipv4::TCP, length)
    }

    fn emit(ip: &mut [u8], source: Ipv4Addr, destination: Ipv4Addr, length: usize) {
        let total_length = length as u16;
        let protocol = ipv4::TCP;
        ipv4::Header { traffic_class: 0, total_length, ttl: 64, protocol, source, destination }
            .emit(ip);
    }

    fn from_ip(address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    fn key(address: Ipv4Addr, port: u16) -> [u64; 3] {
        [u64::from(address.to_bits()) << 16 | u64::from(port), 0, 0]
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
