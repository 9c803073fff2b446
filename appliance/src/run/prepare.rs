//! The first phase of a start: everything that needs no port, so that another process may still
//! forward packets meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use super::signals::Signals;
use super::{Error, Options};
use crate::config::{Config, sizing};
use crate::control::keys::Keys;
use crate::control::share;
use crate::control::socket::Server;
use crate::dpdk::{Eal, EalArgs, LogLevel, MbufPool};
use crate::keep::Kept;
use crate::roles;

/// The time that a process that was killed has to be gone.
const PREDECESSOR: Duration = Duration::from_secs(5);

/// A process that is ready to open its ports.
pub(super) struct Prepared<'a> {
    pub(super) config: &'a Config,
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) sharing: Option<share::Settings>,
    pub(super) signals: Signals,
    pub(super) server: Server,
    pub(super) eal: Eal,
    pub(super) pool: MbufPool,
    pub(super) workers: usize,
    /// The tables that outlive the process, and what an earlier one has left of them.
    pub(super) kept: Option<Kept>,
}

/// Reads the files that the configuration names, installs the signal handlers, and starts DPDK with
/// its buffers, without a device.
pub(super) fn prepare(config: &Config, options: Options) -> Result<Prepared<'_>, Error> {
    let keys = roles::load_keys(config)?;
    let sharing = roles::sharing(config)?;
    warn_of(config);
    let signals = Signals::catch().map_err(Error::Signals)?;
    let server = Server::bind(&config.control.socket)?;
    let mut kept = Kept::open(config, options.forget)?;
    if let Some(kept) = &mut kept {
        kept.lock(PREDECESSOR)?;
    }
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
    Ok(Prepared { config, options, keys, sharing, signals, server, eal, pool, workers, kept })
}

fn warn_of(config: &Config) {
    let cores: BTreeSet<_> = config.worker.cores.iter().collect();
    if cores.len() < config.worker.cores.len() {
        tracing::warn!("several workers share a CPU, which is slower than fewer workers");
    }
    for warning in config.warnings().into_iter().chain(config.machine_warnings()) {
        tracing::warn!("{warning}");
    }
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
