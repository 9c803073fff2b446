//! Whole races: a SYN is tagged, a SYN/ACK decides the race, the SYN/ACKs of two losers are
//! answered by RSTs. A RST of the client and a new sequence number prepare the entry for the next
//! race.

use anyhow::{Context, Result};
use firstack_benches::BURST;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::verdict::Verdict;
use serde::Serialize;

use crate::frames;
use crate::lab::Lab;
use crate::measure::{Effort, median, slice};
use crate::roles;
use crate::source::{Program, Racers, Turn};
use crate::system_under_test::{Base, Case, SystemUnderTest};

/// Endpoints that race repeatedly.
const RACERS: u32 = 512 * BURST as u32;
/// Turns that a burst of races takes.
const CYCLE: usize = 3;

/// The cost of races.
#[derive(Clone, Debug, Serialize)]
pub struct RaceFigure {
    /// The gateway.
    pub name: String,
    /// Number of other open connections.
    pub live: u32,
    /// Medians of whole races on one core.
    pub races_per_second: f64,
    pub ns_per_race: f64,
    /// Minimum and maximum of the rounds.
    pub ns_least: f64,
    pub ns_most: f64,
    /// Received packets per race, the client's RST included.
    pub packets_per_race: f64,
    /// Rounds.
    pub rounds: usize,
}

/// Measures races at gateways of A, B and C in turn, each with this many open connections.
pub fn measure(
    lab: &mut Lab,
    live: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<RaceFigure>> {
    let mut all = [
        racing::<A>(lab, 0, "gateway A", live)?,
        racing::<B>(lab, 1, "gateway B", live)?,
        racing::<C>(lab, 2, "gateway C", live)?,
    ];
    let mut seen = [const { Vec::new() }; 3];
    for _ in 0..effort.rounds {
        for ((system, case), seen) in all.iter_mut().zip(&mut seen) {
            let before = system.tally();
            let slice = slice(system, case, effort)?;
            let after = system.tally();
            let of = |side, verdict| after.since(&before, side, verdict) as f64;
            let packets =
                (after.received[0] - before.received[0]) + (after.received[1] - before.received[1]);
            // Warm-up included: the share is constant.
            let per_race = packets as f64 / of(1, Verdict::ReplicaWon);
            seen.push((slice.ns(effort) * per_race, per_race));
        }
        done();
    }
    let figure = |((system, _), seen): (&(SystemUnderTest, Case), &Vec<(f64, f64)>)| {
        let ns: Vec<_> = seen.iter().map(|seen| seen.0).collect();
        let ns_per_race = median(ns.clone());
        RaceFigure {
            name: system.name.clone(),
            live,
            races_per_second: 1e9 / ns_per_race,
            ns_per_race,
            ns_least: ns.iter().copied().fold(f64::INFINITY, f64::min),
            ns_most: ns.iter().copied().fold(0.0, f64::max),
            packets_per_race: median(seen.iter().map(|seen| seen.1).collect()),
            rounds: effort.rounds,
        }
    };
    Ok(all.iter().zip(&seen).map(figure).collect())
}

/// Returns a gateway with open connections, whose racers have raced once.
fn racing<G: Mode>(
    lab: &mut Lab,
    pair: usize,
    name: &str,
    live: u32,
) -> Result<(SystemUnderTest, Case)> {
    let (ends, sources) = lab.ends(pair)?;
    let role = roles::gateway::<G>((live + RACERS) as usize);
    let driven = roles::driven(lab, ends, role, 1).context("no handoff queues for a worker")?;
    let mut system =
        SystemUnderTest { name: name.to_owned(), forwarder: Box::new(driven), sources };
    system.open(&frames::gateway::<G>(), live)?;
    for (source, program) in system.sources.iter().zip(programs::<G>(live)) {
        source.play(program);
    }
    for _ in 0..CYCLE * (RACERS as usize / BURST + 2) {
        system.forwarder.poll_once();
    }
    let programs = [system.sources[0].take(), system.sources[1].take()];
    let case = Case {
        name: format!("{name}, races"),
        system: 0,
        programs,
        verdicts: [
            vec![Verdict::TaggedNewIsn, Verdict::ToReplica],
            vec![Verdict::ReplicaWon, Verdict::LoserReset],
        ],
        base: Base::BothWays,
        bytes: [0; 2],
    };
    Ok((system, case))
}

/// Each response comes at least one turn after its request:
///
/// | turn | inside | outside |
/// |---|---|---|
/// | 0 | SYN of batch n | second loser of batch n - 1 |
/// | 1 | RST of batch n - 1 | winner of batch n |
/// | 2 | | first loser of batch n |
fn programs<G: Mode>(live: u32) -> [Program; 2] {
    let racers = Racers::new(live, RACERS);
    let answer = |from| frames::syn_ack(G::CONFIGURATION, from).numbered_ack();
    let origin = frames::origin_syn_ack().numbered_ack();
    [
        Program::turns(vec![
            (Turn::Race(frames::syn().numbered_sequence(), racers), 1),
            (Turn::Race(frames::client_reset().numbered_sequence(), racers.late()), 1),
            (Turn::Silence, 1),
        ]),
        Program::turns(vec![
            (Turn::Race(origin, racers.late()), 1),
            (Turn::Race(answer(frames::REPLICA), racers), 1),
            (Turn::Race(answer(frames::LOSERS[0]), racers), 1),
        ]),
    ]
}
