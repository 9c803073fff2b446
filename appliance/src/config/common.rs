//! The sections that every role has.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::Kind;
use super::device::{Device, device};
use super::reader::{Found, Section};
use super::sizing;
use super::value::{self, Parsed};

/// One side of the appliance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The Ethernet device.
    pub device: Device,
    /// Receive descriptors of each queue; a worker has one queue on each port.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue.
    pub tx_descriptors: u16,
}

/// Both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Clients, origin servers or web servers.
    pub inside: Port,
    /// The WAN.
    pub outside: Port,
}

/// What a worker does when no packet waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Sleeps shortly after some polls that found nothing.
    Adaptive,
    /// Polls on: for CPUs that nothing else runs on.
    Busy,
}

/// The forwarding threads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// CPU numbers, one worker on each.
    pub cores: Vec<u16>,
    /// What an idle worker does.
    pub poll: Poll,
    /// Packets taken from a port at a time, at most.
    pub burst: u16,
}

/// Packet buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Packet buffers of the process.
    pub mbufs: u32,
    /// Largest frame kept in one buffer, in bytes; larger ones are chained.
    pub max_frame: u16,
}

/// The translation tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// IPv4 connections of the process, divided among the workers.
    pub max_connections: u32,
    /// IPv6 connections likewise.
    pub max_connections_v6: u32,
}

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A race without a valid acknowledgement.
    pub racing: Duration,
    /// An idle connection.
    pub established: Duration,
    /// A connection after both FINs or a RST.
    pub closing: Duration,
    /// A connection that the origin won, so that losers can be reset.
    pub race_window: Duration,
    /// Idle time after which a SYN with a new sequence number starts a fresh race.
    pub reuse_after: Duration,
    /// Time for which a destination that drops tagged SYNs is left untagged.
    pub tag_backoff: Duration,
}

/// The TCP option that marks a start packet; the same at gateway, switch and replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// TCP option kind.
    pub kind: u8,
    /// Experiment identifier of RFC 6994, in the order of the wire.
    pub exid: u16,
    /// The file with the keys that tags are signed and checked with.
    pub keys: Option<PathBuf>,
    /// Whether a tag without a good signature gets no copies; only with `keys`, never at a
    /// gateway.
    pub require_signature: bool,
}

/// How a running process is asked and told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// What the process says about itself.
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

/// A port and where its device stands.
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
    // Workers that rest when there is nothing to do can share a CPU.
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

/// With fewer buffers than are held for good the ports would come to a stand.
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
        // Keys that are given but bad are noted already.
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

/// 107 bytes and a NUL are what `sockaddr_un` holds.
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
