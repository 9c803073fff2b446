//! Two workers against one on the same work: gateway A, each worker with its own pair of ports.
//!
//! Each port receives only packets of its worker's connections, as from a network card that steers
//! them; or packets of all connections, half of which are handed over to the other worker; or only
//! packets of the other worker's. These cases and one worker alone take turns, so that ratios hold
//! on a machine that is not quiet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use firstack::datapath::handoff::Handoff;
use firstack::datapath::rss::RetaMap;
use firstack::datapath::rss::toeplitz::Toeplitz;
use firstack::datapath::worker::Worker;
use firstack::dpdk::cycles;
use pipeline::counters::{RoleCounters, Scalar};
use pipeline::packet::view::{Side, View};
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::mode::A;
use pipeline::verdict::Verdict;
use serde::Serialize;

use crate::frames;
use crate::lab::Lab;
use crate::measure::{Effort, median};
use crate::roles;
use crate::source::{Program, Source, Walk};
use crate::system_under_test::Opening;
use crate::template::Template;

/// Capacity of each queue between two workers, as in `firstack run` with enough buffers.
const HANDOFF_CAPACITY: usize = 2048;

/// The result of a case.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleFigure {
    /// How the packets come to the workers.
    pub placing: &'static str,
    pub workers: usize,
    pub connections: u32,
    /// Medians over the rounds.
    pub mpps: f64,
    /// Rate over that of one worker in the same round.
    pub of_one: f64,
    /// Time stamp counts of a worker per packet that it processed.
    pub tsc_cycles: f64,
    /// Share of the received packets that belonged to the other worker.
    pub misplaced: f64,
    /// Share that a full queue refused.
    pub refused: f64,
}

/// How packets come to workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Placing {
    /// There is one worker.
    Alone,
    /// Each port of two workers receives only its worker's packets.
    Rightly,
    /// Each port receives packets of all connections.
    HalfWrongly,
    /// Each port receives only the other worker's packets.
    Wrongly,
}

impl Placing {
    const ALL: [Self; 4] = [Self::Alone, Self::Rightly, Self::HalfWrongly, Self::Wrongly];

    fn name(self) -> &'static str {
        match self {
            Self::Alone => "one worker",
            Self::Rightly => "rightly",
            Self::HalfWrongly => "half wrongly",
            Self::Wrongly => "all wrongly",
        }
    }

    fn workers(self) -> usize {
        if self == Self::Alone { 1 } else { 2 }
    }

    /// Returns the packets of a worker's port.
    fn program(
        self,
        worker: usize,
        side: Side,
        going: &[Template; 2],
        connections: u32,
    ) -> Program {
        let template = going[side as usize].clone();
        let walk = Walk::new(connections, (worker * 128 + side as usize * 64) as u32);
        let of = match self {
            Self::Alone | Self::HalfWrongly => return Program::Round(template, walk),
            Self::Rightly => worker,
            Self::Wrongly => 1 - worker,
        };
        Program::Some { template, of: owned(of, walk, connections, &going[0]), at: 0 }
    }
}

/// Counters at some time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    decided: u64,
    handed: u64,
    refused: u64,
}

/// A round of a case.
#[derive(Clone, Copy, Debug)]
struct Round {
    mpps: f64,
    tsc_cycles: f64,
    misplaced: f64,
    refused: f64,
}

/// Workers that share connections. The program polls the first one; the other runs in its own
/// thread.
struct Workers {
    first: Worker<Gateway<A>>,
    counters: Vec<Arc<dyn RoleCounters>>,
    sources: Vec<[Source; 2]>,
}

/// A case: the packets of each port while it is not measured, and its rounds.
struct Case {
    placing: Placing,
    programs: Vec<[Program; 2]>,
    rounds: Vec<Round>,
}

/// Measures one worker and two, in turn, so that what else the machine does affects all alike.
pub fn measure(
    lab: &mut Lab,
    connections: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<ScaleFigure>> {
    let (alone, _) = build(lab, 0, 1, connections)?;
    let Some(&lcore) = lab.eal.worker_lcores().first() else {
        anyhow::bail!("two workers need two CPUs");
    };
    let (pair, second) = build(lab, 1, 2, connections)?;
    let mut second = second.context("a second worker")?;
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let running = lab.eal.launch(lcore, move || {
        while !stopped.load(Relaxed) {
            second.poll_once();
        }
        second
    })?;
    let figures = in_turn(&mut [alone, pair], connections, effort, &mut done);
    stop.store(true, Relaxed);
    drop(running.join()?);
    figures
}

/// Builds workers between ports from this pair on. Returns all, and the second worker.
fn build(
    lab: &mut Lab,
    from: usize,
    workers: usize,
    connections: u32,
) -> Result<(Workers, Option<Worker<Gateway<A>>>)> {
    let (mut counters, mut sources, mut built) = (Vec::new(), Vec::new(), Vec::new());
    for (number, handoff) in Handoff::new(workers, HANDOFF_CAPACITY).into_iter().enumerate() {
        let (ends, own) = lab.ends(from + number)?;
        let role = roles::gateway::<A>(connections as usize);
        let driven = roles::one_of(lab, ends, role, 1, (handoff, workers as u16));
        counters.push(driven.counters);
        sources.push(own);
        built.push(driven.worker);
    }
    let second = if workers > 1 { built.pop() } else { None };
    let first = built.pop().context("a first worker")?;
    Ok((Workers { first, counters, sources }, second))
}

fn in_turn(
    systems: &mut [Workers; 2],
    connections: u32,
    effort: &Effort,
    done: &mut impl FnMut(),
) -> Result<Vec<ScaleFigure>> {
    let opening = frames::gateway::<A>();
    for system in &mut *systems {
        system.open(&opening, connections)?;
    }
    let program = |placing: Placing, worker| {
        Side::ALL.map(|side| placing.program(worker, side, &opening.going, connections))
    };
    let mut cases = Placing::ALL.map(|placing| Case {
        placing,
        programs: (0..placing.workers()).map(|worker| program(placing, worker)).collect(),
        rounds: Vec::new(),
    });
    for _ in 0..effort.rounds {
        for case in &mut cases {
            let round = systems[case.placing.workers() - 1].round(&mut case.programs, effort);
            case.rounds.push(round);
        }
        done();
    }
    let alone: Vec<_> = cases[0].rounds.iter().map(|round| round.mpps).collect();
    let figure = |case: &Case| {
        let of = |value: fn(&Round) -> f64| median(case.rounds.iter().map(value).collect());
        let ratios = case.rounds.iter().zip(&alone).map(|(round, alone)| round.mpps / alone);
        ScaleFigure {
            placing: case.placing.name(),
            workers: case.placing.workers(),
            connections,
            mpps: of(|round| round.mpps),
            of_one: median(ratios.collect()),
            tsc_cycles: of(|round| round.tsc_cycles),
            misplaced: of(|round| round.misplaced),
            refused: of(|round| round.refused),
        }
    };
    Ok(cases.iter().map(figure).collect())
}

impl Workers {
    /// Measures a slice with these packets.
    fn round(&mut self, programs: &mut [[Program; 2]], effort: &Effort) -> Round {
        self.exchange(programs);
        // The buffers need longer to settle where two workers exchange them.
        let warm_up = if self.counters.len() > 1 { effort.slice } else { 0 } + effort.warm_up;
        self.turn_for(warm_up);
        let before = self.seen();
        let counts = self.turn_for(effort.slice);
        let after = self.seen();
        self.exchange(programs);
        // Process the frames that are left in the queues.
        self.turn_for(effort.slice / 64);
        let packets = (after.decided - before.decided) as f64;
        Round {
            mpps: packets / (counts as f64 / effort.per_ns) * 1e3,
            tsc_cycles: counts as f64 * self.counters.len() as f64 / packets,
            misplaced: (after.handed - before.handed) as f64 / packets,
            refused: (after.refused - before.refused) as f64 / packets,
        }
    }

    /// Exchanges what the ports receive.
    fn exchange(&self, programs: &mut [[Program; 2]]) {
        for (sources, programs) in self.sources.iter().zip(programs) {
            for (source, program) in sources.iter().zip(programs) {
                let last = source.take();
                source.play(std::mem::replace(program, last));
            }
        }
    }

    /// Opens all connections by the first worker's ports, slowly enough for the queue to the other.
    fn open(&mut self, opening: &Opening, connections: u32) -> Result<()> {
        for (side, verdict) in Side::ALL.into_iter().zip(opening.opened) {
            let mut next = 0;
            while next < connections {
                let end = connections.min(next + HANDOFF_CAPACITY as u32 / 2);
                let template = opening.opening[side as usize].clone();
                self.sources[0][side as usize].play(Program::Once { template, next, end, late: 0 });
                let mut turns = 0;
                while self.count(side, verdict) < u64::from(end) {
                    self.first.poll_once();
                    turns += 1;
                    ensure!(turns < 100_000_000, "connections do not open");
                }
                next = end;
            }
        }
        Ok(())
    }

    fn count(&self, side: Side, verdict: Verdict) -> u64 {
        self.counters.iter().map(|c| c.side(side).verdicts[verdict as usize].get()).sum()
    }

    fn seen(&self) -> Seen {
        let both = |verdict| Side::ALL.iter().map(|&side| self.count(side, verdict)).sum::<u64>();
        Seen {
            decided: both(Verdict::ToReplica) + both(Verdict::FromReplica),
            handed: self.counters.iter().map(|c| c.scalar(Scalar::HandedOff).get()).sum(),
            refused: both(Verdict::HandoffFull),
        }
    }

    /// Polls for this many counts, and returns the exact number.
    fn turn_for(&mut self, counts: u64) -> u64 {
        let start = cycles();
        loop {
            for _ in 0..16 {
                self.first.poll_once();
            }
            let passed = cycles().wrapping_sub(start);
            if passed >= counts {
                return passed;
            }
        }
    }
}

/// Returns the connections of one of two workers in the order of a walk. `there` is a packet of the
/// client.
fn owned(worker: usize, mut walk: Walk, connections: u32, there: &Template) -> Arc<[u32]> {
    let reta = RetaMap::new(2, roles::ENTRIES, Toeplitz::default());
    let mut frame = vec![0; there.len()];
    let is_own = |connection: &u32| {
        there.stamp(&mut frame, *connection);
        let view = View::parse(&frame, frame.len());
        reta.worker_of(view.addresses(&frame).0) == worker
    };
    (0..connections).map(|_| walk.next()).filter(is_own).collect()
}
