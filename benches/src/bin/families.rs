//! What a packet of an established connection costs each role over IPv6, and over IPv4, in one run.
//!
//! ```text
//! cargo run --release -p firstack-benches --no-default-features --bin families
//! cargo run --release -p firstack-benches --bin families -- --connections 1000,1000000
//! ```
//!
//! Rounds of both families alternate, so that whatever else the machine does strikes both, and the
//! median of all bursts counts, which a burst that is interrupted does not move. Times are of the role
//! alone, parsing and periodic work included. With DPDK the large tables are in huge pages, as in
//! `firstack`; without, they are in pages of 4 KiB, and large tables miss the TLB.

use std::time::Duration;

use clap::Parser;
use firstack_benches::BURST;
use firstack_benches::established::{self, Subject};
use firstack_benches::fixtures::{Peers, V4, V6};
use pipeline::role::gateway::mode::{A, B, C};
use pipeline::stage::tag::Configuration;

/// The appliance's allocator: large tables are in huge pages.
#[cfg(feature = "dpdk")]
#[global_allocator]
static MEMORY: firstack::sys::hugepages::HugePages = firstack::sys::hugepages::HugePages;

/// Measures roles over IPv4 and IPv6, in turn.
#[derive(Parser)]
struct Arguments {
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    connections: Vec<usize>,
    /// Number of rounds.
    #[arg(long, default_value_t = 41)]
    rounds: usize,
    /// Bursts of a round.
    #[arg(long, default_value_t = 300)]
    bursts: usize,
    /// Only roles whose name starts so.
    #[arg(long, default_value = "")]
    only: String,
}

/// The name of a role, and its constructor for a number of connections of one family.
type Named = (&'static str, fn(Peers, usize) -> Box<dyn Subject>);

const ROLES: [Named; 9] = [
    ("gateway_a", |peers, count| Box::new(established::gateway::<A>(peers, count))),
    ("gateway_b", |peers, count| Box::new(established::gateway::<B>(peers, count))),
    ("gateway_c", |peers, count| Box::new(established::gateway::<C>(peers, count))),
    ("switch", |peers, count| Box::new(established::switch(peers, count))),
    ("replica_a", |peers, count| Box::new(established::replica(Configuration::A, peers, count))),
    ("replica_b", |peers, count| Box::new(established::replica(Configuration::B, peers, count))),
    ("replica_c", |peers, count| Box::new(established::replica(Configuration::C, peers, count))),
    ("unusual_a", |peers, count| Box::new(established::unusual_at_gateway::<A>(peers, count))),
    ("unusual_c", |peers, count| Box::new(established::tunnels_at_gateway::<C>(peers, count))),
];

fn main() {
    let arguments = Arguments::parse();
    println!(
        "| role | packets | connections | IPv4 ns | IPv6 ns | IPv6 / IPv4 | of the fastest tenth |"
    );
    println!("|---|---|---|---|---|---|---|");
    for &count in &arguments.connections {
        for (name, make) in ROLES.iter().filter(|(name, _)| name.starts_with(&arguments.only)) {
            let mut both = [make(V4, count), make(V6, count)];
            for direction in 0..both[0].directions().len() {
                let [v4, v6] = measure(&mut both, direction, &arguments);
                let packets = both[0].directions()[direction].name;
                println!(
                    "| {name} | {packets} | {count} | {:.1} | {:.1} | {:.2} | {:.2} |",
                    v4.median,
                    v6.median,
                    v6.median / v4.median,
                    v6.fast / v4.fast
                );
            }
        }
    }
}

/// Times of the bursts, in ns per packet.
struct Times {
    median: f64,
    /// The time that a tenth of the bursts stay below.
    fast: f64,
}

impl Times {
    fn of(mut bursts: Vec<Duration>) -> Self {
        bursts.sort_unstable();
        let at = |place: usize| bursts[place].as_nanos() as f64 / BURST as f64;
        Self { median: at(bursts.len() / 2), fast: at(bursts.len() / 10) }
    }
}

/// Returns the times of both families.
fn measure(
    both: &mut [Box<dyn Subject>; 2],
    direction: usize,
    arguments: &Arguments,
) -> [Times; 2] {
    let mut all = [Vec::new(), Vec::new()];
    let mut burst = 0;
    // The first round of each warms up.
    for round in 0..=arguments.rounds {
        for (subject, times) in both.iter_mut().zip(&mut all) {
            for burst in burst..burst + arguments.bursts {
                let time = subject.run(direction, burst);
                if round > 0 {
                    times.push(time);
                }
            }
        }
        burst += arguments.bursts;
    }
    all.map(Times::of)
}
