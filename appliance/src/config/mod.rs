//! The configuration of a process: one TOML file, one role.
//!
//! A file is checked completely before it is used: every key is known, of the right type and within
//! bounds, and the parts are consistent. All mistakes are reported at once, each with its line, its
//! key and what is expected. docs/configuration.md documents the same keys for operators.
//!
//! ```text
//! section                                  the macro that declares a section's keys
//! schema                                   every key: its type, bounds and default
//! document                                 the file's lines, the mistakes noted
//! reader                                   walks the document by the schema
//! value                                    single values: durations, addresses, names
//! common eal device tunnel health          the sections that all roles have
//! interface                                examines the kernel interfaces below virtual devices
//! pages                                    says what small pages cost
//! memory                                   compares what the tables take with what there is
//! present                                  checks that this machine has what the file names
//! pci                                      examines the driver, group and user of a PCI device
//! source                                   the text of a file, to compare the next version with
//! changes                                  the difference between two versions
//! live                                     which keys a reload changes
//! warnings                                 what few operators want, but may
//! gateway switch replica                   the section of one role
//! share                                    the store through which gateways share
//! service clients                          what roles have in common
//! ```

pub mod changes;
mod clients;
mod common;
mod device;
mod document;
mod eal;
mod error;
mod gateway;
mod health;
mod interface;
pub mod live;
mod memory;
mod pages;
mod pci;
mod present;
mod reader;
mod replica;
pub mod schema;
mod section;
mod service;
mod share;
pub mod sizing;
mod source;
mod switch;
mod tunnel;
mod value;
mod warnings;

use std::fmt;
use std::path::Path;

use toml::de::DeTable;

pub use common::{Control, Links, Log, Memory, Poll, Port, Ports, Table, Tag, Timeouts, Worker};
pub use device::{Bus, Device};
pub use eal::Eal;
pub use error::{ConfigError, ConfigErrors};
pub use gateway::{Gateway, GatewayService, Handicap, ServiceAddress};
pub use health::{Check, Health, HttpCheck};
pub use interface::completed;
pub use pipeline::wire::configuration::Configuration;
pub use pipeline::wire::tunnel::Format as TunnelFormat;
pub use present::{
    ARGS_KEY, DEVICE_KEYS, MBUFS_KEY, PREFIX_KEY, Places, SOCKET_KEY, TABLE_KEY, may_interrupt,
};
pub use replica::{Replica, ReplicaService, WebServer};
pub use share::{Share, StoreServer};
pub use source::Source;
pub use switch::{Content, Delivery, OriginServer, Switch, SwitchReplica, SwitchService};
pub use tunnel::{Tunnel, TunnelPeer};
pub(crate) use value::unicast;
pub use value::{DURATIONS, HashKey, MacAddress};

use document::Document;
use reader::Section;

/// A complete, checked configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Settings of DPDK's environment abstraction layer.
    pub eal: Eal,
    /// The ports, inside and outside.
    pub ports: Ports,
    /// The workers.
    pub worker: Worker,
    /// The packet buffers.
    pub memory: Memory,
    /// The connection tables.
    pub table: Table,
    /// The lifetimes of table entries.
    pub timeouts: Timeouts,
    /// The TCP option that tags SYNs.
    pub tag: Tag,
    /// The tunnels that this process sends.
    pub tunnel: Tunnel,
    /// How hosts with a check are probed.
    pub health: Health,
    /// The control socket.
    pub control: Control,
    /// Logging.
    pub log: Log,
    /// The role and its own section.
    pub role: Role,
    /// The positions of keys whose values this machine may not have.
    pub places: Places,
}

/// The role of the process, with its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A gateway, near the clients: tags SYNs and forwards to the winner.
    Gateway(Gateway),
    /// A switch, near the origin servers: copies SYNs to the replicas.
    Switch(Switch),
    /// A replica, near its web servers: accepts the copies.
    Replica(Replica),
}

impl Role {
    /// Returns the role's name, as in the key `role`.
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

/// The kind of role, before its section is read.
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

    /// Returns the role that the file states, or that follows from its only role section.
    fn of(table: &DeTable<'_>) -> Option<Self> {
        let said = table.get("role").and_then(|role| role.get_ref().as_str());
        let said = said.and_then(Self::from_name);
        let mut present = Self::ALL.into_iter().filter(|kind| table.contains_key(kind.name()));
        said.or(present.next().filter(|_| present.next().is_none()))
    }
}

impl Config {
    /// Reads and checks a file. Errors name it `path`, as given.
    ///
    /// # Errors
    /// All mistakes of the file, or why it cannot be read.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        Source::read(path)?.parse()
    }

    /// Checks the text of a file; errors name it `file_name`.
    ///
    /// # Errors
    /// All mistakes of the text.
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
                    // Every refusal notes a reason. If one should not, the file is refused all the
                    // same.
                    let message = "is refused for no known reason".to_owned();
                    return Err(ConfigErrors::one(file_name, None, message));
                }
                Err(ConfigErrors::new(errors))
            }
        }
    }
}

/// Returns the error of broken TOML. Nothing behind the break can be trusted, so it is the only
/// error.
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
    let table = common::table(root, worker.as_ref(), eal.as_ref());
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

/// Reads the role's section, and notes sections of other roles.
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
