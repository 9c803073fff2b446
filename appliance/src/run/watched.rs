//! What the control loop looks after beside the supervisor: the workers' pulses, the links, the
//! interfaces below the ports.

use std::time::Instant;

use super::links::Links;
use super::ports::Running;
use super::preflight::Claims;
use super::watch::Watch;
use crate::config::Config;
use crate::control::watchdog::{Stuck, Watchdog};
use crate::datapath::pulse::SharedPulse;
use crate::sys::end;

/// What is looked after.
pub(super) struct Watched {
    pub(super) links: Links,
    watch: Watch,
    watchdog: Watchdog,
    claims: Claims,
}

impl Watched {
    /// Begins to look after the ports and the workers with these pulses, one on each CPU that the
    /// configuration names.
    pub(super) fn new(
        config: &Config,
        ports: &[Running; 2],
        pulses: Vec<SharedPulse>,
        claims: Claims,
    ) -> Self {
        let cores = config.worker.cores.iter().copied();
        Self {
            links: Links::new(ports, config.ports.links.propagate_link),
            watch: Watch::new(),
            watchdog: Watchdog::new(config.worker.watchdog, cores.zip(pulses)),
            claims,
        }
    }

    /// Does what is due. Ends the process if a worker is stuck.
    pub(super) fn step(&mut self, ports: &[Running; 2]) {
        self.watch.step(ports);
        self.links.step(ports);
        self.claims.step();
        if let Some(stuck) = self.watchdog.step(Instant::now()) {
            let Stuck { worker, core, stage, run, rounds } = stuck;
            let (stage, thread) = (stage.name(), run.name());
            end::abort(|| {
                tracing::error!(
                    worker,
                    core,
                    stage,
                    thread,
                    rounds,
                    "worker does not come round any more, the process ends"
                );
            });
        }
    }
}
