//! The settings of a gateway, fixed until a reload.

use std::sync::Arc;

use crate::base::time::Ticks;
use crate::memory::{Policy, ServiceSettings};
use crate::policy::allow_list::AllowList;
use crate::policy::drain::Drain;
use crate::policy::services::Scope;
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::tag;

/// The time-out of each state (docs/configuration.md, `[timeouts]`).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// A race, since its last SYN, and a half-open connection, since its replica won.
    pub racing: Ticks,
    /// A connection that a replica won, since its last packet (RFC 5382, REQ-5).
    pub established: Ticks,
    /// A connection that one side has ended, or both, since its last packet (RFC 5382, REQ-5).
    pub closing: Ticks,
    /// A connection that the origin won, since the race was decided.
    pub race_window: Ticks,
    /// The time since the client was heard after which a SYN with a new sequence number opens a
    /// fresh race; right to a second or so.
    pub reuse_after: Ticks,
    /// The longest time for which SYNs to a destination stay untagged once its path has dropped
    /// tagged ones.
    pub tag_backoff: Ticks,
}

impl Default for Timeouts {
    /// 40 s, 2 h 4 min, 4 min, 5 s, 5 s and 10 min.
    fn default() -> Self {
        Self {
            racing: Ticks::from_secs(40),
            established: Ticks::from_secs(2 * 3600 + 4 * 60),
            closing: Ticks::from_secs(240),
            race_window: Ticks::from_secs(5),
            reuse_after: Ticks::from_secs(5),
            tag_backoff: Ticks::from_secs(600),
        }
    }
}

/// A service whose connections are raced.
#[derive(Clone, Debug)]
pub struct Service {
    /// The server addresses that it covers.
    pub scope: Scope,
    /// Its TCP ports.
    pub ports: Vec<u16>,
    /// The addresses from which replicas may answer.
    pub allowed_replicas: AllowList,
    /// How its replicas are asked directly.
    pub policy: Policy,
    /// It has left the configuration: no race begins, and its connections go on.
    pub retired: bool,
}

impl Service {
    /// Returns the service as the memory of replicas sees it.
    pub fn memory(&self) -> ServiceSettings {
        ServiceSettings {
            policy: self.policy.clone(),
            allowed_replicas: self.allowed_replicas.clone(),
            retired: self.retired,
        }
    }
}

/// The settings of a gateway, fixed until a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number. A number never changes: entries of connections refer to it.
    pub services: Vec<Service>,
    /// The clients whose SYNs are raced. Only SYNs are checked.
    pub allowed_clients: AllowList,
    /// The TCP option that is the tag.
    pub tag: tag::OptionId,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// The tunnels to the replicas, under configuration C.
    pub path: TunnelPath,
    /// Connections per worker: IPv4, IPv6. A family without a service needs no more than one.
    pub max_connections: [usize; 2],
    /// Secret of the table's hash.
    pub hash_key: (u64, u64),
    /// What is drained, shared by the workers and the control thread.
    pub drain: Arc<Drain>,
}

impl Settings {
    /// Returns settings with defaults for everything but the services: any client, the default tag
    /// and time-outs, IP in IP with a path MTU of 1500 bytes, 65,536 connections per family, and a hash
    /// key of zeros. For real traffic, replace the hash key by a random one.
    ///
    /// # Examples
    /// ```
    /// use pipeline::memory::Policy;
    /// use pipeline::policy::allow_list::AllowList;
    /// use pipeline::policy::services::Scope;
    /// use pipeline::role::gateway::{Service, Settings};
    ///
    /// let service = Service {
    ///     scope: Scope::Prefix("203.0.113.10/32".parse().unwrap()),
    ///     ports: vec![80],
    ///     retired: false,
    ///     allowed_replicas: AllowList::only(vec!["198.51.100.0/24".parse().unwrap()]),
    ///     policy: Policy::default(),
    /// };
    /// let settings = Settings { hash_key: (3, 4), ..Settings::new(vec![service]) };
    /// assert_eq!(settings.max_connections, [65_536; 2]);
    /// ```
    pub fn new(services: Vec<Service>) -> Self {
        Self {
            drain: Arc::new(Drain::new(services.len())),
            services,
            allowed_clients: AllowList::Any,
            tag: tag::OptionId::default(),
            timeouts: Timeouts::default(),
            path: TunnelPath::default(),
            max_connections: [1 << 16; 2],
            hash_key: (0, 0),
        }
    }
}
