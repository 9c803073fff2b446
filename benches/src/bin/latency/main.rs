//! Measures the latency of a packet through a worker, at 10, 50 and 90 % of the worker's capacity
//! and after idle periods, with busy and adaptive polling.
//!
//! `rings`: a real worker on one core, a source and sink on another, net_ring between them in one
//! process. `veth`: a real `firstack run` on net_af_packet between two network namespaces (needs
//! root). Packets are sent on a schedule, and latency counts from the scheduled time, so that a
//! delayed source does not hide waiting packets (coordinated omission).

mod figures;
mod rings;
mod veth;

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use figures::Report;

/// An error. The text is the cause's.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The path of the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Way {
    /// A worker of this process on net_ring.
    Rings,
    /// A process of firstack on net_af_packet.
    Veth,
}

/// Measures latency through a worker.
#[derive(Debug, Parser)]
struct Arguments {
    /// What packets pass through.
    #[arg(value_enum, default_values_t = [Way::Rings, Way::Veth])]
    ways: Vec<Way>,
    /// CPUs of the worker and of the source.
    #[arg(long, value_delimiter = ',', num_args = 2, default_values_t = [0, 1])]
    cores: Vec<u16>,
    /// Established connections, on rings.
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// The binary `firstack`; beside this one by default.
    #[arg(long)]
    binary: Option<PathBuf>,
    /// Prints JSON instead of text.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut report = Report::default();
    // Before DPDK starts its threads here: it starts programs in namespaces.
    if arguments.ways.contains(&Way::Veth) {
        veth::run(&arguments, &mut report)?;
    }
    if arguments.ways.contains(&Way::Rings) {
        rings::run(&arguments, &mut report)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{report}");
    }
    Ok(())
}
