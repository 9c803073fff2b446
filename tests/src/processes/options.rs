//! Options of a set of firstack processes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use pipeline::stage::tag::Configuration;

use crate::lab::Family;

/// Interval at which counters are read until they stop moving.
const PAUSE: Duration = Duration::from_millis(250);

/// The format of the tunnels that a process sends. All formats are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TunnelFormat {
    /// IP in IP.
    #[default]
    Ipip,
    /// Generic routing encapsulation.
    Gre,
    /// Generic UDP encapsulation.
    Gue,
}

impl fmt::Display for TunnelFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipip => "ipip",
            Self::Gre => "gre",
            Self::Gue => "gue",
        })
    }
}

/// The web servers that are probed, and their probers, over the management network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checks {
    /// The switch probes the origin's.
    pub origin: bool,
    /// The switch probes every replica's.
    pub replicas: bool,
    /// Every replica's appliance probes its own.
    pub own: bool,
}

impl Checks {
    /// Returns whether there are any. They need a topology with a management network.
    #[must_use]
    pub fn any(self) -> bool {
        self.origin || self.replicas || self.own
    }
}

/// Interval and thresholds of health checks.
#[derive(Debug, Clone, Copy)]
pub struct HealthTimes {
    /// Interval between probes. The time-out is half of it.
    pub interval: Duration,
    /// Consecutive answers after which a target is up.
    pub rise: u8,
    /// Consecutive unanswered probes after which it is down.
    pub fall: u8,
}

/// An origin server that the switch reaches by the MAC address of its own address.
#[derive(Debug, Clone)]
pub struct OriginServer {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// The endpoint that the switch probes by TCP, if any.
    pub check: Option<SocketAddr>,
}

/// Raw TOML in each role's file: additional sections, and keys.
#[derive(Debug, Clone, Default)]
pub struct Further {
    /// Keys of each of the gateway's services.
    pub service: String,
    /// For the gateway.
    pub gateway: String,
    /// For the switch.
    pub switch: String,
    /// For every replica.
    pub replica: String,
}

/// Options of a set of processes. Their configuration files contain only what differs from
/// firstack's defaults.
#[derive(Debug, Clone, Default)]
pub struct ProcessOptions {
    /// The gateway's configuration.
    pub configuration: Configuration,
    /// The families of services. Empty means IPv4 only.
    pub families: Vec<Family>,
    /// The format of all tunnels.
    pub tunnel_format: TunnelFormat,
    /// The path MTU of all processes; firstack's default if `None`.
    pub path_mtu: Option<u16>,
    /// The text of all key files. With one, unsigned SYNs are not copied.
    pub keys: Option<String>,
    /// The origin servers. If empty, the host behind the switch is the only one.
    pub servers: Vec<OriginServer>,
    /// The health checks.
    pub checks: Checks,
    /// Their times; firstack's defaults if `None`.
    pub health: Option<HealthTimes>,
    /// Workers of the gateway. Zero means one.
    pub gateway_workers: usize,
    /// Whether every address is a service, not only the origin's.
    pub any_service: bool,
    /// Live connections at which replica 1, 2, ... becomes busy; firstack's default if `None`.
    pub max_connections: Vec<Option<u32>>,
    /// Additional sections of the files.
    pub further: Further,
    /// Path of `firstack`, if it is neither beside this program nor named in `FIRSTACK`.
    pub binary: Option<PathBuf>,
}

impl ProcessOptions {
    /// Returns options for the patent's race alone: the gateway sends no direct copies.
    #[must_use]
    pub fn patent() -> Self {
        let further = Further { service: "direct = 0\n".into(), ..Further::default() };
        Self { further, ..Self::default() }
    }

    /// Returns the families of services.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        if self.families.is_empty() { &[Family::V4] } else { &self.families }
    }

    /// Returns the interval at which counters are read. It is shorter than that of probes, which
    /// move them.
    pub(super) fn pause(&self) -> Duration {
        self.health.map_or(PAUSE, |health| PAUSE.min(health.interval / 3))
    }
}
