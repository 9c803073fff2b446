//! The routing table: longest prefix first.

use std::net::IpAddr;

use ipnet::IpNet;

use super::config::{ConfigError, WanConfig};
use super::frame::Mac;

/// Where a packet goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Port to leave by.
    pub port: usize,
    /// Station to hand it to: the next router, or the destination itself.
    pub address: IpAddr,
    /// Its hardware address, when configured.
    pub mac: Option<Mac>,
}

#[derive(Debug)]
struct Route {
    prefix: IpNet,
    port: usize,
    via: Option<IpAddr>,
    mac: Option<Mac>,
}

/// Routes of one router, of both families.
#[derive(Debug, Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// The ports' own prefixes and the configured routes.
    pub fn new(config: &WanConfig) -> Result<Self, ConfigError> {
        let mut routes = Vec::new();
        for route in &config.routes {
            let port = config.port_index(&route.port).ok_or_else(|| ConfigError::NoSuchPort {
                wanted: "route",
                name: route.port.clone(),
            })?;
            routes.push(Route {
                prefix: route.prefix.trunc(),
                port,
                via: route.via,
                mac: route.mac,
            });
        }
        for (port, described) in config.ports.iter().enumerate() {
            let (v4, v6) = (described.ipv4.map(IpNet::V4), described.ipv6.map(IpNet::V6));
            for prefix in [v4, v6].into_iter().flatten() {
                routes.push(Route { prefix: prefix.trunc(), port, via: None, mac: None });
            }
        }
        // Stable: of two alike, the configured one stands first.
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.prefix_len()));
        Ok(Self(routes))
    }

    /// The next hop towards a destination.
    #[must_use]
    pub fn find(&self, destination: IpAddr) -> Option<Hop> {
        let route = self.0.iter().find(|route| route.prefix.contains(&destination))?;
        let address = route.via.unwrap_or(destination);
        Some(Hop { port: route.port, address, mac: route.mac })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins_and_via_is_the_next_hop() {
        let config: WanConfig = r#"
            [[port]]
            name = "a"
            interface = "a"
            ipv4 = "198.18.1.1/24"
            ipv6 = "2001:db8:1::1/64"
            [[port]]
            name = "b"
            interface = "b"
            ipv4 = "203.0.113.1/24"
            [[route]]
            prefix = "0.0.0.0/0"
            port = "b"
            via = "203.0.113.254"
            [[route]]
            prefix = "198.18.1.128/25"
            port = "b"
            mac = "02:00:00:00:00:09"
        "#
        .parse()
        .unwrap();
        let routes = Routes::new(&config).unwrap();
        let hop = |to: &str| routes.find(to.parse().unwrap());

        let on_link = hop("198.18.1.10").unwrap();
        assert_eq!((on_link.port, on_link.address.to_string()), (0, "198.18.1.10".into()));
        let longer = hop("198.18.1.200").unwrap();
        assert_eq!((longer.port, longer.mac), (1, Some(Mac([2, 0, 0, 0, 0, 9]))));
        let default = hop("192.0.2.1").unwrap();
        assert_eq!((default.port, default.address.to_string()), (1, "203.0.113.254".into()));
        assert_eq!(hop("2001:db8:1::10").unwrap().port, 0);
        assert_eq!(hop("2001:db8:2::10"), None);
    }
}
