//! The workers: built from a role set and the ports' queues, launched on their cores and joined at
//! the end.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use pipeline::role::Role;

use super::ending::Owned;
use super::ports::{OpenPorts, Opened, Running, all_port_stats, discard};
use super::prepare::Prepared;
use super::upgrade::Upgrades;
use super::watched::Watched;
use super::{Error, Outcome, control_loop};
use crate::config::{self, sizing};
use crate::control::share::Sharing;
use crate::control::supervisor::Supervisor;
use crate::datapath::clock::{Clock, SteadyClock, monotonic};
use crate::datapath::handoff::{self, Handoff};
use crate::datapath::pulse::SharedPulse;
use crate::datapath::worker::{Idle, Parts, Queues, Worker};
use crate::dpdk::{Worker as Launched, cycles};
use crate::roles::{RoleSet, WithRole};
use crate::sys::notify::notify;
use crate::sys::sync::Barrier;

/// Everything needed to launch the workers, whatever the role.
pub(super) struct Launch<'a> {
    pub(super) prepared: Prepared<'a>,
    pub(super) open: OpenPorts,
}

/// The workers, until they are stopped.
struct Workers {
    halt: Arc<CachePadded<AtomicBool>>,
    launched: Vec<Launched<()>>,
    /// Where they say that they come round.
    pulses: Vec<SharedPulse>,
}

impl WithRole for Launch<'_> {
    type Output = Result<Outcome, Error>;

    fn run<R: Role + Send + 'static>(mut self, mut set: RoleSet<R>) -> Self::Output {
        let counters: Vec<_> = set.roles.iter().map(Role::counters).collect();
        let config = self.prepared.config;
        let clock = Clock::new(cycles(), self.prepared.eal.cycles_per_second());
        let sharing = self.prepared.sharing.take().map(Sharing::start);
        let sharing = sharing.transpose().map_err(Error::Sharing)?;
        let steady = RefCell::new(SteadyClock::new(clock, monotonic()));
        self.prepared.phases.done("roles");
        let ports = &mut self.open.ports;
        self.prepared.wait_for_hand_over(true, || discard(ports))?;
        self.adopt(&mut set.roles);
        // Before the workers: they need the time of day from their first packet on.
        let mut supervisor =
            Supervisor::new(set.labels.clone(), counters, set.controls, &config.health)
                .with_clock(move || steady.borrow_mut().at(cycles(), monotonic))
                .with_sharing(sharing);
        self.prepared.serve()?;
        let mut workers = self.launch_workers(set.roles, set.copies, clock)?;
        self.prepared.phases.done("workers");
        self.confirm();
        let Launch { prepared, open } = self;
        let Prepared { options, signals, server, pool, eal, file_prefix, claims, .. } = prepared;
        // It is served by now.
        let Some(mut server) = server else { return Err(Error::Unserved) };
        let ports = open.ports.map(Running::new);
        tracing::info!(
            role = set.labels.role,
            workers = workers.launched.len(),
            socket = %config.control.socket.display(),
            "forwarding packets"
        );
        let mut upgrades = Upgrades::new(set.labels.role, &file_prefix);
        let pulses = std::mem::take(&mut workers.pulses);
        let mut watched = Watched::new(config, &ports, pulses, claims);
        let successor = control_loop(
            &mut supervisor,
            &mut server,
            &mut upgrades,
            &ports,
            &signals,
            options,
            &mut watched,
        );
        if successor.is_none() {
            watched.links.finish(&ports);
        }
        workers.stop()?;
        let stopped = monotonic();
        let mut snapshot = supervisor.snapshot();
        snapshot.ports = all_port_stats(&ports, &watched.links);
        let owned = Owned { ports, pool, eal, server, signals };
        let missing = match successor {
            None => owned.let_go()?,
            Some(successor) => owned.hand_over(successor, stopped)?,
        };
        Ok(Outcome { snapshot, missing })
    }
}

impl Workers {
    /// Stops the workers, which transmit what they still have, and waits for their end.
    fn stop(self) -> Result<(), Error> {
        self.halt.store(true, Relaxed);
        for worker in self.launched {
            worker.join()?;
        }
        Ok(())
    }
}

impl Launch<'_> {
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
    fn adopt<R: Role>(&self, _roles: &mut [R]) {}

    fn launch_workers<R: Role + Send + 'static>(
        &mut self,
        roles: Vec<R>,
        copies: usize,
        clock: Clock,
    ) -> Result<Workers, Error> {
        let Prepared { config, pool, .. } = &self.prepared;
        let halt = Arc::new(CachePadded::new(AtomicBool::new(false)));
        let queue = handoff::capacity(roles.len(), sizing::shares(config).queue);
        let mut handoffs = Handoff::new(roles.len(), queue).into_iter();
        let stopped = Arc::new(Barrier::new(roles.len()));
        let pulses: Vec<_> = roles.iter().map(|_| SharedPulse::default()).collect();
        let mut ready = Vec::new();
        for (number, (role, handoff)) in roles.into_iter().zip(&mut handoffs).enumerate() {
            let idle = self.idle();
            ready.push(Worker::new(Parts {
                role,
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
        Ok(Workers { halt, launched: launched?, pulses })
    }

    /// Returns what a worker does when there is nothing to do. If there are several workers, they
    /// do not wait for rx events: a handoff from another worker causes none.
    fn idle(&self) -> Idle {
        let config = self.prepared.config;
        if config.worker.poll == config::Poll::Busy {
            return Idle::Busy;
        }
        let mut events = Vec::new();
        if config.worker.cores.len() == 1 {
            for opened in &self.open.ports {
                match opened.port.rx_events() {
                    of_port if of_port.is_empty() => return Idle::Adaptive(Vec::new()),
                    of_port => events.extend(of_port),
                }
            }
        }
        Idle::Adaptive(events)
    }
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
