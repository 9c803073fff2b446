//! The whole network with an attacker as one more host: no honest connection is taken over, lost, or
//! kept from racing for longer than docs/security.md says. `FIRSTACK_SEEDS` says how many seeds per
//! move, `FIRSTACK_SEED` which one alone, `FIRSTACK_MOVE` which move alone, and `FIRSTACK_LINES` how
//! much of a failure's log is shown.

use std::collections::BTreeMap;

use firstack_tests::simulation::attack::judge::{Phase, Property, Verdict, judge};
use firstack_tests::simulation::attack::{Move, Scene};
use firstack_tests::simulation::world::World;

/// Seeds of each move alone.
const SEEDS: u64 = 12;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text}")))
}

fn run(scene: &Scene) -> Verdict {
    let mut world = World::new(scene.plan(), false, None);
    let done = world.run();
    judge(&mut world, done)
}

fn explain(scene: &Scene, lines: usize) {
    let mut world = World::new(scene.plan(), true, None);
    let done = world.run();
    let log = world.log.tail(lines);
    println!("{scene:?}\n{:#?}\n{log}", judge(&mut world, done).wrong);
}

/// Results of a move, seeds together.
#[derive(Default)]
struct Row {
    shares: [[u64; 2]; 5],
    bytes: [u64; 2],
    wrong: BTreeMap<Property, Vec<u64>>,
}

#[test]
fn each_move_alone() {
    let seeds = number("FIRSTACK_SEED")
        .map_or(0..number("FIRSTACK_SEEDS").unwrap_or(SEEDS), |one| one..one + 1);
    let only = std::env::var("FIRSTACK_MOVE").ok();
    let moves = Move::ALL
        .into_iter()
        .filter(|of| only.as_ref().is_none_or(|name| *name == format!("{of:?}")));
    let mut failed = 0;
    for of in moves {
        let begun = std::time::Instant::now();
        let mut row = Row::default();
        for seed in seeds.clone() {
            let scene = Scene::draw(seed, &[of]);
            let verdict = run(&scene);
            for (sum, share) in row.shares.iter_mut().zip(verdict.shares) {
                sum[0] += share.all;
                sum[1] += share.raced;
            }
            (0..2).for_each(|at| row.bytes[at] += verdict.bytes[at]);
            for (property, what) in &verdict.wrong {
                if number("FIRSTACK_LINES").is_some() {
                    println!("{of:?} {seed} {property:?} {what}");
                }
                let seeds = row.wrong.entry(*property).or_default();
                if seeds.last() != Some(&seed) {
                    seeds.push(seed);
                }
            }
            if let Some(lines) = number("FIRSTACK_LINES").filter(|lines| *lines > 0) {
                explain(&scene, lines as usize);
            }
        }
        let shares =
            row.shares.map(
                |[all, raced]| {
                    if all == 0 { "-".into() } else { format!("{}%", raced * 100 / all) }
                },
            );
        let [sent, got] = row.bytes;
        println!(
            "{of:?}: raced before {} during {} soon {} after {} pinned {}; echo {:.2}; {:.1} s; {:?}",
            shares[Phase::Before as usize],
            shares[1],
            shares[2],
            shares[3],
            shares[4],
            got as f64 / sent.max(1) as f64,
            begun.elapsed().as_secs_f64(),
            row.wrong,
        );
        failed += row.wrong.len();
    }
    assert_eq!(failed, 0);
}
