//! Programs that run to their end within a time, and their output.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::error::{LabError, Result};

/// Time for a program that only sets something up; generous, since the machine may be busy.
pub const SHORT: Duration = Duration::from_secs(60);
/// Characters of standard error that an error message quotes.
const QUOTED: usize = 2000;

/// What a program that succeeded has printed.
#[derive(Debug, Clone)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// Runs a command given as words, within 60 s.
pub fn run<S: AsRef<str>>(words: &[S]) -> Result<Output> {
    run_within(words, SHORT)
}

/// Runs a command given as words; past the limit it is killed with its children.
pub fn run_within<S: AsRef<str>>(words: &[S], limit: Duration) -> Result<Output> {
    let line = line(words);
    let mut command = prepare(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|source| LabError::Spawn { command: line.clone(), source })?;
    let stdout = read_all(child.stdout.take());
    let stderr = read_all(child.stderr.take());
    let status = wait(&mut child, limit);
    if !matches!(status, Ok(Some(_))) {
        kill(&mut child);
    }
    let (stdout, stderr) = (collect(stdout), collect(stderr));
    match status.map_err(|source| LabError::Spawn { command: line.clone(), source })? {
        Some(status) if status.success() => Ok(Output { stdout, stderr }),
        Some(status) => {
            let said = if stderr.trim().is_empty() { &stdout } else { &stderr };
            Err(LabError::Failed { command: line, status, stderr: tail(said) })
        }
        None => Err(LabError::TimedOut { command: line, limit, stderr: tail(&stderr) }),
    }
}

/// A command of its own process group, so that it can be ended with its children and does not
/// hear the interrupt of a terminal.
pub(super) fn prepare<S: AsRef<str>>(words: &[S]) -> Command {
    let mut command = Command::new(words.first().map_or("", AsRef::as_ref));
    command.args(words.iter().skip(1).map(AsRef::as_ref)).process_group(0);
    command
}

/// The words as one line, for messages.
pub(super) fn line<S: AsRef<str>>(words: &[S]) -> String {
    words.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" ")
}

/// The end of a text, for messages.
pub(super) fn tail(text: &str) -> String {
    let text = text.trim();
    let from = text.char_indices().rev().nth(QUOTED).map_or(0, |(at, _)| at);
    text[from..].to_string()
}

/// Waits for an end; `None` when the time is up. Children left behind are killed.
pub(super) fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    let mut pause = Duration::from_micros(200);
    loop {
        if let Some(status) = poll(child)? {
            return Ok(Some(status));
        }
        if start.elapsed() >= limit {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

/// Looks whether a child has ended. Children that it left behind are killed then.
pub(super) fn poll(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::Pid(Pid::from_raw(child.id() as i32)), flags) {
        Ok(WaitStatus::StillAlive) => Ok(None),
        Ok(_) => {
            // Until it is waited for, its number cannot name anyone else's group.
            kill_group(child, Signal::SIGKILL);
            child.wait().map(Some)
        }
        Err(Errno::EINTR) => Ok(None),
        // Waited for already: the standard library remembers how it ended.
        Err(_) => child.try_wait(),
    }
}

/// Kills a child's whole group and waits for the child.
pub(super) fn kill(child: &mut Child) -> Option<ExitStatus> {
    kill_group(child, Signal::SIGKILL);
    child.wait().ok()
}

/// Signals a child's whole group. The child must not have been waited for.
pub(super) fn kill_group(child: &Child, signal: Signal) {
    // A group that is already gone is what was wanted.
    let _ = killpg(Pid::from_raw(child.id() as i32), signal);
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> Option<JoinHandle<Vec<u8>>> {
    let mut pipe = pipe?;
    Some(std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    }))
}

fn collect(reader: Option<JoinHandle<Vec<u8>>>) -> String {
    let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_failure_names_command_and_stderr() {
        assert_eq!(run(&["echo", "hello"]).unwrap().stdout, "hello\n");
        let error = run(&["sh", "-c", "echo wrong >&2; exit 3"]).unwrap_err().to_string();
        assert!(error.contains("exit 3") && error.contains("wrong"), "{error}");
        let error = run(&["no-such-program-here"]).unwrap_err().to_string();
        assert!(error.contains("no-such-program-here"), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_with_its_children() {
        let start = Instant::now();
        let result = run_within(&["sh", "-c", "sleep 30 & sleep 30"], Duration::from_millis(100));
        assert!(matches!(result, Err(LabError::TimedOut { .. })), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(25), "it waited for the end of `sleep 30`");
    }

    #[test]
    fn what_a_program_leaves_behind_does_not_hold_up_its_end() {
        let start = Instant::now();
        assert_eq!(run(&["sh", "-c", "sleep 30 & echo done"]).unwrap().stdout, "done\n");
        assert!(start.elapsed() < Duration::from_secs(25), "it waited for the end of `sleep 30`");
    }

    #[test]
    fn a_tail_is_cut_between_characters() {
        assert_eq!(tail(&"ä".repeat(5000)).chars().count(), QUOTED + 1);
        assert_eq!(tail(" short\n"), "short");
    }
}
