//! The sections that all roles have.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Kind;
use super::device::{Device, device};
use super::reader::{Found, Section};
use super::sizing;
use super::value::{self, Parsed};

/// The port on one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The Ethernet device.
    pub device: Device,
    /// Receive descriptors per queue; a worker has one queue on each port.
    pub rx_descriptors: u16,
    /// Transmit descriptors per queue.
    pub tx_descriptors: u16,
}

/// The ports on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
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

/// The workers, which are the forwarding threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// The CPUs' numbers, one worker on each.
    pub cores: Vec<u16>,
    /// What a worker does when there is no packet.
    pub poll: Poll,
    /// The most packets received from a port at a time.
    pub burst: u16,
}

/// The packet buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The number of packet buffers of the process.
    pub mbufs: u32,
    /// The largest frame that is stored in a single buffer, in bytes; larger ones are chained.
    pub max_frame: u16,
}

/// The connection tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The most IPv4 connections of the process, divided among the workers.
    pub max_connections: u32,
    /// The most IPv6 connections of the process, divided among the workers.
    pub max_connections_v6: u32,
}

/// The lifetimes of table entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Lifetime of a race without a valid SYN/ACK.
    pub racing: Duration,
    /// Lifetime of an idle connection.
    pub established: Duration,
    /// Lifetime of a connection after both FINs or a RST.
    pub closing: Duration,
    /// Lifetime of a connection that the origin won, during which late responders are reset.
    pub race_window: Duration,
    /// Idle time after which a SYN with a new sequence number starts a new race.
    pub reuse_after: Duration,
    /// Time for which SYNs to a destination that drops tagged SYNs are left untagged.
    pub tag_backoff: Duration,
}

/// The TCP option that tags a SYN, the same at gateway, switch and replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// The TCP option kind.
    pub kind: u8,
    /// The experiment identifier of RFC 6994, as the 16-bit number in network byte order.
    pub exid: u16,
    /// The file with the keys that tags are signed and verified with.
    pub keys: Option<PathBuf>,
    /// Whether a tag without a valid signature gets no copies. Requires `keys`; never set at a
    /// gateway.
    pub require_signature: bool,
}

/// The control socket of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The path of the Unix socket.
    pub socket: PathBuf,
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: tracing::Level,
}

/// Reads `[port.inside]` and `[port.outside]`.
pub(super) fn ports(root: &Section<'_>) -> Option<Ports> {
    let section = root.section("port");
    let (inside, outside) = (section.section("inside"), section.section("outside"));
    let (inside, (outside, at)) = (port(&inside), port(&outside).unzip());
    let (inside, outside, at) = (inside?.0, outside?, at?);
    if let Some(what) = inside.device.clash(&outside.device) {
        let message = format!("{what} is port.inside's; expected another");
        section.error(at, "outside.device", message);
        return None;
    }
    Some(Ports { inside, outside })
}

/// Reads a port. Returns it with the position of its device.
fn port(section: &Section<'_>) -> Option<(Port, usize)> {
    let device = section.found("device", device);
    let rx_descriptors = section.integer("rx_descriptors");
    let tx_descriptors = section.integer("tx_descriptors");
    let Found { value: device, at, .. } = device?;
    let port = Port { device, rx_descriptors: rx_descriptors?, tx_descriptors: tx_descriptors? };
    Some((port, at))
}

/// Reads `[worker]`.
pub(super) fn worker(root: &Section<'_>) -> Option<Worker> {
    let section = root.section("worker");
    let poll = section.choice("poll", |name| match name {
        "adaptive" => Some(Poll::Adaptive),
        "busy" => Some(Poll::Busy),
        _ => None,
    });
    let core = |value: &DeValue<'_>| {
        let number = value::integer_in(value, 0, 1023)?;
        u16::try_from(number).map_err(|_| "is out of range".to_owned())
    };
    let expected = "a CPU number from 0 to 1023";
    // Workers that sleep when there is nothing to do can share a CPU.
    let cores = match poll {
        Some(Poll::Adaptive) => section.some("cores", 64, expected, core),
        _ => section.set("cores", 64, expected, core),
    };
    let burst = section.integer("burst");
    let cores = cores?.into_iter().map(|core| core.value).collect();
    Some(Worker { cores, poll: poll?, burst: burst? })
}

/// Reads `[memory]`.
pub(super) fn memory(
    root: &Section<'_>,
    ports: Option<&Ports>,
    worker: Option<&Worker>,
) -> Option<Memory> {
    let section = root.section("memory");
    let mbufs = section.found_integer::<u32>("mbufs");
    let max_frame = section.integer("max_frame");
    let mbufs = mbufs?;
    if let (Some(ports), Some(worker)) = (ports, worker) {
        check_rings(&section, &mbufs, ports, worker);
    }
    Some(Memory { mbufs: mbufs.value, max_frame: max_frame? })
}

/// With fewer buffers than the devices hold permanently, the ports would stall.
fn check_rings(section: &Section<'_>, mbufs: &Found<u32>, ports: &Ports, worker: &Worker) {
    let workers = worker.cores.len();
    let least = sizing::least(ports, workers);
    if (mbufs.value as usize) < least {
        let message = format!(
            "{} is too few for what the devices' queues and {workers} worker(s) hold; \
             expected at least {least}",
            mbufs.shown()
        );
        section.error(mbufs.at, "mbufs", message);
    }
}

/// Reads `[table]`.
pub(super) fn table(root: &Section<'_>, worker: Option<&Worker>) -> Option<Table> {
    let section = root.section("table");
    let v4 = section.found_integer::<u32>("max_connections");
    let v6 = section.optional_integer::<u32>("max_connections_v6");
    let workers = worker.map_or(1, |worker| worker.cores.len());
    let given = v6.as_ref().and_then(Option::as_ref);
    for (name, connections) in [("max_connections", v4.as_ref()), ("max_connections_v6", given)] {
        if let Some(connections) = connections
            && (connections.value as usize) < workers
        {
            let message = format!(
                "{} cannot be divided among {workers} workers; expected at least {workers}",
                connections.value
            );
            section.error(connections.at, name, message);
        }
    }
    let max_connections = v4?.value;
    let max_connections_v6 = v6?.map_or(max_connections, |v6| v6.value);
    Some(Table { max_connections, max_connections_v6 })
}

/// Reads `[timeouts]`.
pub(super) fn timeouts(root: &Section<'_>) -> Option<Timeouts> {
    let section = root.section("timeouts");
    let [racing, established, closing, race_window, reuse_after, tag_backoff] =
        ["racing", "established", "closing", "race_window", "reuse_after", "tag_backoff"]
            .map(|name| section.get(name, value::duration));
    Some(Timeouts {
        racing: racing?,
        established: established?,
        closing: closing?,
        race_window: race_window?,
        reuse_after: reuse_after?,
        tag_backoff: tag_backoff?,
    })
}

/// Reads `[tag]` of a role.
pub(super) fn tag(root: &Section<'_>, role: Option<Kind>) -> Option<Tag> {
    let section = root.section("tag");
    let kind = section.get("kind", value::option_kind);
    let exid = section.integer("exid");
    let keys = section.optional("keys", value::file);
    let required = section.found("require_signature", value::boolean);
    if let Some(required) = required.as_ref().filter(|required| required.value) {
        // Keys that are given but invalid are noted already.
        let lacks_keys = keys.as_ref().is_some_and(Option::is_none);
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
    Some(Tag {
        kind: kind?,
        exid: exid?,
        keys: keys?.map(|keys| keys.value),
        require_signature: required?.value,
    })
}

/// Reads `[control]`.
pub(super) fn control(root: &Section<'_>) -> Option<Control> {
    let socket = root.section("control").get("socket", socket)?;
    Some(Control { socket })
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
    let level = root.section("log").choice("level", |name| name.parse().ok())?;
    Some(Log { level })
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
