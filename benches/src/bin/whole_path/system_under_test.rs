//! What is measured: something that forwards, what it is given, and what it must do with that.

use std::sync::Arc;

use anyhow::{Result, ensure};
use firstack::datapath::worker::Worker;
use pipeline::counters::Counters;
use pipeline::role::Role;
use pipeline::verdict::{Fate, Verdict};
use pipeline::packet::view::Side;

use crate::source::{Program, Source};
use crate::template::Template;

/// Forwards between two ports.
pub trait Forwarder {
    /// One burst from each port; how many frames that were.
    fn poll_once(&mut self) -> usize;
    /// What a role counts; bare loops count nothing.
    fn counters(&self) -> Option<&Arc<Counters>>;
    /// Frames that did not leave as they should have.
    fn lost(&self) -> u64;
}

/// A role in the appliance's own worker.
pub struct Driven<R> {
    /// The worker, as `firstack run` has it on each core.
    pub worker: Worker<R>,
    /// What its role counts.
    pub counters: Arc<Counters>,
}

impl<R: Role> Forwarder for Driven<R> {
    fn poll_once(&mut self) -> usize {
        self.worker.poll_once()
    }

    fn counters(&self) -> Option<&Arc<Counters>> {
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

/// One thing to be measured.
pub struct Case {
    pub name: String,
    /// The system's number.
    pub system: usize,
    /// What the ports receive, inside and outside; put aside between two slices.
    pub programs: [Program; 2],
    /// What every packet must come to, by side: one of these. Bare loops are not asked.
    pub verdicts: [Vec<Verdict>; 2],
    /// The case that it is compared with.
    pub base: Base,
    /// Bytes of a frame from each side.
    pub bytes: [usize; 2],
}

/// What a case is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Base {
    /// The io loop that gets packets from both sides.
    BothWays,
    /// The io loop that gets packets from one side alone.
    OneWay,
}

/// Packets that open connections and packets of open ones, inside and outside.
pub struct Opening {
    /// The side that begins.
    pub first: Side,
    /// Opens a connection: what the first side sends, and what the other answers.
    pub opening: [Template; 2],
    /// What becomes of these.
    pub opened: [Verdict; 2],
    /// Goes on with it.
    pub going: [Template; 2],
    /// What becomes of those.
    pub gone: [Verdict; 2],
}

/// Connections opened at once. They are taken up before their opening's time is up.
const AT_ONCE: u32 = 65_536;
/// Bursts that the second side waits for the first one.
const LATE: u32 = 4;

impl SystemUnderTest {
    /// Opens connections through the pipeline, and sends a packet of each both ways.
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

    /// Plays programs that end, to the end: `count` packets on each side.
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

    /// What has been counted so far.
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

    /// Fails unless every packet came to what it must, and left.
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
        // What was forwarded or made has left, at the latest with the next burst.
        let (sent, forwarded) = (after.sent - before.sent, after.out() - before.out());
        ensure!(sent == forwarded, "{name}: sent {sent} of {forwarded} packets");
        Ok(())
    }
}

/// What a role had counted at some time.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub received: [u64; 2],
    verdicts: [Vec<u64>; 2],
    pub sent: u64,
    pub made: u64,
    lost: u64,
}

impl Tally {
    /// Packets of a side that came to this.
    pub fn verdict(&self, side: usize, verdict: Verdict) -> u64 {
        self.verdicts[side].get(verdict as usize).copied().unwrap_or(0)
    }

    /// The like since an earlier time.
    pub fn since(&self, before: &Self, side: usize, verdict: Verdict) -> u64 {
        self.verdict(side, verdict) - before.verdict(side, verdict)
    }

    /// What a side's packets have come to since, to be read.
    pub fn all_since(&self, before: &Self, side: usize) -> String {
        let since = |&verdict: &Verdict| self.since(before, side, verdict);
        let seen = Verdict::ALL.iter().filter(|verdict| since(verdict) > 0);
        let each: Vec<_> = seen.map(|v| format!("{} {}", v.name(), since(v))).collect();
        each.join(", ")
    }

    /// Packets that were forwarded or made.
    fn out(&self) -> u64 {
        let forwarded = |&&verdict: &&Verdict| verdict.fate() == Fate::Forwarded;
        let of = |side| -> u64 {
            Verdict::ALL.iter().filter(forwarded).map(|&v| self.verdict(side, v)).sum()
        };
        of(0) + of(1) + self.made
    }
}
