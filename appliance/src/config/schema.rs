//! All keys of a configuration file, with their types, bounds and defaults.
//!
//! Defaults are stated only here, as the TOML that an operator would write, and are read by the
//! same code as the values of a file. Error messages and the tables of docs/configuration.md follow
//! from this; a test compares the latter.

use pipeline::wire::configuration::Configuration;
use pipeline::wire::tunnel::Format;

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

const fn key(path: &'static str, expect: Expect, fallback: Fallback) -> Key {
    Key { path, expect, fallback }
}

use Expect::{Boolean, Duration, Integer, OneOf, Sections, Words};
use Fallback::{Derived, Required, Value};

const ABSOLUTE: Expect = Words("an absolute path");
const ADDRESS: Expect = Words(ONE_ADDRESS);
const CHECK: Expect = Words(
    r#"what to probe, such as "tcp://198.51.100.10:80" or "http://198.51.100.10:8080/health""#,
);
const DEVICE: Expect = Words(
    r#"a PCI address such as "0000:03:00.0", or a virtual device such as "net_tap0" or "net_af_packet0,iface=eth0""#,
);
const FORMAT: Expect = OneOf(&Format::NAMES);
const LABEL: Expect = Words("1 to 64 letters, digits or characters of . _ : / -");
const MAC: Expect = Words(r#"a unicast MAC address such as "02:00:00:00:00:01""#);
const NO_CHECK: Fallback = Derived("no check");
const PEER: Expect = Words(ONE_PEER);
const PORTS: Expect = Words("a list of at least one TCP port, each once");
const PREFIXES: Expect =
    Words(r#"a list of at least one address or prefix, each once, or of "any" alone"#);
/// An entry of [`PREFIXES`], in words.
pub(super) const ONE_PREFIX: &str = r#"an address, a prefix such as "198.51.100.0/24", or "any""#;
/// A key or list entry for the addresses of known hosts, in words.
pub(super) const ONE_PEER: &str = r#"a unicast address or a prefix such as "198.51.100.0/24""#;
/// A key or list entry for one address, in words.
pub(super) const ONE_ADDRESS: &str = r#"a unicast address such as "203.0.113.10""#;

/// All keys, in the order of the documentation.
pub static KEYS: &[Key] = &[
    key("role", OneOf(&["gateway", "switch", "replica"]), Required),
    key(
        "eal.file_prefix",
        Words("1 to 64 letters, digits or characters of . _ -, a letter or digit first"),
        Value(r#""firstack-<role>""#),
    ),
    key("eal.args", Words("a list of strings"), Value("[]")),
    key("port.inside.device", DEVICE, Required),
    key("port.inside.rx_descriptors", Integer(64, 32768), Value("1024")),
    key("port.inside.tx_descriptors", Integer(64, 32768), Value("1024")),
    key("port.outside.device", DEVICE, Required),
    key("port.outside.rx_descriptors", Integer(64, 32768), Value("1024")),
    key("port.outside.tx_descriptors", Integer(64, 32768), Value("1024")),
    key("worker.cores", Words("a list of 1 to 64 CPU numbers"), Value("[0]")),
    key("worker.poll", OneOf(&["adaptive", "busy"]), Value(r#""adaptive""#)),
    key("worker.burst", Integer(4, 64), Value("32")),
    key("memory.mbufs", Integer(512, 16 << 20), Value("16384")),
    key("memory.max_frame", Integer(1518, 9728), Value("2048")),
    key("table.max_connections", Integer(1, 64 << 20), Value("65536")),
    key(
        "table.max_connections_v6",
        Integer(1, 64 << 20),
        Derived("the value of `max_connections`"),
    ),
    key("timeouts.racing", Duration, Value(r#""40s""#)),
    key("timeouts.established", Duration, Value(r#""2h4m""#)),
    key("timeouts.closing", Duration, Value(r#""2m""#)),
    key("timeouts.race_window", Duration, Value(r#""5s""#)),
    key("timeouts.reuse_after", Duration, Value(r#""60s""#)),
    key("timeouts.tag_backoff", Duration, Value(r#""10m""#)),
    key(
        "tag.kind",
        Words(
            "an integer from 6 to 255 other than 8, 19, 29, 30 and 34, which other TCP options have",
        ),
        Value("253"),
    ),
    key("tag.exid", Integer(0, 0xffff), Value("0x4E52")),
    key("tag.keys", ABSOLUTE, Derived("no keys")),
    key("tag.require_signature", Boolean, Value("false")),
    key("tunnel.format", FORMAT, Value(r#""ipip""#)),
    key("tunnel.path_mtu", Integer(1280, 9216), Value("1500")),
    key("tunnel.peer", Sections(0, Some(1024)), Derived("no peer")),
    key("tunnel.peer.prefix", PEER, Required),
    key("tunnel.peer.format", FORMAT, Required),
    key("health.interval", Duration, Value(r#""2s""#)),
    key("health.timeout", Duration, Value(r#""1s""#)),
    key("health.rise", Integer(1, 100), Value("2")),
    key("health.fall", Integer(1, 100), Value("3")),
    key(
        "control.socket",
        Words("an absolute path of at most 107 bytes"),
        Value(r#""/run/firstack/<role>.sock""#),
    ),
    key("log.level", OneOf(&["error", "warn", "info", "debug", "trace"]), Value(r#""info""#)),
    key("gateway.configuration", OneOf(&Configuration::NAMES), Value(r#""A""#)),
    key("gateway.service", Sections(1, Some(1024)), Required),
    key("gateway.service.address", Words(ONE_PREFIX), Required),
    key("gateway.service.ports", PORTS, Value("[80, 443]")),
    key("gateway.service.allowed_replicas", PREFIXES, Value(r#"["any"]"#)),
    key("gateway.service.name", LABEL, Derived(SERVICE_NAME)),
    key("switch.max_copies", Integer(1, 64), Value("8")),
    key("switch.copies_per_second", Integer(1, 1_000_000_000), Value("1000")),
    key("switch.copies_burst", Integer(1, 1_000_000_000), Value("2000")),
    key("switch.copies_prefix_v4", Integer(1, 32), Value("24")),
    key("switch.copies_prefix_v6", Integer(1, 128), Value("48")),
    key("switch.allowed_clients", PREFIXES, Value(r#"["any"]"#)),
    key("switch.tunnel_probes", Boolean, Value("true")),
    key("switch.service", Sections(1, Some(1024)), Required),
    key("switch.service.address", ADDRESS, Required),
    key("switch.service.ports", PORTS, Value("[80, 443]")),
    key("switch.service.content", OneOf(&["static", "dynamic"]), Value(r#""static""#)),
    key("switch.service.source", ADDRESS, Derived("the service's `address`")),
    key("switch.service.name", LABEL, Derived(SERVICE_NAME)),
    key("switch.service.replica", Sections(0, Some(64)), Derived("no replica")),
    key("switch.service.replica.name", LABEL, Derived("the replica's `address`")),
    key("switch.service.replica.address", ADDRESS, Required),
    key("switch.service.replica.enabled", Boolean, Value("true")),
    key("switch.service.replica.check", CHECK, NO_CHECK),
    key("switch.service.server", Sections(1, Some(64)), Required),
    key(
        "switch.service.server.name",
        LABEL,
        Derived("the server's `mac` or `address`; `inside` when delivery is \"none\""),
    ),
    key("switch.service.server.delivery", OneOf(&["none", "direct", "tunnel"]), Value(r#""none""#)),
    key(
        "switch.service.server.mac",
        MAC,
        Derived(r#"required when delivery is "direct" and `address` is left out"#),
    ),
    key(
        "switch.service.server.address",
        ADDRESS,
        Derived(r#"required when delivery is "tunnel", or "direct" and `mac` is left out"#),
    ),
    key("switch.service.server.weight", Integer(1, 100), Value("1")),
    key("switch.service.server.enabled", Boolean, Value("true")),
    key("switch.service.server.check", CHECK, NO_CHECK),
    key("replica.name", LABEL, Derived("no name")),
    key(
        "replica.switches",
        Words("a list of at least one unicast address or prefix, each once"),
        Required,
    ),
    key(
        "replica.tunnel_addresses",
        Words("a list of at least one unicast address, each once"),
        Derived("the addresses of all servers"),
    ),
    key("replica.allowed_clients", PREFIXES, Value(r#"["any"]"#)),
    key("replica.busy_connections", Integer(1, 64 << 20), Value("10000")),
    key("replica.busy_syn_rate", Integer(1, 1_000_000_000), Value("10000")),
    key("replica.syn_ack_retransmits", Integer(0, 5), Value("0")),
    key("replica.busy_file", ABSOLUTE, Derived("no such file")),
    key(
        "replica.busy_check",
        Words(r#"what to probe, such as "http://198.51.100.10:8080/busy""#),
        NO_CHECK,
    ),
    key("replica.drained", Boolean, Value("false")),
    key("replica.service", Sections(1, Some(1024)), Required),
    key("replica.service.address", ADDRESS, Required),
    key("replica.service.ports", PORTS, Value("[80, 443]")),
    key("replica.service.name", LABEL, Derived(SERVICE_NAME)),
    key("replica.service.server", Sections(1, Some(64)), Required),
    key("replica.service.server.name", LABEL, Derived("the server's `address`, and `port` if set")),
    key("replica.service.server.address", ADDRESS, Required),
    key("replica.service.server.port", Integer(1, 65535), Derived("the port asked for")),
    key("replica.service.server.mac", MAC, Derived("resolved by ARP or neighbour discovery")),
    key("replica.service.server.weight", Integer(1, 100), Value("1")),
    key("replica.service.server.check", CHECK, NO_CHECK),
    key("replica.service.server.has_vip", Boolean, Value("false")),
];

const SERVICE_NAME: &str = "the service's `address`, with its first port when services share it";
