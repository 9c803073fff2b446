//! `firstack-wan`: a wide-area network between the interfaces of one network namespace.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use firstack_tests::lab::wan::{self, WanConfig, WanError};

/// Route between interfaces with delay, jitter, loss and rate for each direction.
///
/// Prints "ready" when it is up, and when it ends (SIGINT, SIGTERM, or its time is up) its
/// counters, one JSON object per line.
#[derive(Debug, Parser)]
#[command(name = "firstack-wan", version)]
struct Arguments {
    /// Ports, routes and links, as TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// End by itself after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    max_seconds: f64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match work(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("firstack-wan: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &Arguments) -> Result<(), WanError> {
    let config = WanConfig::load(&arguments.config)?;
    let longest =
        Duration::try_from_secs_f64(arguments.max_seconds).unwrap_or(Duration::from_secs(600));
    let report = wan::run(&config, longest, || say("ready\n"))?;
    say(&report.to_json_lines());
    Ok(())
}

/// Prints at once; a reader that has gone is no reason to fail.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
