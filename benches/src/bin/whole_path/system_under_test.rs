//! The systems under test: forwarders, their input, and the expected verdicts.

use std::sync::Arc;

use anyhow::{Result, ensure};
use firstack::datapath::worker::Worker;
use pipeline::counters::RoleCounters;
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::verdict::{Fate, Verdict};

use crate::source::{Program, Source};
use crate::template::Template;

/// Forwards between two ports.
pub trait Forwarder {
    /// Forwards one burst from each port. Returns the number of frames.
    fn poll_once(&mut self) -> usize;
    /// Returns the role's counters. Bare loops have none.
    fn counters(&self) -> Option<&Arc<dyn RoleCounters>>;
    /// Returns the number of frames that a port did not accept.
    fn lost(&self) -> u64;
}

/// A role in the appliance's worker.
pub struct Driven<R> {
    /// The worker, as `firstack run` has one on each core.
    pub worker: Worker<R>,
    /// The role's counters.
    pub counters: Arc<dyn RoleCounters>,
}

impl<R: Role> Forwarder for Driven<R> {
    fn poll_once(&mut self) -> usize {
        self.worker.poll_once()
    }

    fn counters(&self) -> Option<&Arc<dyn RoleCounters>> {
        Some(&self.counters)
    }

    fn lost(&self) -> u64 {
        Side::ALL.iter().map(|&side| self.counters.side(side).unsent.get()).sum()
    }
}

/// A forwarder and the sources of its two ports.
pub struct SystemUnderTest {
    pub name: String,
    pub forwarder: Box<dyn Forwarder>,
    pub sources: [Source; 2],
}

/// A measurement.
pub struct Case {
    pub name: String,
    /// Index of the system.
    pub system: usize,
    /// The packets that the ports receive, inside and outside. Kept here between two slices.
    pub programs: [Program; 2],
    /// The allowed verdicts, by side. Bare loops are not checked.
    pub verdicts: [Vec<Verdict>; 2],
    /// The base of the comparison.
    pub base: Base,
    /// Bytes of a frame from each side.
    pub bytes: [usize; 2],
}

/// The base of a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// The io loop with packets from both sides.
    BothWays,
    /// The io loop with packets from one side.
    OneWay,
    /// The io loop with packets from both sides, from L3.
    FromL3,
}

/// Packets that open connections and packets of open ones, inside and outside.
pub struct Opening {
    /// The side that opens connections.
    pub first: Side,
    /// Packets that open a connection: from the first side, and the other side's response.
    pub opening: [Template; 2],
    /// Their verdicts.
    pub opened: [Verdict; 2],
    /// Packets of an open connection.
    pub going: [Template; 2],
    /// Their verdicts.
    pub gone: [Verdict; 2],
}

/// Connections opened at once. Few enough that their data comes before the time-out of the race.
const AT_ONCE: u32 = 65_536;
/// Bursts by which the second side is behind the first.
const LATE: u32 = 4;

impl SystemUnderTest {
    /// Opens connections through the pipeline, and sends a packet of each in both directions.
    pub fn open(&mut self, how: &Opening, connections: u32) -> Result<()> {
        let mut from = 0;
        while from < connections {
            let end = connections.min(from.saturating_add(AT_ONCE));
            for (templates, verdicts) in [(&how.opening, how.opened), (&how.going, how.gone)] {
                let once = |side: Side| Program::Once {
                    template: templates[side as usize].clone(),
                    next: from,
                    end,
                    late: if side == how.first { 0 } else { LATE },
                };
                self.once([once(Side::Inside), once(Side::Outside)], verdicts, end - from)?;
            }
            from = end;
        }
        Ok(())
    }

    /// Runs finite programs to their end: `count` packets on each side.
    pub fn once(
        &mut self,
        programs: [Program; 2],
        verdicts: [Verdict; 2],
        count: u32,
    ) -> Result<()> {
        let before = self.tally();
        for (source, program) in self.sources.iter().zip(programs) {
            source.play(program);
        }
        let (mut left, mut idle) = (2 * count as usize, 0);
        while left > 0 {
            let seen = self.forwarder.poll_once();
            idle = if seen == 0 { idle + 1 } else { 0 };
            ensure!(idle < 1_000, "{}: the source has dried up", self.name);
            left -= seen.min(left);
        }
        let after = self.tally();
        self.check(&before, &after, &verdicts.map(|verdict| vec![verdict]), 2 * u64::from(count))
    }

    /// Returns the current counters.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally { lost: self.forwarder.lost(), ..Tally::default() };
        if let Some(counters) = self.forwarder.counters() {
            for side in Side::ALL {
                let own = counters.side(side);
                let at = side as usize;
                tally.received[at] = own.received.get();
                tally.verdicts[at] = own.verdicts.iter().map(|counter| counter.get()).collect();
                tally.sent += own.sent.get();
            }
            tally.made = counters.generated.iter().map(|counter| counter.get()).sum::<u64>();
        }
        tally
    }

    /// Fails unless every packet got an allowed verdict, and left.
    pub fn check(
        &self,
        before: &Tally,
        after: &Tally,
        verdicts: &[Vec<Verdict>; 2],
        packets: u64,
    ) -> Result<()> {
        let name = &self.name;
        ensure!(after.lost == before.lost, "{name}: a port did not take all that was sent");
        if self.forwarder.counters().is_none() {
            return Ok(());
        }
        let received: u64 = (0..2).map(|side| after.received[side] - before.received[side]).sum();
        ensure!(received == packets, "{name}: received {received} of {packets} packets");
        for (side, verdicts) in verdicts.iter().enumerate() {
            let received = after.received[side] - before.received[side];
            let changed: u64 = verdicts.iter().map(|&v| after.since(before, side, v)).sum();
            let names: Vec<_> = verdicts.iter().map(|verdict| verdict.name()).collect();
            ensure!(
                changed == received,
                "{name}: {changed} of {received} packets came to {}: {}",
                names.join(" or "),
                after.all_since(before, side)
            );
        }
        // Forwarded and generated packets leave with the next burst at the latest.
        let (sent, forwarded) = (after.sent - before.sent, after.out() - before.out());
        ensure!(sent == forwarded, "{name}: sent {sent} of {forwarded} packets");
        Ok(())
    }
}

/// A snapshot of a role's counters.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub received: [u64; 2],
    verdicts: [Vec<u64>; 2],
    pub sent: u64,
    pub made: u64,
    lost: u64,
}

impl Tally {
    /// Returns the packets of a side with this verdict.
    pub fn verdict(&self, side: usize, verdict: Verdict) -> u64 {
        self.verdicts[side].get(verdict as usize).copied().unwrap_or(0)
    }

    /// Returns the packets of a side with this verdict since an earlier snapshot.
    pub fn since(&self, before: &Self, side: usize, verdict: Verdict) -> u64 {
        self.verdict(side, verdict) - before.verdict(side, verdict)
    }

    /// Formats the verdicts of a side since an earlier snapshot.
    pub fn all_since(&self, before: &Self, side: usize) -> String {
        let since = |&verdict: &Verdict| self.since(before, side, verdict);
        let seen = Verdict::ALL.iter().filter(|verdict| since(verdict) > 0);
        let each: Vec<_> = seen.map(|v| format!("{} {}", v.name(), since(v))).collect();
        each.join(", ")
    }

    /// Returns the number of forwarded and generated packets.
    fn out(&self) -> u64 {
        let forwarded = |&&verdict: &&Verdict| verdict.fate() == Fate::Forwarded;
        let of = |side| -> u64 {
            Verdict::ALL.iter().filter(forwarded).map(|&v| self.verdict(side, v)).sum()
        };
        of(0) + of(1) + self.made
    }
}
