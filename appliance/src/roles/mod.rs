//! From a checked configuration to the roles that the workers run. Here, and nowhere else, is
//! the choice of role and configuration made: each worker's loop is compiled for its own.

mod gateway;
mod replica;
mod switch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use pipeline::configuration::{A, B, C};
use pipeline::family::Version;
use pipeline::neighbours::Neighbours;
use pipeline::path::Path;
use pipeline::role::Role;
use pipeline::role::replica::Gates;
use pipeline::role::switch::TunnelHealth;
use pipeline::shared::Published;
use pipeline::stage::sign::Keys;
use pipeline::stage::tag;
use pipeline::wire::ethernet::Mac;
use pipeline::wire::tunnel::Format;

use crate::config::{self, Check, Config, TunnelFormat};
use crate::control::keys;

/// What the roles need to know beyond the configuration.
#[derive(Clone, Debug)]
pub struct Surroundings {
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
pub struct Names {
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

/// What the control thread moves while the workers run.
pub struct Levers {
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
    pub gates: Option<Arc<Gates>>,
    /// The replica is busy while this file is there.
    pub busy_file: Option<PathBuf>,
    /// The replica is busy while this answers so.
    pub busy_check: Option<Check>,
    /// MAC addresses that the role asks for.
    pub neighbours: Option<Arc<Neighbours>>,
}

/// The roles of all workers, and what the control thread keeps of them.
pub struct Crew<R> {
    /// One per worker.
    pub roles: Vec<R>,
    /// The names of what they count.
    pub names: Names,
    /// What can be moved while they run.
    pub levers: Levers,
    /// The most frames that one packet can turn into beyond itself.
    pub copies: usize,
}

/// What is done with a crew, whatever its role.
pub trait Task {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<R: Role + Send + 'static>(self, crew: Crew<R>) -> Self::Output;
}

/// Builds the roles and does the task with them.
pub fn with_crew<T: Task>(config: &Config, surroundings: &Surroundings, task: T) -> T::Output {
    match &config.role {
        config::Role::Gateway(own) => match own.configuration {
            config::Configuration::A => task.run(gateway::crew::<A>(config, own, surroundings)),
            config::Configuration::B => task.run(gateway::crew::<B>(config, own, surroundings)),
            config::Configuration::C => task.run(gateway::crew::<C>(config, own, surroundings)),
        },
        config::Role::Switch(own) => task.run(switch::crew(config, own, surroundings)),
        config::Role::Replica(own) => task.run(replica::crew(config, own, surroundings)),
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

/// Levers of a role that has nothing to move but its keys.
fn levers(config: &Config, surroundings: &Surroundings) -> Levers {
    let purpose = purpose(config);
    Levers {
        keys: Published::new(pipeline_keys(&surroundings.keys, purpose)),
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

fn tag_format(config: &Config) -> tag::Format {
    tag::Format { kind: config.tag.kind, exid: config.tag.exid }
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
