//! What an operator drains: the whole process, services of a gateway or a switch, replicas and
//! servers.

use std::sync::atomic::Ordering::Relaxed;

use pipeline::counters::TableCounters;
use pipeline::policy::drain::Left;

use super::Supervisor;
use crate::control::drains::Drains;
use crate::control::socket::{Answer, Name};
use crate::control::stats::DrainStats;

impl Supervisor {
    /// Returns what is drained and busy by an operator's command, for a later process.
    pub fn drains(&self) -> Drains {
        let services = self.drained_services().map(|(_, name)| name.to_owned()).collect();
        let members = self.members.drained().map(str::to_owned).collect();
        Drains { whole: self.is_drained(), services, members, busy: self.busy_by_operator }
    }

    /// Drains what an earlier process, or an earlier configuration, had drained. Returns the names
    /// that the configuration does not know any more.
    pub fn restore_drains(&mut self, drains: &Drains) -> Vec<String> {
        if drains.whole {
            self.set_drained(true);
        }
        if drains.busy && self.controls.admission.is_some() {
            self.busy_by_operator = true;
            self.set_busy();
        }
        let mut unknown = Vec::new();
        for name in &drains.services {
            if !self.set_service_drained(name, true) {
                unknown.push(name.clone());
            }
        }
        for name in &drains.members {
            if self.members.set_drained(name, true).is_none() {
                unknown.push(name.clone());
            }
        }
        if !drains.members.is_empty() {
            (self.controls.apply)(&self.members.states());
        }
        unknown
    }

    /// Drains or undrains the whole process, a service, or a server or replica.
    pub(super) fn drain(&mut self, name: Option<&Name>, drained: bool) -> Answer {
        let Some(name) = name else {
            if !self.set_drained(drained) {
                return Answer::Error(format!("a {} cannot be drained", self.labels.role));
            }
            log_drained(self.labels.role, drained);
            return Answer::Done(format!("{} {}", self.labels.role, drained_word(drained)));
        };
        let mut but = String::new();
        // A service has no name of a server or replica.
        if !self.set_service_drained(name.as_str(), drained) {
            let Some(remaining) = self.members.set_drained(name.as_str(), drained) else {
                return Answer::Error(self.unknown(name));
            };
            (self.controls.apply)(&self.members.states());
            if !drained {
                but = self.still_out(name, remaining);
            }
        }
        log_drained(name.as_str(), drained);
        let colon = if but.is_empty() { "" } else { ":" };
        Answer::Done(format!("{name}{colon} {}{but}", drained_word(drained)))
    }

    /// Returns what can be drained instead of something that is not known.
    fn unknown(&self, name: &Name) -> String {
        let (name, members) = (name.as_str(), self.members.names());
        match (&self.controls.drain, members.is_empty()) {
            (Some(_), true) => {
                format!("unknown service {name:?}; known: {}", self.labels.services.join(", "))
            }
            (Some(_), false) => {
                let services = self.labels.services.join(", ");
                format!("unknown service, server or replica {name:?}; known: {services}, {members}")
            }
            (None, _) => format!("unknown server or replica {name:?}; known: {members}"),
        }
    }

    /// Drains or undrains the whole process (op 404 at a replica). Returns `false` if its role cannot
    /// be.
    fn set_drained(&self, drained: bool) -> bool {
        match (&self.controls.drain, &self.controls.admission) {
            (Some(drain), _) => drain.set_whole(drained),
            (None, Some(admission)) => admission.dead.store(drained, Relaxed),
            (None, None) => return false,
        }
        true
    }

    /// Drains or undrains a service. Returns `false` if there is none of this name.
    fn set_service_drained(&self, name: &str, drained: bool) -> bool {
        let Some(drain) = &self.controls.drain else { return false };
        let number = self.labels.services.iter().position(|service| service == name);
        number.is_some_and(|number| drain.set_service(number, drained))
    }

    /// Returns how many connections of a replica have not ended, by the gauges of its tables.
    fn unfinished(&self) -> u64 {
        let counts = |state: &&str| ["opening", "established", "half_closed"].contains(state);
        let of_table = |table: &TableCounters| -> u64 {
            let gauges = self.labels.states.iter().zip(&table.live);
            gauges.filter(|(state, _)| counts(state)).map(|(_, gauge)| gauge.get()).sum()
        };
        let tables = self.counters.iter().map(|counters| counters.common());
        tables.map(|common| of_table(&common.table) + of_table(&common.table_v6)).sum()
    }

    fn is_drained(&self) -> bool {
        match (&self.controls.drain, &self.controls.admission) {
            (Some(drain), _) => drain.is_whole(),
            (None, Some(admission)) => admission.dead.load(Relaxed),
            (None, None) => false,
        }
    }

    /// Returns the services that are drained by themselves, with their numbers.
    fn drained_services(&self) -> impl Iterator<Item = (usize, &str)> {
        let drain = self.controls.drain.as_deref();
        let numbered = self.labels.services.iter().map(String::as_str).enumerate();
        numbered.filter(move |(number, _)| drain.is_some_and(|drain| drain.is_service(*number)))
    }

    /// Returns what is drained, and what is left of it.
    pub(super) fn drained(&self) -> Vec<DrainStats> {
        let Some(drain) = &self.controls.drain else {
            let connections = Some(self.unfinished());
            let whole = DrainStats { connections, ..DrainStats::default() };
            return if self.is_drained() { vec![whole] } else { Vec::new() };
        };
        let workers = self.counters.len();
        let now = (self.clock)();
        let stats = |name: &str, left: Option<Left>| DrainStats {
            name: name.to_owned(),
            connections: left.map(|left| left.connections),
            last_heard_ms: left
                .filter(|left| left.connections > 0)
                .map(|left| now.since(left.seen).micros() / 1000),
        };
        let whole = drain.is_whole().then(|| stats("", drain.left(workers)));
        let of_service =
            |(number, name): (usize, &str)| stats(name, drain.left_of(number, workers));
        whole.into_iter().chain(self.drained_services().map(of_service)).collect()
    }
}

fn drained_word(drained: bool) -> &'static str {
    if drained { "drained" } else { "undrained" }
}

fn log_drained(name: &str, drained: bool) {
    match drained {
        true => tracing::info!(name, "drained by operator"),
        false => tracing::info!(name, "undrained by operator"),
    }
}
