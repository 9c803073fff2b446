//! The workers: built from a role set and the ports' queues, launched on their cores and joined at
//! the end.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use pipeline::base::time::Ticks;
use pipeline::role::Role;

use super::ending::Owned;
use super::ports::{OpenPorts, Opened, Running, all_port_stats, open_ports, uses_pci};
use super::prepare::Prepared;
use super::upgrade::Upgrades;
use super::watched::Watched;
use super::{Control, Error, Outcome, control_loop};
use crate::config::{self, sizing};
use crate::control::reload::{Handover, Reloading};
use crate::control::share::Sharing;
use crate::control::stats::KeptStats;
use crate::control::supervisor::Supervisor;
use crate::datapath::clock::{Clock, SteadyClock, monotonic};
use crate::datapath::handoff::{self, Handoff};
use crate::datapath::pulse::SharedPulse;
use crate::datapath::slot::Taker;
use crate::datapath::worker::{Idle, Parts, Queues, Worker};
use crate::dpdk::{Worker as OnLcore, cycles};
use crate::keep::{self, Adopted, Keeper, Kept, Secrets, State};
use crate::roles::{Environment, RoleSet, WithRole};
use crate::sys::notify::notify;
use crate::sys::sync::Barrier;

/// What roles are built for, before the ports are open if another process still has them.
pub(super) struct Launch<'a> {
    pub(super) prepared: Prepared<'a>,
    /// What the roles are built with.
    pub(super) environment: Environment,
    pub(super) open: Option<OpenPorts>,
    pub(super) secrets: Secrets,
}

/// How a launch ends.
pub(super) enum Launched<'a> {
    /// The run is over.
    Over(Box<Outcome>),
    /// The ports have other MAC addresses than the roles were built with; nothing runs.
    OtherMacs(Box<Launch<'a>>),
}

/// Everything needed to launch the workers, whatever the role.
struct Ready<'a> {
    prepared: Prepared<'a>,
    environment: Environment,
    open: OpenPorts,
    secrets: Secrets,
}

/// The workers, until they are stopped.
struct Workers {
    halt: Arc<CachePadded<AtomicBool>>,
    /// Set before `halt` if those whose connections are lost are to be told.
    goodbye: Arc<AtomicBool>,
    launched: Vec<OnLcore<()>>,
    /// Where they say that they come round.
    pulses: Vec<SharedPulse>,
}

impl<'a> WithRole for Launch<'a> {
    type Output = Result<Launched<'a>, Error>;

    fn run<R: Role + Send + 'static>(mut self, mut set: RoleSet<R>) -> Self::Output {
        place_tables(self.prepared.kept.as_ref(), &mut set.roles)?;
        self.prepared.phases.done("roles");
        let ports = self.open.as_mut().map(|open| &mut open.ports);
        self.prepared.wait_for_hand_over(ports)?;
        let open = match self.open.take() {
            Some(open) => open,
            None => open_ports(&mut self.prepared)?,
        };
        if open.macs != self.environment.macs {
            let environment = Environment { macs: open.macs, ..self.environment };
            if let Some(kept) = &self.prepared.kept {
                kept.remove_tables();
            }
            let again = Self { environment, open: Some(open), ..self };
            return Ok(Launched::OtherMacs(Box::new(again)));
        }
        let secrets = Secrets { rss_word: open.rss_word, ..self.secrets };
        let Self { prepared, environment, .. } = self;
        let outcome = Ready { prepared, environment, open, secrets }.run(set)?;
        Ok(Launched::Over(Box::new(outcome)))
    }
}

impl Ready<'_> {
    fn run<R: Role + Send + 'static>(mut self, mut set: RoleSet<R>) -> Result<Outcome, Error> {
        let counters: Vec<_> = set.roles.iter().map(Role::counters).collect();
        let config = self.prepared.config;
        let clock = Clock::new(cycles(), self.prepared.eal.cycles_per_second());
        let before = self.prepared.kept.as_ref().and_then(|kept| kept.state()).map(State::reading);
        let clock = SteadyClock::continued(clock, monotonic(), before.unwrap_or_default());
        let (handover, successors) = Handover::new(set.roles.len());
        let mut reloading = self.reloading(handover);
        let sharing = self.prepared.sharing.take().map(Sharing::start);
        let sharing = sharing.transpose().map_err(Error::Sharing)?;
        let steady = RefCell::new(clock);
        let adopted = self.adopt(&mut set.roles, clock.clone().at(cycles(), monotonic));
        self.prepared.phases.done("adoption");
        // Before the workers: they need the time of day from their first packet on.
        let mut supervisor =
            Supervisor::new(set.labels.clone(), counters, set.controls, &config.health)
                .with_clock(move || steady.borrow_mut().at(cycles(), monotonic))
                .with_sharing(sharing);
        let mut keeper = None;
        if let Some(kept) = self.prepared.kept.take() {
            let directory = kept.directory().display().to_string();
            let stats = KeptStats::new(directory, kept.generation(), &adopted);
            supervisor = supervisor.with_kept(stats, kept.state());
            let begun = Rc::new(RefCell::new(self.begin(kept, &supervisor)?));
            reloading = reloading.map(|reloading| with_stored_numbers(reloading, &begun));
            keeper = Some(begun);
        }
        supervisor = supervisor.with_reloading(reloading);
        self.prepared.serve()?;
        let roles = set.roles.into_iter().zip(successors).collect();
        let mut workers = self.launch_workers(roles, set.copies, clock)?;
        self.prepared.phases.done("workers");
        self.confirm();
        let Self { prepared, open, .. } = self;
        let Prepared { options, signals, server, pool, eal, file_prefix, claims, .. } = prepared;
        // It is served by now.
        let Some(mut server) = server else { return Err(Error::Unserved) };
        let (macs, ports) = (open.macs, open.ports.map(Running::new));
        tracing::info!(
            role = set.labels.role,
            workers = workers.launched.len(),
            socket = %config.control.socket.display(),
            file_prefix,
            "forwarding packets"
        );
        if let Some(keeper) = &keeper {
            keeper.borrow().settle();
        }
        let mut upgrades = Upgrades::new(set.labels.role, &file_prefix, macs);
        let pulses = std::mem::take(&mut workers.pulses);
        let mut watched = Watched::new(config, &ports, pulses, claims);
        let mut control = Control {
            supervisor: &mut supervisor,
            server: &mut server,
            upgrades: &mut upgrades,
            keeper: keeper.as_deref(),
            watched: &mut watched,
        };
        let mut successor = control_loop(&mut control, &ports, &signals, &options);
        if successor.is_none() {
            watched.links.finish(&ports);
        }
        // Nothing keeps the tables: who loses a connection is told. At the end of captures nobody is.
        let says_goodbye = keeper.is_none() && successor.is_none() && signals.stop.load(Relaxed);
        workers.stop(says_goodbye)?;
        supervisor.note_taken();
        let stopped = monotonic();
        if let Some(successor) = &mut successor {
            successor.stopped();
        }
        if let Some(keeper) = keeper {
            // The next process locks the directory from then on.
            keeper.borrow_mut().write_now(|state| supervisor.note(state));
        }
        let mut snapshot = supervisor.snapshot();
        snapshot.ports = all_port_stats(&ports, &watched.links);
        let uses_pci = uses_pci(config);
        let owned = Owned { ports, pool, eal, server, signals, uses_pci };
        let missing = match successor {
            None => owned.let_go()?,
            Some(successor) => owned.hand_over(successor, stopped)?,
        };
        Ok(Outcome { snapshot, missing })
    }
}

impl Workers {
    /// Stops the workers, which transmit what they still have, and waits for their end. With
    /// `says_goodbye` they reset the connections that end with them.
    fn stop(self, says_goodbye: bool) -> Result<(), Error> {
        self.goodbye.store(says_goodbye, Relaxed);
        self.halt.store(true, Relaxed);
        for worker in self.launched {
            worker.join()?;
        }
        Ok(())
    }
}

impl Ready<'_> {
    /// Tells the process that has handed over, or the service manager, that packets are forwarded.
    fn confirm(&mut self) {
        let Prepared { take_over, handed_over, .. } = &mut self.prepared;
        if let (Some(take_over), Some(handed_over)) = (take_over, handed_over) {
            for (opened, made) in self.open.ports.iter().zip(handed_over.promiscuous) {
                if made {
                    opened.port.set_made_promiscuous(true);
                }
            }
            let gap = take_over.forwarding(handed_over);
            tracing::info!(?gap, "taken over");
        } else {
            // Of a successor the service manager learns from the process before it.
            notify("READY=1");
        }
    }

    /// Gives the roles what an earlier process has left for them, before they run.
    fn adopt<R: Role + Send>(&self, roles: &mut [R], now: Ticks) -> Adopted {
        match &self.prepared.kept {
            Some(kept) => keep::adopt(kept, roles, &self.open.reta, now),
            None => Adopted::default(),
        }
    }

    /// Makes this process's tables the ones that count.
    fn begin(&self, kept: Kept, supervisor: &Supervisor) -> Result<Keeper, Error> {
        // What else an earlier process has left stays, until it is replaced.
        let mut state = State {
            secrets: self.secrets,
            ..kept.state().cloned().unwrap_or_else(|| kept.new_state())
        };
        supervisor.note(&mut state);
        Ok(Keeper::begin(kept, state)?)
    }

    /// Returns what a reload needs.
    fn reloading<R: Role + Send + 'static>(&self, workers: Handover<R>) -> Option<Reloading> {
        let source = self.prepared.options.source.clone()?;
        let file = (source, self.prepared.config.clone());
        let sharing = self.prepared.sharing.clone();
        Some(Reloading::new(file, self.environment.clone(), sharing, Box::new(workers)))
    }

    fn launch_workers<R: Role + Send + 'static>(
        &mut self,
        roles: Vec<(R, Taker<R>)>,
        copies: usize,
        clock: SteadyClock,
    ) -> Result<Workers, Error> {
        let Prepared { config, pool, .. } = &self.prepared;
        let halt = Arc::new(CachePadded::new(AtomicBool::new(false)));
        let queue = handoff::capacity(roles.len(), sizing::shares(config).queue);
        let goodbye = Arc::new(AtomicBool::new(false));
        let mut handoffs = Handoff::new(roles.len(), queue).into_iter();
        let stopped = Arc::new(Barrier::new(roles.len()));
        let pulses: Vec<_> = roles.iter().map(|_| SharedPulse::default()).collect();
        let mut ready = Vec::new();
        let roles = roles.into_iter().zip(&mut handoffs);
        for (number, ((role, successors), handoff)) in roles.enumerate() {
            let idle = idle(&config.worker, &mut self.open.ports);
            ready.push(Worker::new(Parts {
                role,
                successors,
                queues: self.open.ports.each_mut().map(|opened| take_queues(opened, number)),
                pool: pool.handle(),
                handoff,
                reta: self.open.reta.clone(),
                clock,
                idle,
                burst: config.worker.burst.into(),
                copies,
                stop: Arc::clone(&halt),
                stopped: Arc::clone(&stopped),
                pulse: Arc::clone(&pulses[number]),
                says_goodbye: Arc::clone(&goodbye),
            }));
        }
        let eal = &self.prepared.eal;
        let launch = |(lcore, worker): (u32, Worker<R>)| {
            eal.launch(lcore, move || worker.run()).map_err(Error::from)
        };
        let launched: Result<Vec<_>, Error> =
            eal.worker_lcores().into_iter().zip(ready).map(launch).collect();
        if launched.is_err() {
            halt.store(true, Relaxed);
        }
        Ok(Workers { halt, goodbye, launched: launched?, pulses })
    }
}

/// Returns what a worker does when there is nothing to do, and notes it at the ports. If there are
/// several workers, they do not wait for rx events: a handoff from another worker causes none.
fn idle(worker: &config::Worker, ports: &mut [Opened; 2]) -> Idle {
    if worker.poll == config::Poll::Busy {
        return Idle::Busy;
    }
    let events: Vec<_> = match worker.cores.len() {
        1 => ports.iter().map(|opened| opened.port.rx_events()).collect(),
        _ => Vec::new(),
    };
    // With those of one port alone, a packet at the other would go unnoticed.
    let all = !events.is_empty() && events.iter().all(|of_port| !of_port.is_empty());
    for opened in ports {
        opened.waits_for = if all { "packets" } else { "a timer" };
    }
    Idle::Adaptive(if all { events.into_iter().flatten().collect() } else { Vec::new() })
}

/// Makes a reload store the numbers of services before connections refer to them.
fn with_stored_numbers(reloading: Reloading, keeper: &Rc<RefCell<Keeper>>) -> Reloading {
    // The keeper ends before the supervisor: with it, at a hand-over, the lock on the tables.
    let keeper = Rc::downgrade(keeper);
    reloading.with_persist(Box::new(move |numbers| match keeper.upgrade() {
        Some(keeper) => keeper.borrow_mut().store(|state| state.services = numbers.clone()),
        None => Ok(()),
    }))
}

/// Gives the roles' tables their memory.
fn place_tables<R: Role>(kept: Option<&Kept>, roles: &mut [R]) -> Result<(), Error> {
    let Some(kept) = kept else {
        let mut place = |role: &mut R| role.place_tables([None, None]);
        return roles.iter_mut().try_for_each(&mut place).map_err(Error::Tables);
    };
    let sizes: Vec<_> = roles.iter().map(Role::table_bytes).collect();
    for (role, memory) in roles.iter_mut().zip(kept.make_tables(&sizes)?) {
        role.place_tables(memory).map_err(Error::Tables)?;
    }
    Ok(())
}

/// Takes the queues of worker `number` from a port. If the port has too few, the last workers get
/// none.
fn take_queues(opened: &mut Opened, number: usize) -> Queues {
    let tx_workers = usize::from(opened.report.tx_queues).max(1);
    let take_rx = !opened.rx.is_empty();
    let take_tx = !opened.tx.is_empty();
    Queues {
        rx: take_rx.then(|| opened.rx.remove(0)),
        tx: take_tx.then(|| opened.tx.remove(0)),
        tx_worker: number % tx_workers,
        rss_check: opened.steering.rss_check(),
    }
}
