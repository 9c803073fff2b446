//! `firstack run`: starts DPDK, the ports and the workers, runs the control loop, and releases
//! everything at the end.

mod launch;
mod ports;
mod signals;
mod watch;

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pipeline::packet::view::Side;

use self::launch::Launch;
use self::ports::{Running, start_port, steer_ports, with_ports};
use self::signals::Signals;
use self::watch::Watch;
use crate::config::{self, Config, Source, sizing};
use crate::control::socket::{self, Server};
use crate::control::stats::Snapshot;
use crate::control::supervisor::Supervisor;
use crate::datapath::rss::toeplitz::Toeplitz;
use crate::dpdk::{Eal, EalArgs, LogLevel, MbufPool, Port};
use crate::roles::{self, Carried, Environment};

/// The interval at which the control loop looks at signals, the control socket and the counters.
const CONTROL_INTERVAL: Duration = Duration::from_millis(10);

/// An error that keeps the process from running.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of DPDK or the buffer pool.
    #[error(transparent)]
    Dpdk(#[from] crate::dpdk::Error),
    /// A configured port cannot be opened.
    #[error("{} port: {source}", side.name())]
    Port {
        /// The port's side.
        side: Side,
        /// The reason.
        source: crate::dpdk::Error,
    },
    /// An error of the control socket.
    #[error(transparent)]
    Control(#[from] socket::Error),
    /// An error of the key file.
    #[error(transparent)]
    Keys(#[from] crate::control::keys::Error),
    /// An error of the password file.
    #[error(transparent)]
    Password(#[from] crate::control::protected::Error),
    /// The thread that shares what is remembered cannot be started.
    #[error("sharing: {0}")]
    Sharing(std::io::Error),
    /// The signal handlers cannot be installed.
    #[error("signals: {0}")]
    Signals(std::io::Error),
}

/// What a run needs besides its configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stops when no packet has been received for this time; for captures as input.
    pub exit_when_idle: Option<Duration>,
    /// The configuration file, to be read again by a reload; `None`: there is no reload.
    pub source: Option<Source>,
}

/// The result of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The final counters.
    pub snapshot: Snapshot,
    /// Packet buffers that did not come back to their pool: zero, except with drivers that keep
    /// some (net_af_xdp).
    pub missing: u32,
}

/// Forwards packets until a signal, or idleness if asked for, ends the run.
pub fn run(config: &Config, options: Options) -> Result<Outcome, Error> {
    let keys = roles::load_keys(config)?;
    let carried = Carried::default();
    let sharing = roles::sharing(config, &carried.numbers_for(config).unwrap_or_default())?;
    let cores: BTreeSet<_> = config.worker.cores.iter().collect();
    if cores.len() < config.worker.cores.len() {
        tracing::warn!("several workers share a CPU, which is slower than fewer workers");
    }
    for warning in config.warnings().into_iter().chain(config.machine_warnings()) {
        tracing::warn!("{warning}");
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
        let device = config::completed(&wanted.device, config.memory.max_frame);
        Port::by_device(&eal, &device.to_string()).map_err(failed(side))
    };
    // Both must exist before either is started.
    let inside = find(Side::Inside, &config.ports.inside)?;
    let outside = find(Side::Outside, &config.ports.outside)?;
    let random = || RandomState::new().hash_one(0u8);
    let hash = Toeplitz::drawn(|| random() as u32);
    let start =
        |port, side| start_port(port, &pool, config, side, (workers, &hash)).map_err(failed(side));
    let mut ports = [start(inside, Side::Inside)?, start(outside, Side::Outside)?];
    let reta = steer_ports(&mut ports, workers, hash);
    let environment = Environment {
        workers,
        macs: [ports[0].port.mac()?, ports[1].port.mac()?],
        hash_key: (random(), random()),
        keys,
        probe_id: random() as u16,
        carried,
    };
    let launch = Launch {
        config,
        environment: environment.clone(),
        eal,
        pool,
        ports,
        reta,
        server,
        signals,
        options,
        sharing,
    };
    roles::with_role_set(config, &environment, launch)
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

/// Serves operators, probes and reloads until a signal or idleness.
fn control_loop(
    supervisor: &mut Supervisor,
    server: &mut Server,
    ports: &[Running; 2],
    signals: &Signals,
    options: &Options,
) {
    let (mut last, mut since) = (supervisor.received(), Instant::now());
    let mut watch = Watch::new();
    while !signals.stop.load(Relaxed) {
        server.serve(|command| with_ports(supervisor.answer(command), ports));
        supervisor.run_once(CONTROL_INTERVAL);
        watch.step(ports);
        if signals.reload.swap(false, Relaxed) {
            // The result has been logged.
            let _ = supervisor.reload(false);
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
