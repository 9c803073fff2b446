//! Results of many runs.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use pipeline::verdict::Verdict;

use super::check::{Judgement, judge};
use super::client::Outcome;
use super::plan::Behaviour;
use super::server::End;
use super::station;
use super::world::World;

/// Sums over runs.
#[derive(Debug)]
pub struct Tally {
    begun: Instant,
    /// Runs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Connections, by result.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// Connections that met a known limitation, and the first seed of one.
    pub limitations: BTreeMap<&'static str, (u64, u64)>,
    /// SYNs that servers accepted, by result.
    pub ends: BTreeMap<&'static str, u64>,
    /// Packets by verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            runs: 0,
            events: 0,
            outcomes: BTreeMap::new(),
            limitations: BTreeMap::new(),
            ends: BTreeMap::new(),
            verdicts: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Adds a run.
    pub fn add(&mut self, world: &World) {
        self.runs += 1;
        self.events += world.events;
        let origin = world.plan.origin;
        let calls =
            world.clients().flat_map(|client| client.calls.iter().map(move |c| (client, c)));
        for (client, call) in calls {
            let what = outcome(call.outcome.as_ref(), origin);
            *self.outcomes.entry(what).or_default() += 1;
            if let Judgement::ExpectedFailure(what) = judge(world, client.endpoint(call), call) {
                self.limitations.entry(what).or_insert((0, world.plan.seed)).0 += 1;
            }
        }
        for record in world.servers().flat_map(|server| &server.records) {
            let what = end(record.established.is_some(), record.end.map(|(_, end)| end));
            *self.ends.entry(what).or_default() += 1;
        }
        for verdict in Verdict::ALL {
            let count: u64 = world.stations().iter().map(|s| station::count(&**s, *verdict)).sum();
            if count > 0 {
                *self.verdicts.entry(verdict.name()).or_default() += count;
            }
        }
    }
}

fn outcome(outcome: Option<&Outcome>, origin: Behaviour) -> &'static str {
    match outcome {
        Some(Outcome::Completed(server)) if *server < 10 => "completed by the origin",
        Some(Outcome::Completed(_)) => "completed by a replica",
        Some(Outcome::Refused) => "refused by the origin",
        Some(Outcome::Unanswered) if origin == Behaviour::Silent => "unanswered, the origin silent",
        Some(Outcome::Unanswered) => "given up before an answer",
        Some(Outcome::GaveUp) => "given up by an impatient client",
        Some(Outcome::Broken(_)) => "BROKEN",
        Some(Outcome::Wrong(_)) => "WRONG",
        None => "WITHOUT END",
    }
}

fn end(established: bool, end: Option<End>) -> &'static str {
    match (established, end) {
        (true, Some(End::Closed)) => "open, closed",
        (true, Some(End::Reset)) => "open, reset by the client",
        (true, Some(End::Aborted)) => "open, stood still",
        (true, Some(End::Replaced)) => "open, replaced by the client's next",
        (true, Some(End::TimedOut) | None) => "open, WITHOUT END",
        (false, Some(End::TimedOut)) => "half open, timed out",
        (false, Some(_)) => "half open, reset",
        (false, None) => "half open, WITHOUT END",
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.begun.elapsed().as_secs_f64();
        let connections: u64 = self.outcomes.values().sum();
        writeln!(
            f,
            "{} seeds, {connections} connections, {} events in {seconds:.1} s: {:.0} seeds/s",
            self.runs,
            self.events,
            self.runs as f64 / seconds,
        )?;
        let parts = [
            ("connections", &self.outcomes),
            ("start packets at servers", &self.ends),
            ("packets", &self.verdicts),
        ];
        for (what, counts) in parts {
            writeln!(f, "{what}:")?;
            for (name, count) in counts {
                writeln!(f, "  {count:>9} {name}")?;
            }
        }
        writeln!(f, "known limitations met:")?;
        for (name, (count, seed)) in &self.limitations {
            writeln!(f, "  {count:>9} {name} (first in seed {seed})")?;
        }
        Ok(())
    }
}
