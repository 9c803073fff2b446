//! Several origin servers behind one switch: hosts on one bridge in the place of the origin's,
//! each with an address of its own, all bearing the service's.
//!
//! Nobody answers for the service's address on the wire, so that only who is given a frame takes
//! it. The WAN's router is told a way there: [`ServerGroup::routes`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::error::Result;
use super::namespace::{Lab, Namespace};
use super::site::{Family, Site};
use super::topology::Topology;
use super::wan::RouteConfig;

/// Name of the bridge.
const BRIDGE: &str = "servers";
/// Name of the interface by which a server is probed.
const PROBED: &str = "probed";

/// The servers, number 1 first.
#[derive(Debug)]
pub struct ServerGroup {
    hosts: Vec<Namespace>,
}

impl ServerGroup {
    /// Routes that a topology with such a group needs: to the service by way of the first server's own
    /// address. Which server a packet gets to is up to the switch all the same.
    pub fn routes() -> impl Iterator<Item = RouteConfig> {
        [Family::V4, Family::V6].into_iter().map(|family| RouteConfig {
            prefix: IpNet::from(Site::Origin.address_of(family)),
            port: Site::Origin.name(),
            via: Some(Self::address(1, family)),
            mac: None,
        })
    }

    /// Puts so many servers in the origin's place, of both families if the topology is.
    pub fn build(lab: &Lab, topology: &Topology, number: usize, ipv6: bool) -> Result<Self> {
        let place = topology.origin();
        let segment = &place.host;
        segment.run(&["ip", "address", "flush", "dev", "eth0"])?;
        let bridge = ["ip", "link", "add", BRIDGE, "type", "bridge", "mcast_snooping", "0"];
        segment.run(&bridge)?;
        segment.run(&["ip", "link", "set", "dev", BRIDGE, "up"])?;
        segment.run(&["ip", "link", "set", "dev", "eth0", "master", BRIDGE])?;
        let hosts = (1..=number).map(|server| {
            let host = lab.namespace(&Self::name(server))?;
            let port = Self::name(server);
            lab.veth((&host, "eth0"), (segment, &port))?;
            segment.run(&["ip", "link", "set", "dev", &port, "master", BRIDGE])?;
            configure(&host, server, ipv6)?;
            if let Some(appliance) = &place.appliance {
                let probe = format!("probe{server}");
                lab.veth((appliance, &probe), (&host, PROBED))?;
                appliance.address(&probe, &format!("10.98.{server}.1/24"))?;
                host.address(PROBED, &format!("10.98.{server}.10/24"))?;
            }
            Ok(host)
        });
        Ok(Self { hosts: hosts.collect::<Result<_>>()? })
    }

    /// Their namespaces.
    #[must_use]
    pub fn hosts(&self) -> &[Namespace] {
        &self.hosts
    }

    /// "web1", "web2" ...
    #[must_use]
    pub fn name(server: usize) -> String {
        format!("web{server}")
    }

    /// A server's own address: the last octet is 20 and its number, written in decimal.
    #[must_use]
    pub fn address(server: usize, family: Family) -> IpAddr {
        match (family, Site::Origin.address_of(family)) {
            (_, IpAddr::V4(service)) => {
                let [a, b, c, _] = service.octets();
                Ipv4Addr::new(a, b, c, 20 + server as u8).into()
            }
            (_, IpAddr::V6(service)) => {
                let [a, b, c, ..] = service.segments();
                Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0x20 + server as u16).into()
            }
        }
    }

    /// Where the switch's host can probe a server.
    #[must_use]
    pub fn probed(server: usize) -> SocketAddr {
        (Ipv4Addr::new(10, 98, server as u8, 10), 80).into()
    }
}

fn configure(host: &Namespace, server: usize, ipv6: bool) -> Result<()> {
    // It answers for the addresses of the interface that is asked alone, and asks as itself.
    for (key, value) in [("arp_ignore", "1"), ("arp_announce", "2")] {
        host.sysctl(&format!("net.ipv4.conf.all.{key}"), value)?;
    }
    if ipv6 {
        host.ipv6(true)?;
    }
    let families: &[Family] = if ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] };
    for &family in families {
        let gateway: IpNet = match family {
            Family::V4 => Site::Origin.gateway().into(),
            Family::V6 => Site::Origin.gateway_ipv6().into(),
        };
        let own = ServerGroup::address(server, family);
        host.address("eth0", &format!("{own}/{}", gateway.prefix_len()))?;
        host.address("lo", &IpNet::from(Site::Origin.address_of(family)).to_string())?;
        host.route("default", &gateway.addr().to_string())?;
    }
    Ok(())
}
