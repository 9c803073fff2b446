//! `firstack-demo`: firstack with real TCP, in network namespaces, printed as a report.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use firstack_tests::demo::{self, report::Report};
use firstack_tests::lab::{Family, Lab, LabError, Result};
use firstack_tests::processes::Configuration;

/// Race real connections between an origin and two replicas, in every configuration and family,
/// and check every claim.
///
/// Needs root, DPDK, nginx, curl and tcpdump, and `firstack` and `firstack-wan` beside it.
/// Exits with 0 only if all claims held. Removes everything that it has built at its end.
#[derive(Debug, Parser)]
#[command(name = "firstack-demo", version)]
struct Arguments {
    /// Directory for captures, created if missing
    #[arg(long, value_name = "DIRECTORY")]
    captures: Option<PathBuf>,
    /// Configurations to show
    #[arg(
        long, value_delimiter = ',', ignore_case = true, default_value = "A,B,C",
        value_parser = PossibleValuesParser::new(["A", "B", "C"]).map(configuration)
    )]
    configurations: Vec<Configuration>,
    /// Leave IPv6 out
    #[arg(long)]
    no_ipv6: bool,
}

fn configuration(name: String) -> Configuration {
    match name.as_str() {
        "B" | "b" => Configuration::B,
        "C" | "c" => Configuration::C,
        _ => Configuration::A,
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            Report::default().line(&format!("  FAILED  {error}"));
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: Arguments) -> Result<bool> {
    let captures = arguments.captures.unwrap_or_else(|| std::env::temp_dir().join("firstack-demo"));
    Lab::remove_on_interrupt()?;
    Lab::sweep()?;
    let at = |source| LabError::File { path: captures.clone(), source };
    std::fs::create_dir_all(&captures).map_err(at)?;
    let captures = captures.canonicalize().map_err(at)?;
    let both = [Family::V4, Family::V6];
    let families = if arguments.no_ipv6 { &both[..1] } else { &both[..] };
    demo::run(&captures, &arguments.configurations, families)
}
