//! The old process's side of a hand-over: it starts its successor, and goes on without it if that
//! fails.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pipeline::wire::ethernet::Mac;

use super::channel::Channel;
use super::{FromNew, FromOld, HandedOver, PROTOCOL, Start};
use crate::sys::descriptors;

/// The time that the successor has between the hand-over and its first packet, at most.
const LONGEST_GAP: Duration = Duration::from_secs(10);
/// The time that a successor that has given up has to clean up.
const CLEAN_UP: Duration = Duration::from_secs(5);
/// The interval at which the old process looks at signals while it waits.
const INTERVAL: Duration = Duration::from_millis(10);
/// The option that makes a process a successor.
const TAKE_OVER: &str = "--take-over";
/// The options that are meant for one start only.
const ONCE: [&str; 2] = [TAKE_OVER, "--forget"];

/// The upgrade of a running process; one at a time.
#[derive(Debug)]
pub(in crate::run) struct Upgrades {
    start: Start,
    current: Option<Successor>,
}

/// The news of an upgrade.
#[derive(Debug)]
pub(in crate::run) enum Event {
    /// There is none.
    Nothing,
    /// It has failed, for this reason. The process goes on.
    Failed(String),
    /// The successor asks for the hand-over.
    Ready(Successor),
}

/// A process that takes over. It is killed when dropped, unless it has succeeded.
#[derive(Debug)]
pub(in crate::run) struct Successor {
    /// `None` when it has succeeded, or is left to end.
    child: Option<Child>,
    pid: u32,
    channel: Channel,
    version: String,
    beside: bool,
    timeout: Duration,
    until: Instant,
}

impl Upgrades {
    /// Creates the upgrades of a process with this role, prefix of DPDK's files and MAC addresses.
    pub(in crate::run) fn new(role: &str, file_prefix: &str, macs: [Mac; 2]) -> Self {
        let (role, file_prefix) = (role.to_owned(), file_prefix.to_owned());
        Self { start: Start { protocol: PROTOCOL, role, file_prefix, macs }, current: None }
    }

    /// Starts a successor, which has this time to be ready. `None` is the program that is now where
    /// this process's was.
    ///
    /// # Errors
    /// The reason, for an operator. The process goes on.
    pub(in crate::run) fn begin(
        &mut self,
        binary: Option<PathBuf>,
        timeout: Duration,
    ) -> Result<(), String> {
        if let Some(current) = &self.current {
            return Err(format!("not upgraded: an upgrade to pid {} is under way", current.pid));
        }
        let binary = binary.map_or_else(own_binary, Ok);
        let binary = binary.map_err(|error| format!("not upgraded: no program: {error}"))?;
        let successor = Successor::spawn(&binary, &self.start, timeout)
            .map_err(|error| format!("not upgraded: {}: {error}", binary.display()))?;
        tracing::info!(pid = successor.pid, binary = %binary.display(), "upgrade begins");
        self.current = Some(successor);
        Ok(())
    }

    /// Returns whether a successor is getting ready.
    pub(in crate::run) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Looks for news. Never waits.
    pub(in crate::run) fn step(&mut self) -> Event {
        let Some(mut successor) = self.current.take() else { return Event::Nothing };
        match successor.is_ready() {
            Ok(true) => Event::Ready(successor),
            Ok(false) => {
                self.current = Some(successor);
                Event::Nothing
            }
            Err(reason) => {
                successor.leave();
                let text = format!("not upgraded: {reason}; the old process goes on");
                tracing::error!("{text}");
                Event::Failed(text)
            }
        }
    }

    /// Ends the upgrade, if there is one, because the process ends. Returns the reason.
    pub(in crate::run) fn cancel(&mut self) -> Option<String> {
        self.current.take().map(|successor| {
            successor.leave();
            "not upgraded: the old process was told to end".to_owned()
        })
    }
}

impl Successor {
    fn spawn(binary: &Path, start: &Start, timeout: Duration) -> io::Result<Self> {
        let (own, its) = UnixStream::pair()?;
        descriptors::close_on_exec()?;
        // The standard library has the child start with no signal blocked, and DPDK leaves the
        // control thread on all CPUs of the process.
        let child = Command::new(binary)
            .args(arguments(std::env::args_os().skip(1)))
            .arg(TAKE_OVER)
            .stdin(Stdio::from(OwnedFd::from(its)))
            .spawn()?;
        let mut successor = Self {
            pid: child.id(),
            child: Some(child),
            channel: Channel::new(own)?,
            version: String::new(),
            beside: false,
            timeout,
            until: Instant::now() + timeout,
        };
        // If it has ended already, that is noticed when it does not become ready.
        let _ = successor.channel.send(&FromOld::Start(start.clone()));
        Ok(successor)
    }

    /// Returns whether it is ready for the hand-over; otherwise the reason if it never will be.
    fn is_ready(&mut self) -> Result<bool, String> {
        match self.channel.receive(Duration::ZERO) {
            Ok(None) if Instant::now() < self.until => Ok(false),
            Ok(None) => Err(format!("the new process was not ready within {:?}", self.timeout)),
            Ok(Some(FromNew::Ready { version, beside })) => {
                (self.version, self.beside) = (version, beside);
                Ok(true)
            }
            Ok(Some(FromNew::Failed { reason })) => Err(reason),
            Ok(Some(FromNew::Forwarding { .. })) => Err(broken(ErrorKind::InvalidData.into())),
            Err(error) => Err(self.why(error)),
        }
    }

    /// Returns whether its ports are open beside this process's.
    pub(in crate::run) fn is_beside(&self) -> bool {
        self.beside
    }

    /// Tells it that this process's workers have ended.
    pub(in crate::run) fn stopped(&mut self) {
        // If it is gone, that is noticed when it does not confirm.
        let _ = self.channel.send(&FromOld::Stopped);
    }

    /// Tells it that all is free that only one process can have.
    pub(in crate::run) fn hand_over(&mut self, handed_over: HandedOver) {
        let _ = self.channel.send(&FromOld::HandedOver(handed_over));
    }

    /// Waits until it forwards packets. Returns what happened, for an operator. If this process is
    /// told to end meanwhile, so is its successor.
    ///
    /// # Errors
    /// The reason, if it does not. It does not run any more then.
    pub(in crate::run) fn confirm(&mut self, stop: &AtomicBool) -> Result<String, String> {
        let until = Instant::now() + LONGEST_GAP.min(self.timeout);
        let mut told = false;
        let result = loop {
            if stop.load(Relaxed) && !std::mem::replace(&mut told, true) {
                let _ = kill(Pid::from_raw(self.pid as i32), Signal::SIGTERM);
            }
            match self.channel.receive(INTERVAL) {
                Ok(None) if Instant::now() < until => {}
                Ok(None) => break Err("the new process did not forward in time".to_owned()),
                Ok(Some(FromNew::Forwarding { gap })) => break Ok(Duration::from_micros(gap)),
                Ok(Some(FromNew::Failed { reason })) => break Err(reason),
                Ok(Some(FromNew::Ready { .. })) => {
                    break Err(broken(ErrorKind::InvalidData.into()));
                }
                Err(error) => break Err(self.why(error)),
            }
        };
        match result {
            Ok(gap) => {
                self.child = None;
                let Self { pid, version, .. } = self;
                Ok(format!(
                    "upgraded: pid {pid}, version {version}, no packet forwarded for {} ms",
                    gap.as_millis()
                ))
            }
            Err(reason) => {
                self.end();
                Err(reason)
            }
        }
    }

    /// Returns its process ID.
    pub(in crate::run) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns why the connection to it has ended.
    fn why(&mut self, error: io::Error) -> String {
        // It is reset if the other end has not read all.
        let has_ended = matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        );
        let until = Instant::now() + Duration::from_millis(200);
        while has_ended && Instant::now() < until {
            match self.child.as_mut().map(Child::try_wait) {
                Some(Ok(Some(status))) => {
                    return format!("the new process has ended ({status}), its log says why");
                }
                Some(Ok(None)) => thread::sleep(Duration::from_millis(1)),
                _ => break,
            }
        }
        broken(error)
    }

    /// Lets it clean up, and kills it if that takes long.
    fn leave(mut self) {
        let Some(mut child) = self.child.take() else { return };
        let reap = move || {
            let until = Instant::now() + CLEAN_UP;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    let _ = child.kill();
                }
                thread::sleep(INTERVAL);
            }
        };
        // Without a thread it becomes a zombie of this process, which does no harm.
        let _ = thread::Builder::new().name("reaper".to_owned()).spawn(reap);
    }

    /// Kills it, and waits for its end.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        self.end();
    }
}

/// Replaces this process by one of the same program with the same arguments, which is not affected
/// by what is now in its place. Returns only if that fails.
pub(in crate::run) fn again() -> io::Error {
    if let Err(error) = descriptors::close_on_exec() {
        return error;
    }
    let mut own = std::env::args_os();
    let name = own.next().unwrap_or_else(|| "firstack".into());
    Command::new("/proc/self/exe").arg0(name).args(arguments(own)).stdin(Stdio::null()).exec()
}

fn broken(error: io::Error) -> String {
    format!("the new process broke off: {error}")
}

/// Returns the path of the program that now has the name that this process's had.
fn own_binary() -> io::Result<PathBuf> {
    Ok(without_mark(std::env::current_exe()?))
}

/// Removes the mark by which the kernel says that a program was replaced.
fn without_mark(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(" (deleted)")) {
        Some(path) => path.into(),
        None => path,
    }
}

/// Returns the arguments for another process, from those of this one.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    own.filter(|argument| ONCE.iter().all(|once| argument != OsStr::new(once))).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// Starts an upgrade to a script.
    fn to(script: &str, timeout: Duration) -> (tempfile::TempDir, Upgrades) {
        let directory = tempfile::tempdir().unwrap();
        let binary = directory.path().join("new");
        // The interpreter is named on the script's first line; its stdin is the connection.
        fs::write(&binary, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o700)).unwrap();
        let mut upgrades = Upgrades::new("gateway", "fs", [[2; 6]; 2]);
        let begun = comes(|| match upgrades.begin(Some(binary.clone()), timeout) {
            // Another test's child still has the script open for writing.
            Err(text) if text.contains("Text file busy") => None,
            begun => Some(begun),
        });
        begun.unwrap();
        (directory, upgrades)
    }

    fn comes<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(start.elapsed() < LONG);
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn outcome(upgrades: &mut Upgrades) -> Result<Successor, String> {
        comes(|| match upgrades.step() {
            Event::Nothing => None,
            Event::Failed(reason) => Some(Err(reason)),
            Event::Ready(successor) => Some(Ok(successor)),
        })
    }

    const READY: &str = r#"echo '{"ready":{"version":"9","beside":true}}' >&0"#;

    #[test]
    fn a_successor_that_confirms_is_left_alone() {
        let script = format!(
            "read start; {READY}; read stopped; read over\n\
             echo '{{\"forwarding\":{{\"gap\":82345}}}}' >&0; sleep 60"
        );
        let (_directory, mut upgrades) = to(&script, LONG);
        let again = upgrades.begin(None, LONG).unwrap_err();
        assert!(again.contains("is under way"), "{again}");
        let mut successor = outcome(&mut upgrades).unwrap();
        assert!(successor.is_beside());
        successor.stopped();
        successor.hand_over(HandedOver::default());
        let pid = successor.pid();
        let text = successor.confirm(&AtomicBool::new(false)).unwrap();
        let expected = format!("upgraded: pid {pid}, version 9, no packet forwarded for 82 ms");
        assert_eq!(text, expected);
        drop(successor);
        let process = Pid::from_raw(pid as i32);
        assert!(kill(process, None).is_ok(), "the new process was killed");
        kill(process, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_successor_that_is_not_ready_fails_the_upgrade_and_names_the_reason() {
        let failed = r#"read start; echo '{"failed":{"reason":"x.toml:3: wrong"}}' >&0"#;
        let cases = [
            ("exit 3", LONG, "the new process has ended (exit status: 3), its log says why"),
            (
                "kill -9 $$",
                LONG,
                "the new process has ended (signal: 9 (SIGKILL)), its log says why",
            ),
            (failed, LONG, "x.toml:3: wrong"),
            ("sleep 60", Duration::from_millis(5), "the new process was not ready within 5ms"),
            ("echo hello >&0; sleep 60", LONG, "the new process broke off: invalid data"),
        ];
        for (script, timeout, reason) in cases {
            let (_directory, mut upgrades) = to(script, timeout);
            let text = outcome(&mut upgrades).unwrap_err();
            assert_eq!(
                text,
                format!("not upgraded: {reason}; the old process goes on"),
                "{script}"
            );
        }
    }

    #[test]
    fn a_successor_that_fails_after_the_hand_over_is_gone_when_that_is_known() {
        let late = format!("read start; {READY}; read stopped; exec sleep 60");
        let dead = format!("read start; {READY}; read stopped; exit 1");
        let short = Duration::from_millis(500);
        let cases = [
            (late, short, "the new process did not forward in time"),
            (dead, LONG, "the new process has ended (exit status: 1), its log says why"),
        ];
        for (script, timeout, reason) in cases {
            let (_directory, mut upgrades) = to(&script, timeout);
            let mut successor = outcome(&mut upgrades).unwrap();
            successor.stopped();
            successor.hand_over(HandedOver::default());
            assert_eq!(successor.confirm(&AtomicBool::new(false)).unwrap_err(), reason);
            assert!(kill(Pid::from_raw(successor.pid() as i32), None).is_err());
        }
    }

    #[test]
    fn a_signal_during_the_hand_over_reaches_the_successor() {
        let script = format!(
            "trap 'echo \"{{\\\"forwarding\\\":{{\\\"gap\\\":1}}}}\" >&0; exit' TERM; read start\n\
             {READY}; while :; do sleep 0.01; done"
        );
        let (_directory, mut upgrades) = to(&script, LONG);
        let mut successor = outcome(&mut upgrades).unwrap();
        let text = successor.confirm(&AtomicBool::new(true)).unwrap();
        assert!(text.starts_with("upgraded"), "{text}");
    }

    #[test]
    fn what_is_no_program_is_refused_at_once() {
        let mut upgrades = Upgrades::new("gateway", "fs", [[2; 6]; 2]);
        for (path, reason) in [("/nobody/here", "No such file"), ("/etc/passwd", "denied")] {
            let text = upgrades.begin(Some(path.into()), LONG).unwrap_err();
            assert!(text.starts_with("not upgraded: ") && text.contains(reason), "{text}");
        }
        assert!(upgrades.cancel().is_none());
    }

    #[test]
    fn the_program_is_the_one_in_place_of_the_own_and_the_arguments_are_the_same() {
        assert_eq!(
            without_mark("/usr/bin/firstack (deleted)".into()),
            PathBuf::from("/usr/bin/firstack")
        );
        assert_eq!(without_mark("/usr/bin/firstack".into()), PathBuf::from("/usr/bin/firstack"));
        let own = ["run", "-c", "x", "--take-over", "--forget"].map(OsString::from);
        assert_eq!(arguments(own.into_iter()), ["run", "-c", "x"]);
    }
}
