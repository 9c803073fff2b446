//! Addresses of all hosts and appliances.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::plan::Family;

/// A site's number: the clients', the origin's, then the replicas'.
pub type Site = usize;

/// The clients' site.
pub const CLIENTS: Site = 0;
/// The origin's site.
pub const ORIGIN: Site = 1;
/// The first replica's site.
pub const REPLICAS: Site = 2;

/// The service's port.
pub const PORT: u16 = 80;

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Number of the router at each site.
pub const ROUTER: u8 = 1;
/// Number of an address of the replica's appliance.
pub const TUNNEL: u8 = 5;
/// Number of the first host at each site, at the origin's site of the first service.
pub const HOST: u8 = 10;
/// Number of an address at the origin's site that the switch tunnels from.
pub const SOURCE: u8 = 200;
/// Distance between the numbers of two services.
pub const SERVICE: u8 = 30;

/// Returns the address of a station at a site.
#[must_use]
pub fn address(family: Family, site: Site, number: u8) -> IpAddr {
    match family {
        Family::V4 => {
            let [a, b, c] = match site {
                CLIENTS => [198, 18, 1],
                ORIGIN => [203, 0, 113],
                replica => [198, 51, 100 + (replica - REPLICAS) as u8],
            };
            Ipv4Addr::new(a, b, c, number).into()
        }
        Family::V6 => {
            let net = match site {
                CLIENTS => 0x100,
                ORIGIN => 2,
                replica => 0x200 + (replica - REPLICAS) as u16,
            };
            Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, number.into()).into()
        }
    }
}

/// Returns the prefix of a site.
#[must_use]
pub fn prefix(family: Family, site: Site) -> IpNet {
    let address = address(family, site, 0);
    IpNet::new_assert(address, if address.is_ipv4() { 24 } else { 64 })
}

/// Returns a service's address.
#[must_use]
pub fn service(family: Family, number: usize) -> IpAddr {
    address(family, ORIGIN, HOST + SERVICE * number as u8)
}

/// Returns the MAC address of a station at a site.
#[must_use]
pub fn mac(site: Site, number: u8) -> Mac {
    [0x02, 0, 0, 0, site as u8, number]
}

/// Returns the link-local address of a MAC address.
#[must_use]
pub fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.map(u16::from);
    Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
}

/// Returns the MAC address of an appliance's port: 0 inside, 1 outside.
#[must_use]
pub fn port_mac(site: Site, port: usize) -> Mac {
    mac(site, 0xf0 + port as u8)
}
