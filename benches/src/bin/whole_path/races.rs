//! Whole races: a SYN is tagged, a SYN/ACK decides the race, the SYN/ACKs of two losers are
//! answered by RSTs. A RST of the client and a new sequence number prepare the entry for the next
//! race. Gateways that ask replicas directly have the same races, with this number of direct copies
//! of each SYN, and report them to a memory on another CPU.

use anyhow::{Context, Result};
use firstack_benches::BURST;
use pipeline::counters::{Generated, Scalar};
use pipeline::role::gateway::Gateway;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::verdict::Verdict;
use serde::Serialize;

use crate::frames;
use crate::keeper::Keeper;
use crate::lab::Lab;
use crate::measure::{Effort, median, quantile, slice};
use crate::roles;
use crate::source::{Program, Racers, Turn};
use crate::system_under_test::{Base, Case, SystemUnderTest};

/// Endpoints that race repeatedly.
const RACERS: u32 = 512 * BURST as u32;
/// Numbers of direct copies.
const DIRECT: [u8; 4] = [0, 1, 2, 4];
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
    /// A quarter to three quarters of the rounds, as a part of the median.
    pub spread: f64,
    /// Received packets per race, the client's RST included.
    pub packets_per_race: f64,
    /// Direct copies per race.
    pub direct_copies: f64,
    /// The share of reports that did not fit the queue to the memory.
    pub reports_lost: f64,
    /// Rounds.
    pub rounds: usize,
    /// What lies in huge pages.
    pub huge_pages: &'static str,
}

/// A slice's result, each per race.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub ns: f64,
    packets: f64,
    copies: f64,
    lost: f64,
}

/// Returns the size of the table, with room for the racers.
fn table(live: u32) -> usize {
    (live + RACERS) as usize
}

/// Returns the direct copies sent so far, and the reports lost.
fn asked(system: &SystemUnderTest) -> [u64; 2] {
    system.forwarder.counters().map_or([0; 2], |counters| {
        let copies = counters.generated[Generated::DirectCopy as usize].get();
        [copies, counters.scalar(Scalar::ReportsLost).get()]
    })
}

/// Gateways with this many open connections each: of A, B and C, which ask nobody directly, and
/// with 0 to 4 direct copies. Their memories are kept until this is dropped.
pub struct Racing<'a> {
    /// Each gateway and its races.
    pub all: Vec<(SystemUnderTest, Case)>,
    live: u32,
    keeper: &'a Keeper,
}

impl<'a> Racing<'a> {
    /// Opens the connections.
    pub fn open((lab, keeper): (&mut Lab, &'a Keeper), live: u32) -> Result<Self> {
        let mut all = vec![
            racing::<A>(lab, 0, ("gateway A", roles::gateway(table(live)), 1), live)?,
            racing::<B>(lab, 1, ("gateway B", roles::gateway(table(live)), 1), live)?,
            racing::<C>(lab, 2, ("gateway C", roles::gateway(table(live)), 1), live)?,
        ];
        let mut memories = Vec::new();
        for (pair, copies) in (3..).zip(DIRECT) {
            let (role, memory) = roles::direct_gateway::<A>(table(live), copies);
            memories.push(memory);
            let name = format!("gateway A, direct = {copies}");
            all.push(racing::<A>(lab, pair, (&name, role, copies.max(1).into()), live)?);
        }
        keeper.keep(memories);
        Ok(Self { all, live, keeper })
    }

    /// Races at one of the gateways for a slice.
    pub fn slice(&mut self, number: usize, effort: &Effort) -> Result<Seen> {
        let (system, case) = &mut self.all[number];
        let (before, counted) = (system.tally(), asked(system));
        let slice = slice(system, case, effort)?;
        let after = system.tally();
        let of = |side, verdict| after.since(&before, side, verdict) as f64;
        let packets =
            (after.received[0] - before.received[0]) + (after.received[1] - before.received[1]);
        // Warm-up included: the share is constant.
        let races = of(1, Verdict::ReplicaWon);
        let per_race = packets as f64 / races;
        let [copies, lost] = std::array::from_fn(|n| (asked(system)[n] - counted[n]) as f64);
        // The client's RST is not reported.
        let reports = packets as f64 - races;
        let ns = slice.ns(effort) * per_race;
        Ok(Seen { ns, packets: per_race, copies: copies / races, lost: lost / reports })
    }
}

impl Drop for Racing<'_> {
    fn drop(&mut self) {
        self.keeper.keep(Vec::new());
    }
}

/// Measures races at all gateways in turn.
pub fn measure(
    racing: &mut Racing<'_>,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<RaceFigure>> {
    let mut seen = vec![Vec::new(); racing.all.len()];
    for _ in 0..effort.rounds {
        for (number, seen) in seen.iter_mut().enumerate() {
            seen.push(racing.slice(number, effort)?);
        }
        done();
    }
    let figure = |((system, _), seen): (&(SystemUnderTest, Case), &Vec<Seen>)| {
        let all = |of: fn(&Seen) -> f64| seen.iter().map(of).collect::<Vec<_>>();
        let mut ns = all(|seen| seen.ns);
        ns.sort_by(f64::total_cmp);
        let ns_per_race = median(ns.clone());
        RaceFigure {
            name: system.name.clone(),
            live: racing.live,
            races_per_second: 1e9 / ns_per_race,
            ns_per_race,
            ns_least: ns.first().copied().unwrap_or(f64::NAN),
            ns_most: ns.last().copied().unwrap_or(f64::NAN),
            spread: (quantile(&ns, 0.75) - quantile(&ns, 0.25)) / ns_per_race,
            packets_per_race: median(all(|seen| seen.packets)),
            direct_copies: median(all(|seen| seen.copies)),
            reports_lost: median(all(|seen| seen.lost)),
            rounds: effort.rounds,
            huge_pages: effort.huge_pages,
        }
    };
    Ok(racing.all.iter().zip(&seen).map(figure).collect())
}

/// Returns a gateway with open connections, whose racers have raced once.
fn racing<G: Mode>(
    lab: &mut Lab,
    pair: usize,
    (name, role, copies): (&str, Gateway<G>, usize),
    live: u32,
) -> Result<(SystemUnderTest, Case)> {
    let (ends, sources) = lab.ends(pair)?;
    let driven =
        roles::driven(lab, ends, role, copies).context("no handoff queues for a worker")?;
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
