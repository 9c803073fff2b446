//! Compares the translation table with hashbrown and DPDK's `rte_hash_lookup_bulk` in one run, over
//! bursts of 32 scattered keys: hash, find, and read the connection's state.
//!
//! ```text
//! cargo bench -p firstack-benches --bench table -- --json FILE
//! ```
//!
//! All candidates are measured in turn, one round each, repeatedly. The figures are median, best
//! and worst of the rounds. Criterion would rebuild tables of 8 million entries again and again,
//! and take half an hour. The difference between `ours` and `ours, no prefetch` is the gain of
//! prefetching over a burst; `ours, pipelined` prefetches the next burst's lines before it looks up
//! this one's.
//!
//! hashbrown has our keys (client address and port, 6 bytes). rte_hash has keys of 16 bytes, like
//! an IPv4 5-tuple, hashed by its default, CRC, without a secret. State is 64 bytes per connection
//! everywhere: beside the key in our table and in hashbrown, in an array by position with rte_hash,
//! prefetched for the whole burst.

mod candidates;
mod measure;
mod report;

use std::error::Error;
use std::path::PathBuf;

use clap::Parser;
use firstack::dpdk::{Eal, EalArgs, LogLevel};
use firstack::sys::hugepages::HugePages;
use pipeline::wire::family::{V4, V6};

use candidates::{Hashbrown, NoPrefetch, Ours, Pipelined, Rte, Sip};
use measure::{Measured, round};

/// The appliance's allocator: large tables are in huge pages, hashbrown's too.
#[global_allocator]
static MEMORY: HugePages = HugePages;

/// Compares the translation table with hashbrown and DPDK's rte_hash.
#[derive(Parser)]
struct Arguments {
    /// Also write the figures to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 64_000, 1_000_000, 8_000_000])]
    connections: Vec<usize>,
    /// Number of rounds.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Passed by cargo to every benchmark; ignored.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let most = arguments.connections.iter().copied().max().unwrap_or(0);
    let (eal, pages) = start_dpdk(most)?;
    let mut all = Vec::new();
    for &connections in &arguments.connections {
        let rounds = (1..=arguments.rounds)
            .map(|number| {
                eprintln!("{connections} connections, round {number} of {}", arguments.rounds);
                all_once(&eal, connections)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let summary = report::Summary::of(connections, &rounds);
        println!("{}", summary.text());
        all.push(summary);
    }
    println!("rte_hash lies in {pages}");
    if let Some(path) = &arguments.json {
        std::fs::write(path, report::json(&all, &pages).to_string())?;
    }
    Ok(())
}

/// Measures every candidate, one after the other: there is memory for one at a time.
fn all_once(eal: &Eal, connections: usize) -> Result<Vec<Measured>, Box<dyn Error>> {
    Ok(vec![
        round(connections, || Ok(Ours::<V4>::new(connections)))?,
        round(connections, || Ok(Pipelined::new(connections)))?,
        round(connections, || Ok(NoPrefetch::new(connections)))?,
        round(connections, || Ok(Ours::<V6>::new(connections)))?,
        round(connections, || Ok(Hashbrown::new(connections, foldhash())))?,
        round(connections, || Ok(Hashbrown::new(connections, Sip)))?,
        round(connections, || Rte::new(eal, connections))?,
    ])
}

fn foldhash() -> hashbrown::DefaultHashBuilder {
    hashbrown::DefaultHashBuilder::default()
}

/// Starts DPDK with memory for a table of this many keys, in huge pages where enough are free, as
/// an operator would configure it. Also returns a description of that memory.
fn start_dpdk(most: usize) -> Result<(Eal, String), Box<dyn Error>> {
    // 32 bytes per key, 64 bytes per bucket of 8 keys, 4 bytes in a ring, rounded up to a power of
    // two.
    let mib = 64 + (most.next_power_of_two() * 96) / (1 << 20);
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: usize = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let huge = 2 * free >= mib;
    let memory = u32::try_from(mib)?;
    let args = EalArgs {
        file_prefix: format!("firstack-table-{}", std::process::id()),
        no_huge_mib: (!huge).then_some(memory),
        // Only an empty directory is left on disk.
        extra: match huge {
            true => vec!["--huge-unlink".to_owned(), "-m".to_owned(), mib.to_string()],
            false => vec!["--no-shconf".to_owned(), "--no-telemetry".to_owned()],
        },
        log_level: LogLevel::Error,
        ..EalArgs::default()
    };
    let eal = Eal::init(&args.build()?)?;
    let pages = match huge {
        true => "huge pages of 2 MiB".to_owned(),
        false => format!("pages of 4 KiB: {mib} MiB of huge pages are not free (vm.nr_hugepages)"),
    };
    Ok((eal, pages))
}
