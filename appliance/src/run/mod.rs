//! `firstack run`: starts DPDK, the ports and the workers, runs the control loop, and releases
//! everything at the end, in phases.

mod ending;
mod launch;
mod links;
mod phases;
mod ports;
pub mod preflight;
mod prepare;
mod signals;
mod steering;
pub mod upgrade;
mod watch;
mod watched;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pipeline::packet::view::Side;

use self::launch::{Launch, Launched};
use self::ports::{Running, can_open_beside, open_ports, with_ports};
use self::prepare::prepare;
use self::signals::Signals;
use self::upgrade::{Event, Successor, TakeOver, Upgrades};
use self::watched::Watched;
use crate::config::{Config, Source};
use crate::control::socket::{self, Answer, Command, Reply, Server};
use crate::control::stats::Snapshot;
use crate::control::supervisor::Supervisor;
use crate::keep::{self, Keeper, Secrets};
use crate::roles::{self, Environment};

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
    /// Something is missing here that a start needs, or another process has it.
    #[error(transparent)]
    Refused(#[from] preflight::Obstacles),
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
    /// Tables cannot be kept for the next process.
    #[error(transparent)]
    Keep(#[from] keep::Error),
    /// A table has no memory.
    #[error("table.max_connections: no memory for the tables: {0}")]
    Tables(std::io::Error),
    /// The signal handlers cannot be installed.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The process does not take over from another one.
    #[error("cannot take over: {0}")]
    TakeOver(#[from] upgrade::TakeOverError),
    /// The control socket is not served.
    #[error("the control socket is not served")]
    Unserved,
    /// The process cannot start itself again after a hand-over that failed.
    #[error("cannot start again: {0}")]
    Again(std::io::Error),
}

/// What a run needs besides its configuration.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Stops when no packet has been received for this time; for captures as input.
    pub exit_when_idle: Option<Duration>,
    /// Passes over what an earlier process has left.
    pub forget: bool,
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
///
/// The phases of a run, in order: prepare (what needs no port), open the ports, build the roles,
/// adopt, launch the workers, control loop, stop the workers, let go of the ports.
///
/// With `take_over` another process forwards meanwhile, and hands over as late as the ports' driver
/// allows: with the roles built, before the ports are opened or before the roles adopt.
pub fn run(
    config: &Config,
    options: Options,
    take_over: Option<&mut TakeOver>,
) -> Result<Outcome, Error> {
    let mut prepared = prepare(config, options, take_over)?;
    let late = prepared.take_over.as_ref().filter(|_| !can_open_beside(config));
    let (macs, open) = match late.map(|old| old.macs()) {
        Some(macs) => (macs, None),
        None => {
            let open = open_ports(&mut prepared)?;
            (open.macs, Some(open))
        }
    };
    let random = || RandomState::new().hash_one(0u8);
    let state = prepared.kept.as_ref().and_then(|kept| kept.state());
    let secrets = state.map_or_else(
        || Secrets { hash_key: (random(), random()), ..Secrets::default() },
        |state| state.secrets,
    );
    // Not the last process's: late answers to its probes would count as answers to later ones.
    let probe_id = random() as u16;
    let environment = Environment {
        workers: prepared.workers,
        macs,
        hash_key: secrets.hash_key,
        keys: prepared.keys.clone(),
        probe_id,
        carried: prepared.carried(),
    };
    let mut launch = Launch { prepared, environment, open, secrets };
    loop {
        let environment = launch.environment.clone();
        match roles::with_role_set(config, &environment, launch)? {
            Launched::Over(outcome) => return Ok(*outcome),
            Launched::OtherMacs(again) => launch = *again,
        }
    }
}

/// What the control loop drives.
struct Control<'a> {
    supervisor: &'a mut Supervisor,
    server: &'a mut Server,
    upgrades: &'a mut Upgrades,
    keeper: Option<&'a RefCell<Keeper>>,
    watched: &'a mut Watched,
}

/// Serves operators, probes and reloads until a signal, idleness, or a hand-over. Returns the
/// process to hand over to.
fn control_loop(
    control: &mut Control<'_>,
    ports: &[Running; 2],
    signals: &Signals,
    options: &Options,
) -> Option<Successor> {
    let Control { supervisor, server, upgrades, keeper, watched } = control;
    let (mut last, mut since) = (supervisor.received(), Instant::now());
    while !signals.stop.load(Relaxed) {
        server.serve(|command| match command {
            Command::Upgrade { binary, timeout } => {
                match upgrades.begin(binary, Duration::from_millis(timeout)) {
                    Ok(()) => Reply::Later,
                    Err(reason) => Reply::Now(Answer::Error(reason)),
                }
            }
            // The successor has read the file, and numbered the services, as they are.
            Command::Reload { dry_run: false } if upgrades.is_under_way() => {
                Answer::Error("not reloaded: an upgrade is under way; try again".to_owned()).into()
            }
            command => with_ports(supervisor.answer(command), ports, &watched.links).into(),
        });
        match upgrades.step() {
            Event::Nothing => {}
            Event::Failed(reason) => server.answer_waiting(&Answer::Error(reason)),
            Event::Ready(successor) => return Some(successor),
        }
        supervisor.run_once(CONTROL_INTERVAL);
        watched.step(ports);
        if let Some(keeper) = keeper {
            keeper.borrow_mut().step(|state| supervisor.note(state));
        }
        if !upgrades.is_under_way() && signals.reload.swap(false, Relaxed) {
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
    if let Some(reason) = upgrades.cancel() {
        server.answer_waiting(&Answer::Error(reason));
    }
    None
}
