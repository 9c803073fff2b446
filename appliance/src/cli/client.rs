//! Subcommands that ask a running process.

use std::path::PathBuf;
use std::time::Duration;

use super::{Failure, MISCONFIGURED, Target, failed, load, print, print_counters};
use crate::control::emptying::{self, Emptying};
use crate::control::socket::{self, Answer, Command, Name};
use crate::control::stats::DrainStats;

/// The time that an upgrade may take beyond its time-outs.
const UPGRADE_MARGIN: Duration = Duration::from_secs(10);
/// Exit code of `gate drain --wait` when connections are left at the end of the time.
const LEFT: u8 = 3;

fn control_socket(target: &Target) -> Result<PathBuf, Failure> {
    match (&target.socket, &target.config) {
        (Some(socket), _) => Ok(socket.clone()),
        (None, Some(config)) => Ok(load(config)?.control.socket),
        (None, None) => Err((MISCONFIGURED, "expected --socket or --config".to_owned())),
    }
}

/// Waits until nothing is left of a drain, and prints its progress.
pub(super) fn wait_for_drain(
    target: &Target,
    name: Option<Name>,
    longest: Option<Duration>,
) -> Result<(), Failure> {
    let show = |left: &DrainStats| {
        // Progress: whoever has closed stdout does not want it.
        let _ = print(format_args!("{left}\n"));
    };
    match emptying::wait(&control_socket(target)?, name.as_ref(), longest, show).map_err(failed)? {
        Emptying::Empty => Ok(()),
        Emptying::TimeUp(Some(left)) => Err((LEFT, format!("firstack: {left} connections left"))),
        Emptying::TimeUp(None) => Err((LEFT, "firstack: connections not counted yet".to_owned())),
        Emptying::NotDrained => Err(failed(
            "nothing to wait for: only the connections of a whole process or of a service are counted",
        )),
    }
}

pub(super) fn stats(target: &Target, json: bool) -> Result<(), Failure> {
    match socket::ask(&control_socket(target)?, Command::Stats).map_err(failed)? {
        Answer::Stats(snapshot) => print_counters(&snapshot, json),
        Answer::Done(text) | Answer::Error(text) | Answer::Invalid(text) => Err(failed(text)),
        Answer::Memory(_) => Err(failed("unexpected reply from control socket")),
    }
}

/// Prints what a gateway remembers, or the races of a client.
pub(super) fn memory(target: &Target, command: Command, json: bool) -> Result<(), Failure> {
    match socket::ask(&control_socket(target)?, command).map_err(failed)? {
        Answer::Memory(answer) if json => {
            print(format_args!("{}\n", serde_json::to_string(&answer).map_err(failed)?))
        }
        Answer::Memory(answer) => print(answer),
        Answer::Done(text) | Answer::Error(text) | Answer::Invalid(text) => Err(failed(text)),
        Answer::Stats(_) => Err(failed("unexpected reply from control socket")),
    }
}

/// Sends a command that is answered with a line of text.
pub(super) fn request(target: &Target, command: Command) -> Result<(), Failure> {
    match socket::ask(&control_socket(target)?, command).map_err(failed)? {
        Answer::Done(text) => print(format_args!("{text}\n")),
        Answer::Error(text) => Err(failed(text)),
        Answer::Invalid(text) => Err((MISCONFIGURED, format!("firstack: {text}"))),
        Answer::Stats(_) | Answer::Memory(_) => Err(failed("unexpected reply from control socket")),
    }
}

/// Upgrades a running process, and waits for the result.
pub(super) fn upgrade(
    target: &Target,
    binary: Option<PathBuf>,
    timeout: Duration,
) -> Result<(), Failure> {
    // The running process has another working directory.
    let binary = binary.map(std::path::absolute).transpose().map_err(failed)?;
    let command = Command::Upgrade { binary, timeout: timeout.as_millis() as u64 };
    let socket = control_socket(target)?;
    match socket::ask_within(&socket, command, 2 * timeout + UPGRADE_MARGIN).map_err(failed)? {
        Answer::Done(text) => print(format_args!("{text}\n")),
        Answer::Error(text) | Answer::Invalid(text) => Err(failed(text)),
        Answer::Stats(_) | Answer::Memory(_) => Err(failed("unexpected reply from control socket")),
    }
}
