//! A laboratory and its network namespaces.
//!
//! Names tell whose they are: `fsl-<process id>-<start time>-<laboratory>-<namespace>`. So
//! laboratories do not collide, and [`sweep`] can tell what a killed run has left behind: the
//! process of that number and start time is no more.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::command::{self, Output, SHORT, run};
use super::error::{LabError, Result, at};
use super::process::Process;

/// What every name of the laboratory begins with.
const PREFIX: &str = "fsl-";
/// The file system in memory.
const MEMORY: &str = "/dev/shm";
/// Tells several laboratories of one process apart.
static NEXT: AtomicU32 = AtomicU32::new(0);
/// Held while a namespace comes to be, and for good once an interrupt removes them all.
static CREATION: Mutex<()> = Mutex::new(());

/// A laboratory: namespaces and a directory, all removed when it is dropped.
///
/// ```no_run
/// use firstack_tests::lab::Lab;
///
/// let lab = Lab::new("example")?;
/// let (a, b) = (lab.namespace("a")?, lab.namespace("b")?);
/// lab.veth((&a, "eth0"), (&b, "eth0"))?;
/// a.run(&["ip", "addr", "add", "192.0.2.1/24", "dev", "eth0"])?;
/// # Ok::<(), firstack_tests::lab::LabError>(())
/// ```
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    directory: PathBuf,
    outputs: AtomicU32,
}

impl Lab {
    /// A new laboratory; `name` is part of its namespaces' names.
    pub fn new(name: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("{}{name}{number}", own_prefix());
        let directory = std::env::temp_dir().join(&prefix);
        std::fs::create_dir_all(&directory).map_err(at(&directory))?;
        open_to_all(&directory)?;
        Ok(Self { prefix, directory, outputs: AtomicU32::new(0) })
    }

    /// A directory for files; it goes with the laboratory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes a namespace, with its loopback up and without IPv6.
    pub fn namespace(&self, name: &str) -> Result<Namespace> {
        let full = format!("{}-{name}", self.prefix);
        let creation = lock();
        run(&["ip", "netns", "add", &full])?;
        drop(creation);
        let made = Namespace { name: full, short: name.into(), directory: self.directory.clone() };
        made.ipv6(false)?;
        made.run(&["ip", "link", "set", "dev", "lo", "up"])?;
        Ok(made)
    }

    /// Starts a program in a namespace, to run until the handle is dropped.
    pub fn spawn<S: AsRef<str>>(&self, namespace: &Namespace, words: &[S]) -> Result<Process> {
        let number = self.outputs.fetch_add(1, Ordering::Relaxed);
        let program = Path::new(words.first().map_or("", AsRef::as_ref)).file_name();
        let program = program.unwrap_or_default().to_string_lossy().into_owned();
        let stem = self.directory.join(format!("{number}-{}-{program}", namespace.short));
        Process::spawn(&namespace.words(words), &stem)
    }

    /// Removes what killed runs have left; returns the namespaces and directories removed.
    pub fn sweep() -> Result<Vec<String>> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        Ok(remove_all(owner_is_gone))
    }

    /// Makes SIGINT and SIGTERM remove everything that this process has built, and end it.
    ///
    /// For binaries; call it once, before building anything.
    pub fn remove_on_interrupt() -> Result<()> {
        use signal_hook::consts::{SIGINT, SIGTERM};
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM]);
        let mut signals = signals.map_err(at(Path::new("signals")))?;
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let _creation = lock();
                remove_all(|name| name.starts_with(&own_prefix()));
                std::process::exit(128 + signal);
            }
        });
        Ok(())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let mine = format!("{}-", self.prefix);
        // Waits for good when an interrupt is removing everything: it ends the process.
        let _creation = lock();
        remove_all(|name| name.starts_with(&mine) || name == self.prefix);
    }
}

/// A network namespace. The handle may be cloned; the namespace goes with its [`Lab`].
#[derive(Debug, Clone)]
pub struct Namespace {
    name: String,
    short: String,
    directory: PathBuf,
}

impl Namespace {
    /// Name as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name within its laboratory.
    #[must_use]
    pub fn short_name(&self) -> &str {
        &self.short
    }

    /// Directory of its laboratory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Runs a command in it, within 60 s.
    pub fn run<S: AsRef<str>>(&self, words: &[S]) -> Result<Output> {
        self.run_within(words, SHORT)
    }

    /// Runs a command in it, within a time.
    pub fn run_within<S: AsRef<str>>(&self, words: &[S], limit: Duration) -> Result<Output> {
        command::run_within(&self.words(words), limit)
    }

    /// Sets a kernel parameter in it.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(&["sysctl", "-q", "-w", &format!("{key}={value}")]).map(drop)
    }

    /// Turns IPv6 on or off for all its interfaces, those to come too; never autoconfigured,
    /// and every address is of use at once, not after a search for duplicates.
    pub fn ipv6(&self, on: bool) -> Result<()> {
        let off = if on { "disable_ipv6=0" } else { "disable_ipv6=1" };
        let quiet = [off, "accept_ra=0", "autoconf=0", "router_solicitations=0", "accept_dad=0"];
        let mut words = vec!["sysctl".to_string(), "-q".into(), "-w".into()];
        for scope in ["all", "default"] {
            words.extend(quiet.iter().map(|setting| format!("net.ipv6.conf.{scope}.{setting}")));
        }
        self.run(&words).map(drop)
    }

    /// The words of a command, run in this namespace.
    #[must_use]
    pub fn words<S: AsRef<str>>(&self, words: &[S]) -> Vec<String> {
        let inside = ["ip", "netns", "exec", &self.name].map(String::from);
        inside.into_iter().chain(words.iter().map(|word| word.as_ref().to_string())).collect()
    }
}

fn lock() -> MutexGuard<'static, ()> {
    CREATION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Servers that give up root still have to read what lies there.
fn open_to_all(directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory, mode).map_err(at(directory))
}

/// What the names of this process's namespaces begin with.
fn own_prefix() -> String {
    let id = std::process::id();
    format!("{PREFIX}{id}-{}-", start_time(id).unwrap_or_default())
}

/// When a process that still lives was started, in ticks since boot (field 22 of its `stat`).
fn start_time(id: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut after_name = stat[stat.rfind(')')? + 1..].split_whitespace();
    let state = after_name.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    after_name.nth(18)?.parse().ok()
}

fn owner_is_gone(name: &str) -> bool {
    let mut parts = name.strip_prefix(PREFIX).unwrap_or_default().split('-');
    let id = parts.next().and_then(|part| part.parse().ok());
    let started = parts.next().and_then(|part| part.parse().ok());
    match (id, started) {
        (Some(id), Some(started)) => start_time(id) != Some(started),
        _ => false,
    }
}

/// Removes namespaces and directories whose name is chosen; what resists is left for a sweep.
fn remove_all(chosen: impl Fn(&str) -> bool) -> Vec<String> {
    let mut removed = Vec::new();
    let listed = run(&["ip", "netns", "list"]).map(|output| output.stdout).unwrap_or_default();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| name.starts_with(PREFIX) && chosen(name)) {
        kill_inhabitants(name);
        if run(&["ip", "netns", "delete", name]).is_ok() {
            removed.push(name.to_string());
        }
    }
    // Tables that outlive their processes are in memory, by the processes' file prefixes.
    let places = [std::env::temp_dir(), MEMORY.into()];
    for entry in places.into_iter().flat_map(std::fs::read_dir).flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = name.starts_with(PREFIX) && chosen(name.trim_end_matches(".tables"));
        if ours && std::fs::remove_dir_all(entry.path()).is_ok() {
            removed.push(name);
        }
    }
    removed
}

/// Ends the processes of a namespace of ours: asks, and after half a second insists.
fn kill_inhabitants(namespace: &str) {
    for attempt in 0..60 {
        let listed = run(&["ip", "netns", "pids", namespace]).map(|output| output.stdout);
        let listed = listed.unwrap_or_default();
        let mut ids = listed.split_whitespace().filter_map(|id| id.parse().ok()).peekable();
        if ids.peek().is_none() {
            return;
        }
        let signal = match attempt {
            0 => Some(Signal::SIGTERM),
            50 => Some(Signal::SIGKILL),
            _ => None,
        };
        for id in ids {
            let _ = kill(Pid::from_raw(id), signal);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_whether_its_owner_is_gone() {
        assert!(!owner_is_gone(&format!("{}x0-a", own_prefix())));
        let id = std::process::id();
        assert!(owner_is_gone(&format!("{PREFIX}{id}-1-x0-a")), "another start time");
        assert!(!owner_is_gone("fsl-mine"), "not a name of ours");
        assert!(!owner_is_gone("other"));
    }
}
