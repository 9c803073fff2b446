//! The two ports: their setup, the distribution of packets over workers, and their counters.

use arrayvec::ArrayVec;
use pipeline::packet::burst::BURST;
use pipeline::packet::view::Side;
use pipeline::wire::ethernet::Mac;
use pipeline::wire::family::Version;

use super::Error;
use super::links::{Links, Shown};
use super::prepare::Prepared;
use super::steering::{Hashing, PortSteering};
use super::watch::Interface;
use crate::config::{self, Bus, Config};
use crate::control::socket::Answer;
use crate::control::stats::PortStats;
use crate::datapath::rss::RetaMap;
use crate::dpdk::{
    Mbuf, MbufPool, Port, PortConfig, PortReport, RssField, RxQueue, Started, TxQueue,
};

/// The longest frame in bytes that ports are configured to accept, where they support it. A frame
/// longer than a buffer is chained over several.
const JUMBO: u32 = 9728;
/// The most frames that are discarded of a queue at a time: more than a ring has.
const MOST_DISCARDED: usize = 16384;

/// A started port and its queues, before the workers take them.
pub(super) struct Opened {
    pub(super) port: Port,
    pub(super) report: PortReport,
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    pub(super) steering: PortSteering,
    pub(super) interface: Option<Interface>,
    /// What an idle worker waits for, in words: "packets", "a timer", or "nothing" if it polls.
    pub(super) waits_for: &'static str,
}

/// A port whose queues are with the workers.
pub(super) struct Running {
    pub(super) port: Port,
    pub(super) driver: String,
    /// What it uses beyond queues, in words.
    offloads: String,
    /// What an idle worker waits for.
    waits_for: &'static str,
    pub(super) steering: PortSteering,
    /// Its kernel interface, if it has one.
    pub(super) interface: Option<Interface>,
}

impl Running {
    /// Returns whether the link is up: as the driver says, and as the kernel says of the interface below
    /// it. The driver of such an interface knows nothing of it, and goes on reporting its last state when
    /// it is gone.
    pub(super) fn link_up(&self) -> bool {
        self.interface.as_ref().is_none_or(Interface::has_link)
            && self.port.link().is_ok_and(|link| link.up)
    }

    /// Takes the port down, or brings it up: the kernel's interface if there is one.
    pub(super) fn set_link(&self, up: bool) -> Result<(), String> {
        match &self.interface {
            Some(interface) => interface.set_up(up).map_err(|error| error.to_string()),
            None => self.port.set_link(up).map_err(|error| error.to_string()),
        }
    }

    /// Takes a port over whose queues the workers have.
    pub(super) fn new(opened: Opened) -> Self {
        Self {
            port: opened.port,
            offloads: offloads(&opened.report),
            waits_for: opened.waits_for,
            driver: opened.report.driver,
            steering: opened.steering,
            interface: opened.interface,
        }
    }
}

/// The two started ports.
pub(super) struct OpenPorts {
    pub(super) ports: [Opened; 2],
    /// The map from a client to the worker that owns it.
    pub(super) reta: RetaMap,
    /// The word of the RSS key, for the next process.
    pub(super) rss_word: u32,
    /// The MAC addresses of the inside and the outside port.
    pub(super) macs: [Mac; 2],
}

/// Finds, configures and starts both ports, and decides which worker owns which client.
pub(super) fn open_ports(prepared: &mut Prepared<'_>) -> Result<OpenPorts, Error> {
    let Prepared { config, eal, pool, workers, .. } = &*prepared;
    let failed = |side| move |source| Error::Port { side, source };
    let find = |side, wanted: &config::Port| {
        let device = config::completed(&wanted.device, config.memory.max_frame);
        Port::by_device(eal, &device.to_string()).map_err(failed(side))
    };
    // Both must exist before either is started.
    let inside = find(Side::Inside, &config.ports.inside)?;
    let outside = find(Side::Outside, &config.ports.outside)?;
    // With the word of the process before, each client stays with its worker.
    let word = prepared.kept.as_ref().and_then(|kept| kept.state()).map(|s| s.secrets.rss_word);
    let fields = Side::ALL.map(|side| field(config, side));
    let hashing = Hashing::choose([&inside, &outside], fields, *workers, word);
    let mut hashing = hashing.map_err(failed(Side::Inside))?;
    let start = |port, side| {
        start_port(port, pool, config, side, (*workers, &hashing)).map_err(failed(side))
    };
    let mut ports = [start(inside, Side::Inside)?, start(outside, Side::Outside)?];
    hashing.set_rules(&mut ports)?;
    let reta = hashing.steer_ports(&mut ports, *workers);
    // What has arrived by then was distributed otherwise, and would end the trust in the ports.
    if ports.iter().any(|opened| opened.steering.is_by_hardware()) {
        discard(&mut ports);
    }
    let rss_word = hashing.hash.word();
    let macs = [ports[0].port.mac()?, ports[1].port.mac()?];
    prepared.phases.done("ports");
    Ok(OpenPorts { ports, reta, rss_word, macs })
}

/// The drivers whose devices two processes can have. With net_af_packet each of the two gets all
/// frames of the interface.
const SHARED: [&str; 2] = ["net_af_packet", "net_null"];

/// Returns whether both ports can be opened while another process has them.
pub(super) fn can_open_beside(config: &Config) -> bool {
    let ports = [&config.ports.inside, &config.ports.outside];
    ports
        .iter()
        .all(|port| matches!(port.device.bus, Bus::Virtual { driver } if SHARED.contains(&driver)))
}

/// Returns whether a port is a PCI device, which is let go of only when DPDK is cleaned up.
pub(super) fn uses_pci(config: &Config) -> bool {
    [&config.ports.inside, &config.ports.outside].iter().any(|port| port.device.is_pci())
}

/// Drops what the ports have received.
pub(super) fn discard(ports: &mut [Opened; 2]) {
    let mut frames = ArrayVec::<Mbuf, BURST>::new();
    for queue in ports.iter_mut().flat_map(|opened| &mut opened.rx) {
        // What arrives meanwhile must not keep this going for ever.
        for _ in 0..MOST_DISCARDED / BURST {
            if queue.burst(&mut frames) == 0 {
                break;
            }
            frames.clear();
        }
    }
}

/// Returns the field of packets received on a side that has the client's address: the source on the
/// gateway's inside, and the destination on its outside; the mirror image elsewhere.
fn field(config: &Config, side: Side) -> RssField {
    let at_source = matches!(config.role, config::Role::Gateway(_)) == (side == Side::Inside);
    if at_source { RssField::Source } else { RssField::Destination }
}

/// Returns whether a device is asked for receive interrupts: if a worker waits for them. Several workers
/// do not, as a packet that another worker hands over causes none.
fn waits_for_interrupts(config: &Config, device: &config::Device) -> bool {
    let waits = config.worker.poll == config::Poll::Adaptive && config.worker.cores.len() == 1;
    waits && config::may_interrupt(device)
}

/// Configures and starts a port; without what no port must have, if it refuses that.
fn start_with(
    port: &mut Port,
    pool: &MbufPool,
    setup: PortConfig<'_>,
) -> Result<Started, crate::dpdk::Error> {
    let mut start = |setup: PortConfig<'_>| {
        port.configure(&setup, pool)?;
        port.start()
    };
    let less = |error: &crate::dpdk::Error, without| {
        tracing::debug!(%error, "port does not start, trying without {without}");
    };
    let first = match start(setup) {
        Err(error) if setup.interrupts => {
            less(&error, "receive interrupts");
            start(PortConfig { interrupts: false, ..setup })
        }
        first => first,
    };
    first.or_else(|error| {
        less(&error, "checksum flags");
        start(PortConfig { interrupts: false, checksums: false, ..setup })
    })
}

/// Returns what a port uses beyond queues, in words.
fn offloads(report: &PortReport) -> String {
    let used = [
        (report.checksums, "receive checksums"),
        (report.scatter, "scattered receive"),
        (report.multi_segment, "multi-segment transmit"),
    ];
    let words: Vec<_> = used.iter().filter_map(|&(is, what)| is.then_some(what)).collect();
    words.join(", ")
}

/// Configures and starts a port with a queue pair per worker, as far as it has them.
fn start_port(
    mut port: Port,
    pool: &MbufPool,
    config: &Config,
    side: Side,
    (workers, hashing): (usize, &Hashing),
) -> Result<Opened, crate::dpdk::Error> {
    let wanted = match side {
        Side::Inside => &config.ports.inside,
        Side::Outside => &config.ports.outside,
    };
    let setup = PortConfig {
        queues: workers as u16,
        rx_descriptors: wanted.rx_descriptors,
        tx_descriptors: wanted.tx_descriptors,
        max_frame: JUMBO,
        rss: (workers > 1).then(|| hashing.rss(side)),
        checksums: true,
        interrupts: waits_for_interrupts(config, &wanted.device),
    };
    let started = start_with(&mut port, pool, setup)?;
    let report = started.report;
    if report.strips_vlan {
        tracing::warn!(
            side = side.name(),
            "the port takes VLAN tags off frames, which are then forwarded without"
        );
    }
    if !report.promiscuous && wanted.device.is_pci() {
        tracing::warn!(
            side = side.name(),
            "port is not promiscuous, frames to other MAC addresses will not be received"
        );
    }
    if let Some(reason) = report.mtu_refused {
        tracing::debug!(side = side.name(), mtu = report.mtu, %reason, "port refused the MTU asked for");
    }
    tracing::info!(
        side = side.name(),
        device = port.device(),
        driver = report.driver,
        rx_queues = report.rx_queues,
        tx_queues = report.tx_queues,
        mtu = report.mtu,
        rss = ?report.rss.scope,
        uses = offloads(&report),
        "port started"
    );
    let (steering, interface) = (PortSteering::none(), Interface::of(&port));
    let (rx, tx, waits_for) = (started.rx, started.tx, "nothing");
    Ok(Opened { port, report, rx, tx, steering, interface, waits_for })
}

/// Adds the ports' counters to an answer that has counters.
pub(super) fn with_ports(answer: Answer, ports: &[Running; 2], links: &Links) -> Answer {
    match answer {
        Answer::Stats(mut snapshot) => {
            snapshot.ports = all_port_stats(ports, links);
            Answer::Stats(snapshot)
        }
        answer => answer,
    }
}

/// Returns the counters of both ports.
pub(super) fn all_port_stats(ports: &[Running; 2], links: &Links) -> Vec<PortStats> {
    let shown = Side::ALL.map(|side| links.shown(side));
    ports.iter().zip(shown).map(|(port, link)| port_stats(port, link)).collect()
}

/// Returns a port's counters; zeros if the port does not report them.
fn port_stats(running: &Running, link: Shown) -> PortStats {
    let stats = running.port.stats().unwrap_or_default();
    let (steered_by, why) = running.steering.text(Version::V4);
    let (steered_by_v6, why_v6) = running.steering.text(Version::V6);
    PortStats {
        device: running.port.device().to_owned(),
        driver: running.driver.clone(),
        link_up: running.link_up(),
        link_changes: link.changes,
        link_for_s: link.lasts.as_secs(),
        link_held: link.is_held,
        rx_packets: stats.ipackets,
        tx_packets: stats.opackets,
        rx_missed: stats.imissed,
        rx_errors: stats.ierrors,
        rx_no_buffer: stats.rx_nombuf,
        tx_errors: stats.oerrors,
        offloads: running.offloads.clone(),
        waits_for: running.waits_for.to_owned(),
        steered_by: steered_by.to_owned(),
        steered_why: why.to_owned(),
        steered_by_v6: steered_by_v6.to_owned(),
        steered_why_v6: why_v6.to_owned(),
    }
}
