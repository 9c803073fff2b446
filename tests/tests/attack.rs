//! The whole network with an attacker as one more host: no honest connection is taken over, lost, or
//! kept from racing for longer than docs/security.md says.
//!
//! `FIRSTACK_SEEDS` says how many seeds each move is run for, `FIRSTACK_SEED` which one alone,
//! `FIRSTACK_MOVE` which move alone, and `FIRSTACK_LINES` how much of a failure's log is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use firstack_tests::simulation::attack::judge::{Phase, Property, Share, Verdict, judge};
use firstack_tests::simulation::attack::{Move, Scene};
use firstack_tests::simulation::plan::Permits;
use firstack_tests::simulation::rng::Rng;
use firstack_tests::simulation::world::World;

/// Seeds of each move alone.
const SEEDS: u64 = 24;
/// Seeds of several moves at once.
const TOGETHER: u64 = 150;

/// The least share of honest connections, in percent, that is raced while the attacker does this.
/// Where it is not all of them, docs/security.md says why.
fn least(of: Move) -> u64 {
    match of {
        // Forged SYNs use up the tokens of their own prefix, and of all prefixes together.
        Move::VictimPrefix | Move::RandomPrefixes => 75,
        _ => 98,
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text}")))
}

fn run(scene: &Scene) -> Verdict {
    let mut world = World::new(scene.plan(), false, None);
    let done = world.run();
    judge(&mut world, done)
}

/// Prints what is wrong with a run, and the end of its log if that is asked for.
fn explain(scene: &Scene, verdict: &Verdict) {
    println!("{scene:?}");
    verdict.wrong.iter().for_each(|(property, what)| println!("  {property:?}: {what}"));
    if let Some(lines) = number("FIRSTACK_LINES") {
        let mut world = World::new(scene.plan(), true, None);
        world.run();
        println!("{}", world.log.tail(lines as usize));
    }
}

/// Results of a move, seeds together.
#[derive(Default)]
struct Row {
    shares: [Share; 5],
    bytes: [u64; 2],
    wrong: BTreeMap<Property, BTreeSet<u64>>,
}

impl Row {
    fn add(&mut self, seed: u64, verdict: &Verdict) {
        for (sum, share) in self.shares.iter_mut().zip(verdict.shares) {
            sum.all += share.all;
            sum.raced += share.raced;
        }
        self.bytes.iter_mut().zip(verdict.bytes).for_each(|(sum, bytes)| *sum += bytes);
        for (property, _) in &verdict.wrong {
            self.wrong.entry(*property).or_default().insert(seed);
        }
    }

    fn print(&self, name: &str, begun: Instant) {
        let [before, during, soon, after, pinned] = self.shares;
        let echo = self.bytes[1] as f64 / self.bytes[0].max(1) as f64;
        println!(
            "{name:<19} {before:>6} {during:>6} {soon:>6} {after:>6} {pinned:>6} {echo:>5.2} {:>6.1} s {:?}",
            begun.elapsed().as_secs_f64(),
            self.wrong,
        );
    }
}

fn head() {
    println!(
        "raced:              before during   soon  after pinned  echo     time wrong, by seed"
    );
}

#[test]
fn no_move_takes_over_or_loses_or_keeps_from_racing_for_long() {
    let one = number("FIRSTACK_SEED").map(|one| one..one + 1);
    let seeds = one.unwrap_or(0..number("FIRSTACK_SEEDS").unwrap_or(SEEDS));
    let only = std::env::var("FIRSTACK_MOVE").ok();
    let moves: Vec<_> = match &only {
        Some(name) => Move::ALL.into_iter().filter(|of| *name == format!("{of:?}")).collect(),
        None => Move::ALL.to_vec(),
    };
    let mut failed = Vec::new();
    head();
    for of in moves {
        let (mut row, begun) = (Row::default(), Instant::now());
        for seed in seeds.clone() {
            let scene = Scene::draw(seed, &[of]);
            let verdict = run(&scene);
            row.add(seed, &verdict);
            let is_first = row.wrong.values().flatten().all(|other| *other == seed);
            if only.is_some() || !verdict.wrong.is_empty() && is_first {
                explain(&scene, &verdict);
            }
        }
        row.print(&format!("{of:?}"), begun);
        let during = row.shares[Phase::During as usize];
        if !row.wrong.is_empty() || during.raced * 100 < during.all * least(of) {
            failed.push(of);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn nor_do_several_at_once() {
    if std::env::var("FIRSTACK_MOVE").is_ok() {
        return;
    }
    let one = number("FIRSTACK_SEED").map(|one| one..one + 1);
    let (mut row, begun, mut shown) = (Row::default(), Instant::now(), 0);
    for seed in one.unwrap_or(0..TOGETHER) {
        let rng = &mut Rng::new(seed ^ 0x746f_6765_7468);
        // Dear, and of no effect on the others.
        let cheap = |of: &Move| *of != Move::RandomPrefixes;
        let all = Move::ALL.into_iter().filter(cheap);
        let moves: Vec<_> = all.filter(|_| rng.chance(250)).collect();
        let scene = Scene::draw(seed, &moves);
        let verdict = run(&scene);
        row.add(seed, &verdict);
        if !verdict.wrong.is_empty() && shown < 5 {
            explain(&scene, &verdict);
            shown += 1;
        }
    }
    head();
    row.print("several", begun);
    assert!(row.wrong.is_empty());
}

/// `allowed_replicas = ["any"]` means any: a host outside that an accomplice inside lets win is
/// asked directly, and gets other clients' connections. Where replicas are listed it gets nothing.
#[test]
fn any_replica_means_any_host() {
    for (permits, taken) in [(Permits::Any, true), (Permits::Sites, false)] {
        for seed in 0..12 {
            let scene = Scene { permits, direct: 2, ..Scene::draw(seed, &[Move::Lure]) };
            let verdict = run(&scene);
            let wrong = verdict.wrong.iter().any(|(what, _)| *what == Property::NotTakenOver);
            assert_eq!(wrong, taken, "{scene:?}: {:#?}", verdict.wrong);
        }
    }
}

#[test]
fn a_scene_gives_the_same_run_every_time() {
    for seed in 0..6 {
        let once = || {
            let mut world =
                World::new(Scene::draw(seed, &[Move::Pin, Move::Blind]).plan(), true, None);
            let done = world.run();
            (done, world.now, world.events, world.log.tail(usize::MAX))
        };
        assert_eq!(once(), once(), "seed {seed}");
    }
}
