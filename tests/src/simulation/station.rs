//! An appliance in the network: a role of the pipeline, fed in bursts of queued frames with
//! periodic work between them. A mutant is a broken one, to test the checks.

use std::any::Any;
use std::collections::VecDeque;

use pipeline::base::time::Ticks;
use pipeline::counters::CommonCounters;
use pipeline::memory::Memory;
use pipeline::packet::buffer::{HeapBuffer, HeapPool};
use pipeline::packet::burst::{BURST, Burst, Output};
use pipeline::packet::view::Side;
use pipeline::role::{Context, Role};
use pipeline::verdict::{Fate, Verdict};

use super::log::Log;
use super::mutants;
pub use super::mutants::Mutant;
use super::plan::Nanos;
use super::rng::Rng;
use super::watch;

/// Bytes that are always in the first segment.
const HEADERS: usize = 192;

/// An Ethernet frame.
pub type Frame = Vec<u8>;

/// An appliance of any role.
pub type Station = Box<dyn Runs>;

/// The interface of an appliance of any role.
pub trait Runs {
    /// Returns its name.
    fn name(&self) -> &str;
    /// Queues a frame for the next poll. Returns whether the queue was empty.
    fn receive(&mut self, side: Side, frame: Frame) -> bool;
    /// Polls once: a burst from each side, then periodic work. Returns transmitted frames, by side.
    fn turn(&mut self, now: Nanos, rng: &mut Rng, log: &mut Log) -> [Vec<Frame>; 2];
    /// Returns whether frames are queued.
    fn waits(&self) -> bool;
    /// Returns its counters.
    fn counters(&self) -> &CommonCounters;
    /// Number of transmitted frames.
    fn sent(&self) -> u64;
    /// Goes on with the settings of `next`, an appliance of the same role.
    fn reload(&mut self, next: Station, now: Nanos);
    /// Returns itself, for [`Runs::reload`].
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
    /// Returns what it remembers of replicas; `None` unless it is a gateway.
    fn memory(&self) -> Option<&Memory> {
        None
    }
}

/// A role with its queues, pool and output.
pub struct Appliance<R> {
    name: String,
    role: R,
    pool: HeapPool,
    out: Output<HeapBuffer>,
    burst: Burst<HeapBuffer>,
    waiting: [VecDeque<Frame>; 2],
    sent: u64,
    segmented: bool,
    mutant: Option<Mutant>,
}

impl<R: Role> Appliance<R> {
    /// A role that makes up to `copies` more of a packet.
    /// If it is to be, its frames come in buffers of several segments.
    pub fn new(
        name: String,
        role: R,
        (copies, segmented): (usize, bool),
        mutant: Option<Mutant>,
    ) -> Self {
        Self {
            name,
            role,
            pool: HeapPool::default(),
            out: Output::new(copies),
            burst: Burst::default(),
            waiting: Default::default(),
            sent: 0,
            segmented,
            mutant,
        }
    }

    /// The same, with so many buffers for what it makes itself.
    pub fn with_buffers(mut self, left: usize) -> Self {
        self.pool = HeapPool::with_limit(left);
        self
    }

    /// Reloads the role with the one of `next`.
    pub fn reload_role(&mut self, next: Self, now: Nanos) {
        drop(self.role.reload(next.role, Ticks(now)));
    }

    fn feed(&mut self, from: Side, now: Nanos, rng: &mut Rng, log: &mut Log) -> Leaving {
        let waiting = &mut self.waiting[from as usize];
        let most = waiting.len().min(rng.size(1, BURST));
        let frames: Vec<_> = waiting.drain(..most).collect();
        let first = if self.segmented { rng.size(HEADERS, 4 * HEADERS) } else { usize::MAX };
        // ICMP errors fit one buffer of a network card, and are accepted only in one segment.
        let of = |frame: &Frame| if watch::is_icmp(frame) { usize::MAX } else { first };
        self.burst.fill(frames.iter().map(|frame| HeapBuffer::segmented(frame, of(frame))));
        let mut context = Context { now: Ticks(now), pool: &mut self.pool, out: &mut self.out };
        self.role.process(from, &mut self.burst, &mut context);
        assert_eq!(self.burst.verdicts().len(), frames.len(), "one verdict per packet");
        for (frame, verdict) in frames.iter().zip(self.burst.verdicts()) {
            log.verdict(now, &self.name, from, frame, *verdict);
        }
        let mut leaving = self.leave(now, log);
        if let Some(mutant) = self.mutant {
            mutants::spoil(mutant, from, &frames, self.burst.verdicts(), &mut leaving);
        }
        leaving
    }

    fn leave(&mut self, now: Nanos, log: &mut Log) -> Leaving {
        Side::ALL.map(|side| {
            let frames: Vec<_> =
                self.out.side(side).drain(..).map(|buffer| buffer.frame().to_vec()).collect();
            self.sent += frames.len() as u64;
            frames.iter().for_each(|frame| log.leaves(now, &self.name, side, frame));
            frames
        })
    }
}

/// Transmitted frames, by side.
pub type Leaving = [Vec<Frame>; 2];

impl<R: Role + 'static> Runs for Appliance<R> {
    fn reload(&mut self, next: Station, now: Nanos) {
        let next = next.into_any().downcast::<Self>().expect("the same role");
        self.reload_role(*next, now);
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn receive(&mut self, side: Side, frame: Frame) -> bool {
        let idle = !self.waits();
        self.waiting[side as usize].push_back(frame);
        idle
    }

    fn turn(&mut self, now: Nanos, rng: &mut Rng, log: &mut Log) -> Leaving {
        let mut leaving = Leaving::default();
        let first = if rng.chance(500) { Side::Inside } else { Side::Outside };
        for side in [first, first.other()] {
            if self.waiting[side as usize].is_empty() {
                continue;
            }
            let burst = self.feed(side, now, rng, log);
            for (all, mut more) in leaving.iter_mut().zip(burst) {
                all.append(&mut more);
            }
        }
        let mut context = Context { now: Ticks(now), pool: &mut self.pool, out: &mut self.out };
        self.role.on_timer(&mut context);
        for (all, mut more) in leaving.iter_mut().zip(self.leave(now, log)) {
            all.append(&mut more);
        }
        leaving
    }

    fn waits(&self) -> bool {
        self.waiting.iter().any(|frames| !frames.is_empty())
    }

    fn counters(&self) -> &CommonCounters {
        self.role.common_counters()
    }

    fn sent(&self) -> u64 {
        self.sent
    }
}

/// Checks that every packet is accounted for. Returns the discrepancy otherwise.
pub fn conserves(station: &dyn Runs) -> Result<(), String> {
    let (name, counters) = (station.name(), station.counters());
    let mut forwarded = 0;
    for side in Side::ALL {
        let side = counters.side(side);
        let [on, consumed, dropped] = Fate::ALL.map(|fate| side.fate(fate));
        let received = side.received.get();
        if received != on + consumed + dropped {
            return Err(format!("{name}: {received} received, {on} + {consumed} + {dropped} told"));
        }
        forwarded += on;
    }
    let made: u64 = counters.generated.iter().map(|counter| counter.get()).sum();
    let sent = station.sent();
    if forwarded + made != sent {
        return Err(format!("{name}: {forwarded} forwarded + {made} generated, {sent} sent"));
    }
    Ok(())
}

/// Returns the number of packets with this verdict, both sides together.
pub fn count(station: &dyn Runs, verdict: Verdict) -> u64 {
    let sides = Side::ALL.map(|side| station.counters().side(side));
    sides.iter().map(|side| side.verdicts[verdict as usize].get()).sum()
}

/// Returns the live entries of the table, as of the last periodic work.
pub fn live(station: &dyn Runs) -> u64 {
    station.counters().table.live.iter().map(|gauge| gauge.get()).sum()
}
