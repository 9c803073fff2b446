//! What the WAN looks like: ports, routes and the matrix of links, as read from TOML.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::frame::Mac;

/// The whole configuration of one emulator.
///
/// ```
/// use firstack_tests::lab::wan::WanConfig;
///
/// let config: WanConfig = r#"
///     seed = 7
///
///     [[port]]
///     name = "client"
///     interface = "wan-client"
///     ipv4 = "198.18.1.1/24"
///
///     [[port]]
///     name = "origin"
///     interface = "wan-origin"
///     ipv4 = "203.0.113.1/24"
///
///     [[link]]                 # one way each, both ways alike
///     from = "client"
///     to = "origin"
///     both = true
///     delay_ms = 40.0
/// "#.parse().unwrap();
/// assert_eq!(config.ports.len(), 2);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WanConfig {
    /// Seeds loss and jitter: the same seed gives the same decisions for the same packets.
    #[serde(default)]
    pub seed: u64,
    /// The router's ports.
    #[serde(rename = "port")]
    pub ports: Vec<PortConfig>,
    /// Routes besides the ports' own prefixes.
    #[serde(rename = "route", default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<RouteConfig>,
    /// Links between ports; a later one replaces an earlier one for the same pair.
    #[serde(rename = "link", default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<LinkConfig>,
}

/// One port: an interface of the namespace that the emulator runs in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortConfig {
    /// Name in links, routes and counters.
    pub name: String,
    /// Network interface; its hardware address is the port's.
    pub interface: String,
    /// The router's IPv4 address on this port and the prefix that is on link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Net>,
    /// The router's IPv6 address on this port and the prefix that is on link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Net>,
    /// Capture file for everything received and sent here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcap: Option<PathBuf>,
    /// Bytes of each frame that the capture keeps (default: all).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pcap_snaplen: Option<u32>,
}

/// A route: a prefix, the port it lies behind, and how to get there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Destinations.
    pub prefix: IpNet,
    /// Name of the port.
    pub port: String,
    /// Next router; without it the destination itself is on link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// Hardware address to send to, instead of asking by ARP or neighbour discovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

/// What happens to packets that come in by one port and leave by another.
///
/// Pairs that no link names have no delay, no loss and no limit, and so has a packet that
/// leaves by the port it came in by, unless a link names that port twice.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// Port where packets come in; every port when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Port where packets leave; every port when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The same for the opposite direction (each direction has its own queue and dice).
    pub both: bool,
    /// One-way delay in milliseconds.
    pub delay_ms: f64,
    /// Each delay is drawn evenly from `delay_ms` - `jitter_ms` to `delay_ms` + `jitter_ms`.
    pub jitter_ms: f64,
    /// Let jitter change the order of packets; otherwise a late one holds back what follows.
    pub reorder: bool,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Rate limit in Mbit/s, counted in bytes of Ethernet frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_mbit: Option<f64>,
    /// Bytes that may wait; by default rate x delay (10 Gbit/s when there is no rate).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u64>,
    /// Largest IP packet; bigger ones are dropped and answered by ICMP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

impl LinkConfig {
    /// A link that only delays, by so many milliseconds one way.
    #[must_use]
    pub fn delay(milliseconds: f64) -> Self {
        Self { delay_ms: milliseconds, ..Self::default() }
    }
}

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or not of the right form.
    #[error("{0}")]
    Parse(#[from] toml::de::Error),
    /// A link or route names a port that does not exist.
    #[error("{wanted} names the port `{name}`, which does not exist")]
    NoSuchPort {
        /// "link" or "route".
        wanted: &'static str,
        /// The unknown name.
        name: String,
    },
    /// Two ports share a name or an interface.
    #[error("two ports are called `{0}`, or use it as their interface")]
    DuplicatePort(String),
    /// A figure outside its range.
    #[error("link {from} -> {to}: {what}")]
    BadLink {
        /// Port where packets come in.
        from: String,
        /// Port where packets leave.
        to: String,
        /// What is wrong.
        what: &'static str,
    },
}

impl std::str::FromStr for WanConfig {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }
}

impl WanConfig {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        text.parse()
    }

    /// Number of the port of that name.
    #[must_use]
    pub fn port_index(&self, name: &str) -> Option<usize> {
        self.ports.iter().position(|port| port.name == name)
    }

    /// Checks names and ranges.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (i, port) in self.ports.iter().enumerate() {
            let twin =
                |other: &&PortConfig| other.name == port.name || other.interface == port.interface;
            if let Some(other) = self.ports[..i].iter().find(twin) {
                return Err(ConfigError::DuplicatePort(other.name.clone()));
            }
        }
        for route in &self.routes {
            self.known("route", Some(&route.port))?;
        }
        for link in &self.links {
            self.known("link", link.from.as_ref())?;
            self.known("link", link.to.as_ref())?;
            link.check()?;
        }
        Ok(())
    }

    fn known(&self, wanted: &'static str, name: Option<&String>) -> Result<(), ConfigError> {
        match name {
            Some(name) if self.port_index(name).is_none() => {
                Err(ConfigError::NoSuchPort { wanted, name: name.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The link from one port to another: the last one that names the pair.
    #[must_use]
    pub fn link_between(&self, from: usize, to: usize) -> LinkConfig {
        let (from, to) = (&self.ports[from].name, &self.ports[to].name);
        let found = self
            .links
            .iter()
            .rev()
            .find(|link| link.covers(from, to) || (link.both && link.covers(to, from)));
        found.cloned().unwrap_or_default()
    }
}

impl LinkConfig {
    fn covers(&self, from: &str, to: &str) -> bool {
        let fits = |named: &Option<String>, port: &str| named.as_deref().is_none_or(|n| n == port);
        let named_twice = self.from.is_some() && self.to.is_some();
        fits(&self.from, from) && fits(&self.to, to) && (from != to || named_twice)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let small = |figure: f64| (0.0..=3_600_000.0).contains(&figure);
        let what = if !small(self.delay_ms) || !small(self.jitter_ms) {
            "delay_ms and jitter_ms must lie between 0 and one hour"
        } else if !(0.0..=1.0).contains(&self.loss) {
            "loss must lie between 0 and 1"
        } else if self.rate_mbit.is_some_and(|rate| !(0.001..=1_000_000.0).contains(&rate)) {
            "rate_mbit must lie between 0.001 and 1000000"
        } else if self.mtu.is_some_and(|mtu| mtu < 576) {
            "mtu must be at least 576"
        } else {
            return Ok(());
        };
        let name = |port: &Option<String>| port.clone().unwrap_or_else(|| "any".into());
        Err(ConfigError::BadLink { from: name(&self.from), to: name(&self.to), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_ports() -> WanConfig {
        let port = |name: &str| PortConfig {
            name: name.into(),
            interface: format!("wan-{name}"),
            ..PortConfig::default()
        };
        WanConfig { ports: ["a", "b", "c"].map(port).into(), ..WanConfig::default() }
    }

    #[test]
    fn the_last_link_that_names_a_pair_counts() {
        let mut config = three_ports();
        config.links.push(LinkConfig::delay(5.0));
        config.links.push(LinkConfig {
            from: Some("a".into()),
            to: Some("b".into()),
            both: true,
            ..LinkConfig::delay(40.0)
        });
        assert_eq!(config.link_between(0, 1).delay_ms, 40.0);
        assert_eq!(config.link_between(1, 0).delay_ms, 40.0);
        assert_eq!(config.link_between(0, 2).delay_ms, 5.0);
        assert_eq!(config.link_between(0, 0).delay_ms, 0.0);
    }

    #[test]
    fn mistakes_are_named() {
        let mut config = three_ports();
        config.links.push(LinkConfig { from: Some("z".into()), ..LinkConfig::default() });
        assert!(config.check().unwrap_err().to_string().contains("`z`"));
        config.links[0] = LinkConfig { loss: 1.5, ..LinkConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("loss"));
        let typo = "[[port]]\nname = \"a\"\ninterface = \"x\"\nipv5 = \"1.2.3.4/8\"";
        assert!(typo.parse::<WanConfig>().unwrap_err().to_string().contains("ipv5"));
    }

    #[test]
    fn a_configuration_survives_being_written() {
        let mut config = three_ports();
        config.ports[0].ipv4 = Some("198.18.1.1/24".parse().unwrap());
        config.links.push(LinkConfig { rate_mbit: Some(100.0), ..LinkConfig::delay(12.5) });
        config.routes.push(RouteConfig {
            prefix: "192.0.2.0/24".parse().unwrap(),
            port: "b".into(),
            via: None,
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        });
        let text = toml::to_string(&config).unwrap();
        assert_eq!(text.parse::<WanConfig>().unwrap(), config);
    }
}
