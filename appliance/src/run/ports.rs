//! The two ports: opened, told where packets go, and their counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use pipeline::view::Side;

use crate::config::{self, Config};
use crate::control::socket::Answer;
use crate::control::stats::PortStats;
use crate::datapath::rss::{self, RetaMap, RssCheck, toeplitz};
use crate::dpdk::{MbufPool, Port, PortConfig, PortReport, Rss, RssField, RxQueue, TxQueue};

/// The longest frame that ports are asked to take, as far as they can: what is longer than a
/// buffer is chained over several.
const JUMBO: u32 = 9728;

/// A port that has been opened and its queues, not yet given to workers.
pub(super) struct Opened {
    pub(super) port: Port,
    pub(super) report: PortReport,
    pub(super) rx: Vec<RxQueue>,
    pub(super) tx: Vec<TxQueue>,
    pub(super) steering: Steering,
}

/// A port while workers have its queues.
pub(super) struct Running {
    pub(super) port: Port,
    pub(super) driver: String,
    pub(super) steering: Steering,
}

/// Who places a port's packets on workers.
#[derive(Clone, Debug)]
pub(super) enum Steering {
    /// Nobody: there is one worker.
    None,
    /// The port, as far as it can, and as long as it is not found to do otherwise.
    Hardware(Arc<AtomicBool>),
    /// The workers, for this reason.
    Software(&'static str),
}

impl Steering {
    /// For people: what and, if not all is well, why.
    pub(super) fn text(&self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("none", "one worker"),
            Self::Hardware(mismatch) if mismatch.load(Relaxed) => {
                ("software", "packets came in other queues than the port's hash says")
            }
            Self::Hardware(_) => ("hardware", ""),
            Self::Software(why) => ("software", why),
        }
    }

    pub(super) fn rss_check(&self) -> RssCheck {
        match self {
            Self::Hardware(mismatch) => RssCheck::on_trial(Arc::clone(mismatch)),
            _ => RssCheck::untrusted(),
        }
    }
}

pub(super) fn start_port(
    mut port: Port,
    pool: &MbufPool,
    config: &Config,
    side: Side,
    workers: usize,
) -> Result<Opened, crate::dpdk::Error> {
    let wanted = match side {
        Side::Inside => &config.ports.inside,
        Side::Outside => &config.ports.outside,
    };
    // The client is the source on the gateway's inside, and the destination on its outside;
    // the mirror image elsewhere.
    let at_source = matches!(config.role, config::Role::Gateway(_)) == (side == Side::Inside);
    let field = if at_source { RssField::Source } else { RssField::Destination };
    let setup = PortConfig {
        queues: workers as u16,
        rx_descriptors: wanted.rx_descriptors,
        tx_descriptors: wanted.tx_descriptors,
        max_frame: JUMBO,
        rss: (workers > 1).then_some(Rss { key: &toeplitz::KEY, field }),
    };
    port.configure(&setup, pool)?;
    let started = port.start()?;
    let report = started.report;
    if !report.promiscuous && wanted.device.is_pci() {
        tracing::warn!(
            side = side.name(),
            "the port is not promiscuous: it will not receive what is addressed to others"
        );
    }
    if let Some(reason) = report.mtu_refused {
        tracing::debug!(side = side.name(), mtu = report.mtu, %reason, "the port keeps its MTU");
    }
    tracing::info!(
        side = side.name(),
        device = port.device(),
        driver = report.driver,
        rx_queues = report.rx_queues,
        tx_queues = report.tx_queues,
        mtu = report.mtu,
        rss = ?report.rss.scope,
        "port started"
    );
    let steering = Steering::None;
    Ok(Opened { port, report, rx: started.rx, tx: started.tx, steering })
}

/// Settles who owns what, has the ports place packets likewise where they can, and says of each
/// port who steers it.
pub(super) fn steer_ports(ports: &mut [Opened; 2], workers: usize) -> RetaMap {
    let workers = workers.max(1) as u16;
    let places = |opened: &Opened| {
        opened.report.rss.places()?;
        let enough = opened.report.rx_queues == workers;
        enough.then_some(opened.report.rss.entries).ok_or("fewer receive queues than workers")
    };
    let tables = ports.each_ref().map(places);
    // A port with more entries repeats those of the smallest table.
    let smallest = tables.iter().flatten().min().copied().filter(|&entries| entries >= workers);
    let reta = RetaMap::new(workers, smallest.unwrap_or(rss::ENTRIES));
    for ((opened, table), side) in ports.iter_mut().zip(tables).zip(Side::ALL) {
        opened.steering = match table {
            _ if workers == 1 => Steering::None,
            Err(why) => Steering::Software(why),
            Ok(_) if smallest.is_none() => Steering::Software("fewer entries than workers"),
            Ok(entries) => match opened.port.set_table(&reta.port_table(entries)) {
                Ok(true) => Steering::Hardware(Arc::default()),
                Ok(false) => Steering::Software("the port keeps another table than asked"),
                Err(error) => {
                    tracing::debug!(side = side.name(), %error, "no table");
                    Steering::Software("the port takes no table from hashes to queues")
                }
            },
        };
        let (steered_by, why) = opened.steering.text();
        tracing::info!(side = side.name(), device = opened.port.device(), steered_by, why);
    }
    reta
}

pub(super) fn with_ports(answer: Answer, ports: &[Running; 2]) -> Answer {
    match answer {
        Answer::Stats(mut snapshot) => {
            snapshot.ports = all_port_stats(ports);
            Answer::Stats(snapshot)
        }
        answer => answer,
    }
}

pub(super) fn all_port_stats(ports: &[Running; 2]) -> Vec<PortStats> {
    ports.iter().map(port_stats).collect()
}

/// A port that does not tell shows as zero.
fn port_stats(running: &Running) -> PortStats {
    let stats = running.port.stats().unwrap_or_default();
    let (steered_by, why) = running.steering.text();
    PortStats {
        device: running.port.device().to_owned(),
        driver: running.driver.clone(),
        link_up: running.port.link().is_ok_and(|link| link.up),
        rx_packets: stats.ipackets,
        tx_packets: stats.opackets,
        rx_missed: stats.imissed,
        rx_errors: stats.ierrors,
        rx_no_buffer: stats.rx_nombuf,
        tx_errors: stats.oerrors,
        steered_by: steered_by.to_owned(),
        steered_why: why.to_owned(),
    }
}
