//! A whole network on a virtual clock: clients, gateway, WAN, switch, origin, replicas and their
//! web servers exchange packets through the pipeline's own roles. The hosts' TCP is smoltcp's, so
//! that nothing judges the pipeline but what others understand of the protocol.
//!
//! A seed stands for a run: it draws the [`plan`] (who is there, how far apart, what is lost,
//! duplicated and reordered, who talks to whom), and all chance on the way. What must hold at the
//! end is in [`check`]; how [`roles`] are built, and so what the pipeline can do, in one place.
//!
//! | file | what it is |
//! |---|---|
//! | `plan`, `draw`, `variety`, `address`, `dice` | what a seed decides |
//! | `roles`, `station`, `control` | the appliances, fed in bursts, and what is moved of them |
//! | `host`, `pmtu`, `client`, `server`, `backlog`, `content`, `party` | smoltcp's hosts and what they say |
//! | `wan` | the way between the sites |
//! | `world`, `meddle` | the clock and everyone on it, and what happens to them |
//! | `flood` | start packets in others' names, for a test of its own |
//! | `check`, `watch`, `known`, `report` | what must hold, where it is known not to, and what came of it |
//! | `sabotage` | broken gateways, to check the checks |

pub mod address;
mod backlog;
pub mod check;
pub mod client;
pub mod content;
pub mod control;
pub mod dice;
mod draw;
pub mod flood;
pub mod host;
pub mod known;
pub mod log;
mod meddle;
mod party;
pub mod plan;
pub mod pmtu;
pub mod report;
pub mod roles;
pub mod sabotage;
pub mod segment;
pub mod server;
pub mod station;
pub mod variety;
pub mod wan;
pub mod watch;
pub mod world;

use plan::Plan;
use report::Tally;
use sabotage::Sabotage;
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
pub fn run(seed: u64, sabotage: Option<Sabotage>, tally: &mut Tally) -> Result<(), Failure> {
    let mut world = World::new(Plan::draw(seed), false, sabotage);
    let done = world.run();
    let wrong = check::check(&mut world, done);
    tally.add(&world);
    if wrong.is_empty() { Ok(()) } else { Err(Failure { seed, wrong }) }
}

/// Runs a failed seed again with the log on: all that helps to understand it.
#[must_use]
pub fn explain(failure: &Failure, sabotage: Option<Sabotage>, lines: usize) -> String {
    let mut world = World::new(Plan::draw(failure.seed), true, sabotage);
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
