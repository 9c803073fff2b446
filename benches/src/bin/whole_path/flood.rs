//! A flood of spoofed SYNs from random addresses at the inside of a gateway, beside packets of its
//! open connections.
//!
//! The core is saturated, with and without the flood, so time spent on the flood is lost to the open
//! connections. Their throughput is therefore given in three forms:
//! - the cost of a packet of an open connection while bursts of flood and connections alternate,
//!   each kind timed separately: the effect of the flood on caches and table;
//! - the packets of open connections per second when every second packet of a saturated core is a
//!   SYN of the flood;
//! - the share of their throughput that is left when the flood comes at a given rate, and the rate
//!   at which it is 70 per cent: (1 - rate x cost of a SYN) / cost of their packets.

use std::fs;

use anyhow::{Context, Result, ensure};
use firstack::dpdk::cycles;
use pipeline::packet::view::Side;
use pipeline::role::gateway::flow::Phase;
use pipeline::role::gateway::mode::A;
use pipeline::table::State;
use serde::Serialize;

use crate::cases::both_ways;
use crate::frames;
use crate::lab::Lab;
use crate::measure::{Effort, median, spin};
use crate::roles;
use crate::source::{Program, Rng, Turn, Walk};
use crate::system_under_test::{Opening, SystemUnderTest};

/// Entries beyond those of the open connections, for the flood to fill.
const SPARE: u32 = 100_000;
/// Turns of one kind in a row. A turn of the connections is two bursts, a turn of the flood one.
const TURNS: u32 = 8;
/// SYNs per second that fill 1 and 10 Gbit/s.
const LINES: [(&str, f64); 2] = [("1 Gbit/s", 1.488e6), ("10 Gbit/s", 14.88e6)];
/// Minimum share of their throughput that the connections must keep.
const LEAST: f64 = 0.7;
/// Tolerated change of resident memory, kB.
const SLACK: i64 = 256;

/// The effect of the flood.
#[derive(Clone, Debug, Serialize)]
pub struct FloodFigure {
    pub connections: u32,
    /// SYNs of the flood, and their verdicts.
    pub syns: u64,
    pub syns_came_to: String,
    /// Races of the flood that later ones evicted from the full table.
    pub races_evicted: u64,
    /// Lost connections, counted by a packet of each connection at the end.
    pub connections_lost: u64,
    /// Median ns per packet of the open connections: alone, and beside the flood.
    pub ns_alone: f64,
    pub ns_beside: f64,
    /// Median of the cost alone over the cost beside the flood, in the same round.
    pub kept_per_packet: f64,
    /// Median ns per SYN.
    pub ns_per_syn: f64,
    /// Millions of packets of open connections per second on the saturated core: alone, and when
    /// every second packet is a SYN.
    pub mpps_alone: f64,
    pub mpps_half: f64,
    /// The rest of the connections' throughput under a flood at line rate.
    pub kept_under: Vec<Kept>,
    /// The flood that leaves the connections 70 per cent, in millions of SYNs per second.
    pub mpps_that_leave_70_percent: f64,
    /// Resident memory in kB: with all connections open, with the table full, after the flood.
    pub memory_kb: [i64; 3],
    pub rounds: usize,
}

/// The rest of the throughput under a flood.
#[derive(Clone, Debug, Serialize)]
pub struct Kept {
    pub line: &'static str,
    pub mpps: f64,
    /// Share of the throughput without the flood, from 0 to 1.
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
    let mut system = flooded(lab, connections, &how)?;
    let open = resident()?;
    fill(&mut system, connections, effort)?;
    let (full, before) = (resident()?, system.tally());
    let mut rounds = Vec::new();
    let mut syns = 0;
    let mut alone = both_ways(&how.going, connections);
    let mut mixed = mixed(&how, connections);
    for _ in 0..effort.rounds {
        play(&system, &mut alone);
        spin(&mut system, effort.warm_up);
        let alone_ns = spin(&mut system, effort.slice).ns(effort);
        put_aside(&system, &mut alone);
        play(&system, &mut mixed);
        by_turns(&mut system, effort.warm_up);
        let times = by_turns(&mut system, effort.slice * 2);
        put_aside(&system, &mut mixed);
        syns += times[1].1;
        let ns = |(cycles, packets): (u64, u64)| cycles as f64 / effort.per_ns / packets as f64;
        rounds.push(Round { alone: alone_ns, beside: ns(times[0]), syn: ns(times[1]) });
        done();
    }
    let after = system.tally();
    let memory_kb = [open, full, resident()?];
    let lost = verify(&mut system, &how, connections)?;
    let evicted = check(&system, connections)?;
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

fn flooded(lab: &mut Lab, connections: u32, how: &Opening) -> Result<SystemUnderTest> {
    let (ends, sources) = lab.ends(0)?;
    let role = roles::gateway::<A>((connections + SPARE) as usize);
    let driven = roles::driven(lab, ends, role, 1).context("no handoff queues for a worker")?;
    let forwarder = Box::new(driven);
    let mut system = SystemUnderTest { name: "gateway A, flooded".to_owned(), forwarder, sources };
    system.open(how, connections)?;
    Ok(system)
}

/// Floods until the table is full.
fn fill(system: &mut SystemUnderTest, connections: u32, effort: &Effort) -> Result<()> {
    let flood = Turn::Random(frames::syn(), Rng(0x5eed_00ff_100d));
    play(system, &mut [Program::turns(vec![(flood, 1)]), Program::Silence]);
    let wanted = u64::from(connections) + u64::from(SPARE);
    for _ in 0..1_000 {
        spin(system, effort.warm_up.max(1));
        let table = &system.forwarder.counters().context("a gateway counts")?.table;
        let live: u64 = table.live.iter().map(|gauge| gauge.get()).sum();
        if live >= wanted.min(table.capacity.get()) {
            return Ok(());
        }
    }
    anyhow::bail!("the flood does not fill the table")
}

/// Packets of the connections in both directions, then as many SYNs of the flood.
fn mixed(how: &Opening, connections: u32) -> [Program; 2] {
    let going = |side: Side, part| {
        Turn::Round(how.going[side as usize].clone(), Walk::new(connections, part))
    };
    let flood = Turn::Random(frames::syn(), Rng(0xf100_d5ee_d0f0_0d01));
    [
        Program::turns(vec![(going(Side::Inside, 64), TURNS), (flood, 2 * TURNS)]),
        Program::turns(vec![(going(Side::Outside, 192), TURNS), (Turn::Silence, 2 * TURNS)]),
    ]
}

fn play(system: &SystemUnderTest, programs: &mut [Program; 2]) {
    for (source, program) in system.sources.iter().zip(programs) {
        source.play(std::mem::take(program));
    }
}

fn put_aside(system: &SystemUnderTest, programs: &mut [Program; 2]) {
    for (source, program) in system.sources.iter().zip(programs) {
        *program = source.take();
    }
}

/// Runs whole cycles of the mixed programs for this many counts. Returns counts and packets of the
/// connections' turns, then of the flood's.
fn by_turns(system: &mut SystemUnderTest, counts: u64) -> [(u64, u64); 2] {
    let mut seen = [(0, 0); 2];
    let start = cycles();
    let mut last = start;
    while last.wrapping_sub(start) < counts {
        for (kind, turns) in [(0, TURNS), (1, 2 * TURNS)] {
            let mut packets = 0;
            for _ in 0..turns {
                packets += system.forwarder.poll_once() as u64;
            }
            let now = cycles();
            seen[kind].0 += now.wrapping_sub(last);
            seen[kind].1 += packets;
            last = now;
        }
    }
    seen
}

/// Sends a packet of every connection in both directions. Returns the number of those not
/// forwarded.
fn verify(system: &mut SystemUnderTest, how: &Opening, connections: u32) -> Result<u64> {
    let before = system.tally();
    let once = |side: Side| Program::Once {
        template: how.going[side as usize].clone(),
        next: 0,
        end: connections,
        late: 0,
    };
    play(system, &mut [once(Side::Inside), once(Side::Outside)]);
    while system.forwarder.poll_once() > 0 {}
    let after = system.tally();
    let through = |side: Side| after.since(&before, side as usize, how.gone[side as usize]);
    let fewest = through(Side::Inside).min(through(Side::Outside));
    Ok(u64::from(connections) - fewest)
}

/// Checks by the table's counters that all connections are there, and only races were evicted.
/// Returns the evictions.
fn check(system: &SystemUnderTest, connections: u32) -> Result<u64> {
    let table = &system.forwarder.counters().context("a gateway counts")?.table;
    let of = |phase: Phase| table.live[phase.queue()].get();
    let won = of(Phase::HalfOpen) + of(Phase::Replica);
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

/// Returns the resident memory of this process in kB.
fn resident() -> Result<i64> {
    let status = fs::read_to_string("/proc/self/status").context("no /proc")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).context("no number in VmRSS")
}
