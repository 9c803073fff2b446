//! The whole network, seed after seed. `FIRSTACK_SEEDS` says how many seeds, `FIRSTACK_SEED`
//! which one alone, `FIRSTACK_LINES` how much of a failure's log is shown, and `FIRSTACK_LOG=1`
//! shows it for seeds that do not fail too; `FIRSTACK_FAILURES` is how many failures end a run.

use firstack_tests::simulation::mutants::Mutant;
use firstack_tests::simulation::plan::Plan;
use firstack_tests::simulation::report::Tally;
use firstack_tests::simulation::world::World;
use firstack_tests::simulation::{Failure, explain, explain_plan, run, run_plan};

/// Seeds in a usual run of the tests.
const SEEDS: u64 = 15_000;
/// Lines of the log that a failure shows.
const LINES: usize = 120;
/// Failures after which no more seeds are run, unless `FIRSTACK_FAILURES` says otherwise.
const FAILURES: usize = 5;
/// Failures that are shown in full.
const SHOWN: usize = 5;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, not {text}")))
}

#[test]
fn every_connection_completes_or_is_refused_for_a_reason() {
    let one = number("FIRSTACK_SEED");
    let count = number("FIRSTACK_SEEDS").unwrap_or(SEEDS);
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let lines = number("FIRSTACK_LINES").map_or(LINES, |lines| lines as usize);
    let mut tally = Tally::default();
    let most = number("FIRSTACK_FAILURES").map_or(FAILURES, |most| most as usize);
    let mut failures = Vec::new();
    for seed in seeds {
        failures.extend(run(seed, None, &mut tally).err());
        if failures.len() == most {
            break;
        }
    }
    println!("{tally}");
    let shown = |seed| Failure { seed, wrong: Vec::new() };
    let asked = one.filter(|_| failures.is_empty() && number("FIRSTACK_LOG").is_some());
    failures.iter().skip(SHOWN).for_each(|failure| println!("{failure:?}"));
    failures.iter().take(SHOWN).cloned().chain(asked.map(shown)).for_each(|failure| {
        println!("{}", explain(&failure, None, lines));
    });
    let seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "seeds that failed: {seeds:?}");
}

/// Appliances are reloaded at any time, with configurations that lack a replica or a service: hosts
/// keep their connections, and those that begin later have nothing to do with what has left.
#[test]
fn reloads_at_any_time_lose_no_connection() {
    let one = number("FIRSTACK_SEED");
    let count = number("FIRSTACK_SEEDS").unwrap_or(SEEDS / 5);
    let seeds = one.map_or(0..count, |seed| seed..seed + 1);
    let lines = number("FIRSTACK_LINES").map_or(LINES, |lines| lines as usize);
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    for seed in seeds {
        failures.extend(run_plan(Plan::with_reloads(seed), None, &mut tally).err());
        if failures.len() == FAILURES {
            break;
        }
    }
    println!("{tally}");
    for failure in &failures {
        let plan = Plan::with_reloads(failure.seed);
        println!("{}", explain_plan(plan, failure, None, lines));
    }
    let seeds: Vec<_> = failures.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "seeds that failed: {seeds:?}");
}

#[test]
fn a_broken_gateway_is_found_within_few_seeds() {
    for mutant in Mutant::ALL {
        let mut tally = Tally::default();
        let found = (0..60).find_map(|seed| run(seed, Some(mutant), &mut tally).err());
        let found = found.unwrap_or_else(|| panic!("{mutant:?} was not found in 60 seeds"));
        println!("{mutant:?}: seed {}: {:?}", found.seed, found.wrong);
    }
}

#[test]
fn a_seed_gives_the_same_run_every_time() {
    for seed in 0..20 {
        let log = || {
            let mut world = World::new(Plan::draw(seed), true, None);
            let done = world.run();
            (done, world.now, world.events, world.log.tail(usize::MAX))
        };
        assert_eq!(log(), log(), "seed {seed}");
    }
}
