//! The sites of the topology: their names, addresses and the plan behind them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::namespace::Namespace;

/// Most replicas that the address plan has room for.
pub const MOST_REPLICAS: usize = 25;

/// The version of IP that some traffic is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6, which a topology has when it is asked for.
    V6,
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// One place behind the WAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Site {
    /// Where the clients are, behind the gateway appliance.
    Client,
    /// Where the origin server is, which bears the service address, behind the switch.
    Origin,
    /// Where a replica's web server is; counted from 1.
    Replica(usize),
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client => f.write_str("client"),
            Self::Origin => f.write_str("origin"),
            Self::Replica(number) => write!(f, "replica{number}"),
        }
    }
}

impl Site {
    /// Name of its namespace, of its WAN port and of its web server.
    #[must_use]
    pub fn name(self) -> String {
        self.to_string()
    }

    /// Address of its host: 198.18.1.10, 203.0.113.10 (the service), 198.51.(99 + number).10.
    #[must_use]
    pub fn address(self) -> Ipv4Addr {
        match self {
            Self::Client => Ipv4Addr::new(198, 18, 1, 10),
            Self::Origin => Ipv4Addr::new(203, 0, 113, 10),
            Self::Replica(number) => Ipv4Addr::new(198, 51, 99 + number as u8, 10),
        }
    }

    /// Address of the WAN router there, with the site's prefix length.
    ///
    /// Each site has a /24 of its own, because a gateway tells sites by prefix.
    #[must_use]
    pub fn gateway(self) -> Ipv4Net {
        let [a, b, c, _] = self.address().octets();
        Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 1), 24)
    }

    /// IPv6 address of its host: 2001:db8:1::10, 2001:db8:2::10, 2001:db8:10(number)::10.
    #[must_use]
    pub fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.number(), 0, 0, 0, 0, 0x10)
    }

    /// IPv6 address of the WAN router there, with the site's prefix length.
    #[must_use]
    pub fn gateway_ipv6(self) -> Ipv6Net {
        Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, self.number(), 0, 0, 0, 0, 1), 64)
    }

    /// Address of its host in one family or the other.
    #[must_use]
    pub fn address_of(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.address().into(),
            Family::V6 => self.ipv6().into(),
        }
    }

    /// Address of the WAN router there in one family or the other, with the site's prefix length.
    #[must_use]
    pub fn gateway_of(self, family: Family) -> IpNet {
        match family {
            Family::V4 => self.gateway().into(),
            Family::V6 => self.gateway_ipv6().into(),
        }
    }

    /// Address of the router between a switch there and a server that is far from it: the one after
    /// the WAN router's.
    pub(super) fn router_behind_switch(self, family: Family) -> IpNet {
        match self.gateway_of(family) {
            IpNet::V4(net) => Ipv4Net::new_assert((u32::from(net.addr()) + 1).into(), 24).into(),
            IpNet::V6(net) => Ipv6Net::new_assert((u128::from(net.addr()) + 1).into(), 64).into(),
        }
    }

    /// Address of its host in the management network, where there is one: 10.99.(site).10.
    #[must_use]
    pub fn management(self) -> Ipv4Addr {
        self.management_of(Station::Host)
    }

    pub(super) fn management_of(self, station: Station) -> Ipv4Addr {
        let station = if matches!(station, Station::Host) { 10 } else { 1 };
        Ipv4Addr::new(10, 99, self.octet(), station)
    }

    fn number(self) -> u16 {
        match self {
            Self::Client => 1,
            Self::Origin => 2,
            Self::Replica(number) => 0x100 + number as u16,
        }
    }

    fn octet(self) -> u8 {
        match self {
            Self::Client => 1,
            Self::Origin => 2,
            Self::Replica(number) => 0x10 + number as u8,
        }
    }

    /// Hardware address of a station there: 02:00:00:00:(site):(station).
    pub(super) fn mac(self, station: Station) -> String {
        format!("02:00:00:00:{:02x}:{:02x}", self.octet(), station as u8)
    }
}

/// The interfaces at a site, in the last octet of their hardware addresses.
#[derive(Debug, Clone, Copy)]
pub(super) enum Station {
    /// The WAN router's.
    Router = 1,
    /// The appliance's towards the host.
    Inside = 2,
    /// The appliance's towards the WAN.
    Outside = 3,
    /// The host's.
    Host = 0x10,
}

/// A site as built.
#[derive(Debug, Clone)]
pub struct Place {
    /// Which one.
    pub site: Site,
    /// Namespace of the client or server; its interface is `eth0`.
    pub host: Namespace,
    /// Namespace of the appliance, with interfaces `inside` and `outside`, which have no IP
    /// address; none in a direct topology. With a management network `management` is a third.
    pub appliance: Option<Namespace>,
}

impl Place {
    /// Address of the host.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.site.address()
    }

    /// Address of the host in one family or the other.
    #[must_use]
    pub fn address_of(&self, family: Family) -> IpAddr {
        self.site.address_of(family)
    }

    /// Where the web server there listens.
    #[must_use]
    pub fn web(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.address_of(family), 80)
    }

    /// A URL of the web server there, over IPv4.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        self.url_of(Family::V4, path)
    }

    /// The same over one family or the other.
    #[must_use]
    pub fn url_of(&self, family: Family, path: &str) -> String {
        format!("http://{}/{}", self.web(family), path.trim_start_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_has_its_own_prefix_with_host_and_router() {
        let replicas = (1..=MOST_REPLICAS).map(Site::Replica);
        let sites: Vec<_> = [Site::Client, Site::Origin].into_iter().chain(replicas).collect();
        for site in &sites {
            let (v4, v6) = (site.gateway(), site.gateway_ipv6());
            assert_eq!((v4.prefix_len(), v6.prefix_len()), (24, 64));
            assert!(v4.contains(&site.address()) && site.address() != v4.addr());
            assert!(v6.contains(&site.ipv6()) && site.ipv6() != v6.addr());
            for other in sites.iter().filter(|other| *other != site) {
                assert!(!v4.contains(&other.address()) && !v6.contains(&other.ipv6()));
            }
        }
    }
}
