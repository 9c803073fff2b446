//! A simulated network on a virtual clock: clients, gateway, WAN, switch, origin, replicas and
//! their web servers exchange packets through the pipeline's own roles. The hosts run smoltcp's
//! TCP, so an independent implementation judges the pipeline.
//!
//! A seed reproduces a run. It determines the [`plan`] (hosts, distances, loss, duplication,
//! reordering, connections) and every random choice on the way. [`check`] has the invariants that
//! must hold at the end; [`roles`] builds the roles.
//!
//! | file | subject |
//! |---|---|
//! | `plan`, `draw`, `variety`, `address`, `rng` | the random plan of a run |
//! | `roles`, `station`, `control`, `racing` | the appliances, fed in bursts, and their control plane |
//! | `nodes`, `host`, `pmtu`, `client`, `server`, `backlog`, `content` | smoltcp's hosts and their data |
//! | `wan` | the paths between the sites |
//! | `world`, `faults` | the event loop, and fault injection |
//! | `flood` | spoofed SYNs, for a separate test |
//! | `attack` | an attacker as one more host, for a separate test |
//! | `traffic`, `check`, `watch`, `expected_failures`, `report` | invariants, known limitations, results |
//! | `mutants` | broken gateways, to test the checks |

pub mod address;
pub mod attack;
mod backlog;
pub mod check;
pub mod client;
pub mod content;
pub mod control;
pub mod course;
mod draw;
pub mod expected_failures;
mod faults;
pub mod flood;
pub mod host;
pub mod liar;
pub mod log;
pub mod metric;
pub mod mutants;
mod nodes;
pub mod plan;
pub mod pmtu;
pub mod racing;
pub mod report;
pub mod rng;
pub mod roles;
pub mod segment;
pub mod server;
pub mod station;
pub mod traffic;
pub mod variety;
pub mod wan;
pub mod watch;
pub mod world;

use mutants::Mutant;
use plan::Plan;
use report::Tally;
use world::World;

/// What is wrong with a run.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// One line for each thing that is wrong.
    pub wrong: Vec<String>,
}

/// Runs a seed; adds what came of it to the tally.
pub fn run(seed: u64, mutant: Option<Mutant>, tally: &mut Tally) -> Result<(), Failure> {
    run_plan(Plan::draw(seed), mutant, tally)
}

/// Runs a plan; adds what came of it to the tally.
pub fn run_plan(plan: Plan, mutant: Option<Mutant>, tally: &mut Tally) -> Result<(), Failure> {
    let seed = plan.seed;
    let mut world = World::new(plan, false, mutant);
    let done = world.run();
    let wrong = check::check(&mut world, done);
    tally.add(&world);
    if wrong.is_empty() { Ok(()) } else { Err(Failure { seed, wrong }) }
}

/// Runs a failed seed again with the log on: all that helps to understand it.
#[must_use]
pub fn explain(failure: &Failure, mutant: Option<Mutant>, lines: usize) -> String {
    explain_plan(Plan::draw(failure.seed), failure, mutant, lines)
}

/// Runs a plan that has failed again with the log on.
#[must_use]
pub fn explain_plan(plan: Plan, failure: &Failure, mutant: Option<Mutant>, lines: usize) -> String {
    let mut world = World::new(plan, true, mutant);
    let done = world.run();
    let plan = format!("{:#?}", world.plan);
    let tail = world.log.tail(lines);
    let again = check::check(&mut world, done);
    let mut text = format!("seed {}:\n", failure.seed);
    for line in &failure.wrong {
        text.push_str(&format!("  {line}\n"));
    }
    if again != failure.wrong {
        text.push_str(&format!("  and in another run of the same seed: {again:?}\n"));
    }
    text + &format!("{plan}\nthe last {lines} lines of the log:\n{tail}")
}
