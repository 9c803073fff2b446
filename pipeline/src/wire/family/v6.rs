use std::net::{IpAddr, Ipv6Addr};

use super::{Emit, Family, Fragment, Version};
use crate::wire::checksum::{Delta, Sum};
use crate::wire::ipv6;

/// IPv6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct V6;

impl Family for V6 {
    type Address = Ipv6Addr;
    const VERSION: Version = Version::V6;
    const UNSPECIFIED: Ipv6Addr = Ipv6Addr::UNSPECIFIED;
    const HEADER: usize = ipv6::HEADER;
    const ICMP: u8 = ipv6::ICMP;
    /// The error is at most 1280 bytes long (RFC 4443, section 2.4).
    const QUOTED: usize = ipv6::MINIMUM_MTU as usize - ipv6::HEADER - 8;
    const KEY_WORDS: usize = 3;

    #[inline(always)]
    fn source(ip: &[u8]) -> Ipv6Addr {
        ipv6::source(ip)
    }

    #[inline(always)]
    fn destination(ip: &[u8]) -> Ipv6Addr {
        ipv6::destination(ip)
    }

    #[inline(always)]
    fn set_source(ip: &mut [u8], address: Ipv6Addr) -> Delta {
        ipv6::set_source(ip, address)
    }

    #[inline(always)]
    fn set_destination(ip: &mut [u8], address: Ipv6Addr) -> Delta {
        ipv6::set_destination(ip, address)
    }

    #[inline(always)]
    fn set_length(ip: &mut [u8], length: usize) {
        ipv6::set_length(ip, length);
    }

    #[inline(always)]
    fn traffic_class(ip: &[u8]) -> u8 {
        ipv6::traffic_class(ip)
    }

    #[inline(always)]
    fn set_traffic_class(ip: &mut [u8], value: u8) {
        ipv6::set_traffic_class(ip, value);
    }

    #[inline(always)]
    fn hop_limit(ip: &[u8]) -> u8 {
        ipv6::hop_limit(ip)
    }

    #[inline(always)]
    fn header_ok(_ip: &[u8], _header: usize) -> bool {
        true
    }

    fn may_be_fragmented(_ip: &[u8]) -> bool {
        false
    }

    fn pseudo_header(from: Ipv6Addr, to: Ipv6Addr, protocol: u8, length: usize) -> Sum {
        ipv6::pseudo_header(from, to, protocol, length as u32)
    }

    #[inline(always)]
    fn emit(ip: &mut [u8], header: Emit<Ipv6Addr>) {
        let Emit { traffic_class, length, protocol, from, to, flow_label } = header;
        ipv6::Header {
            traffic_class,
            flow_label,
            length,
            hop_limit: 64,
            protocol,
            source: from,
            destination: to,
        }
        .emit(ip);
    }

    fn is_unicast(address: Ipv6Addr) -> bool {
        // The unspecified address and loopback are IPv4-compatible addresses by their form.
        let is_v4 = matches!(address.segments(), [0, 0, 0, 0, 0, 0 | 0xffff, _, _]);
        !(is_v4 || address.is_unicast_link_local() || address.is_multicast())
    }

    fn from_ip(address: IpAddr) -> Option<Ipv6Addr> {
        match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address),
        }
    }

    #[inline(always)]
    fn key(address: Ipv6Addr, port: u16) -> [u64; 3] {
        let bits = address.to_bits();
        [(bits >> 64) as u64, bits as u64, port.into()]
    }

    fn fragment(ip: &[u8]) -> Fragment {
        let chain = ipv6::walk(ip, ipv6::length(ip));
        // The caller has parsed the packet as a fragment, so its chain is valid and has a fragment
        // header.
        let chain = chain.ok().and_then(|chain| Some((chain, chain.fragment?)));
        let Some((chain, at)) = chain else {
            return Fragment { identification: 0, later: false, protocol: ip[6] };
        };
        Fragment {
            identification: ipv6::identification(ip, at),
            later: ipv6::is_later_fragment(ip, at),
            protocol: chain.protocol,
        }
    }
}
