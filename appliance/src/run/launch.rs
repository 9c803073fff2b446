//! The workers: built from a role set and the ports' queues, launched on their cores and joined at
//! the end.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use pipeline::role::Role;

use super::ports::{Opened, Running, all_port_stats};
use super::signals::Signals;
use super::{Error, Options, Outcome, control_loop};
use crate::config::{self, Config, sizing};
use crate::control::share::{self, Sharing};
use crate::control::socket::Server;
use crate::control::supervisor::Supervisor;
use crate::datapath::clock::{Clock, SteadyClock, monotonic};
use crate::datapath::handoff::{self, Handoff};
use crate::datapath::rss::RetaMap;
use crate::datapath::worker::{Idle, Parts, Queues, Worker};
use crate::dpdk::{Eal, MbufPool, Worker as Launched, cycles};
use crate::roles::{RoleSet, WithRole};
use crate::sys::sync::Barrier;

/// Everything needed to launch the workers, whatever the role.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) eal: Eal,
    pub(super) pool: MbufPool,
    pub(super) ports: [Opened; 2],
    pub(super) reta: RetaMap,
    pub(super) server: Server,
    pub(super) signals: Signals,
    pub(super) options: Options,
    pub(super) sharing: Option<share::Settings>,
}

impl WithRole for Launch<'_> {
    type Output = Result<Outcome, Error>;

    fn run<R: Role + Send + 'static>(mut self, set: RoleSet<R>) -> Self::Output {
        let counters: Vec<_> = set.roles.iter().map(Role::counters).collect();
        let halt = Arc::new(CachePadded::new(AtomicBool::new(false)));
        let clock = Clock::new(cycles(), self.eal.cycles_per_second());
        let sharing = self.sharing.take().map(Sharing::start);
        let sharing = sharing.transpose().map_err(Error::Sharing)?;
        let steady = RefCell::new(SteadyClock::new(clock, monotonic()));
        // Before the workers: they need the time of day from their first packet on.
        let mut supervisor =
            Supervisor::new(set.labels.clone(), counters, set.controls, &self.config.health)
                .with_clock(move || steady.borrow_mut().at(cycles(), monotonic))
                .with_sharing(sharing);
        let goodbye = Arc::new(AtomicBool::new(false));
        let launched = self.launch_workers(set.roles, set.copies, clock, (&halt, &goodbye))?;
        let Launch { eal, pool, ports, mut server, signals, options, config, .. } = self;
        let ports = ports.map(|opened| Running {
            port: opened.port,
            driver: opened.report.driver,
            steering: opened.steering,
            interface: opened.interface,
        });
        let role = set.labels.role;
        tracing::info!(
            role,
            workers = launched.len(),
            socket = %config.control.socket.display(),
            "forwarding packets"
        );
        control_loop(&mut supervisor, &mut server, &ports, &signals, options);
        // Nothing keeps the tables: who loses a connection is told. At the end of captures nobody is.
        goodbye.store(signals.stop.load(Relaxed), Relaxed);
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
        clock: Clock,
        (halt, goodbye): (&Arc<CachePadded<AtomicBool>>, &Arc<AtomicBool>),
    ) -> Result<Vec<Launched<()>>, Error> {
        let queue = handoff::capacity(roles.len(), sizing::shares(self.config).queue);
        let mut handoffs = Handoff::new(roles.len(), queue).into_iter();
        let stopped = Arc::new(Barrier::new(roles.len()));
        let mut ready = Vec::new();
        for (number, (role, handoff)) in roles.into_iter().zip(&mut handoffs).enumerate() {
            ready.push(Worker::new(Parts {
                role,
                queues: self.ports.each_mut().map(|opened| take_queues(opened, number)),
                pool: self.pool.handle(),
                handoff,
                reta: self.reta.clone(),
                clock,
                idle: self.idle(),
                burst: self.config.worker.burst.into(),
                copies,
                stop: Arc::clone(halt),
                stopped: Arc::clone(&stopped),
                says_goodbye: Arc::clone(goodbye),
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

    /// Returns what a worker does when there is nothing to do. If there are several workers, they
    /// do not wait for rx events: a handoff from another worker causes none.
    fn idle(&self) -> Idle {
        if self.config.worker.poll == config::Poll::Busy {
            return Idle::Busy;
        }
        let mut events = Vec::new();
        if self.config.worker.cores.len() == 1 {
            for opened in &self.ports {
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
