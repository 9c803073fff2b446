//! From a checked configuration to the roles that the workers run. Here, and nowhere else, is
//! the choice of role and configuration made: each worker's loop is compiled for its own.

mod gateway;
mod replica;
mod switch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline::role::gateway::mode::{A, B, C};
use pipeline::wire::family::Version;
use pipeline::neighbours::Neighbours;
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::role::Role;
use pipeline::role::replica::Admission;
use pipeline::role::switch::TunnelHealth;
use pipeline::base::published::Published;
use pipeline::stage::sign::Keys;
use pipeline::stage::tag;
use pipeline::wire::ethernet::Mac;
use pipeline::wire::tunnel::Format;

use crate::config::{self, Check, Config, TunnelFormat};
use crate::control::keys;

/// What the roles need to know beyond the configuration.
#[derive(Clone, Debug)]
pub struct Environment {
    /// How many workers share the work.
    pub workers: usize,
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Secret of the tables' hash.
    pub hash_key: (u64, u64),
    /// What tags are signed with, or judged by.
    pub keys: keys::Keys,
    /// Tells this switch's probes of tunnels from others'.
    pub probe_id: u16,
}

/// The names that counters are shown under.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// "gateway", "switch" or "replica".
    pub role: &'static str,
    /// States of the table.
    pub states: &'static [&'static str],
    /// Services, by number.
    pub services: Vec<String>,
    /// Replicas of all services in order, as "service/replica" (switch).
    pub replicas: Vec<String>,
    /// Servers of all services in order, as "service/server" (switch, replica).
    pub servers: Vec<String>,
}

/// A replica or server that can be taken out while the process runs.
#[derive(Clone, Debug)]
pub struct Member {
    /// "service/replica" or "service/server".
    pub name: String,
    /// Whether the configuration has it in.
    pub enabled: bool,
    /// How it is probed.
    pub check: Option<Check>,
}

/// Told which members are in, by their numbers.
pub type Apply = Box<dyn Fn(&[bool]) + Send>;

/// What the control thread changes while the workers run.
pub struct Controls {
    /// What tags are signed with, or judged by.
    pub keys: Published<Keys>,
    /// Where they come from, and what for.
    pub key_file: Option<(PathBuf, keys::Purpose)>,
    /// Replicas, then servers, of a switch; servers of a replica.
    pub members: Vec<Member>,
    /// Puts members in and takes them out.
    pub apply: Apply,
    /// Which tunnels to replicas answer: those of the first members (switch).
    pub tunnels: Option<Arc<TunnelHealth>>,
    /// The replica's gates.
    pub gates: Option<Arc<Admission>>,
    /// The replica is busy while this file is there.
    pub busy_file: Option<PathBuf>,
    /// The replica is busy while this answers so.
    pub busy_check: Option<Check>,
    /// MAC addresses that the role asks for.
    pub neighbours: Option<Arc<Neighbours>>,
}

/// The roles of all workers, and what the control thread keeps of them.
pub struct RoleSet<R> {
    /// One per worker.
    pub roles: Vec<R>,
    /// The names of what they count.
    pub labels: Labels,
    /// What can be changed while they run.
    pub controls: Controls,
    /// The most frames that one packet can turn into beyond itself.
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
    match &config.role {
        config::Role::Gateway(own) => match own.configuration {
            config::Configuration::A => {
                visitor.run(gateway::role_set::<A>(config, own, environment))
            }
            config::Configuration::B => {
                visitor.run(gateway::role_set::<B>(config, own, environment))
            }
            config::Configuration::C => {
                visitor.run(gateway::role_set::<C>(config, own, environment))
            }
        },
        config::Role::Switch(own) => visitor.run(switch::role_set(config, own, environment)),
        config::Role::Replica(own) => visitor.run(replica::role_set(config, own, environment)),
    }
}

/// What a key file is read for.
pub fn purpose(config: &Config) -> keys::Purpose {
    match config.role {
        config::Role::Gateway(_) => keys::Purpose::Sign,
        config::Role::Switch(_) | config::Role::Replica(_) => keys::Purpose::Check,
    }
}

/// The keys that a configuration names; none when it names no file.
pub fn load_keys(config: &Config) -> Result<keys::Keys, keys::Error> {
    match &config.tag.keys {
        Some(path) => keys::Keys::load(path, purpose(config)),
        None => Ok(keys::Keys::default()),
    }
}

/// Keys as the pipeline has them. Only a gateway signs, whatever the file says.
pub fn pipeline_keys(keys: &keys::Keys, purpose: keys::Purpose) -> Keys {
    let signing = keys.sign_with().filter(|_| purpose == keys::Purpose::Sign);
    Keys::new(keys.all().iter().copied(), signing)
}

/// Returns the controls of a role of which only the keys can change.
fn controls(config: &Config, environment: &Environment) -> Controls {
    let purpose = purpose(config);
    Controls {
        keys: Published::new(pipeline_keys(&environment.keys, purpose)),
        key_file: config.tag.keys.clone().map(|path| (path, purpose)),
        members: Vec::new(),
        apply: Box::new(|_| {}),
        tunnels: None,
        gates: None,
        busy_file: None,
        busy_check: None,
        neighbours: None,
    }
}

fn tag_format(config: &Config) -> tag::OptionId {
    tag::OptionId { kind: config.tag.kind, exid: config.tag.exid }
}

fn format(format: TunnelFormat) -> Format {
    match format {
        TunnelFormat::Ipip => Format::Ipip,
        TunnelFormat::Gre => Format::Gre,
        TunnelFormat::Gue => Format::Gue,
    }
}

fn path(config: &Config) -> Path {
    let tunnel = &config.tunnel;
    let peers = tunnel.peers.iter().map(|peer| (peer.prefix, format(peer.format)));
    Path::new(tunnel.path_mtu, format(tunnel.format), peers)
}

/// This worker's part of a number that is given for the process; at least one.
fn share(total: u64, workers: usize) -> u64 {
    total.div_ceil(workers as u64).max(1)
}

/// This worker's part of the tables, by family; a family that no service is of needs none.
fn tables(config: &Config, workers: usize, serves: impl Fn(Version) -> bool) -> [usize; 2] {
    let table = &config.table;
    [(Version::V4, table.max_connections), (Version::V6, table.max_connections_v6)].map(
        |(version, connections)| match serves(version) {
            true => share(connections.into(), workers) as usize,
            false => 1,
        },
    )
}

/// Whether any of these addresses is of a family.
fn any_of(version: Version, mut addresses: impl Iterator<Item = IpAddr>) -> bool {
    addresses.any(|address| Version::of(address) == version)
}
