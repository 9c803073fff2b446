//! Options of a set of firstack processes.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use pipeline::stage::tag::Configuration as Configuration;

use crate::lab::Family;

/// Time between two looks at counters that may have come to rest.
const PAUSE: Duration = Duration::from_millis(250);

/// The format of the tunnels that a process sends; all are taken.
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

/// Which web servers are probed, and by whom, over the management network.
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
    /// Whether there are any, which takes a topology with a management network.
    #[must_use]
    pub fn any(self) -> bool {
        self.origin || self.replicas || self.own
    }
}

/// How often things are probed, and how many answers change the opinion of them.
#[derive(Debug, Clone, Copy)]
pub struct HealthTimes {
    /// From one probe to the next; the time for an answer is half of that.
    pub interval: Duration,
    /// Answers in a row from which on a thing is up.
    pub rise: u8,
    /// Unanswered probes in a row from which on it is down.
    pub fall: u8,
}

/// An origin server that the switch reaches by the MAC address of its own address.
#[derive(Debug, Clone)]
pub struct OriginServer {
    /// Its name.
    pub name: String,
    /// Its own address.
    pub address: IpAddr,
    /// Where the switch's host probes it by TCP, if it does.
    pub check: Option<SocketAddr>,
}

/// Raw TOML at the end of each role's file: sections that the file does not have otherwise.
#[derive(Debug, Clone, Default)]
pub struct Further {
    /// Of the gateway's.
    pub gateway: String,
    /// Of the switch's.
    pub switch: String,
    /// Of every replica's.
    pub replica: String,
}

/// Options of a set of processes. Their configuration files contain only what differs from
/// firstack's defaults.
#[derive(Debug, Clone, Default)]
pub struct ProcessOptions {
    /// The gateway's configuration.
    pub configuration: Configuration,
    /// The families that services are of; none stands for IPv4 alone.
    pub families: Vec<Family>,
    /// The format of all tunnels.
    pub tunnel_format: TunnelFormat,
    /// What all processes take for the path's MTU; firstack's default otherwise.
    pub path_mtu: Option<u16>,
    /// The text of everybody's key file; with one, unsigned tags get no copies.
    pub keys: Option<String>,
    /// The origin servers; without any, the host behind the switch is the only one.
    pub servers: Vec<OriginServer>,
    /// Which web servers are probed.
    pub checks: Checks,
    /// How often; firstack's default otherwise.
    pub health: Option<HealthTimes>,
    /// Workers of the gateway; none stands for one.
    pub gateway_workers: usize,
    /// Every address is a service, not the origin's alone.
    pub any_service: bool,
    /// Live connections from which on replica 1, 2, ... is busy; firstack's default otherwise.
    pub max_connections: Vec<Option<u32>>,
    /// What else is in the files.
    pub further: Further,
    /// Where `firstack` is, if not beside this program and not named in `FIRSTACK`.
    pub binary: Option<PathBuf>,
}

impl ProcessOptions {
    /// The families that services are of.
    #[must_use]
    pub fn families(&self) -> &[Family] {
        if self.families.is_empty() { &[Family::V4] } else { &self.families }
    }

    /// Time between two looks at the counters: shorter than that between probes, which move
    /// them.
    pub(super) fn pause(&self) -> Duration {
        self.health.map_or(PAUSE, |health| PAUSE.min(health.interval / 3))
    }
}
