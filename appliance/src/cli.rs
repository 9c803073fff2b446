//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::Config;
use crate::control::socket::{self, Answer, Command as Control, Name};
use crate::control::stats::Snapshot;
use crate::replay::{self, Report};

/// What is wrong with the configuration or the command line: nothing was started.
const MISCONFIGURED: u8 = 2;
/// What went wrong after that.
const FAILED: u8 = 1;

/// Gives every TCP connection to the replica that answers first.
#[derive(Debug, Parser)]
#[command(name = "firstack", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forward packets, as the role that the configuration gives.
    Run(RunArgs),
    /// Check a configuration, and start nothing.
    Check {
        /// The configuration.
        file: PathBuf,
        /// Do not look whether this machine has the CPUs and devices: the file is for another.
        #[arg(long)]
        no_devices: bool,
    },
    /// Run captures through the pipeline: no DPDK, no root, the same bytes every time.
    Replay(ReplayArgs),
    /// Show the counters of a running process.
    Stats {
        #[command(flatten)]
        target: Target,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Drain a replica, or say that it is busy, and take that back.
    Gate {
        /// What to do.
        gate: Gate,
        /// Which server or replica to drain, such as shop/web1: of a switch one of its servers or
        /// replicas, of a replica one of its web servers. Without it, the whole replica.
        name: Option<Name>,
        #[command(flatten)]
        target: Target,
    },
    /// Make a running process read its key file again.
    Reload {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// The configuration.
    #[arg(long, short)]
    config: PathBuf,
    /// End when no packet has come for so many milliseconds: for captures as input.
    #[arg(long, value_name = "MS")]
    exit_when_idle: Option<u64>,
    /// Print the final counters as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ReplayArgs {
    /// The configuration.
    #[arg(long, short)]
    config: PathBuf,
    /// Capture of what came in by the inside, pcap or pcapng.
    #[arg(long, required_unless_present = "outside")]
    inside: Option<PathBuf>,
    /// Capture of what came in by the outside.
    #[arg(long)]
    outside: Option<PathBuf>,
    /// Directory for inside.pcap and outside.pcap: what would leave.
    #[arg(long)]
    out: PathBuf,
    /// Say of every packet what became of it, and why.
    #[arg(long)]
    explain: bool,
    /// The same as JSON lines, the counters last.
    #[arg(long, conflicts_with = "explain")]
    json: bool,
}

/// Which process is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// Its control socket.
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Its configuration, which names the socket.
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Gate {
    /// No new connections; the others go on.
    Drain,
    /// New connections again.
    Undrain,
    /// Busy, whatever the load.
    Busy,
    /// Busy by the load alone.
    Unbusy,
}

impl Gate {
    fn command(self, name: Option<Name>) -> Result<Control, Failure> {
        match (self, name) {
            (Self::Drain, name) => Ok(Control::Drain { name }),
            (Self::Undrain, name) => Ok(Control::Undrain { name }),
            (Self::Busy, None) => Ok(Control::Busy),
            (Self::Unbusy, None) => Ok(Control::Unbusy),
            (Self::Busy | Self::Unbusy, Some(name)) => {
                let text =
                    format!("only a whole replica is busy by order; expected no name, not {name}");
                Err((MISCONFIGURED, format!("firstack: {text}")))
            }
        }
    }
}

/// Runs the command line; its errors go to stderr.
pub fn main() -> ExitCode {
    let lacking = crate::sys::cpu::lacks();
    if !lacking.is_empty() {
        let lacking = lacking.join(", ");
        eprintln!("firstack: this CPU has no {lacking}: firstack is built for x86-64-v3 with AES");
        return ExitCode::from(FAILED);
    }
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check { file, no_devices } => check(&file, no_devices),
        Command::Replay(args) => replay(&args),
        Command::Stats { target, json } => stats(&target, json),
        Command::Gate { gate, name, target } => {
            gate.command(name).and_then(|command| order(&target, command))
        }
        Command::Reload { target } => order(&target, Control::Reload),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, message)) => {
            // Nothing is left to do when stderr is closed.
            let _ = writeln!(std::io::stderr(), "{message}");
            ExitCode::from(code)
        }
    }
}

/// An exit code and what goes to stderr.
type Failure = (u8, String);

fn failed(error: impl std::fmt::Display) -> Failure {
    (FAILED, format!("firstack: {error}"))
}

fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|errors| (MISCONFIGURED, errors.to_string()))
}

fn load_for_this_machine(path: &Path) -> Result<Config, Failure> {
    let config = load(path)?;
    let file = path.display().to_string();
    config.check_presence(&file).map_err(|errors| (MISCONFIGURED, errors.to_string()))?;
    Ok(config)
}

fn check(path: &Path, no_devices: bool) -> Result<(), Failure> {
    let config = if no_devices { load(path)? } else { load_for_this_machine(path)? };
    print(format_args!("{}: a sound configuration of a {}\n", path.display(), config.role))
}

fn control_socket(target: &Target) -> Result<PathBuf, Failure> {
    match (&target.socket, &target.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(config)) => Ok(load(config)?.control.socket),
        (None, None) => Err((MISCONFIGURED, "expected --socket or --config".to_owned())),
    }
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
    };
    let mut lines = std::io::BufWriter::new(std::io::stdout().lock());
    let damage = replay::run(&config, &options, &mut lines).map_err(failed)?;
    lines.flush().map_err(failed)?;
    match damage.is_empty() {
        true => Ok(()),
        false => Err(failed(format!("{}; replayed as far as it goes", damage.join("; ")))),
    }
}

/// Prints to stdout. A reader that has gone, as `head` does, is no error.
fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match write!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}

fn stats(target: &Target, json: bool) -> Result<(), Failure> {
    match socket::ask(&control_socket(target)?, Control::Stats).map_err(failed)? {
        Answer::Stats(snapshot) => print_counters(&snapshot, json),
        Answer::Done(text) | Answer::Error(text) => Err(failed(text)),
    }
}

fn print_counters(snapshot: &Snapshot, json: bool) -> Result<(), Failure> {
    if json {
        print(format_args!("{}\n", serde_json::to_string(snapshot).map_err(failed)?))
    } else {
        print(snapshot)
    }
}

/// Has something done that is answered with what is the case then.
fn order(target: &Target, command: Control) -> Result<(), Failure> {
    match socket::ask(&control_socket(target)?, command).map_err(failed)? {
        Answer::Done(text) => print(format_args!("{text}\n")),
        Answer::Error(text) => Err(failed(text)),
        Answer::Stats(_) => Err(failed("counters are no answer to that")),
    }
}

#[cfg(not(feature = "dpdk"))]
fn run(args: &RunArgs) -> Result<(), Failure> {
    load(&args.config)?;
    let _ = (args.exit_when_idle.map(Duration::from_millis), args.json);
    Err((MISCONFIGURED, "firstack: this build has no DPDK; it checks and replays only".to_owned()))
}

#[cfg(feature = "dpdk")]
fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = load_for_this_machine(&args.config)?;
    let level = tracing_subscriber::filter::LevelFilter::from_level(config.log.level);
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_writer(std::io::stderr)
        .init();
    let exit_when_idle = args.exit_when_idle.map(Duration::from_millis);
    let outcome = crate::run::run(&config, crate::run::Options { exit_when_idle });
    let crate::run::Outcome { snapshot, missing } = outcome.map_err(|error| match error {
        crate::run::Error::Port { side, source } => {
            let file = args.config.display().to_string();
            let errors = config.device_error(&file, side as usize, &source.to_string());
            (MISCONFIGURED, errors.to_string())
        }
        error @ crate::run::Error::Keys(_) => (MISCONFIGURED, error.to_string()),
        error => failed(error),
    })?;
    print_counters(&snapshot, args.json)?;
    match missing {
        0 => Ok(()),
        _ => Err(failed(format!("{missing} packet buffers did not come back to their pool"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a command line asks a running process for; the exit code when it asks for nothing.
    fn asked(line: &str) -> Result<Control, u8> {
        let words = ["firstack"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).map_err(|error| error.exit_code() as u8)?.command {
            Command::Gate { gate, name, .. } => gate.command(name).map_err(|(code, _)| code),
            Command::Reload { .. } => Ok(Control::Reload),
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn orders_are_read_with_their_names() {
        let name = || Some("shop/web1".parse().unwrap());
        assert_eq!(asked("gate drain -c f"), Ok(Control::Drain { name: None }));
        assert_eq!(asked("gate drain shop/web1 -c f"), Ok(Control::Drain { name: name() }));
        assert_eq!(
            asked("gate --socket s undrain shop/web1"),
            Ok(Control::Undrain { name: name() })
        );
        assert_eq!(asked("gate busy --socket s"), Ok(Control::Busy));
        assert_eq!(asked("gate unbusy --socket s"), Ok(Control::Unbusy));
        assert_eq!(asked("reload --config f"), Ok(Control::Reload));
        let wrong = ["busy web1 -c f", "unbusy web1 -c f", "drain", "drain a b -c f", "stop -c f"];
        for line in wrong {
            assert_eq!(asked(&format!("gate {line}")), Err(MISCONFIGURED), "{line}");
        }
        assert_eq!(asked("reload web1 -c f"), Err(MISCONFIGURED));
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
