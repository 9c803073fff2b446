//! Two workers against one on the same work: gateway A, each worker with its own pair of ports.
//! Either each port receives only packets of its worker's connections, as from a network card that
//! steers them, or packets of all connections, half of which are handed over to the other worker.

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

/// The result of a number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct ScaleFigure {
    pub workers: usize,
    /// Whether each port receives only its own worker's packets, as from a network card that steers
    /// them.
    pub placed: bool,
    pub connections: u32,
    /// Medians over the rounds.
    pub mpps: f64,
    /// Time stamp counts of a worker per packet that it processed.
    pub tsc_cycles: f64,
    /// Share of the received packets that belonged to the other worker.
    pub misplaced: f64,
    /// Share that a full queue refused.
    pub refused: f64,
}

/// Counters at some time.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    decided: u64,
    handed: u64,
    refused: u64,
}

/// Workers that share connections. The program polls the first one; the other runs in its own
/// thread.
struct Workers {
    first: Worker<Gateway<A>>,
    counters: Vec<Arc<dyn RoleCounters>>,
    sources: Vec<[Source; 2]>,
}

/// One worker, then two.
pub fn measure(
    lab: &mut Lab,
    connections: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<ScaleFigure>> {
    let mut figures = Vec::new();
    for (workers, placed) in [(1, true), (2, true), (2, false)] {
        if workers > 1 && lab.eal.worker_lcores().is_empty() {
            eprintln!("two workers need two CPUs");
            break;
        }
        figures.push(of(lab, (workers, placed), connections, effort, &mut done)?);
    }
    Ok(figures)
}

fn of(
    lab: &mut Lab,
    (workers, placed): (usize, bool),
    connections: u32,
    effort: &Effort,
    done: &mut impl FnMut(),
) -> Result<ScaleFigure> {
    let (mut first, mut second) = (None, None);
    let (mut counters, mut sources) = (Vec::new(), Vec::new());
    for (number, handoff) in Handoff::new(workers, HANDOFF_CAPACITY).into_iter().enumerate() {
        let (ends, own) = lab.ends(number)?;
        let role = roles::gateway::<A>(connections as usize);
        let driven = roles::one_of(lab, ends, role, 1, (handoff, workers as u16));
        counters.push(driven.counters);
        sources.push(own);
        *(if number == 0 { &mut first } else { &mut second }) = Some(driven.worker);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let running = match (second, lab.eal.worker_lcores().first()) {
        (Some(mut worker), Some(&lcore)) => {
            let stop = Arc::clone(&stop);
            Some(lab.eal.launch(lcore, move || {
                while !stop.load(Relaxed) {
                    worker.poll_once();
                }
                worker
            })?)
        }
        _ => None,
    };
    let mut shared = Workers { first: first.context("a first worker")?, counters, sources };
    let figure = shared.measure((workers, placed), connections, effort, done);
    stop.store(true, Relaxed);
    if let Some(running) = running {
        drop(running.join()?);
    }
    figure
}

impl Workers {
    fn measure(
        &mut self,
        (workers, placed): (usize, bool),
        connections: u32,
        effort: &Effort,
        done: &mut impl FnMut(),
    ) -> Result<ScaleFigure> {
        let opening = frames::gateway::<A>();
        self.open(&opening, connections)?;
        for (number, sources) in self.sources.iter().enumerate() {
            for side in Side::ALL {
                let part = (number * 128 + side as usize * 64) as u32;
                let template = opening.going[side as usize].clone();
                let walk = Walk::new(connections, part);
                sources[side as usize].play(match placed {
                    true => {
                        let of = owned((number, workers), walk, connections, &opening.going[0]);
                        Program::Some { template, of, at: 0 }
                    }
                    false => Program::Round(template, walk),
                });
            }
        }
        let mut rounds = Vec::new();
        for _ in 0..effort.rounds {
            self.turn_for(effort.warm_up);
            let before = self.seen();
            let counts = self.turn_for(effort.slice);
            let after = self.seen();
            let packets = (after.decided - before.decided) as f64;
            let of = |count: u64| count as f64 / packets;
            rounds.push((
                packets / (counts as f64 / effort.per_ns) * 1e3,
                counts as f64 * workers as f64 / packets,
                of(after.handed - before.handed),
                of(after.refused - before.refused),
            ));
            done();
        }
        for sources in self.sources.iter().flatten() {
            sources.play(Program::Silence);
        }
        // Process the frames that are left in the queues.
        self.turn_for(effort.slice);
        let column = |of: fn(&(f64, f64, f64, f64)) -> f64| median(rounds.iter().map(of).collect());
        Ok(ScaleFigure {
            workers,
            placed,
            connections,
            mpps: column(|row| row.0),
            tsc_cycles: column(|row| row.1),
            misplaced: column(|row| row.2),
            refused: column(|row| row.3),
        })
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

/// Returns the connections of a worker in the order of a walk. `there` is a packet of the client.
fn owned(
    (worker, workers): (usize, usize),
    mut walk: Walk,
    connections: u32,
    there: &Template,
) -> Arc<[u32]> {
    let reta = RetaMap::new(workers as u16, roles::ENTRIES, Toeplitz::default());
    let mut frame = vec![0; there.len()];
    let is_own = |connection: &u32| {
        there.stamp(&mut frame, *connection);
        let view = View::parse(&frame, frame.len());
        reta.worker_of(view.addresses(&frame).0) == worker
    };
    (0..connections).map(|_| walk.next()).filter(is_own).collect()
}
