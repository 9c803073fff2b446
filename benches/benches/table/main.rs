//! The translation table beside hashbrown and DPDK's `rte_hash_lookup_bulk`, in one run, over
//! bursts of 32 scattered keys: hash, find, and read the connection's state.
//!
//! ```text
//! cargo bench -p firstack-benches --bench table -- --json FILE
//! ```
//!
//! All are measured in turn, a round each, and again; the figures are the median of the rounds, and
//! the best and worst. Not criterion: that would build tables of 8 million entries over and over,
//! and take half an hour. What prefetching over a burst is worth is the difference between `ours`
//! and `ours, no prefetch`; `ours, pipelined` asks for the next burst's lines before it finds this
//! one's.
//!
//! Keys of hashbrown are those of ours (client address and port, 6 bytes), those of rte_hash 16
//! bytes like an IPv4 5-tuple, hashed by its default, CRC, without a secret. State is 64 bytes a
//! connection everywhere: in ours and in hashbrown it is beside the key, with rte_hash in an array
//! by position, prefetched for the whole burst.

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

/// As the appliance has it: large tables in huge pages, hashbrown's too.
#[global_allocator]
static MEMORY: HugePages = HugePages;

/// Compares the translation table with hashbrown and DPDK's rte_hash.
#[derive(Parser)]
struct Arguments {
    /// Writes the figures there, too.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 64_000, 1_000_000, 8_000_000])]
    connections: Vec<usize>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What cargo says to every benchmark.
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

/// Every table, built afresh, one after the other: memory is had for one at a time.
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

/// DPDK with memory for its table of this many keys: huge pages where enough are free, as an
/// operator would give it; and what it got, in words.
fn start_dpdk(most: usize) -> Result<(Eal, String), Box<dyn Error>> {
    // 32 bytes a key, a bucket of 64 bytes for 8, 4 bytes in a ring, all up to a power of two.
    let mib = 64 + (most.next_power_of_two() * 96) / (1 << 20);
    let free = std::fs::read_to_string("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let free: usize = free.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    let huge = 2 * free >= mib;
    let memory = u32::try_from(mib)?;
    let args = EalArgs {
        file_prefix: format!("firstack-table-{}", std::process::id()),
        no_huge_mib: (!huge).then_some(memory),
        // Nothing but an empty folder is left behind on disk.
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
