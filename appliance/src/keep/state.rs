//! What a process leaves to the next one besides its tables: a small file of JSON, replaced as a whole
//! whenever something in it changes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::wire::ethernet::Mac;
use serde::{Deserialize, Serialize};

use crate::config::{Config, Role};
use crate::control::operator::Operator;
use crate::datapath::clock::Reading;

/// The longest file that is read: far longer than the largest configuration gives.
const LONGEST: u64 = 64 << 20;

/// Whose tables they are: those of another role, configuration or start of the machine mean nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Owner {
    /// The role.
    pub role: String,
    /// The configuration letter of a gateway.
    pub configuration: Option<String>,
    /// The identifier of the machine's start, after which its clock counts anew.
    pub boot: String,
}

impl Owner {
    /// Returns the owner that this configuration makes of this process.
    ///
    /// # Errors
    /// If the kernel does not tell the identifier of its start.
    pub fn of(config: &Config) -> io::Result<Self> {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let configuration = match &config.role {
            Role::Gateway(gateway) => Some(gateway.configuration.to_string()),
            Role::Switch(_) | Role::Replica(_) => None,
        };
        let role = config.role.name().to_owned();
        Ok(Self { role, configuration, boot: boot.trim().to_owned() })
    }

    /// Returns why this process does not take over what another owner has left.
    pub fn refuses(&self, other: &Self) -> Option<String> {
        let shown = |owner: &Self| match &owner.configuration {
            Some(letter) => format!("{} in configuration {letter}", owner.role),
            None => owner.role.clone(),
        };
        if (&self.role, &self.configuration) != (&other.role, &other.configuration) {
            return Some(format!("it is of a {}, and this is a {}", shown(other), shown(self)));
        }
        (self.boot != other.boot).then(|| "the machine has been started since".to_owned())
    }
}

/// The secrets that the next process goes on with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Secrets {
    /// The word of the RSS key, by which clients are divided among workers; 0 if it is not known.
    pub rss_word: u32,
    /// The key of the tables' hash.
    pub hash_key: (u64, u64),
}

/// What a process leaves to the next one besides its tables. A field that one version of firstack
/// does not know is passed over, and one that is missing is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// Whose it is.
    pub owner: Owner,
    /// The secrets.
    pub secrets: Secrets,
    /// The workers' time in nanoseconds, and the monotonic time at that moment.
    pub clock: (u64, u64),
    /// What operators have set.
    pub operator: Operator,
    /// The MAC addresses of hosts on the inside.
    pub neighbours: Vec<(IpAddr, Mac)>,
    /// The numbers of services and servers, which entries refer to.
    pub services: serde_json::Value,
}

impl State {
    /// Returns the workers' clock.
    pub fn reading(&self) -> Reading {
        let (ticks, monotonic) = self.clock;
        Reading { ticks: Ticks(ticks), monotonic: Duration::from_nanos(monotonic) }
    }

    /// Sets the workers' clock.
    pub fn set_reading(&mut self, reading: Reading) {
        self.clock = (reading.ticks.0, Ticks::from(reading.monotonic).0);
    }

    /// Returns whether all but the time is the same.
    pub fn is_same(&self, other: &Self) -> bool {
        let timeless = |state: &Self| Self { clock: (0, 0), ..state.clone() };
        timeless(self) == timeless(other)
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut text = String::new();
        File::open(path)?.take(LONGEST).read_to_string(&mut text)?;
        serde_json::from_str(&text).map_err(io::Error::from)
    }

    /// Replaces a file: whoever reads it finds either the old one or the new one, whole.
    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(serde_json::to_string(self)?.as_bytes())?;
        drop(file);
        std::fs::rename(&new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        let owner = Owner {
            role: "gateway".to_owned(),
            configuration: Some("B".to_owned()),
            boot: "7".to_owned(),
        };
        State {
            owner,
            secrets: Secrets { rss_word: 9, hash_key: (u64::MAX, 1) },
            clock: (u64::MAX - 1, 5),
            neighbours: vec![("2001:db8::1".parse().unwrap(), [2, 0, 0, 0, 0, 1])],
            ..State::default()
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_the_file_is_the_users_own() {
        use std::os::unix::fs::MetadataExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.json");
        state().write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap(), state());
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
        let other = State { clock: (1, 1), ..state() };
        assert!(other.is_same(&state()) && !State::default().is_same(&state()));
        other.write(&path).unwrap();
        assert_eq!(State::read(&path).unwrap().clock, (1, 1));
    }

    #[test]
    fn fields_that_are_not_known_or_missing_do_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("1.json");
        let text = r#"{"owner": {"role": "switch", "colour": 1}, "more": [1], "secrets": {}}"#;
        std::fs::write(&path, text).unwrap();
        let read = State::read(&path).unwrap();
        assert_eq!((read.owner.role.as_str(), read.secrets), ("switch", Secrets::default()));
        std::fs::write(&path, &text[..20]).unwrap();
        assert!(State::read(&path).is_err());
    }

    #[test]
    fn only_the_same_role_on_the_same_start_of_the_machine_takes_over() {
        let own = state().owner;
        assert_eq!(own.refuses(&own), None);
        let other = Owner { configuration: Some("A".to_owned()), ..own.clone() };
        let why = own.refuses(&other).unwrap();
        assert_eq!(
            why,
            "it is of a gateway in configuration A, and this is a gateway in configuration B"
        );
        let other = Owner { boot: "8".to_owned(), ..own.clone() };
        assert_eq!(own.refuses(&other).unwrap(), "the machine has been started since");
    }
}
