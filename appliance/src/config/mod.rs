//! The configuration of a process: one TOML file, one role.
//!
//! A file is checked completely before anything of it is used: every key is known, of the right
//! type and within bounds, and the parts agree with each other. What does not is reported all at
//! once, each mistake with its line, its key and what is expected. docs/configuration.md is the
//! operator's view of the same keys.
//!
//! ```text
//! schema    every key: what it takes, its default
//! document  the lines of the file, the mistakes noted
//! reader    walks the document by the schema
//! value     single values: durations, addresses, labels
//! common eal device tunnel health  the sections that all roles have
//! present   whether this machine has what the file names
//! gateway switch replica           the section of one role
//! service clients                  what roles have in common
//! ```

mod clients;
mod common;
mod device;
mod document;
mod eal;
mod error;
mod gateway;
mod health;
mod present;
mod reader;
mod replica;
pub mod schema;
mod service;
pub mod sizing;
mod switch;
mod tunnel;
mod value;

use std::fmt;
use std::path::Path;

use toml::de::DeTable;

pub use common::{Control, Log, Memory, Poll, Port, Ports, Table, Tag, Timeouts, Worker};
pub use device::{Bus, Device};
pub use eal::Eal;
pub use error::{ConfigError, ConfigErrors};
pub use gateway::{Gateway, GatewayService, ServiceAddress};
pub use pipeline::wire::configuration::Configuration;
pub use pipeline::wire::tunnel::Format as TunnelFormat;
pub use health::{Check, Health, HttpCheck};
pub use present::Places;
pub use replica::{Replica, ReplicaService, WebServer};
pub use switch::{Content, Delivery, OriginServer, Switch, SwitchReplica, SwitchService};
pub use tunnel::{Tunnel, TunnelPeer};
pub use value::{DURATIONS, MacAddress};

use document::Document;
use reader::Section;

/// Everything that a process is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// DPDK's environment layer.
    pub eal: Eal,
    /// The two sides.
    pub ports: Ports,
    /// Forwarding threads.
    pub worker: Worker,
    /// Packet buffers.
    pub memory: Memory,
    /// Translation tables.
    pub table: Table,
    /// Lifetimes.
    pub timeouts: Timeouts,
    /// The TCP option that marks start packets.
    pub tag: Tag,
    /// The tunnels that are sent.
    pub tunnel: Tunnel,
    /// How hosts with a check are probed.
    pub health: Health,
    /// The control socket.
    pub control: Control,
    /// Logging.
    pub log: Log,
    /// The role, and what is configured for it alone.
    pub role: Role,
    /// Where the things stand that a machine may not have.
    pub places: Places,
}

/// What the process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Beside the clients: tags start packets and follows the winner.
    Gateway(Gateway),
    /// Beside the origin servers: copies start packets to the replicas.
    Switch(Switch),
    /// Beside a replica's web servers: answers the copies.
    Replica(Replica),
}

impl Role {
    /// The name, as the key `role` has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Gateway(_) => Kind::Gateway,
            Self::Switch(_) => Kind::Switch,
            Self::Replica(_) => Kind::Replica,
        }
        .name()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A role before its section is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gateway,
    Switch,
    Replica,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Gateway, Self::Switch, Self::Replica];

    fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Switch => "switch",
            Self::Replica => "replica",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the file is about: what it says, or what its only section of a role tells.
    fn of(table: &DeTable<'_>) -> Option<Self> {
        let said = table.get("role").and_then(|role| role.get_ref().as_str());
        let said = said.and_then(Self::from_name);
        let mut present = Self::ALL.into_iter().filter(|kind| table.contains_key(kind.name()));
        said.or(present.next().filter(|_| present.next().is_none()))
    }
}

impl Config {
    /// Reads and checks a file. Its name in errors is `path` as given.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path)
            .map_err(|error| ConfigErrors::one(&name, None, format!("cannot be read: {error}")))?;
        let text = std::str::from_utf8(&bytes).map_err(|error| {
            let before = bytes.iter().take(error.valid_up_to());
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            let message = "is not text; expected UTF-8".to_owned();
            ConfigErrors::one(&name, Some(line), message)
        })?;
        Self::parse(&name, text)
    }

    /// Checks the text of a file that errors call `file_name`.
    pub fn parse(file_name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let table = DeTable::parse(text).map_err(|error| broken(file_name, text, &error))?;
        let table = table.get_ref();
        let kind = Kind::of(table);
        let doc = Document::new(file_name, text, kind.unwrap_or(Kind::Gateway).name());
        let config = read(&Section::root(&doc, table), kind);
        let places = Places::of(table, |at| doc.line(at));
        let errors = doc.into_errors();
        match config {
            Some(config) if errors.is_empty() => Ok(Self { places, ..config }),
            _ => {
                if errors.is_empty() {
                    // Every refusal notes why; should one not, the file is refused all the same.
                    let message = "is refused for no known reason".to_owned();
                    return Err(ConfigErrors::one(file_name, None, message));
                }
                Err(ConfigErrors::new(errors))
            }
        }
    }
}

/// Broken TOML: nothing behind the break can be trusted, so it is the only error.
fn broken(file_name: &str, text: &str, error: &toml::de::Error) -> ConfigErrors {
    let doc = Document::new(file_name, text, Kind::Gateway.name());
    let span = error.span().unwrap_or_default();
    let line = doc.line(span.start);
    let mut message = format!("not valid TOML: {}", error.message());
    if !span.is_empty() {
        message.push_str(&format!(" at `{}`", doc.excerpt(span)));
    }
    ConfigErrors::one(file_name, Some(line), message)
}

fn read(root: &Section<'_>, kind: Option<Kind>) -> Option<Config> {
    let said = root.choice("role", Kind::from_name);
    let ports = common::ports(root);
    let uses_pci = ports
        .as_ref()
        .is_some_and(|ports| ports.inside.device.is_pci() || ports.outside.device.is_pci());
    let eal = eal::read(root, uses_pci);
    let worker = common::worker(root);
    let memory = common::memory(root, ports.as_ref(), worker.as_ref());
    let table = common::table(root, worker.as_ref());
    let timeouts = common::timeouts(root);
    let tag = common::tag(root, kind);
    let tunnel = tunnel::read(root);
    let health = health::read(root);
    let control = common::control(root);
    let log = common::log(root);
    let role = kind.and_then(|kind| role(root, kind, table.as_ref(), tunnel.as_ref()));
    said?;
    Some(Config {
        places: Places::default(),
        eal: eal?,
        ports: ports?,
        worker: worker?,
        memory: memory?,
        table: table?,
        timeouts: timeouts?,
        tag: tag?,
        tunnel: tunnel?.0,
        health: health?,
        control: control?,
        log: log?,
        role: role?,
    })
}

/// Reads the role's section; notes the sections of others.
fn role(
    root: &Section<'_>,
    kind: Kind,
    table: Option<&Table>,
    tunnel: Option<&(Tunnel, usize)>,
) -> Option<Role> {
    let role = kind.name();
    for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
        if let Some(at) = root.position(other.name()) {
            let message = format!("is the section of another role; expected [{role}] alone");
            root.error(at, other.name(), message);
        }
    }
    if root.position(role).is_none() {
        let message = format!("missing; expected a section [{role}], as role = {role:?} requires");
        root.error(root.at(), role, message);
        return None;
    }
    match kind {
        Kind::Gateway => gateway::read(root, tunnel).map(Role::Gateway),
        Kind::Switch => switch::read(root).map(Role::Switch),
        Kind::Replica => replica::read(root, table).map(Role::Replica),
    }
}
