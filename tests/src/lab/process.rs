//! Programs that run for as long as they are needed.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::command::{kill, kill_group, line, poll, prepare, tail, wait};
use super::error::{LabError, Result, at};

/// Time that a program has to end by itself after SIGTERM.
const GRACE: Duration = Duration::from_secs(30);

/// A running program; dropping it ends it and its children.
///
/// What it prints goes to files of the laboratory, so that it never blocks on a full pipe.
#[derive(Debug)]
pub struct Process {
    child: Child,
    command: String,
    stdout: PathBuf,
    stderr: PathBuf,
    ended: Option<ExitStatus>,
    /// The process that has taken its place.
    successor: Option<Pid>,
}

impl Process {
    /// Starts a command given as words; its output goes to `stem`.out and `stem`.err.
    pub fn spawn<S: AsRef<str>>(words: &[S], stem: &Path) -> Result<Self> {
        let (stdout, stderr) = (stem.with_extension("out"), stem.with_extension("err"));
        let mut command = prepare(words);
        command.stdin(Stdio::null());
        command.stdout(File::create(&stdout).map_err(at(&stdout))?);
        command.stderr(File::create(&stderr).map_err(at(&stderr))?);
        let line = line(words);
        // So that a process that the program leaves in its place can be waited for.
        let _ = set_child_subreaper(true);
        let child =
            command.spawn().map_err(|source| LabError::Spawn { command: line.clone(), source })?;
        Ok(Self { child, command: line, stdout, stderr, ended: None, successor: None })
    }

    /// Its process id, or that of the process that has taken its place.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.successor.map_or(self.child.id(), |pid| pid.as_raw() as u32)
    }

    /// Waits for its end after it has left a process in its place, and goes on with that.
    pub fn succeed(&mut self, pid: u32, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            let ended = match self.successor {
                // Not the laboratory's own way, which would kill the group.
                None => self.child.try_wait().ok().flatten(),
                Some(before) => reap(before),
            };
            if let Some(status) = ended {
                self.successor = Some(Pid::from_raw(pid as i32));
                return Ok(status);
            }
            if start.elapsed() >= limit {
                let (command, stderr) = (self.command.clone(), tail(&self.stderr()));
                return Err(LabError::TimedOut { command, limit, stderr });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has printed so far.
    #[must_use]
    pub fn stdout(&self) -> String {
        read(&self.stdout)
    }

    /// What it has written to its standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.stderr)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits until a line of its output or standard error holds this text.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let ended = !self.is_running();
            if self.stdout().contains(text) || self.stderr().contains(text) {
                return Ok(());
            }
            let (command, stderr) = (self.command.clone(), tail(&self.stderr()));
            if ended {
                return Err(LabError::EndedEarly { command, stderr });
            }
            if start.elapsed() >= limit {
                return Err(LabError::TimedOut { command, limit, stderr });
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for its end by itself; an error when it takes longer.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended {
            return Ok(status);
        }
        let command = self.command.clone();
        if self.successor.is_some() {
            let start = Instant::now();
            while start.elapsed() < limit {
                if let Some(status) = self.poll() {
                    return Ok(status);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            return Err(LabError::TimedOut { command, limit, stderr: tail(&self.stderr()) });
        }
        match wait(&mut self.child, limit) {
            Ok(Some(status)) => {
                self.ended = Some(status);
                Ok(status)
            }
            Ok(None) => Err(LabError::TimedOut { command, limit, stderr: tail(&self.stderr()) }),
            Err(source) => Err(LabError::Spawn { command, source }),
        }
    }

    /// Asks it to end (SIGTERM), insists after a while (SIGKILL), and returns its output.
    pub fn stop(mut self) -> String {
        self.end();
        self.stdout()
    }

    /// Sends a signal to it alone, not to its children.
    pub fn signal(&self, signal: Signal) {
        if self.ended.is_none() {
            let _ = nix::sys::signal::kill(Pid::from_raw(self.id() as i32), signal);
        }
    }

    fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = match self.successor {
                None => poll(&mut self.child).ok().flatten(),
                Some(pid) => reap(pid),
            };
        }
        self.ended
    }

    fn end(&mut self) {
        if self.poll().is_none() {
            kill_group(&self.child, Signal::SIGTERM);
            if self.wait(GRACE).is_err() {
                self.ended = kill(&mut self.child);
                // The group is the first process's, and lives as long as one of its processes.
                let _ = self.successor.map(|pid| waitpid(pid, None));
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Returns how a process that was left to this one has ended, if it has.
fn reap(pid: Pid) -> Option<ExitStatus> {
    match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::Exited(_, code)) => Some(ExitStatus::from_raw(code << 8)),
        Ok(WaitStatus::Signaled(_, signal, _)) => Some(ExitStatus::from_raw(signal as i32)),
        _ => None,
    }
}

fn read(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
