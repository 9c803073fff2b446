//! Counts the instructions per packet of every kind of work on the data path, under valgrind, and
//! compares them with the accepted counts in benches/baseline/instructions.toml. Counts are
//! reproducible on any machine under any load, so they can fail a build. They do not show cache
//! misses; the benchmarks do.
//!
//! The program runs itself under `valgrind --tool=callgrind`, which counts only between entry and
//! exit of [`measured_step`], and writes its counts at each call of [`end_of_case`].

mod baseline;
mod callgrind;
mod report;

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use firstack_benches::cases::{self, Work};

use baseline::{Baseline, Tools};

const ABOUT: &str =
    "Counts the instructions per packet of the data path, under valgrind, and compares them
with the accepted ones

Build it for release and without DPDK, as scripts/test does:

  cargo run --release -p firstack-benches --bin instructions -- check

It needs valgrind (Debian package valgrind), and takes well under a minute. `check` ends with status
1 when a case takes more than 5 % more instructions than accepted, or is not in the baseline, or the
baseline has a case that is no more. A change that is meant, a new compiler too, is accepted with
scripts/accept-baseline; the baseline is committed with what changed it.";

#[derive(Parser)]
#[command(about = ABOUT, version)]
struct Arguments {
    /// The accepted counts.
    #[arg(long, global = true, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline/instructions.toml"))]
    baseline: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compare with the baseline; fail on a regression
    Check {
        /// Increase in per cent that is a regression
        #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
        threshold: f64,
        /// Show all cases, also those that did not change
        #[arg(long)]
        all: bool,
    },
    /// Make the current counts the baseline
    Accept,
    /// Do the work to be counted (runs under valgrind)
    #[command(hide = true)]
    Work,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs the command. Returns `false` on a regression.
fn run(arguments: &Arguments) -> Result<bool, Error> {
    match arguments.command {
        Command::Work => {
            work();
            Ok(true)
        }
        Command::Check { threshold, all } => {
            let accepted = Baseline::read(&arguments.baseline)?;
            let here = std::env::consts::ARCH;
            if accepted.tools.architecture != here {
                let other = accepted.tools.architecture;
                println!("instructions: NOT CHECKED: accepted ones are of {other}, this is {here}");
                return Ok(true);
            }
            let counted = Baseline { tools: Tools::here()?, instructions: callgrind::count()? };
            let report = report::Report::new(&accepted, &counted, threshold);
            print!("{}", report.text(all));
            Ok(report.passes())
        }
        Command::Accept => {
            let counted = Baseline { tools: Tools::here()?, instructions: callgrind::count()? };
            if let Ok(accepted) = Baseline::read(&arguments.baseline) {
                print!("{}", report::Report::new(&accepted, &counted, f64::INFINITY).text(false));
            }
            counted.write(&arguments.baseline)?;
            println!("accepted: {}", arguments.baseline.display());
            Ok(true)
        }
    }
}

/// Runs all cases, each with an end that valgrind sees.
fn work() {
    for case in cases::all() {
        case.run(|work| {
            measured_step(work);
        });
        end_of_case();
    }
}

/// The counted function. It returns a value so that the step is not a tail call, which valgrind
/// would take for the function's end.
#[inline(never)]
fn measured_step(work: &mut dyn Work) -> usize {
    work.step();
    black_box(1)
}

/// The function at whose call valgrind writes its counts.
#[inline(never)]
fn end_of_case() -> usize {
    black_box(2)
}

/// An error other than a regression.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("valgrind does not run ({0}): install it (Debian: apt-get install valgrind)")]
    NoValgrind(#[source] std::io::Error),
    #[error("{0} does not run: {1}")]
    NoTool(&'static str, #[source] std::io::Error),
    #[error("valgrind failed, {status}:\n{output}")]
    Valgrind { status: std::process::ExitStatus, output: String },
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}")]
    Baseline { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{path}: valgrind wrote no total above zero there; {hint}")]
    NothingCollected { path: PathBuf, hint: &'static str },
}
