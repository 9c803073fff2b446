//! Reload: the process reads its configuration file again, and goes on with what has changed.
//!
//! ```text
//! file -> checked whole -> compared -> roles of the changed configuration -> a slot per worker
//!         (mistakes: refused)  (needs a restart: refused)                    (between two bursts)
//! ```
//!
//! [`Reloading::check`] does all that can fail, and changes nothing. The supervisor then takes over
//! what it knows of members, checks and memory, and [`Workers`] hands the successors of the roles to
//! the workers; each takes its own within a burst and keeps its connections
//! ([`Role::reload`](pipeline::role::Role::reload)).

mod key_changes;
pub mod log;
mod workers;

use std::time::Instant;

use pipeline::wire::family::Version;

use super::keys::Keys;
use super::share;
use crate::config::changes::{Change, changes};
use crate::config::{self, Config, Role, Source, Table};
use crate::roles::numbers::Numbers;
use crate::roles::{self, Carried, Environment};

pub use workers::{Handover, Prepared, Workers};

/// Connections for which a worker's successor has room.
const CONNECTIONS: u32 = 16;

/// Stores the numbers before connections refer to them.
pub type Persist = Box<dyn FnMut(&Numbers) -> std::io::Result<()>>;

/// What a reload needs to know of the running process.
pub struct Reloading {
    /// The file as it is in force.
    pub(super) source: Source,
    /// What it says.
    pub(super) config: Config,
    /// What the roles need besides.
    pub(super) environment: Environment,
    /// What is shared through a store.
    pub(super) sharing: Option<share::Settings>,
    /// The workers.
    pub(super) workers: Box<dyn Workers>,
    /// Whether there is a table for each family.
    has_table: [bool; 2],
    /// Stores the numbers.
    pub(super) persist: Persist,
    /// When the workers were given what they have not all taken yet.
    pub(super) given: Option<Instant>,
}

/// A change that can be made.
#[derive(Debug)]
pub(super) struct Plan {
    /// The file.
    pub source: Source,
    /// What it says.
    pub config: Config,
    /// The keys of its key file.
    pub keys: Keys,
    /// What it shares.
    pub sharing: Option<share::Settings>,
    /// The differences, one line each; empty: there is nothing to do.
    pub lines: Vec<String>,
    /// Whether the workers need other roles.
    pub changes_roles: bool,
}

/// Why a change is not made. Nothing of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The file, or one that it names, has mistakes: one per line.
    Invalid(String),
    /// What it says cannot be had without a restart: the reasons, one per line.
    Restart(Vec<String>),
}

impl Reloading {
    /// Returns the state of a process that has just started.
    pub fn new(
        (source, config): (Source, Config),
        environment: Environment,
        sharing: Option<share::Settings>,
        workers: Box<dyn Workers>,
    ) -> Self {
        Self {
            has_table: families(&config),
            source,
            config,
            environment,
            sharing,
            workers,
            persist: Box::new(|_| Ok(())),
            given: None,
        }
    }

    /// Sets what stores the numbers of services and servers: called before each reload takes effect. If
    /// it fails the reload is refused.
    pub fn with_persist(self, persist: Persist) -> Self {
        Self { persist, ..self }
    }

    /// Reads the file again and checks all of it. `carried` is what the roles have now.
    pub(super) fn check(&self, carried: &Carried) -> Result<Plan, Refusal> {
        let invalid = |error: String| Refusal::Invalid(error);
        let source = self.source.read_again().map_err(|errors| invalid(errors.to_string()))?;
        let config = source.parse().map_err(|errors| invalid(errors.to_string()))?;
        let keys = roles::load_keys(&config).map_err(|error| invalid(error.to_string()))?;
        let differences = changes(&self.source, &source);
        let mut restart: Vec<_> = differences
            .iter()
            .filter(|change| change.needs_restart)
            .map(Change::to_string)
            .collect();
        restart.extend(self.without_table(&config));
        let numbers = carried.numbers_for(&config).unwrap_or_else(|conflicts| {
            restart.extend(conflicts.iter().map(ToString::to_string));
            Numbers::default()
        });
        if !restart.is_empty() {
            return Err(Refusal::Restart(restart));
        }
        let sharing = roles::sharing(&config, &numbers).map_err(|e| invalid(e.to_string()))?;
        let mut lines: Vec<_> = differences.iter().map(Change::to_string).collect();
        lines.extend(key_changes::lines(&self.environment.keys, &keys));
        let password = |settings: &Option<share::Settings>| {
            settings.as_ref().and_then(|settings| settings.password.clone())
        };
        if password(&self.sharing) != password(&sharing) {
            lines.push("changed the password of gateway.share".to_owned());
        }
        let (log, places) = (self.config.log.clone(), self.config.places.clone());
        let changes_roles = Config { log, places, ..config.clone() } != self.config;
        if changes_roles && differences.is_empty() {
            lines.push("changed the order of sections".to_owned());
        }
        Ok(Plan { source, config, keys, sharing, lines, changes_roles })
    }

    /// Returns the families that the file has services of for the first time: their tables have no
    /// memory.
    fn without_table(&self, config: &Config) -> Option<String> {
        let new = families(config);
        let family = if new[0] && !self.has_table[0] {
            "IPv4"
        } else if new[1] && !self.has_table[1] {
            "IPv6"
        } else {
            return None;
        };
        Some(format!(
            "the first {family} service, as the process was started without a table for {family}"
        ))
    }

    /// Returns the configuration that successors of the roles are built from: their tables are not
    /// used, so they are small. Not the smallest, which is a family's without services.
    pub(super) fn of_successors(config: &Config, workers: usize) -> Config {
        let connections = CONNECTIONS * workers as u32;
        let table = Table {
            max_connections: connections,
            max_connections_v6: connections,
            ..config.table.clone()
        };
        Config { table, ..config.clone() }
    }

    /// Returns the line by which the file disables a replica or server of a switch.
    pub(super) fn disabled_by(&self, member: &str) -> Option<usize> {
        let Role::Switch(switch) = &self.config.role else { return None };
        for (number, service) in switch.services.iter().enumerate() {
            let Some(name) =
                member.strip_prefix(&service.name).and_then(|rest| rest.strip_prefix('/'))
            else {
                continue;
            };
            let replica = service.replicas.iter().position(|own| own.name == name && !own.enabled);
            let server = service.servers.iter().position(|own| own.name == name && !own.enabled);
            let found = [("replica", replica), ("server", server)].into_iter();
            let mut found = found.filter_map(|(list, own)| Some((list, own?)));
            if let Some((list, own)) = found.next() {
                let path = format!("switch.service[{number}].{list}[{own}].enabled");
                return self.source.line_of(&path);
            }
        }
        None
    }
}

/// Returns whether a configuration has services of each family, IPv4 and IPv6.
fn families(config: &Config) -> [bool; 2] {
    let of = |addresses: Vec<std::net::IpAddr>| {
        [Version::V4, Version::V6]
            .map(|version| addresses.iter().any(|address| Version::of(*address) == version))
    };
    match &config.role {
        Role::Gateway(own) => [Version::V4, Version::V6]
            .map(|version| own.services.iter().any(|service| service.address.is_of(version))),
        Role::Switch(own) => of(own.services.iter().map(|service| service.address).collect()),
        Role::Replica(own) => of(own.services.iter().map(|service| service.address).collect()),
    }
}

/// Returns whether a configuration drains its replica from the start.
pub(super) fn starts_drained(config: &Config) -> Option<bool> {
    match &config.role {
        config::Role::Replica(own) => Some(own.drained),
        config::Role::Gateway(_) | config::Role::Switch(_) => None,
    }
}

#[cfg(test)]
pub(super) mod testing;
