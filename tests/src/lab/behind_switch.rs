//! The way between a switch and an origin server that is far from it: one more router, with a delay.

use super::error::Result;
use super::namespace::{Lab, Namespace};
use super::site::{Family, Site};
use super::wan::{LinkConfig, PortConfig, RouteConfig, WanConfig};

/// Name of the router's port and interface towards the switch.
const SWITCH: &str = "to-switch";
/// Name of the router's port and interface towards the origin server.
const SERVER: &str = "to-server";

/// The end of a cable: namespace, interface, and hardware address if that is given.
pub(super) type End<'a> = (&'a Namespace, &'a str, Option<&'a str>);

/// Cables the server to the router. Returns the end of the cable to the switch.
pub(super) fn cable<'a>(lab: &Lab, router: &'a Namespace, server: End<'_>) -> Result<End<'a>> {
    lab.veth_with_macs(server, (router, SERVER, None))?;
    Ok((router, SWITCH, None))
}

/// Returns the WAN's routes to the server by way of the router.
pub(super) fn routes(ipv6: bool) -> impl Iterator<Item = RouteConfig> {
    families(ipv6).iter().map(|family| RouteConfig {
        prefix: Site::Origin.address_of(*family).into(),
        port: Site::Origin.name(),
        via: Some(Site::Origin.router_behind_switch(*family).addr()),
        mac: None,
    })
}

/// Returns the router's configuration. Towards the server it has the addresses of the WAN's router,
/// because those are the server's next hops in every topology.
pub(super) fn config(milliseconds: f64, ipv6: bool) -> WanConfig {
    let address = |towards: &str, family| match towards {
        SERVER => Site::Origin.gateway_of(family),
        _ => Site::Origin.router_behind_switch(family),
    };
    let port = |name: &str| {
        let mut port =
            PortConfig { name: name.into(), interface: name.into(), ..PortConfig::default() };
        for family in families(ipv6) {
            match address(name, *family) {
                ipnet::IpNet::V4(net) => port.ipv4 = Some(net),
                ipnet::IpNet::V6(net) => port.ipv6 = Some(net),
            }
        }
        port
    };
    let routes = families(ipv6).iter().flat_map(|family| {
        let server = Site::Origin.address_of(*family);
        let gateway = Site::Origin.gateway_of(*family).addr();
        let route =
            |prefix, port: &str, via| RouteConfig { prefix, port: port.into(), via, mac: None };
        let everywhere = match family {
            Family::V4 => ipnet::Ipv4Net::default().into(),
            Family::V6 => ipnet::Ipv6Net::default().into(),
        };
        [route(server.into(), SERVER, None), route(everywhere, SWITCH, Some(gateway))]
    });
    let link = LinkConfig {
        from: Some(SWITCH.into()),
        to: Some(SERVER.into()),
        both: true,
        ..LinkConfig::delay(milliseconds)
    };
    WanConfig {
        ports: [SWITCH, SERVER].map(port).into(),
        routes: routes.collect(),
        links: vec![link],
        ..WanConfig::default()
    }
}

fn families(ipv6: bool) -> &'static [Family] {
    if ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] }
}
