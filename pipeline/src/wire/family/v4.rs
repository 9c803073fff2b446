use std::net::{IpAddr, Ipv4Addr};

use super::{Emit, Family, Fragment, Version};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ipv4;

/// IPv4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V4;

impl Family for V4 {
    type Address = Ipv4Addr;
    const VERSION: Version = Version::V4;
    const UNSPECIFIED: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
    const HEADER: usize = ipv4::HEADER;
    const ICMP: u8 = ipv4::ICMP;
    /// The error is at most 576 bytes long (RFC 1812, section 4.3.2.3).
    const QUOTED: usize = 576 - ipv4::HEADER - 8;
    const KEY_WORDS: usize = 1;

    #[inline(always)]
    fn source(ip: &[u8]) -> Ipv4Addr {
        ipv4::source(ip)
    }

    #[inline(always)]
    fn destination(ip: &[u8]) -> Ipv4Addr {
        ipv4::destination(ip)
    }

    #[inline(always)]
    fn set_source(ip: &mut [u8], address: Ipv4Addr) -> Delta {
        ipv4::set_source(ip, address)
    }

    #[inline(always)]
    fn set_destination(ip: &mut [u8], address: Ipv4Addr) -> Delta {
        ipv4::set_destination(ip, address)
    }

    fn set_length(ip: &mut [u8], length: usize) {
        ipv4::set_total_length(ip, length as u16);
    }

    #[inline(always)]
    fn traffic_class(ip: &[u8]) -> u8 {
        ipv4::traffic_class(ip)
    }

    fn set_traffic_class(ip: &mut [u8], value: u8) {
        ipv4::set_traffic_class(ip, value);
    }

    #[inline(always)]
    fn hop_limit(ip: &[u8]) -> u8 {
        ipv4::ttl(ip)
    }

    #[inline(always)]
    fn header_ok(ip: &[u8], header: usize) -> bool {
        ipv4::checksum_ok(ip, header)
    }

    fn may_be_fragmented(ip: &[u8]) -> bool {
        !ipv4::dont_fragment(ip)
    }

    fn pseudo_header(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, length: usize) -> Sum {
        ipv4::pseudo_header(from, to, protocol, length as u16)
    }

    #[inline(always)]
    fn emit(ip: &mut [u8], header: Emit<Ipv4Addr>) {
        let Emit { traffic_class, length, protocol, from: source, to: destination, .. } = header;
        let total_length = length as u16;
        ipv4::Header { traffic_class, total_length, ttl: 64, protocol, source, destination }
            .emit(ip);
    }

    fn is_unicast(address: Ipv4Addr) -> bool {
        !(address.octets()[0] == 0
            || address.is_loopback()
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast())
    }

    fn from_ip(address: IpAddr) -> Option<Ipv4Addr> {
        match address {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    #[inline(always)]
    fn key(address: Ipv4Addr, port: u16) -> [u64; 3] {
        [u64::from(address.to_bits()) << 16 | u64::from(port), 0, 0]
    }

    fn fragment(ip: &[u8]) -> Fragment {
        Fragment {
            identification: ipv4::identification(ip).into(),
            later: ipv4::is_later_fragment(ip),
            protocol: ipv4::protocol(ip),
        }
    }
}
