//! `firstack-nic`: firstack on PCI ports, emulated or real, printed as a table.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firstack_tests::lab::Lab;
use firstack_tests::nic::{
    self, Assets, CARDS, Card, Guest, JUMBO, Local, Placement, Row, Table, Trial, Trouble,
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
        /// DPDK devices, inside and outside, such as PCI addresses
        #[arg(long, value_delimiter = ',', num_args = 2, required = true)]
        ports: Vec<String>,
        /// The interfaces that they are cabled to
        #[arg(long, value_delimiter = ',', num_args = 2, required = true)]
        peers: Vec<String>,
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
        Command::Real { ports, peers, cores, eal, longest } => {
            real(ports, &peers, cores, eal, longest)
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
    ports: Vec<String>,
    peers: &[String],
    cores: Vec<usize>,
    eal: Vec<String>,
    longest: usize,
) -> nic::Result<Vec<Row>> {
    Lab::remove_on_interrupt()?;
    let two = |list: &[String]| match list {
        [inside, outside] => Ok([inside.clone(), outside.clone()]),
        _ => Err(Trouble::Failed("two ports and two peers, inside and outside".to_owned())),
    };
    let (devices, peers) = (two(&ports)?, two(peers)?);
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
