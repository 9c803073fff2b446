//! A running appliance: DPDK started, ports opened, workers launched, operators answered, and
//! everything given back at the end.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;
use pipeline::role::Role;
use pipeline::view::Side;

use crate::clock::Clock;
use crate::config::{self, Config, sizing};
use crate::control::{self, Answer, Server};
use crate::dpdk::{
    Eal, EalArgs, LogLevel, MbufPool, Port, PortConfig, PortReport, Rss, RssField, RxQueue,
    TxQueue, Worker as Launched, cycles,
};
use crate::handoff::{self, Mail};
use crate::roles::{self, Crew, Surroundings, Task};
use crate::stats::{PortStats, Snapshot};
use crate::steering::{self, Owners, Trust};
use crate::supervisor::Supervisor;
use crate::sync::Barrier;
use crate::toeplitz;
use crate::worker::{Idle, Parts, Queues, Worker};

/// Between two looks at signals, the control socket and the counters.
const ROUND: Duration = Duration::from_millis(10);
/// The longest frame that ports are asked to take, as far as they can: what is longer than a
/// buffer is chained over several.
const JUMBO: u32 = 9728;
/// Why an appliance does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// DPDK or the pool.
    #[error(transparent)]
    Dpdk(#[from] crate::dpdk::Error),
    /// A port that is configured cannot be opened.
    #[error("{} port: {source}", side.name())]
    Port {
        /// Which.
        side: Side,
        /// Why.
        source: crate::dpdk::Error,
    },
    /// The control socket.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// The key file.
    #[error(transparent)]
    Keys(#[from] crate::keys::Error),
    /// Signals cannot be caught.
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// How a run ends, beyond signals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// End when no packet has come for so long: for captures as input.
    pub exit_when_idle: Option<Duration>,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The final counters.
    pub snapshot: Snapshot,
    /// Packet buffers that did not come back to their pool: zero, but for drivers that keep
    /// some to themselves (net_af_xdp).
    pub missing: u32,
}

/// What signals ask for: an end (SIGINT, SIGTERM), the keys read again (SIGHUP).
struct Signals {
    stop: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        use signal_hook::flag::register;
        let signals = Self { stop: Arc::default(), reload: Arc::default() };
        register(SIGINT, Arc::clone(&signals.stop))?;
        register(SIGTERM, Arc::clone(&signals.stop))?;
        register(SIGHUP, Arc::clone(&signals.reload))?;
        Ok(signals)
    }
}

/// A port that has been opened and its queues, not yet given to workers.
struct Opened {
    port: Port,
    report: PortReport,
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    steering: Steering,
}

/// A port while workers have its queues.
struct Running {
    port: Port,
    driver: String,
    steering: Steering,
}

/// Who places a port's packets on workers.
#[derive(Clone, Debug)]
enum Steering {
    /// Nobody: there is one worker.
    None,
    /// The port, as far as it can, and as long as it is not found to do otherwise.
    Hardware(Arc<AtomicBool>),
    /// The workers, for this reason.
    Software(&'static str),
}

impl Steering {
    /// For people: what and, if not all is well, why.
    fn text(&self) -> (&'static str, &'static str) {
        match self {
            Self::None => ("none", "one worker"),
            Self::Hardware(doubted) if doubted.load(Relaxed) => {
                ("software", "packets came in other queues than the port's hash says")
            }
            Self::Hardware(_) => ("hardware", ""),
            Self::Software(why) => ("software", why),
        }
    }

    fn trust(&self) -> Trust {
        match self {
            Self::Hardware(doubted) => Trust::on_trial(Arc::clone(doubted)),
            _ => Trust::none(),
        }
    }
}

/// Runs until a signal, or idleness, ends it.
pub fn run(config: &Config, options: Options) -> Result<Outcome, Error> {
    let keys = roles::load_keys(config)?;
    let cores: BTreeSet<_> = config.worker.cores.iter().collect();
    if cores.len() < config.worker.cores.len() {
        tracing::warn!("workers share a CPU: good for a trial, slower than fewer workers");
    }
    let signals = Signals::catch().map_err(Error::Signals)?;
    let server = Server::bind(&config.control.socket)?;
    let eal = Eal::init(&eal_args(config).build()?)?;
    let pool = MbufPool::new(
        &eal,
        "firstack",
        config.memory.mbufs,
        sizing::shares(config).cache,
        config.memory.max_frame,
        None,
    )?;
    let workers = eal.worker_lcores().len();
    let failed = |side| move |source| Error::Port { side, source };
    let find = |side, wanted: &config::Port| {
        Port::by_device(&eal, &wanted.device.to_string()).map_err(failed(side))
    };
    // Both are there before either starts.
    let inside = find(Side::Inside, &config.ports.inside)?;
    let outside = find(Side::Outside, &config.ports.outside)?;
    let start = |port, side| start_port(port, &pool, config, side, workers).map_err(failed(side));
    let mut ports = [start(inside, Side::Inside)?, start(outside, Side::Outside)?];
    let owners = steer_ports(&mut ports, workers);
    let random = || RandomState::new().hash_one(0u8);
    let surroundings = Surroundings {
        workers,
        macs: [ports[0].port.mac()?, ports[1].port.mac()?],
        hash_key: (random(), random()),
        keys,
        probe_id: random() as u16,
    };
    let launch = Launch { config, eal, pool, ports, owners, server, signals, options };
    roles::with_crew(config, &surroundings, launch)
}

fn eal_args(config: &Config) -> EalArgs {
    let devices = [&config.ports.inside.device, &config.ports.outside.device];
    EalArgs {
        worker_cpus: config.worker.cores.iter().map(|&core| core.into()).collect(),
        file_prefix: config.eal.file_prefix.clone(),
        no_huge_mib: None,
        pci_allow: devices.into_iter().filter(|d| d.is_pci()).map(|d| d.name.clone()).collect(),
        vdevs: Vec::new(),
        log_level: match config.log.level {
            tracing::Level::ERROR => LogLevel::Error,
            tracing::Level::WARN | tracing::Level::INFO => LogLevel::Warning,
            tracing::Level::DEBUG => LogLevel::Notice,
            tracing::Level::TRACE => LogLevel::Debug,
        },
        extra: config.eal.args.clone(),
    }
}

fn start_port(
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
fn steer_ports(ports: &mut [Opened; 2], workers: usize) -> Owners {
    let workers = workers.max(1) as u16;
    let places = |opened: &Opened| {
        opened.report.rss.places()?;
        let enough = opened.report.rx_queues == workers;
        enough.then_some(opened.report.rss.entries).ok_or("fewer receive queues than workers")
    };
    let tables = ports.each_ref().map(places);
    // A port with more entries repeats those of the smallest table.
    let smallest = tables.iter().flatten().min().copied().filter(|&entries| entries >= workers);
    let owners = Owners::new(workers, smallest.unwrap_or(steering::ENTRIES));
    for ((opened, table), side) in ports.iter_mut().zip(tables).zip(Side::ALL) {
        opened.steering = match table {
            _ if workers == 1 => Steering::None,
            Err(why) => Steering::Software(why),
            Ok(_) if smallest.is_none() => Steering::Software("fewer entries than workers"),
            Ok(entries) => match opened.port.set_table(&owners.indirection(entries)) {
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
    owners
}

/// Everything that the workers' launch needs, whatever the role.
struct Launch<'a> {
    config: &'a Config,
    eal: Eal,
    pool: MbufPool,
    ports: [Opened; 2],
    owners: Owners,
    server: Server,
    signals: Signals,
    options: Options,
}

impl Task for Launch<'_> {
    type Output = Result<Outcome, Error>;

    fn run<R: Role + Send + 'static>(mut self, crew: Crew<R>) -> Self::Output {
        let counters: Vec<_> = crew.roles.iter().map(|role| Arc::clone(role.counters())).collect();
        let halt = Arc::new(CachePadded::new(AtomicBool::new(false)));
        let launched = self.launch_workers(crew.roles, crew.copies, &halt)?;
        let Launch { config, eal, pool, ports, server, signals, options, .. } = self;
        let ports = ports.map(|opened| Running {
            port: opened.port,
            driver: opened.report.driver,
            steering: opened.steering,
        });
        let role = crew.names.role;
        let mut supervisor = Supervisor::new(crew.names, counters, crew.levers, &config.health);
        tracing::info!(
            role,
            workers = launched.len(),
            socket = %config.control.socket.display(),
            "forwarding"
        );
        attend(&mut supervisor, &server, &ports, &signals, options);
        halt.store(true, Relaxed);
        for worker in launched {
            worker.join()?;
        }
        let mut snapshot = supervisor.snapshot();
        snapshot.ports = all_port_stats(&ports);
        for running in ports {
            running.port.close()?;
        }
        let missing = pool.size().saturating_sub(pool.available());
        drop((pool, eal));
        Ok(Outcome { snapshot, missing })
    }
}

impl Launch<'_> {
    fn launch_workers<R: Role + Send + 'static>(
        &mut self,
        roles: Vec<R>,
        copies: usize,
        halt: &Arc<CachePadded<AtomicBool>>,
    ) -> Result<Vec<Launched<()>>, Error> {
        let queue = handoff::capacity(roles.len(), sizing::shares(self.config).queue);
        let mut mail = Mail::new(roles.len(), queue).into_iter();
        let quiet = Arc::new(Barrier::new(roles.len()));
        let clock = Clock::new(cycles(), self.eal.cycles_per_second());
        let mut ready = Vec::new();
        for (number, (role, mail)) in roles.into_iter().zip(&mut mail).enumerate() {
            ready.push(Worker::new(Parts {
                role,
                queues: self.ports.each_mut().map(|opened| take_queues(opened, number)),
                pool: self.pool.handle(),
                mail,
                owners: self.owners.clone(),
                clock,
                idle: self.idle(),
                burst: self.config.worker.burst.into(),
                copies,
                stop: Arc::clone(halt),
                quiet: Arc::clone(&quiet),
            }));
        }
        let lcores = self.eal.worker_lcores();
        let launch = |(lcore, worker): (u32, Worker<R>)| {
            self.eal.launch(lcore, move || worker.run()).map_err(Error::from)
        };
        let launched: Result<Vec<_>, Error> = lcores.into_iter().zip(ready).map(launch).collect();
        if launched.is_err() {
            halt.store(true, Relaxed);
        }
        launched
    }

    /// What a worker does when there is nothing to do. One that others hand frames to does not
    /// listen, for that rings no bell.
    fn idle(&self) -> Idle {
        if self.config.worker.poll == config::Poll::Busy {
            return Idle::Busy;
        }
        let mut bells = Vec::new();
        if self.config.worker.cores.len() == 1 {
            for opened in &self.ports {
                match opened.port.bells() {
                    of_port if of_port.is_empty() => return Idle::Adaptive(Vec::new()),
                    of_port => bells.extend(of_port),
                }
            }
        }
        Idle::Adaptive(bells)
    }
}

/// A worker's queues on a port, as far as the port has enough; the first are given first.
fn take_queues(opened: &mut Opened, number: usize) -> Queues {
    let senders = usize::from(opened.report.tx_queues).max(1);
    let take_rx = !opened.rx.is_empty();
    let take_tx = !opened.tx.is_empty();
    Queues {
        rx: take_rx.then(|| opened.rx.remove(0)),
        tx: take_tx.then(|| opened.tx.remove(0)),
        sender: number % senders,
        trust: opened.steering.trust(),
    }
}

/// Attends to operators, probes and keys until a signal or idleness.
fn attend(
    supervisor: &mut Supervisor,
    server: &Server,
    ports: &[Running; 2],
    signals: &Signals,
    options: Options,
) {
    let (mut last, mut since) = (supervisor.received(), Instant::now());
    while !signals.stop.load(Relaxed) {
        server.serve(|command| with_ports(supervisor.answer(command), ports));
        supervisor.round(ROUND);
        if signals.reload.swap(false, Relaxed) {
            // What came of it has been logged.
            let _ = supervisor.reload();
        }
        let now = supervisor.received();
        if now != last {
            (last, since) = (now, Instant::now());
        }
        if options.exit_when_idle.is_some_and(|idle| since.elapsed() >= idle) {
            break;
        }
    }
}

fn with_ports(answer: Answer, ports: &[Running; 2]) -> Answer {
    match answer {
        Answer::Stats(mut snapshot) => {
            snapshot.ports = all_port_stats(ports);
            Answer::Stats(snapshot)
        }
        answer => answer,
    }
}

fn all_port_stats(ports: &[Running; 2]) -> Vec<PortStats> {
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
