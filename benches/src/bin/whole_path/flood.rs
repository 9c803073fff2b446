//! A flood of spoofed SYNs from random addresses at the inside of a gateway that has connections
//! open, beside the packets of those.
//!
//! The core is saturated, with and without the flood: whatever time the flood takes, the open
//! connections do not get. So "their throughput" is told in three ways, and none is left out:
//! - what a packet of an open connection costs while flood and connections come by turns, the
//!   time of each kind's turns counted apart: what the flood does to caches and table;
//! - how many packets of open connections go through a second when every second packet of a
//!   saturated core is a SYN of the flood;
//! - what is left to the connections of the throughput that they had when the flood comes at a
//!   given rate, and at which rate that is 70 per cent: (1 - rate x cost of a SYN) / cost of
//!   theirs.

use std::fs;

use anyhow::{Context, Result, ensure};
use firstack::dpdk::cycles;
use pipeline::configuration::A;
use pipeline::flow::Phase;
use pipeline::table::State;
use pipeline::view::Side;
use serde::Serialize;

use crate::cases::both_ways;
use crate::frames;
use crate::lab::Lab;
use crate::measure::{Effort, median, spin};
use crate::roles;
use crate::source::{Dice, Program, Turn, Walk};
use crate::subject::{Opening, Subject};

/// Entries beside those of the open connections, for the flood to fill.
const SPARE: u32 = 100_000;
/// Turns of either kind in a row. A turn of the connections is two bursts, one of the flood one.
const TURNS: u32 = 8;
/// SYNs a second that fill 1 and 10 Gbit/s.
const LINES: [(&str, f64); 2] = [("1 Gbit/s", 1.488e6), ("10 Gbit/s", 14.88e6)];
/// What must be left to the connections.
const LEAST: f64 = 0.7;
/// Memory that may come or go without being the flood's doing, kB.
const SLACK: i64 = 256;

/// What the flood does.
#[derive(Clone, Debug, Serialize)]
pub struct FloodFigure {
    pub connections: u32,
    /// SYNs of the flood in all, and what became of them.
    pub syns: u64,
    pub syns_came_to: String,
    /// Races of the flood that were pushed out of the full table by later ones.
    pub races_evicted: u64,
    /// Connections that were lost: packets of all of them go through at the end.
    pub connections_lost: u64,
    /// Medians, ns per packet of the open connections: alone, and beside the flood.
    pub ns_alone: f64,
    pub ns_beside: f64,
    /// Cost alone over cost beside the flood, of the same round, median.
    pub kept_per_packet: f64,
    /// Median, ns per SYN.
    pub ns_per_syn: f64,
    /// Packets of open connections a second on the saturated core: alone, and when every second
    /// packet is a SYN; millions.
    pub mpps_alone: f64,
    pub mpps_half: f64,
    /// What is left of the connections' throughput under a flood at the rate of a line.
    pub kept_under: Vec<Kept>,
    /// The flood, in millions of SYNs a second, that leaves the connections 70 per cent.
    pub mpps_that_leave_70_percent: f64,
    /// Resident memory in kB: with all connections open, with the table full, after the flood.
    pub memory_kb: [i64; 3],
    pub rounds: usize,
}

/// What is left under a flood.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    pub line: &'static str,
    pub mpps: f64,
    /// Of 1.
    pub kept: f64,
}

/// A round's costs in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    alone: f64,
    beside: f64,
    syn: f64,
}

/// Floods a gateway of configuration A.
pub fn measure(
    lab: &mut Lab,
    connections: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<FloodFigure> {
    let how = frames::gateway::<A>();
    let mut subject = flooded(lab, connections, &how)?;
    let open = resident()?;
    fill(&mut subject, connections, effort)?;
    let (full, before) = (resident()?, subject.tally());
    let mut rounds = Vec::new();
    let mut syns = 0;
    let mut alone = both_ways(&how.going, connections);
    let mut mixed = mixed(&how, connections);
    for _ in 0..effort.rounds {
        play(&subject, &mut alone);
        spin(&mut subject, effort.warm_up);
        let alone_ns = spin(&mut subject, effort.slice).ns(effort);
        put_aside(&subject, &mut alone);
        play(&subject, &mut mixed);
        by_turns(&mut subject, effort.warm_up);
        let times = by_turns(&mut subject, effort.slice * 2);
        put_aside(&subject, &mut mixed);
        syns += times[1].1;
        let ns = |(cycles, packets): (u64, u64)| cycles as f64 / effort.per_ns / packets as f64;
        rounds.push(Round { alone: alone_ns, beside: ns(times[0]), syn: ns(times[1]) });
        done();
    }
    let after = subject.tally();
    let memory_kb = [open, full, resident()?];
    let lost = verify(&mut subject, &how, connections)?;
    let evicted = check(&subject, connections)?;
    ensure!(lost == 0, "{lost} connections were lost under the flood");
    let grown = memory_kb[2] - memory_kb[1];
    ensure!(grown <= SLACK, "memory grew by {grown} kB under the flood");
    let came_to = after.all_since(&before, Side::Inside as usize);
    let mut figure = figure(connections, &rounds, effort);
    figure.syns = syns;
    figure.syns_came_to = came_to;
    figure.races_evicted = evicted;
    figure.connections_lost = lost;
    figure.memory_kb = memory_kb;
    let kept = figure.kept_per_packet;
    ensure!(kept >= LEAST, "a packet costs {:.2} times as much beside the flood", 1.0 / kept);
    Ok(figure)
}

fn flooded(lab: &mut Lab, connections: u32, how: &Opening) -> Result<Subject> {
    let (ends, sources) = lab.ends(0)?;
    let role = roles::gateway::<A>((connections + SPARE) as usize);
    let driven = roles::driven(lab, ends, role, 1).context("no handoff queues for a worker")?;
    let forwarder = Box::new(driven);
    let mut subject = Subject { name: "gateway A, flooded".to_owned(), forwarder, sources };
    subject.open(how, connections)?;
    Ok(subject)
}

/// Floods until the table is full.
fn fill(subject: &mut Subject, connections: u32, effort: &Effort) -> Result<()> {
    let flood = Turn::Random(frames::syn(), Dice(0x5eed_00ff_100d));
    play(subject, &mut [Program::turns(vec![(flood, 1)]), Program::Silence]);
    let wanted = u64::from(connections) + u64::from(SPARE);
    for _ in 0..1_000 {
        spin(subject, effort.warm_up.max(1));
        let table = &subject.forwarder.counters().context("a gateway counts")?.table;
        let live: u64 = table.live.iter().map(|gauge| gauge.get()).sum();
        if live >= wanted.min(table.capacity.get()) {
            return Ok(());
        }
    }
    anyhow::bail!("the flood does not fill the table")
}

/// Packets of the connections both ways, then as many SYNs of the flood.
fn mixed(how: &Opening, connections: u32) -> [Program; 2] {
    let going = |side: Side, part| {
        Turn::Round(how.going[side as usize].clone(), Walk::new(connections, part))
    };
    let flood = Turn::Random(frames::syn(), Dice(0xf100_d5ee_d0f0_0d01));
    [
        Program::turns(vec![(going(Side::Inside, 64), TURNS), (flood, 2 * TURNS)]),
        Program::turns(vec![(going(Side::Outside, 192), TURNS), (Turn::Silence, 2 * TURNS)]),
    ]
}

fn play(subject: &Subject, programs: &mut [Program; 2]) {
    for (source, program) in subject.sources.iter().zip(programs) {
        source.play(std::mem::take(program));
    }
}

fn put_aside(subject: &Subject, programs: &mut [Program; 2]) {
    for (source, program) in subject.sources.iter().zip(programs) {
        *program = source.take();
    }
}

/// Whole cycles of the mixed programs until so many counts have passed: counts and packets of
/// the connections' turns, then of the flood's.
fn by_turns(subject: &mut Subject, counts: u64) -> [(u64, u64); 2] {
    let mut seen = [(0, 0); 2];
    let start = cycles();
    let mut last = start;
    while last.wrapping_sub(start) < counts {
        for (kind, turns) in [(0, TURNS), (1, 2 * TURNS)] {
            let mut packets = 0;
            for _ in 0..turns {
                packets += subject.forwarder.poll_once() as u64;
            }
            let now = cycles();
            seen[kind].0 += now.wrapping_sub(last);
            seen[kind].1 += packets;
            last = now;
        }
    }
    seen
}

/// Sends a packet of every connection both ways; how many did not come through.
fn verify(subject: &mut Subject, how: &Opening, connections: u32) -> Result<u64> {
    let before = subject.tally();
    let once = |side: Side| Program::Once {
        template: how.going[side as usize].clone(),
        next: 0,
        end: connections,
        late: 0,
    };
    play(subject, &mut [once(Side::Inside), once(Side::Outside)]);
    while subject.forwarder.poll_once() > 0 {}
    let after = subject.tally();
    let through = |side: Side| after.since(&before, side as usize, how.gone[side as usize]);
    let fewest = through(Side::Inside).min(through(Side::Outside));
    Ok(u64::from(connections) - fewest)
}

/// The table's own figures: all connections are there, and only races had to go.
fn check(subject: &Subject, connections: u32) -> Result<u64> {
    let table = &subject.forwarder.counters().context("a gateway counts")?.table;
    let won = table.live[Phase::Replica.queue()].get();
    ensure!(won == u64::from(connections), "{won} of {connections} connections are in the table");
    Ok(table.evicted.get())
}

fn figure(connections: u32, rounds: &[Round], effort: &Effort) -> FloodFigure {
    let of = |value: &dyn Fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let (alone, beside, syn) = (of(&|r| r.alone), of(&|r| r.beside), of(&|r| r.syn));
    let kept_under = LINES.map(|(line, rate)| {
        let kept = |r: &Round| (1.0 - rate * r.syn / 1e9).max(0.0) * r.alone / r.beside;
        Kept { line, mpps: rate / 1e6, kept: of(&kept) }
    });
    FloodFigure {
        connections,
        syns: 0,
        syns_came_to: String::new(),
        races_evicted: 0,
        connections_lost: 0,
        ns_alone: alone,
        ns_beside: beside,
        kept_per_packet: of(&|r| r.alone / r.beside),
        ns_per_syn: syn,
        mpps_alone: 1e3 / alone,
        mpps_half: of(&|r| 1e3 / (r.beside + r.syn)),
        kept_under: kept_under.to_vec(),
        mpps_that_leave_70_percent: of(&|r| {
            (1.0 - LEAST * r.beside / r.alone).max(0.0) / r.syn * 1e3
        }),
        memory_kb: [0; 3],
        rounds: effort.rounds,
    }
}

/// Resident memory of this process in kB.
fn resident() -> Result<i64> {
    let status = fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("no number in VmRSS")
}
