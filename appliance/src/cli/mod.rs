//! The command line and its subcommands.

mod client;
#[cfg(feature = "dpdk")]
mod run;

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use client::{memory, request, stats, upgrade, wait_for_drain};
#[cfg(feature = "dpdk")]
use run::run;

use crate::config::{Config, ConfigErrors};
use crate::control::socket::{Command as Control, Name};
use crate::control::stats::Snapshot;
use crate::replay::{self, Report};

/// Exit code of a mistake in the configuration, on the command line or in a file named there; nothing
/// was started.
const MISCONFIGURED: u8 = 2;
/// Exit code of a failure after that.
const FAILED: u8 = 1;

/// Gives each TCP connection to the replica whose SYN/ACK arrives first.
#[derive(Debug, Parser)]
#[command(name = "firstack", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the forwarding process.
    Run(RunArgs),
    /// Check configurations without starting anything: each by itself, and the files of a site
    /// against each other.
    Check {
        /// Configuration files: one, or those of the gateways, switches and replicas of a site.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Skip checking that the CPUs and devices exist on this machine.
        #[arg(long)]
        no_devices: bool,
    },
    /// Run captures through the pipeline, without DPDK or root; the output is deterministic. Exit
    /// code 2: an input is no capture or cannot be used, nothing was replayed; 1: a capture is
    /// damaged, replayed up to there, or the output cannot be written.
    Replay(ReplayArgs),
    /// Show the counters of a running process.
    Stats {
        #[command(flatten)]
        target: Target,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drain or undrain a gateway, switch or replica, a service, or a server or replica; set or clear
    /// busy. Exit code 3: with `--wait`, connections were left at the end of the time.
    Gate {
        /// The action.
        gate: Gate,
        /// What to drain: a service of a gateway or a switch, such as shop; a server or replica, such
        /// as shop/web1, of a switch, or a web server of a replica. Default: the whole process.
        name: Option<Name>,
        /// With drain: wait until no connection is left, for this time at most, such as 30m.
        #[arg(long, value_name = "TIME", num_args = 0..=1, value_parser = humantime::parse_duration)]
        wait: Option<Option<Duration>>,
        #[command(flatten)]
        target: Target,
    },
    /// Show what a gateway remembers of replicas, or make it forget.
    Memory {
        /// Forget what was learned: of this service, or of all if none is named.
        #[arg(long, value_name = "SERVICE", num_args = 0..=1)]
        clear: Option<Option<Name>>,
        /// Print JSON.
        #[arg(long, conflicts_with = "clear")]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Tell why a client's connections went where they did.
    Why {
        /// The client: an address, with or without a port, such as 198.18.1.10:40000.
        client: Client,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        target: Target,
    },
    /// Make a running process read its configuration file and its key file again, and go on with what
    /// has changed, without losing a connection. Exit code 2: a file has mistakes; 1: a change needs a
    /// restart. Nothing is changed then.
    Reload {
        #[command(flatten)]
        target: Target,
        /// Only tell what would change.
        #[arg(long)]
        dry_run: bool,
    },
    /// Replace a running process by a new one, which takes over its ports and connections. Exit code
    /// 1: not upgraded, the old process goes on.
    Upgrade {
        /// The new program. Default: what is now in the running one's place.
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// The time that the new process has to get ready, such as 30s.
        #[arg(long, value_name = "TIME", default_value = "30s")]
        timeout: humantime::Duration,
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration file.
    #[arg(long, short)]
    config: PathBuf,
    /// Stop when no packet has been received for this many milliseconds (for captures as input).
    #[arg(long, value_name = "MS")]
    exit_when_idle: Option<u64>,
    /// Start with empty tables and nothing drained, whatever an earlier process has left.
    #[arg(long)]
    forget: bool,
    /// Print the final counters as JSON.
    #[arg(long)]
    json: bool,
    /// Allow core dumps and debuggers, which see the keys of signed tags.
    #[arg(long)]
    core_dumps: bool,
    /// Take over from the process at stdin, which has started this one.
    #[arg(long, hide = true)]
    take_over: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// Configuration file.
    #[arg(long, short)]
    config: PathBuf,
    /// Capture of packets received on the inside, pcap or pcapng.
    #[arg(long, required_unless_present = "outside")]
    inside: Option<PathBuf>,
    /// Capture of packets received on the outside.
    #[arg(long)]
    outside: Option<PathBuf>,
    /// Directory for inside.pcap and outside.pcap, the packets sent.
    #[arg(long)]
    out: PathBuf,
    /// Print what happened to each packet, and why.
    #[arg(long)]
    explain: bool,
    /// Print the same as JSON lines, ending with the counters.
    #[arg(long, conflicts_with = "explain")]
    json: bool,
}

/// A client: an address, and a port if only that one is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client(IpAddr, Option<u16>);

impl FromStr for Client {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let endpoint = text.parse().map(|to: SocketAddr| Self(to.ip(), Some(to.port())));
        let address = || text.parse().map(|address| Self(address, None));
        endpoint.or_else(|_| address()).map_err(|_: std::net::AddrParseError| {
            "expected an address such as 198.18.1.10, 198.18.1.10:40000 or [2001:db8::1]:40000"
                .to_owned()
        })
    }
}

/// The running process to talk to.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Control socket of the process.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Configuration file of the process, which names the socket.
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Gate {
    /// Accept no new connections; present ones continue.
    Drain,
    /// Accept new connections again.
    Undrain,
    /// Count as busy, whatever the load.
    Busy,
    /// Let the load decide again.
    Unbusy,
}

impl Gate {
    fn command(self, name: Option<Name>, waits: bool) -> Result<Control, Failure> {
        match (self, name) {
            (Self::Undrain | Self::Busy | Self::Unbusy, _) if waits => {
                Err((MISCONFIGURED, "firstack: --wait goes with drain".to_owned()))
            }
            (Self::Drain, name) => Ok(Control::Drain { name }),
            (Self::Undrain, name) => Ok(Control::Undrain { name }),
            (Self::Busy, None) => Ok(Control::Busy),
            (Self::Unbusy, None) => Ok(Control::Unbusy),
            (Self::Busy | Self::Unbusy, Some(name)) => {
                let text =
                    format!("busy and unbusy apply to the whole replica; unexpected name {name}");
                Err((MISCONFIGURED, format!("firstack: {text}")))
            }
        }
    }
}

/// Runs the command line. Errors are printed to stderr.
pub fn main() -> ExitCode {
    let lacking = crate::sys::cpu::lacks();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        eprintln!("firstack: this CPU lacks {lacking}; firstack is built for x86-64-v3 with AES");
        return ExitCode::from(FAILED);
    }
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check { files, no_devices } => check(&files, no_devices),
        Command::Replay(args) => replay(&args),
        Command::Stats { target, json } => stats(&target, json),
        Command::Gate { gate, name, wait, target } => gate
            .command(name.clone(), wait.is_some())
            .and_then(|command| request(&target, command))
            .and_then(|()| wait.map_or(Ok(()), |wait| wait_for_drain(&target, name, wait))),
        Command::Reload { target, dry_run } => request(&target, Control::Reload { dry_run }),
        Command::Upgrade { binary, timeout, target } => upgrade(&target, binary, timeout.into()),
        Command::Memory { clear: None, json, target } => memory(&target, Control::Memory, json),
        Command::Memory { clear: Some(name), target, .. } => {
            request(&target, Control::Forget { name })
        }
        Command::Why { client: Client(client, port), json, target } => {
            memory(&target, Control::Why { client, port }, json)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // If stderr is closed there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

/// An exit code and the text for stderr.
type Failure = (u8, String);

fn failed(error: impl std::fmt::Display) -> Failure {
    (FAILED, format!("firstack: {error}"))
}

fn misconfigured(errors: ConfigErrors) -> Failure {
    (MISCONFIGURED, errors.to_string())
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(misconfigured)
}

fn check(files: &[PathBuf], no_devices: bool) -> Result<(), Failure> {
    let outcome = crate::check::run(files, !no_devices);
    if outcome.has_mistakes {
        return Err((MISCONFIGURED, outcome.said.join("\n")));
    }
    for line in &outcome.said {
        // If stderr is closed there is nobody to warn.
        let _ = writeln!(std::io::stderr(), "{line}");
    }
    print(format_args!("{}\n", outcome.sound.join("\n")))
}

fn replay(args: &ReplayArgs) -> Result<(), Failure> {
    let config = load(&args.config)?;
    let report = match (args.explain, args.json) {
        (true, _) => Report::Explain,
        (_, true) => Report::Json,
        _ => Report::Summary,
    };
    let options = replay::Options {
        inside: args.inside.clone(),
        outside: args.outside.clone(),
        out: args.out.clone(),
        report,
        reloads: false,
    };
    let mut lines = std::io::BufWriter::new(std::io::stdout().lock());
    let remarks = replay::run(&config, &options, &mut lines).map_err(|error| {
        let code = if error.is_of_input() { MISCONFIGURED } else { FAILED };
        (code, format!("firstack: {error}"))
    })?;
    lines.flush().map_err(failed)?;
    for note in &remarks.notes {
        // If stderr is closed there is nobody to tell.
        let _ = writeln!(std::io::stderr(), "firstack: {note}");
    }
    match remarks.damage.is_empty() {
        true => Ok(()),
        false => Err(failed(format!("{}; replayed up to there", remarks.damage.join("; ")))),
    }
}

/// Prints to stdout. A reader that has closed the pipe, such as `head`, is not an error.
fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

fn print_counters(snapshot: &Snapshot, json: bool) -> Result<(), Failure> {
    if json {
        print(format_args!("{}\n", serde_json::to_string(snapshot).map_err(failed)?))
    } else {
        print(snapshot)
    }
}

#[cfg(not(feature = "dpdk"))]
fn run(args: &RunArgs) -> Result<(), Failure> {
    load(&args.config)?;
    let _ = (
        args.exit_when_idle.map(Duration::from_millis),
        args.json,
        args.forget,
        args.core_dumps,
        args.take_over,
    );
    Err((
        MISCONFIGURED,
        "firstack: built without DPDK; only check, replay, stats, gate and reload work".to_owned(),
    ))
}

#[cfg(test)]
mod tests;
