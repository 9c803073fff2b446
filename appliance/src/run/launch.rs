//! The workers: made of a crew and the ports' queues, launched on their cores, and joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::utils::CachePadded;
use pipeline::role::Role;

use super::ports::{Opened, Running, all_port_stats};
use super::signals::Signals;
use super::{Error, Options, Outcome, attend};
use crate::config::{self, Config, sizing};
use crate::control::socket::Server;
use crate::control::supervisor::Supervisor;
use crate::datapath::clock::Clock;
use crate::datapath::handoff::{self, Mail};
use crate::datapath::rss::Owners;
use crate::datapath::worker::{Idle, Parts, Queues, Worker};
use crate::dpdk::{Eal, MbufPool, Worker as Launched, cycles};
use crate::roles::{Crew, Task};
use crate::sys::sync::Barrier;

/// Everything that the workers' launch needs, whatever the role.
pub(super) struct Launch<'a> {
    pub(super) config: &'a Config,
    pub(super) eal: Eal,
    pub(super) pool: MbufPool,
    pub(super) ports: [Opened; 2],
    pub(super) owners: Owners,
    pub(super) server: Server,
    pub(super) signals: Signals,
    pub(super) options: Options,
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
