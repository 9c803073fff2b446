//! What the control thread does besides answering: probes servers, puts members in and takes them
//! out, opens and closes gates, reads keys again. The workers are told through what they read
//! once a burst; they never wait.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use pipeline::counters::Counters;

use super::members::Members;
use crate::config::{self, Check};
use crate::control::health::{BusyFile, Http, Prober, Settings, Target};
use crate::control::keys;
use crate::control::socket::{Answer, Command, Name};
use crate::control::stats::{Neighbour, Snapshot};
use crate::roles::{self, Controls, Labels};

/// The name of the busy signal among the probed.
const BUSY_CHECK: &str = "busy_check";

/// The control thread's work on a running role set.
pub struct Supervisor {
    labels: Labels,
    counters: Vec<Arc<Counters>>,
    controls: Controls,
    members: Members,
    prober: Prober,
    /// The probed target that says whether the replica is busy.
    busy_target: Option<usize>,
    busy_file: Option<BusyFile>,
    /// An operator's word that the replica is busy.
    busy_by_order: bool,
    /// Destinations left untagged, as far as they have been logged.
    given_up: Vec<u64>,
    /// When some were logged.
    given_up_logged: Option<Instant>,
}

/// Between two lines of the log about destinations left untagged: a flood of start packets that
/// nobody answers may give them up over and over.
const LOG_GIVEN_UP: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Looks after workers that count here.
    pub fn new(
        labels: Labels,
        counters: Vec<Arc<Counters>>,
        mut controls: Controls,
        health: &config::Health,
    ) -> Self {
        let mut targets = Vec::new();
        let mut add = |name: &str, check: &Check, tells_busy| {
            targets.push(target(name, check, tells_busy));
            targets.len() - 1
        };
        let members = Members::new(std::mem::take(&mut controls.members), |member| {
            member.check.as_ref().map(|check| add(&member.name, check, false))
        });
        let busy_target = controls.busy_check.as_ref().map(|check| add(BUSY_CHECK, check, true));
        let settings = Settings {
            interval: health.interval,
            timeout: health.timeout,
            rise: health.rise,
            fall: health.fall,
        };
        let supervisor = Self {
            given_up: vec![0; counters.len()],
            given_up_logged: None,
            labels,
            counters,
            members,
            prober: Prober::new(settings, targets, Instant::now()),
            busy_target,
            busy_file: controls.busy_file.clone().map(BusyFile::new),
            busy_by_order: false,
            controls,
        };
        (supervisor.controls.apply)(&supervisor.members.states());
        supervisor
    }

    /// One round: takes at most as long as `longest`, in which probes are waited for.
    pub fn run_once(&mut self, longest: Duration) {
        self.prober.wait(longest);
        let now = Instant::now();
        let mut signal = self.busy_file.as_mut().and_then(|file| file.step(now)).is_some();
        let changes: Vec<_> = self.prober.step(now).collect();
        for change in changes {
            signal |= Some(change.target) == self.busy_target;
            let name = self.members.name_of_target(change.target).unwrap_or(BUSY_CHECK);
            tracing::warn!(
                name,
                state = change.to.name(),
                busy = change.busy,
                reason = change.reason,
                "health"
            );
        }
        if signal {
            self.set_busy();
        }
        let (prober, tunnels) = (&self.prober, self.controls.tunnels.as_deref());
        let up = |target| prober.health(target).is_up();
        let answers = |number| tunnels.is_none_or(|tunnels| tunnels.is_alive(number));
        if self.members.update(up, answers) {
            (self.controls.apply)(&self.members.states());
        }
        self.log_given_up();
    }

    /// Logs destinations that were left untagged since the last line about them.
    fn log_given_up(&mut self) {
        if self.given_up_logged.is_some_and(|at| at.elapsed() < LOG_GIVEN_UP) {
            return;
        }
        for (counters, seen) in self.counters.iter().zip(&mut self.given_up) {
            let (count, server) = (counters.given_up.count.get(), counters.given_up.last());
            if count > *seen {
                let times = count - std::mem::replace(seen, count);
                self.given_up_logged = Some(Instant::now());
                tracing::warn!(
                    %server,
                    times,
                    "tagged start packets to it go unanswered: left untagged a while"
                );
            }
        }
    }

    /// Packets received by all workers.
    pub fn received(&self) -> u64 {
        let sides = self.counters.iter().flat_map(|counters| &counters.sides);
        sides.map(|side| side.received.get()).sum()
    }

    /// Does what an operator asks for.
    pub fn answer(&mut self, command: Command) -> Answer {
        match command {
            Command::Stats => Answer::Stats(Box::new(self.snapshot())),
            Command::Drain { name: None } => self.set_dead(true),
            Command::Undrain { name: None } => self.set_dead(false),
            Command::Drain { name: Some(name) } => self.drain(&name, true),
            Command::Undrain { name: Some(name) } => self.drain(&name, false),
            Command::Busy => self.order_busy(true),
            Command::Unbusy => self.order_busy(false),
            Command::Reload => self.reload(),
        }
    }

    /// Drains a replica as a whole, or takes that back (op 404).
    fn set_dead(&self, value: bool) -> Answer {
        let Some(gates) = &self.controls.gates else {
            return Answer::Error(format!("a {} cannot be drained", self.labels.role));
        };
        gates.dead.store(value, Relaxed);
        tracing::info!(value, "drained, by an operator");
        Answer::Done(format!("drained: {value}"))
    }

    /// A replica counts as busy, or by its load alone again (op 406).
    fn order_busy(&mut self, value: bool) -> Answer {
        if self.controls.gates.is_none() {
            return Answer::Error(format!("a {} cannot be busy", self.labels.role));
        }
        self.busy_by_order = value;
        self.set_busy();
        tracing::info!(value, "busy, by an operator");
        Answer::Done(format!("busy: {value}"))
    }

    fn busy_by_signal(&self) -> bool {
        let file = self.busy_file.as_ref().is_some_and(BusyFile::busy);
        file || self.busy_target.is_some_and(|target| self.prober.health(target).busy())
    }

    fn set_busy(&self) {
        if let Some(gates) = &self.controls.gates {
            gates.busy.store(self.busy_by_order || self.busy_by_signal(), Relaxed);
        }
    }

    /// Drains one server or replica, or takes that back.
    fn drain(&mut self, name: &Name, value: bool) -> Answer {
        if !self.members.set_drained(name.as_str(), value) {
            let what = if value { "drain" } else { "undrain" };
            let known = self.members.names();
            let role = self.labels.role;
            return Answer::Error(match known.is_empty() {
                true => format!("a {role} has nothing to {what} by name"),
                false => format!("no {name} here to {what}; expected one of {known}"),
            });
        }
        (self.controls.apply)(&self.members.states());
        tracing::info!(%name, value, "drained, by an operator");
        Answer::Done(format!("{name} drained: {value}"))
    }

    /// Reads the key file again. What is wrong with it leaves the keys as they were.
    pub fn reload(&mut self) -> Answer {
        let Some((path, purpose)) = &self.controls.key_file else {
            return Answer::Error(format!("this {} has no key file", self.labels.role));
        };
        match keys::Keys::load(path, *purpose) {
            Ok(keys) => {
                self.controls.keys.publish(roles::pipeline_keys(&keys, *purpose));
                let ids: Vec<_> = keys.all().iter().map(|(id, _)| id.to_string()).collect();
                tracing::info!(ids = ids.join(","), "keys read again");
                Answer::Done(format!("keys: {}", ids.join(", ")))
            }
            Err(error) => {
                tracing::error!("the keys stay as they are: {error}");
                Answer::Error(format!("the keys stay as they are: {error}"))
            }
        }
    }

    /// All counters.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::take(&self.labels, &self.counters);
        if let Some(gates) = &self.controls.gates {
            let gates = [
                ("drained", gates.dead.load(Relaxed)),
                ("busy by order", self.busy_by_order),
                ("busy by signal", self.busy_by_signal()),
            ];
            let set = gates.into_iter().filter(|(_, value)| *value);
            snapshot.gates = set.map(|(name, _)| name.to_owned()).collect();
        }
        snapshot.out = self.members.out();
        snapshot.health = self.prober.stats();
        let neighbours = self.controls.neighbours.iter().flat_map(|neighbours| neighbours.list());
        snapshot.neighbours = neighbours.map(Neighbour::from).collect();
        snapshot
    }
}

fn target(name: &str, check: &Check, tells_busy: bool) -> Target {
    Target {
        name: name.to_owned(),
        address: check.target,
        http: check.http.as_ref().map(|http| Http {
            host: http.host.clone(),
            path: http.path.clone(),
            tells_busy,
        }),
    }
}

#[cfg(test)]
mod tests;
