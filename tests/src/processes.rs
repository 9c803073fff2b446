//! firstack processes at every site of a [`Topology`]: writes their configurations, starts them in
//! their namespaces, reads their counters, and ends them.
//!
//! Everything that a process leaves (control socket, DPDK's runtime files, log) is in the
//! laboratory's directory and is removed with it, however the process ends.

mod options;
mod process;
mod texts;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;
use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

use crate::lab::{Lab, LabError, Result, Topology};

pub use options::{
    Checks, Configuration, Further, HealthTimes, OriginServer, ProcessOptions, TunnelFormat,
};
pub use process::{Appliance, Ended};

/// The gateway, the switch and the replicas' appliances of one topology.
#[derive(Debug)]
pub struct Processes {
    appliances: Vec<Appliance>,
    pause: Duration,
}

impl Processes {
    /// Starts one process at every site and waits until all of them forward.
    pub fn start(lab: &Lab, topology: &Topology, options: &ProcessOptions) -> Result<Self> {
        let binary = match &options.binary {
            Some(path) => path.clone(),
            None => find_firstack()?,
        };
        let cpus = allowed_cpus();
        let mut appliances = Vec::new();
        for (number, place) in topology.places().iter().enumerate() {
            // Gateway and nearest replica, which carry the load, get separate CPUs.
            let first = [0, 1, 1, 0][number % 4];
            let workers = if number == 0 { options.gateway_workers.max(1) } else { 1 };
            let cores = (0..workers).map(|worker| cpus[(first + worker) % cpus.len()]);
            let cores: Vec<_> = cores.collect();
            let text = texts::file(lab, topology, options, place.site, &cores);
            let namespace = place.appliance.clone().ok_or_else(|| {
                LabError::Topology("a direct topology has no place for appliances".into())
            })?;
            let appliance = Appliance::new(lab, place, namespace, &binary, &text)?;
            if let Some(keys) = &options.keys {
                appliance.write_keys(keys)?;
            }
            appliances.push(appliance);
        }
        // All at once: each takes a moment to start.
        for appliance in &mut appliances {
            appliance.launch(lab)?;
        }
        for appliance in &mut appliances {
            appliance.wait_until_forwarding()?;
        }
        Ok(Self { appliances, pause: options.pause() })
    }

    /// Returns the clients' gateway.
    #[must_use]
    pub fn gateway(&self) -> &Appliance {
        &self.appliances[0]
    }

    /// Returns the origin's switch.
    #[must_use]
    pub fn switch(&self) -> &Appliance {
        &self.appliances[1]
    }

    /// Returns the appliance of a place in the order of [`Processes::all`], to upgrade it.
    pub fn nth_mut(&mut self, number: usize) -> &mut Appliance {
        &mut self.appliances[number]
    }

    /// Returns the appliance of a replica, counted from 1.
    #[must_use]
    pub fn replica(&self, number: usize) -> &Appliance {
        &self.appliances[1 + number]
    }

    /// Returns the appliance of a replica, to kill or start it.
    pub fn replica_mut(&mut self, number: usize) -> &mut Appliance {
        &mut self.appliances[1 + number]
    }

    /// Returns the appliance with this number in the order of [`Processes::all`], to kill or start it.
    pub fn one_mut(&mut self, number: usize) -> &mut Appliance {
        &mut self.appliances[number]
    }

    /// Removes those that were killed and not started again.
    pub fn forget_killed(&mut self) {
        self.appliances.retain(Appliance::runs);
    }

    /// Returns all of them: gateway, switch, replica 1, 2, ...
    #[must_use]
    pub fn all(&self) -> &[Appliance] {
        &self.appliances
    }

    /// Waits until no counter moves and every packet is accounted for, at most this long. Returns
    /// the counters in the order of [`Processes::all`], even after a time-out.
    pub fn settle(&self, limit: Duration) -> Result<Vec<Snapshot>> {
        let start = Instant::now();
        let mut last = self.stats()?;
        loop {
            std::thread::sleep(self.pause);
            let now = self.stats()?;
            let still = now == last && now.iter().all(Snapshot::is_conserved);
            if still || start.elapsed() >= limit {
                return Ok(now);
            }
            last = now;
        }
    }

    /// Returns the counters of all, in the order of [`Processes::all`].
    pub fn stats(&self) -> Result<Vec<Snapshot>> {
        self.appliances.iter().map(Appliance::stats).collect()
    }

    /// Ends all of them by SIGTERM, and returns their results.
    pub fn stop(self) -> Result<Vec<Ended>> {
        self.appliances.into_iter().map(Appliance::stop).collect()
    }
}

/// Finds `firstack`: `FIRSTACK`, beside this program, or (tests) one level up.
fn find_firstack() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("FIRSTACK") {
        return Ok(path.into());
    }
    let own = std::env::current_exe().unwrap_or_default();
    let mut above = own.ancestors().skip(1).take(2).map(|directory| directory.join("firstack"));
    above.find(|path| path.is_file()).ok_or_else(|| {
        let beside = own.display();
        let how = "build it (cargo build -p firstack), or name it in FIRSTACK";
        LabError::Topology(format!("cannot find firstack beside {beside}: {how}"))
    })
}

/// Returns the CPUs that this process may use, at least one.
fn allowed_cpus() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    let cpus: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect();
    if cpus.is_empty() { vec![0] } else { cpus }
}
