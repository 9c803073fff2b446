//! `firstack-nic`: firstack on PCI ports, emulated or real, printed as a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firstack_tests::lab::Lab;
use firstack_tests::nic::{
    self, Assets, CARDS, Card, Guest, JUMBO, Local, Placement, Row, Table, Trial,
};
use firstack_tests::scenario::binary::full;

/// Run every case on NICs: start, forward, race, placement, links, stop, kill.
///
/// Needs root, and `firstack` beside it or named in FIRSTACK. Exits with 0 only if every case passed.
#[derive(Debug, Parser)]
#[command(name = "firstack-nic", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// On cards that QEMU emulates
    Emulated {
        /// What scripts/nic-guest has laid out
        #[arg(long)]
        assets: PathBuf,
        /// Cards; all if none is named
        cards: Vec<String>,
    },
    /// On ports of this machine that are cabled to kernel interfaces of it
    Real {
        /// The DPDK device of the inside, such as a PCI address
        #[arg(long)]
        inside: String,
        /// The DPDK device of the outside
        #[arg(long)]
        outside: String,
        /// The interface that the inside is cabled to
        #[arg(long)]
        inside_peer: String,
        /// The interface that the outside is cabled to
        #[arg(long)]
        outside_peer: String,
        /// CPUs of the workers
        #[arg(long, value_delimiter = ',', default_value = "0,1")]
        cores: Vec<usize>,
        /// Arguments of DPDK's EAL, such as --no-huge
        #[arg(long, allow_hyphen_values = true, value_delimiter = ' ')]
        eal: Vec<String>,
        /// The longest frame, in bytes without checksum
        #[arg(long, default_value_t = JUMBO)]
        longest: usize,
    },
}

fn main() -> ExitCode {
    let rows = match Arguments::parse().command {
        Command::Emulated { assets, cards } => emulated(&assets, &cards),
        Command::Real { inside, outside, inside_peer, outside_peer, cores, eal, longest } => {
            real([inside, outside], [inside_peer, outside_peer], cores, eal, longest)
        }
    };
    match rows {
        Ok(rows) => {
            let table = Table { rows };
            print!("\n{table}");
            if table.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("firstack-nic: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(row: &Row) {
    println!("{row}");
}

fn emulated(assets: &Path, names: &[String]) -> nic::Result<Vec<Row>> {
    Lab::remove_on_interrupt()?;
    Lab::sweep()?;
    let assets = Assets::read(assets)?;
    let cards: Vec<_> = match names {
        [] => CARDS.to_vec(),
        names => names
            .iter()
            .map(|name| Card::find(name).ok_or_else(|| format!("{name} is no card")))
            .collect::<Result<_, _>>()?,
    };
    println!("{}", assets.version()?);
    let mut rows = Vec::new();
    for card in &cards {
        rows.extend(Guest::try_card(&assets, card, full()?, show)?);
    }
    Ok(rows)
}

fn real(
    devices: [String; 2],
    peers: [String; 2],
    cores: Vec<usize>,
    eal: Vec<String>,
    longest: usize,
) -> nic::Result<Vec<Row>> {
    Lab::remove_on_interrupt()?;
    let trial = Trial {
        name: "real".to_owned(),
        binary: full()?.to_owned(),
        devices,
        cores,
        eal,
        driver: String::new(),
        placement: Placement::AsReported,
        longest,
        limit: String::new(),
    };
    let (mut local, mut wire) = Local::new(peers.each_ref().map(String::as_str))?;
    trial.run(&mut local, &mut wire, show)
}
