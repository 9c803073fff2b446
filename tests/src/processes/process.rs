//! A firstack process: start, control, kill, end.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use firstack::control::socket::{self, Answer, Command};
use firstack::control::stats::Snapshot;
use nix::sys::signal::Signal;

use super::texts;
use crate::lab::{Lab, LabError, Namespace, Output, Place, Process, Result, run};

/// Time-out for a process to forward.
const START: Duration = Duration::from_secs(20);
/// Time-out for it to end after SIGTERM.
const END: Duration = Duration::from_secs(10);

/// The result of a firstack process.
#[derive(Debug)]
pub struct Ended {
    /// "gateway", "switch", "replica1" ...
    pub name: String,
    /// Its exit status: an error when packet buffers have leaked, among others.
    pub status: ExitStatus,
    /// Its final counters.
    pub snapshot: Snapshot,
    /// Its log.
    pub log: String,
}

/// A firstack process.
#[derive(Debug)]
pub struct Appliance {
    name: String,
    namespace: Namespace,
    binary: PathBuf,
    directory: PathBuf,
    config: PathBuf,
    keys: PathBuf,
    socket: PathBuf,
    process: Option<Process>,
}

impl Appliance {
    pub(super) fn new(
        lab: &Lab,
        place: &Place,
        namespace: Namespace,
        binary: &Path,
        text: &str,
    ) -> Result<Self> {
        let name = texts::name(place.site);
        let config = lab.directory().join(format!("{name}.toml"));
        std::fs::write(&config, text)
            .map_err(|source| LabError::File { path: config.clone(), source })?;
        Ok(Self {
            keys: texts::keys(lab, place.site),
            socket: texts::socket(lab, place.site),
            directory: lab.directory().to_path_buf(),
            binary: binary.to_path_buf(),
            process: None,
            name,
            namespace,
            config,
        })
    }

    /// "gateway", "switch", "replica1" ...
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its configuration.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// Returns its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Starts it, again after [`Appliance::kill`], and waits until it forwards.
    pub fn start(&mut self, lab: &Lab) -> Result<()> {
        self.launch(lab)?;
        self.wait_until_forwarding()
    }

    pub(super) fn launch(&mut self, lab: &Lab) -> Result<()> {
        let runtime = format!("RUNTIME_DIRECTORY={}", self.directory.display());
        let (binary, config) = (self.binary.to_string_lossy(), self.config.to_string_lossy());
        let words = ["env", &runtime, &*binary, "run", "--json", "-c", &*config];
        self.process = Some(lab.spawn(&self.namespace, &words)?);
        Ok(())
    }

    pub(super) fn wait_until_forwarding(&mut self) -> Result<()> {
        match &mut self.process {
            Some(process) => process.wait_for("forwarding", START),
            None => Err(self.not_running()),
        }
    }

    /// Returns whether it was started, and not killed since.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    fn not_running(&self) -> LabError {
        LabError::EndedEarly {
            command: format!("firstack run -c {}", self.config.display()),
            stderr: "not running".into(),
        }
    }

    /// Returns its current counters.
    pub fn stats(&self) -> Result<Snapshot> {
        match self.ask(Command::Stats)? {
            Answer::Stats(snapshot) => Ok(*snapshot),
            answer => Err(self.unreadable("stats", &format!("{answer:?}"))),
        }
    }

    /// Drains or undrains a replica, or sets or clears busy.
    pub fn gate(&self, command: Command) -> Result<()> {
        match self.ask(command)? {
            Answer::Done(_) => Ok(()),
            answer => Err(self.unreadable("gate", &format!("{answer:?}"))),
        }
    }

    /// Writes its key file, readable by root only. A running process reads it on reload.
    pub fn write_keys(&self, text: &str) -> Result<()> {
        let write = || {
            let mut file = OpenOptions::new();
            file.write(true).create(true).truncate(true).mode(0o600);
            file.open(&self.keys)?.write_all(text.as_bytes())
        };
        write().map_err(|source| LabError::File { path: self.keys.clone(), source })
    }

    /// Writes its key file and reloads the running process (`firstack reload`).
    pub fn change_keys(&self, text: &str) -> Result<Output> {
        self.write_keys(text)?;
        self.command(&["reload"])
    }

    fn ask(&self, command: Command) -> Result<Answer> {
        let what = format!("{command:?}");
        socket::ask(&self.socket, command)
            .map_err(|error| self.unreadable(&what, &error.to_string()))
    }

    fn unreadable(&self, what: &str, output: &str) -> LabError {
        let command = format!("firstack {what} --socket {}", self.socket.display());
        LabError::Unreadable { command, output: output.into() }
    }

    /// Runs a subcommand of firstack with this process's control socket.
    pub fn command(&self, words: &[&str]) -> Result<Output> {
        let (binary, socket) = (self.binary.to_string_lossy(), self.socket.to_string_lossy());
        run(&[&[&*binary], words, &["--socket", &*socket]].concat())
    }

    /// Replaces it by a new process of the same program (`firstack upgrade`). Returns for how long
    /// no packet was forwarded, as it says.
    pub fn upgrade(&mut self) -> Result<Duration> {
        let text = self.command(&["upgrade"])?.stdout;
        let numbers: Vec<u64> =
            text.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
        let [pid, gap] = numbers[..] else { return Err(self.unreadable("upgrade", &text)) };
        let Some(process) = &mut self.process else { return Err(self.not_running()) };
        let status = process.succeed(pid as u32, END)?;
        match status.success() {
            true => Ok(Duration::from_millis(gap)),
            false => Err(self.unreadable("upgrade", &format!("the old process: {status}"))),
        }
    }

    /// Returns its log, with that of the processes before it.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.as_ref().map(Process::stderr).unwrap_or_default()
    }

    /// Replays captures through its configuration with `--explain`, and returns the output.
    pub fn explain(&self, inside: &Path, outside: &Path, out: &Path) -> Result<String> {
        let paths = [&self.binary, &self.config, inside, outside, out].map(Path::to_string_lossy);
        let [binary, config, inside, outside, out] = paths;
        let words = [&*binary, "replay", "--explain", "-c", &*config, "--inside", &*inside];
        let more = ["--outside", &*outside, "--out", &*out];
        Ok(run(&[&words[..], &more].concat())?.stdout)
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.signal(Signal::SIGKILL);
                process.wait(END).map(drop)
            }
            None => Err(self.not_running()),
        }
    }

    /// Ends it by SIGTERM, to be started again.
    pub fn end(&mut self) -> Result<ExitStatus> {
        match self.process.take() {
            Some(mut process) => {
                process.signal(Signal::SIGTERM);
                process.wait(END)
            }
            None => Err(self.not_running()),
        }
    }

    /// Changes its configuration, before it is started again.
    pub fn change_config(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let failed = |source| LabError::File { path: self.config.clone(), source };
        let text = std::fs::read_to_string(&self.config).map_err(failed)?;
        std::fs::write(&self.config, change(text)).map_err(failed)
    }

    /// Ends it by SIGTERM.
    pub fn stop(mut self) -> Result<Ended> {
        let Some(mut process) = self.process.take() else { return Err(self.not_running()) };
        process.signal(Signal::SIGTERM);
        let status = process.wait(END)?;
        let (stdout, log) = (process.stdout(), process.stderr());
        // A process that was upgraded has left its counters there, too.
        let last = stdout.trim().lines().last().unwrap_or_default();
        let snapshot = serde_json::from_str(last)
            .map_err(|error| self.unreadable("run --json", &format!("{error}: {stdout}{log}")))?;
        Ok(Ended { name: self.name, status, snapshot, log })
    }
}
