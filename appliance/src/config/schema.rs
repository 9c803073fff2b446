//! All keys of a configuration file, with their types, bounds and defaults.
//!
//! Each key is declared by its section (`section.rs`). Defaults are stated only
//! there, as the TOML that an operator would write, and are read by the same code as the values of
//! a file. Error messages and the tables of docs/configuration.md follow from this; a test compares
//! the latter.

use pipeline::wire::tunnel::Format;

use super::common::{
    ControlKeys, LinksKeys, LogKeys, MemoryKeys, PortKeys, TableKeys, TagKeys, TimeoutsKeys,
    WorkerKeys,
};
use super::eal::EalKeys;
use super::gateway::{GatewayKeys, GatewayServiceKeys, HandicapKeys};
use super::health::HealthKeys;
use super::replica::{ReplicaKeys, ReplicaServiceKeys, WebServerKeys};
use super::share::ShareKeys;
use super::switch::{
    DeliveryKeys, OriginServerKeys, SwitchKeys, SwitchReplicaKeys, SwitchServiceKeys,
};
use super::tunnel::{TunnelKeys, TunnelPeerKeys};

/// The type and bounds of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// An integer within inclusive bounds.
    Integer(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// A duration within [`super::value::DURATIONS`].
    Duration,
    /// Sections in double brackets: the least number, and the most if it is bounded.
    Sections(usize, Option<usize>),
    /// A value described in words and read by a function of its own.
    Words(&'static str),
}

/// The value that is used if a key is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Nothing: the key is required.
    Required,
    /// This TOML value, with `<role>` replaced by the name of the role.
    Value(&'static str),
    /// A value derived from others, described in words.
    Derived(&'static str),
}

/// One key of a configuration file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// The dotted path without list indices, such as `gateway.service.ports`.
    pub path: &'static str,
    /// The type and bounds.
    pub expect: Expect,
    /// The value that is used if the key is left out.
    pub fallback: Fallback,
}

impl Key {
    /// Returns the type and bounds in words, as used by error messages and the documentation.
    pub fn expected(&self) -> String {
        match self.expect {
            Expect::Integer(min, max) => format!("an integer from {min} to {max}"),
            Expect::Boolean => "true or false".to_owned(),
            Expect::OneOf(names) => {
                let quoted: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                match quoted.as_slice() {
                    [first, second] => format!("{first} or {second}"),
                    _ => format!("one of {}", quoted.join(", ")),
                }
            }
            Expect::Duration => r#"a number with a unit, such as "30s", "5m" or "2h4m""#.to_owned(),
            Expect::Sections(min, max) => {
                let path = self.path;
                match max {
                    Some(max) => format!("{min} to {max} [[{path}]] sections"),
                    None => format!("at least {min} [[{path}]] section"),
                }
            }
            Expect::Words(words) => words.to_owned(),
        }
    }
}

/// Returns the key at `path`, which has no list indices.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// Returns the names of the keys and sections within the section `path`; the empty path is the
/// file. A name may occur more than once.
pub(super) fn names_in(path: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().filter_map(move |key| {
        let rest = match path {
            "" => key.path,
            _ => key.path.strip_prefix(path)?.strip_prefix('.')?,
        };
        rest.split('.').next()
    })
}

/// Creates a row.
pub(super) const fn key(path: &'static str, expect: Expect, fallback: Fallback) -> Key {
    Key { path, expect, fallback }
}

pub(super) const ABSOLUTE: Expect = Expect::Words("an absolute path");
pub(super) const ADDRESSES: Expect = Expect::Words("a list of unicast addresses, each once");
pub(super) const ADDRESS: Expect = Expect::Words(ONE_ADDRESS);
pub(super) const CHECK: Expect = Expect::Words(
    r#"what to probe, such as "tcp://198.51.100.10:80" or "http://198.51.100.10:8080/health""#,
);
pub(super) const DEVICE: Expect = Expect::Words(
    r#"a PCI address such as "0000:03:00.0", or a virtual device such as "net_tap0" or "net_af_packet0,iface=eth0""#,
);
pub(super) const FORMAT: Expect = Expect::OneOf(&Format::NAMES);
pub(super) const HASH_KEY: Expect = Expect::Words("32 hexadecimal digits");
pub(super) const LABEL: Expect =
    Expect::Words("1 to 64 letters, digits or characters of . _ : / -");
pub(super) const MAC: Expect =
    Expect::Words(r#"a unicast MAC address such as "02:00:00:00:00:01""#);
pub(super) const NO_CHECK: Fallback = Fallback::Derived("no check");
pub(super) const PEER: Expect = Expect::Words(ONE_PEER);
pub(super) const PORTS: Expect = Expect::Words("a list of at least one TCP port, each once");
pub(super) const PREFIXES: Expect =
    Expect::Words(r#"a list of at least one address or prefix, each once, or of "any" alone"#);
pub(super) const REPLICA_PREFIXES: Expect = Expect::Words(
    r#"a list of at least one address or prefix of the replicas, each once, or of "any" alone, with which any host can win"#,
);
pub(super) const SERVICE_NAME: Fallback =
    Fallback::Derived("the service's `address`, with its first port when services share it");
/// An entry of [`PREFIXES`], in words.
pub(super) const ONE_PREFIX: &str = r#"an address, a prefix such as "198.51.100.0/24", or "any""#;
/// A key or list entry for the addresses of known hosts, in words.
pub(super) const ONE_PEER: &str = r#"a unicast address or a prefix such as "198.51.100.0/24""#;
/// Where a store is, in words.
pub(super) const STORE: &str =
    r#"a host and port such as "192.0.2.5:6379", or the absolute path of a Unix socket"#;
/// A key or list entry for one address, in words.
pub(super) const ONE_ADDRESS: &str = r#"a unicast address such as "203.0.113.10""#;

const ROLE: &[Key] =
    &[key("role", Expect::OneOf(&["gateway", "switch", "replica"]), Fallback::Required)];

/// The rows of all sections, in the order of the documentation.
const SECTIONS: &[&[Key]] = &[
    ROLE,
    EalKeys::ROWS,
    LinksKeys::ROWS,
    PortKeys::ROWS,
    PortKeys::OTHER_ROWS,
    WorkerKeys::ROWS,
    MemoryKeys::ROWS,
    TableKeys::ROWS,
    TimeoutsKeys::ROWS,
    TagKeys::ROWS,
    TunnelKeys::ROWS,
    TunnelPeerKeys::ROWS,
    HealthKeys::ROWS,
    ControlKeys::ROWS,
    LogKeys::ROWS,
    GatewayKeys::ROWS,
    GatewayServiceKeys::ROWS,
    HandicapKeys::ROWS,
    ShareKeys::ROWS,
    SwitchKeys::ROWS,
    SwitchServiceKeys::ROWS,
    SwitchReplicaKeys::ROWS,
    DeliveryKeys::ROWS,
    OriginServerKeys::ROWS,
    ReplicaKeys::ROWS,
    ReplicaServiceKeys::ROWS,
    WebServerKeys::ROWS,
];

/// All keys, in the order of the documentation.
pub static KEYS: &[Key] = &joined::<{ count(SECTIONS) }>(SECTIONS);

const fn count(sections: &[&[Key]]) -> usize {
    let (mut sum, mut i) = (0, 0);
    while i < sections.len() {
        sum += sections[i].len();
        i += 1;
    }
    sum
}

/// Returns the rows of all sections as one list of `N`.
const fn joined<const N: usize>(sections: &[&[Key]]) -> [Key; N] {
    let mut keys = [ROLE[0]; N];
    let (mut n, mut i) = (0, 0);
    while i < sections.len() {
        let mut row = 0;
        while row < sections[i].len() {
            keys[n] = sections[i][row];
            n += 1;
            row += 1;
        }
        i += 1;
    }
    keys
}
