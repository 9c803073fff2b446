//! The first phase of a start: everything that needs no port, so that another process may still
//! forward packets meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use super::phases::Phases;
use super::ports::{Opened, discard};
use super::preflight::{self, Claims};
use super::signals::Signals;
use super::upgrade::{HandedOver, TakeOver};
use super::{Error, Options};
use crate::config::{Config, sizing};
use crate::control::keys::Keys;
use crate::control::share;
use crate::control::socket::Server;
use crate::dpdk::{Eal, EalArgs, LogLevel, MbufPool};
use crate::keep::Kept;
use crate::roles::{self, Carried};

/// The time that a process that was killed has to be gone.
const KILLED: Duration = Duration::from_secs(5);
/// The time that a process that is about to end has to let go of its control socket.
const PREDECESSOR: Duration = Duration::from_secs(1);

/// A process that is ready to open its ports.
pub(super) struct Prepared<'a> {
    pub(super) config: &'a Config,
    pub(super) options: Options,
    pub(super) keys: Keys,
    pub(super) sharing: Option<share::Settings>,
    pub(super) signals: Signals,
    /// The control socket; `None` while the process that hands over serves it.
    pub(super) server: Option<Server>,
    pub(super) eal: Eal,
    pub(super) pool: MbufPool,
    pub(super) workers: usize,
    /// The prefix of DPDK's files.
    pub(super) file_prefix: String,
    /// The connection to a process that hands over.
    pub(super) take_over: Option<&'a mut TakeOver>,
    /// What that has handed over.
    pub(super) handed_over: Option<HandedOver>,
    pub(super) phases: Phases,
    /// The tables that outlive the process, and what an earlier one has left of them.
    pub(super) kept: Option<Kept>,
    /// The interfaces and devices that this process has.
    pub(super) claims: Claims,
}

impl Prepared<'_> {
    /// Returns what the roles take over from an earlier process besides its tables.
    pub(super) fn carried(&self) -> Carried {
        carried(self.kept.as_ref())
    }
}

fn carried(kept: Option<&Kept>) -> Carried {
    let state = kept.and_then(Kept::state);
    let numbers = state.map(|state| state.services.clone()).unwrap_or_default();
    Carried { numbers, ..Carried::default() }
}

/// Reads the files that the configuration names, installs the signal handlers, and starts DPDK with
/// its buffers, without a device.
pub(super) fn prepare<'a>(
    config: &'a Config,
    options: Options,
    take_over: Option<&'a mut TakeOver>,
) -> Result<Prepared<'a>, Error> {
    let mut phases = Phases::begin();
    let keys = roles::load_keys(config)?;
    warn_of(config);
    let signals = Signals::catch().map_err(Error::Signals)?;
    let mut file_prefix = config.eal.file_prefix.clone();
    let mut server = None;
    match &take_over {
        Some(take_over) => {
            take_over.check_role(config.role.name())?;
            file_prefix = take_over.file_prefix(&file_prefix);
        }
        None => server = Some(Server::bind_within(&config.control.socket, PREDECESSOR)?),
    }
    let claims = preflight::pass(config, &file_prefix, take_over.is_some(), KILLED)?;
    let mut kept = Kept::open(config, options.forget)?;
    if let (Some(kept), None) = (&mut kept, &take_over) {
        kept.lock(KILLED)?;
    }
    let sharing =
        roles::sharing(config, &carried(kept.as_ref()).numbers_for(config).unwrap_or_default())?;
    phases.done("files");
    let eal = Eal::init(&eal_args(config, &file_prefix).build()?).map_err(preflight::explain)?;
    phases.done("EAL");
    let pool = MbufPool::new(
        &eal,
        "firstack",
        config.memory.mbufs,
        sizing::shares(config).cache,
        config.memory.max_frame,
        None,
    )
    .map_err(preflight::explain)?;
    phases.done("buffers");
    let workers = eal.worker_lcores().len();
    Ok(Prepared {
        config,
        options,
        keys,
        sharing,
        signals,
        server,
        eal,
        pool,
        workers,
        file_prefix,
        take_over,
        handed_over: None,
        kept,
        phases,
        claims,
    })
}

impl Prepared<'_> {
    /// If another process hands over, and has not yet, waits until it has. What open ports receive
    /// while it forwards is dropped: it gets that, too.
    pub(super) fn wait_for_hand_over(
        &mut self,
        mut ports: Option<&mut [Opened; 2]>,
    ) -> Result<(), Error> {
        if let (Some(take_over), None) = (&mut self.take_over, &self.handed_over) {
            tracing::debug!("ready, waiting for the hand-over");
            let beside = ports.is_some();
            let discard = || ports.as_deref_mut().map_or((), discard);
            self.handed_over = Some(take_over.wait(beside, &self.signals.stop, discard)?);
            self.phases.done("waiting for the hand-over");
            if let Some(kept) = &mut self.kept {
                kept.lock(PREDECESSOR)?;
            }
        }
        Ok(())
    }

    /// Serves the control socket, unless this is done already.
    pub(super) fn serve(&mut self) -> Result<(), Error> {
        if self.server.is_none() {
            self.server = Some(Server::bind_within(&self.config.control.socket, PREDECESSOR)?);
        }
        Ok(())
    }
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

fn eal_args(config: &Config, file_prefix: &str) -> EalArgs {
    let devices = [&config.ports.inside.device, &config.ports.outside.device];
    EalArgs {
        worker_cpus: config.worker.cores.iter().map(|&core| core.into()).collect(),
        file_prefix: file_prefix.to_owned(),
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
