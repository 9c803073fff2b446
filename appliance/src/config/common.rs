//! The sections that all roles have.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Kind;
use super::device::{Device, device};
use super::eal::Eal;
use super::reader::{Found, Section};
use super::section::section;
use super::sizing;
use super::value::{self, Parsed};

section! {
    /// The port on one side.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Port from PortKeys in "port.inside" and "port.outside" {
        /// The Ethernet device.
        device: Device = DEVICE, Required, by |section, name| section.found(name, device);
        /// Receive descriptors per queue; a worker has one queue on each port.
        rx_descriptors: u16 = Integer(64, 32768), Value("1024");
        /// Transmit descriptors per queue.
        tx_descriptors: u16 = Integer(64, 32768), Value("1024");
    }
}

section! {
    /// What both ports have in common.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Links from LinksKeys in "port" {
        /// Whether a port is taken down while the other has no link.
        propagate_link: bool = Boolean, Value("false");
    }
}

/// The ports on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// What both have in common.
    pub links: Links,
    /// The side of the clients, origin servers or web servers.
    pub inside: Port,
    /// The side of the WAN.
    pub outside: Port,
}

/// The behaviour of a worker when there is no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Sleeps for a short time after some polls without packets.
    Adaptive,
    /// Polls without a pause, on CPUs that nothing else runs on.
    Busy,
}

section! {
    /// The workers, which are the forwarding threads.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Worker from WorkerKeys in "worker" {
        /// The CPUs' numbers, one worker on each.
        cores: Vec<u16> = Words("a list of 1 to 64 CPU numbers"), Value("[0]"), by cores;
        /// What a worker does when there is no packet.
        poll: Poll = OneOf(&["adaptive", "busy"]), Value(r#""adaptive""#), by poll;
        /// The most packets received from a port at a time.
        burst: u16 = Integer(4, 64), Value("32");
        /// The time after which a worker that does not come round ends the process; zero: never.
        watchdog: Duration = Words(
            r#"a number with a unit of at least "100ms", such as "1s", or "0" for no watchdog"#
        ), Value(r#""1s""#), by |section, name| section.found(name, watchdog);
    }
}

section! {
    /// The packet buffers.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Memory from MemoryKeys in "memory" {
        /// The number of packet buffers of the process.
        mbufs: Option<u32> => u32 =
            Integer(512, 16 << 20), Derived("`16384`, or more if the workers need it");
        /// The largest frame that is stored in a single buffer, in bytes; larger ones are chained.
        max_frame: u16 = Integer(1518, 9728), Value("2048");
    }
}

section! {
    /// The connection tables.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Table from TableKeys in "table" {
        /// The most IPv4 connections of the process, divided among the workers.
        max_connections: u32 = Integer(1, 64 << 20), Value("65536");
        /// The most IPv6 connections of the process, divided among the workers.
        max_connections_v6: Option<u32> => u32 =
            Integer(1, 64 << 20), Derived("the value of `max_connections`");
        /// Whether the tables outlive the process, so that the next one goes on with its connections.
        keep: bool = Boolean, Value("true");
        /// The directory of tables that outlive the process, on a tmpfs.
        directory: Option<PathBuf> => PathBuf =
            ABSOLUTE, Derived("`/dev/shm/`, the value of `eal.file_prefix`, and `.tables`");
    }
}

section! {
    /// The lifetimes of table entries.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Timeouts from TimeoutsKeys in "timeouts" {
        /// Lifetime of a race without a valid SYN/ACK.
        racing: Duration = Duration, Value(r#""40s""#);
        /// Lifetime of an idle connection.
        established: Duration = Duration, Value(r#""2h4m""#);
        /// Lifetime of a connection that one side has ended, or both.
        closing: Duration = Duration, Value(r#""4m""#);
        /// Lifetime of a connection that the origin won, during which late responders are reset.
        race_window: Duration = Duration, Value(r#""5s""#);
        /// Time since the last packet of the client after which a SYN with a new sequence number opens a fresh race.
        reuse_after: Duration = Duration, Value(r#""5s""#);
        /// Longest time for which SYNs to a destination that drops tagged SYNs are left untagged.
        tag_backoff: Duration = Duration, Value(r#""10m""#);
    }
}

section! {
    /// The TCP option that tags a SYN, the same at gateway, switch and replica.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Tag from TagKeys in "tag" {
        /// The TCP option kind.
        kind: u8 = Words(
            "an integer from 6 to 255 other than 8, 19, 29, 30 and 34, which other TCP options have"
        ), Value("253"), by |section, name| section.found(name, value::option_kind);
        /// The experiment identifier of RFC 6994, as the 16-bit number in network byte order.
        exid: u16 = Integer(0, 0xffff), Value("0x4E52");
        /// The file with the keys that tags are signed and verified with.
        keys: Option<PathBuf> = ABSOLUTE, Derived("no keys");
        /// Whether a tag without a valid signature gets no copies. Requires `keys`; never set at a
        /// gateway.
        require_signature: bool = Boolean, Value("false");
    }
}

section! {
    /// The control socket of the process.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Control from ControlKeys in "control" {
        /// The path of the Unix socket.
        socket: PathBuf = Words("an absolute path of at most 107 bytes"),
            Value(r#""/run/firstack/<role>.sock""#), by |section, name| section.found(name, socket);
    }
}

section! {
    /// Logging.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Log from LogKeys in "log" {
        /// The least severe level that is logged.
        level: tracing::Level = OneOf(&["error", "warn", "info", "debug", "trace"]),
            Value(r#""info""#), by |section, name| section.choice(name, |name| name.parse().ok());
    }
}

/// Reads `[port.inside]` and `[port.outside]`.
pub(super) fn ports(root: &Section<'_>) -> Option<Ports> {
    let section = root.section("port");
    let links = LinksKeys::read(&section).build();
    let [inside, outside] =
        ["inside", "outside"].map(|side| PortKeys::read(&section.section(side)));
    let at = outside.device.as_ref().map(|device| device.at);
    let (inside, outside, at) = (inside.build()?, outside.build()?, at?);
    if let Some(what) = inside.device.clash(&outside.device) {
        let message = format!("{what} is port.inside's; expected another");
        section.error(at, "outside.device", message);
        return None;
    }
    Some(Ports { links: links?, inside, outside })
}

/// Reads `[worker]`.
pub(super) fn worker(root: &Section<'_>) -> Option<Worker> {
    let section = root.section("worker");
    let keys = WorkerKeys::read(&section);
    // Workers that sleep when there is nothing to do can share a CPU.
    let may_share = keys.poll.as_ref().is_some_and(|poll| poll.value == Poll::Adaptive);
    if !may_share && !section.all_differ("cores", &keys.cores.as_ref()?.value) {
        return None;
    }
    keys.build()
}

fn poll(section: &Section<'_>, name: &str) -> Option<Found<Poll>> {
    section.choice(name, |name| match name {
        "adaptive" => Some(Poll::Adaptive),
        "busy" => Some(Poll::Busy),
        _ => None,
    })
}

/// Parses the watchdog's time. Shorter ones would end good processes of busy machines.
fn watchdog(value: &DeValue<'_>) -> Parsed<Duration> {
    match value::text(value)? {
        "0" => Ok(Duration::ZERO),
        _ => match value::duration(value)? {
            time if time < Duration::from_millis(100) => Err("is too short".to_owned()),
            time => Ok(time),
        },
    }
}

fn cores(section: &Section<'_>, name: &str) -> Option<Found<Vec<u16>>> {
    section.some(name, 64, "a CPU number from 0 to 1023", |value| {
        let number = value::integer_in(value, 0, 1023)?;
        u16::try_from(number).map_err(|_| "is out of range".to_owned())
    })
}

/// Reads `[memory]`.
pub(super) fn memory(
    root: &Section<'_>,
    ports: Option<&Ports>,
    worker: Option<&Worker>,
) -> Option<Memory> {
    let section = root.section("memory");
    let keys = MemoryKeys::read(&section);
    let given = keys.mbufs.as_ref()?.value;
    let workers = worker.map(|worker| worker.cores.len());
    if let (Some(mbufs), Some(ports), Some(workers)) = (given, ports, workers) {
        check_rings(&section, (mbufs, keys.mbufs.as_ref()?.at), ports, workers);
    }
    // Without ports or workers the configuration is refused anyway.
    let usual = || ports.zip(workers).map_or(0, |(ports, workers)| sizing::usual(ports, workers));
    let mbufs = given.unwrap_or_else(usual);
    keys.build(mbufs)
}

/// With fewer buffers than the devices hold permanently, the ports would stall.
fn check_rings(section: &Section<'_>, (mbufs, at): (u32, usize), ports: &Ports, workers: usize) {
    let least = sizing::least(ports, workers);
    if (mbufs as usize) < least {
        let message = format!(
            "{mbufs} is too few for what the devices' queues and {workers} worker(s) hold; \
             expected at least {least}, or no key"
        );
        section.error(at, "mbufs", message);
    }
}

/// Reads `[table]`.
pub(super) fn table(
    root: &Section<'_>,
    worker: Option<&Worker>,
    eal: Option<&Eal>,
) -> Option<Table> {
    let section = root.section("table");
    let keys = TableKeys::read(&section);
    let workers = worker.map_or(1, |worker| worker.cores.len());
    let check = |name, connections: u32, at| {
        if (connections as usize) < workers {
            let message = format!(
                "{connections} cannot be divided among {workers} workers; expected at least \
                 {workers}"
            );
            section.error(at, name, message);
        }
    };
    if let Some(v4) = &keys.max_connections {
        check("max_connections", v4.value, v4.at);
    }
    if let Some(Found { value: Some(v6), at, .. }) = keys.max_connections_v6 {
        check("max_connections_v6", v6, at);
    }
    let v4 = keys.max_connections.as_ref()?.value;
    let v6 = keys.max_connections_v6.as_ref()?.value.unwrap_or(v4);
    // The prefix differs between the processes of a host, in all network namespaces. If it has a
    // mistake, the configuration is refused anyway.
    let prefix = eal.map_or("", |eal| eal.file_prefix.as_str());
    let usual = || PathBuf::from(format!("/dev/shm/{prefix}.tables"));
    let directory = keys.directory.as_ref()?.value.clone().unwrap_or_else(usual);
    keys.build(v6, directory)
}

/// Reads `[timeouts]`.
pub(super) fn timeouts(root: &Section<'_>) -> Option<Timeouts> {
    TimeoutsKeys::read(&root.section("timeouts")).build()
}

/// Reads `[tag]` of a role.
pub(super) fn tag(root: &Section<'_>, role: Option<Kind>) -> Option<Tag> {
    let section = root.section("tag");
    let keys = TagKeys::read(&section);
    if let Some(required) = keys.require_signature.as_ref().filter(|required| required.value) {
        // Keys that are given but invalid are noted already.
        let lacks_keys = keys.keys.as_ref().is_some_and(|keys| keys.value.is_none());
        let message = match role {
            Some(Kind::Gateway) => Some(
                "true is for a switch or a replica, which check signatures; expected false at a \
                 gateway, which makes them as soon as it has tag.keys",
            ),
            _ => lacks_keys.then_some(
                "true refuses every tag without keys to check it with; expected false, or \
                 tag.keys as well",
            ),
        };
        if let Some(message) = message {
            section.error(required.at, "require_signature", message.to_owned());
        }
    }
    keys.build()
}

/// Reads `[control]`.
pub(super) fn control(root: &Section<'_>) -> Option<Control> {
    ControlKeys::read(&root.section("control")).build()
}

/// `sockaddr_un` holds 107 bytes and a NUL.
fn socket(value: &DeValue<'_>) -> Parsed<PathBuf> {
    match value::text(value)? {
        path if path.len() > 107 => Err(format!("has {} bytes", path.len())),
        _ => value::file(value),
    }
}

/// Reads `[log]`.
pub(super) fn log(root: &Section<'_>) -> Option<Log> {
    LogKeys::read(&root.section("log")).build()
}

/// Notes an address whose family is not that of `other`.
pub(super) fn same_family(
    section: &Section<'_>,
    (at, name): (usize, &str),
    address: IpAddr,
    (role, other): (&str, IpAddr),
) {
    if address.is_ipv4() != other.is_ipv4() {
        let message = format!(
            "{address} is {}, but {role} {other} is {}; expected both of one family",
            value::family(address),
            value::family(other)
        );
        section.error(at, name, message);
    }
}
