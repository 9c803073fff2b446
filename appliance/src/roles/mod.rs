//! Builds the roles that the workers run from a checked configuration. The choice of role and of
//! configuration A, B or C is made only here, so that each worker's loop is compiled for its role.

mod carried;
mod gateway;
pub mod numbers;
mod replica;
mod switch;

use std::hash::Hasher;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline::base::published::Published;
use pipeline::base::time::UnixClock;
use pipeline::neighbours::Neighbours;
use pipeline::policy::drain::Drain;
use pipeline::policy::maglev;
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C};
use pipeline::role::replica::Admission;
use pipeline::role::switch::TunnelHealth;
use pipeline::stage::sign::Keys;
use pipeline::stage::tag;
use pipeline::wire::ethernet::Mac;
use pipeline::wire::family::Version;
use siphasher::sip::SipHasher24;

use crate::config::{self, Check, Config, HashKey};
use crate::control::memory::Remembering;
use crate::control::{keys, protected, share};
use numbers::Numbers;

pub use carried::Carried;

/// The environment of the roles: what they need in addition to the configuration.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The number of workers.
    pub workers: usize,
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// The secret key of the connection tables' hash.
    pub hash_key: (u64, u64),
    /// The keys that tags are signed and verified with.
    pub keys: keys::Keys,
    /// The identifier of this switch's tunnel probes.
    pub probe_id: u16,
    /// What the roles take over from those before.
    pub carried: Carried,
}

/// The names under which counters are shown.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The role: "gateway", "switch" or "replica".
    pub role: &'static str,
    /// What the operator should know of the configuration.
    pub warnings: Vec<String>,
    /// The states of an entry in the connection table.
    pub states: &'static [&'static str],
    /// The services, by number; one that has left the configuration is marked.
    pub services: Vec<String>,
    /// The replicas of all services in order, as "service/replica" (switch).
    pub replicas: Vec<String>,
    /// The servers of all services in order, as "service/server" (switch, replica); one that has left
    /// the configuration has no name.
    pub servers: Vec<String>,
}

/// A replica or server that can be taken out of service while the process runs.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name: "service/replica" or "service/server".
    pub name: String,
    /// Whether the configuration enables it.
    pub enabled: bool,
    /// Its health check, if it has one.
    pub check: Option<Check>,
}

/// A function that is given whether each member is in service, by number.
pub type Apply = Box<dyn Fn(&[bool]) + Send>;

/// The state that the control thread changes while the workers run.
pub struct Controls {
    /// Publishes the keys that tags are signed and verified with.
    pub keys: Published<Keys>,
    /// The Unix time that signatures are made and verified by.
    pub unix: UnixClock,
    /// The key file and what its keys are for.
    pub key_file: Option<(PathBuf, keys::Purpose)>,
    /// A switch's replicas, then its servers; a replica's servers.
    pub members: Vec<Member>,
    /// Puts members into service and takes them out.
    pub apply: Apply,
    /// Which replicas' tunnels answer probes; those replicas are the first members (switch).
    pub tunnels: Option<Arc<TunnelHealth>>,
    /// Whether the replica admits new connections (replica).
    pub admission: Option<Arc<Admission>>,
    /// What is drained (gateway, switch).
    pub drain: Option<Arc<Drain>>,
    /// The replica is busy while this file exists.
    pub busy_file: Option<PathBuf>,
    /// The replica is busy while this check says so.
    pub busy_check: Option<Check>,
    /// The neighbours whose MAC addresses the role resolves.
    pub neighbours: Option<Arc<Neighbours>>,
    /// What is remembered of replicas (gateway).
    pub memory: Option<Remembering>,
    /// What the roles of a changed configuration take over.
    pub carried: Carried,
}

/// The roles of all workers, and what the control thread needs of them.
pub struct RoleSet<R> {
    /// The roles, one per worker.
    pub roles: Vec<R>,
    /// The names of their counters.
    pub labels: Labels,
    /// The settings that can be changed while they run.
    pub controls: Controls,
    /// The most frames that one packet can produce in addition to itself.
    pub copies: usize,
}

/// Configuration that runs with a role set, generic over the role's type.
pub trait WithRole {
    /// The result of [`WithRole::run`].
    type Output;

    /// Runs with the roles of all workers.
    fn run<R: Role + Send + 'static>(self, set: RoleSet<R>) -> Self::Output;
}

/// Builds the roles of all workers and calls `visitor` with them.
pub fn with_role_set<T: WithRole>(
    config: &Config,
    environment: &Environment,
    visitor: T,
) -> T::Output {
    // A reload has been refused if no numbers keep their meaning. At a start, they begin anew.
    let numbers = environment.carried.numbers_for(config);
    let numbers = numbers.or_else(|_| Carried::default().numbers_for(config)).unwrap_or_default();
    match &config.role {
        config::Role::Gateway(own) => match own.configuration {
            config::Configuration::A => {
                visitor.run(gateway::role_set::<A>(config, own, environment, numbers))
            }
            config::Configuration::B => {
                visitor.run(gateway::role_set::<B>(config, own, environment, numbers))
            }
            config::Configuration::C => {
                visitor.run(gateway::role_set::<C>(config, own, environment, numbers))
            }
        },
        config::Role::Switch(own) => {
            visitor.run(switch::role_set(config, own, environment, numbers))
        }
        config::Role::Replica(own) => {
            visitor.run(replica::role_set(config, own, environment, numbers))
        }
    }
}

/// Returns what the keys of a role are for.
pub fn purpose(config: &Config) -> keys::Purpose {
    match config.role {
        config::Role::Gateway(_) => keys::Purpose::Sign,
        config::Role::Switch(_) | config::Role::Replica(_) => keys::Purpose::Check,
    }
}

/// Loads the key file that a configuration names; without one there are no keys.
///
/// # Errors
/// If the file cannot be read, is not protected, or has mistakes.
pub fn load_keys(config: &Config) -> Result<keys::Keys, keys::Error> {
    match &config.tag.keys {
        Some(path) => keys::Keys::load(path, purpose(config)),
        None => Ok(keys::Keys::default()),
    }
}

/// Returns what a gateway shares through a store, and how; `None` if the configuration names none.
/// `numbers` are those of the services.
///
/// # Errors
/// If the password file cannot be read, or is not protected.
pub fn sharing(
    config: &Config,
    numbers: &Numbers,
) -> Result<Option<share::Settings>, protected::Error> {
    match &config.role {
        config::Role::Gateway(own) => gateway::sharing(own, numbers),
        config::Role::Switch(_) | config::Role::Replica(_) => Ok(None),
    }
}

/// Converts keys for the pipeline. Only a gateway signs, whatever the file says.
pub fn pipeline_keys(keys: &keys::Keys, purpose: keys::Purpose, unix: &UnixClock) -> Keys {
    let signing = keys.sign_with().filter(|_| purpose == keys::Purpose::Sign);
    Keys::new(keys.all().iter().copied(), signing).with_clock(unix.clone())
}

/// Returns the controls of a role of which only the keys can change.
fn controls(config: &Config, environment: &Environment) -> Controls {
    let (purpose, unix) = (purpose(config), environment.carried.unix.clone());
    Controls {
        keys: Published::new(pipeline_keys(&environment.keys, purpose, &unix)),
        unix,
        key_file: config.tag.keys.clone().map(|path| (path, purpose)),
        members: Vec::new(),
        apply: Box::new(|_| {}),
        tunnels: None,
        admission: None,
        drain: None,
        busy_file: None,
        busy_check: None,
        neighbours: None,
        memory: None,
        carried: Carried::default(),
    }
}

fn tag_option(config: &Config) -> tag::OptionId {
    tag::OptionId { kind: config.tag.kind, exid: config.tag.exid }
}

fn path(config: &Config) -> TunnelPath {
    let tunnel = &config.tunnel;
    let peers = tunnel.peers.iter().map(|peer| (peer.prefix, peer.format));
    TunnelPath::new(tunnel.path_mtu, tunnel.format, peers)
}

/// Returns the key by which clients are divided among servers: the configured one, or one that follows
/// from the key of the key file with the lowest number. Without either it is public. One that was
/// derived stays until a restart, whatever keys come: the same clients go to the same servers.
fn selection_key(configured: Option<HashKey>, environment: &Environment) -> (u64, u64) {
    if let Some(HashKey(key)) = configured {
        return key;
    }
    if let Some(derived) = environment.carried.selection_key {
        return derived;
    }
    let lowest = environment.keys.all().iter().min_by_key(|(number, _)| *number);
    let Some((_, key)) = lowest else { return maglev::PUBLIC_KEY };
    let half = |label: &str| {
        let mut hasher = SipHasher24::new_with_key(key);
        hasher.write(label.as_bytes());
        hasher.finish()
    };
    (half("firstack selection 1"), half("firstack selection 2"))
}

/// Returns a selection key for the next roles, if it is a derived one.
fn derived(key: (u64, u64), configured: Option<HashKey>, environment: &Environment) -> Carried {
    let is_derived = configured.is_none() && key != maglev::PUBLIC_KEY;
    let selection_key = if is_derived { Some(key) } else { environment.carried.selection_key };
    Carried { selection_key, ..Carried::default() }
}

/// Returns the name of a service for operators.
fn label(service: &numbers::Service) -> String {
    match service.retired {
        None => service.name.clone(),
        Some(_) => format!("{} (removed)", service.name),
    }
}

/// Returns one worker's part of a number that is given for the process, at least 1.
fn share(total: u64, workers: usize) -> u64 {
    total.div_ceil(workers as u64).max(1)
}

/// Returns the table capacities of one worker, by family; 1 for a family without services.
fn tables(config: &Config, workers: usize, serves: impl Fn(Version) -> bool) -> [usize; 2] {
    let table = &config.table;
    [(Version::V4, table.max_connections), (Version::V6, table.max_connections_v6)].map(
        |(version, connections)| match serves(version) {
            true => share(connections.into(), workers) as usize,
            false => 1,
        },
    )
}

/// Returns whether any of the addresses is of a family.
fn any_of(version: Version, mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    addresses.any(|address| Version::of(address) == version)
}
