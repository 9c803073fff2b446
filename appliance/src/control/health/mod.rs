//! Health checks: TCP and HTTP probes over the host's own network.
//!
//! A [`Prober`] runs on the control thread and never blocks: each [`Prober::step`] looks at all
//! sockets once, ends probes whose time is over, starts those that are due, and returns the
//! changes. Between two steps the thread may sleep in [`Prober::wait`], which an answer ends.
//!
//! `target` counts successes and failures and derives a state from them, `probe` is one connection,
//! `http` its protocol. [`BusyFile`] is another way for a server to say that it accepts no new
//! connections.

mod busy_file;
pub mod http;
mod probe;
mod stats;
mod target;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub use busy_file::BusyFile;
pub use probe::Failure;
pub use stats::TargetStats;
pub use target::{Health, State};

use probe::{Answer, Probe};

/// The most probes started in one step, so that a step takes a few milliseconds.
const STARTS: usize = 32;
/// The most connections at a time; further probes wait. The process needs file descriptors for
/// other purposes too, and most systems allow it 1024.
const CONNECTIONS: usize = 512;
/// If the time between two steps is longer than this, the excess does not count towards timeouts:
/// the answer to a probe, or its second half, may have waited for this thread.
const STALL: Duration = Duration::from_millis(100);

/// The timing of probes, the same for all servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Time between two probes of a server.
    pub interval: Duration,
    /// The longest time a probe may take; at most the interval.
    pub timeout: Duration,
    /// Consecutive successes after which a server that is down counts as up.
    pub rise: u8,
    /// Consecutive failures after which a server that is up counts as down.
    pub fall: u8,
}

/// A server that is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name in logs and counters.
    pub name: String,
    /// The address to connect to.
    pub address: SocketAddr,
    /// The HTTP request to send; without one, an accepted connection is a success.
    pub http: Option<Http>,
}

/// An HTTP check: `GET path`. Status codes from 200 to 399 are a success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Value of the Host header.
    pub host: String,
    /// Path and query, as in the request.
    pub path: String,
    /// Whether 429 and 503 mean that the server is up but busy; otherwise they are failures.
    pub tells_busy: bool,
}

/// A change of a server's state or of whether it is busy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The target's index in the list of targets.
    pub target: usize,
    /// The state before.
    pub from: State,
    /// The state now.
    pub to: State,
    /// Whether it is busy now.
    pub busy: bool,
    /// The result that caused the change, in words.
    pub reason: String,
}

/// Opens a socket and starts to connect.
type Connect = fn(SocketAddr) -> Result<TcpStream, Failure>;

/// Probes all targets, each once per interval, spread evenly over it.
#[derive(Debug)]
pub struct Prober {
    settings: Settings,
    targets: Vec<Watched>,
    /// When each target is due, in order of time, as all have the same interval.
    due: VecDeque<(Instant, usize)>,
    probes: Vec<Probe>,
    changes: Vec<Change>,
    stepped: Instant,
    connect: Connect,
}

#[derive(Debug)]
struct Watched {
    target: Target,
    request: Option<Vec<u8>>,
    health: Health,
    probing: bool,
}

impl Prober {
    /// Creates a prober; the first probe of the first target is due at `now`.
    pub fn new(settings: Settings, targets: Vec<Target>, now: Instant) -> Self {
        Self::with(settings, targets, now, probe::connect)
    }

    fn with(mut settings: Settings, targets: Vec<Target>, now: Instant, connect: Connect) -> Self {
        settings.timeout = settings.timeout.min(settings.interval);
        let count = targets.len().max(1) as f64;
        let offset = |place: usize| settings.interval.mul_f64(place as f64 / count);
        let due = (0..targets.len()).map(|place| (now + offset(place), place)).collect();
        let watched = |target: Target| {
            let request = target.http.as_ref().map(http::request);
            Watched { target, request, health: Health::default(), probing: false }
        };
        Self {
            settings,
            targets: targets.into_iter().map(watched).collect(),
            due,
            probes: Vec::new(),
            changes: Vec::new(),
            stepped: now,
            connect,
        }
    }

    /// Goes on with other targets and another timing. A target that stays, with its name and what is
    /// probed, keeps its health, its probe and its turn; others begin as at the start, spread over an
    /// interval.
    pub fn go_on(&mut self, settings: Settings, targets: Vec<Target>, now: Instant) {
        let mut next = Self::with(settings, targets, now, self.connect);
        // By the number of a target before.
        let mut places = vec![None; self.targets.len()];
        for (place, watched) in next.targets.iter_mut().enumerate() {
            let before = self.targets.iter().position(|known| known.target == watched.target);
            if let Some(before) = before {
                places[before] = Some(place);
                (watched.health, watched.probing) =
                    (self.targets[before].health.clone(), self.targets[before].probing);
            }
        }
        let stays = |place: usize| places.get(place).copied().flatten();
        next.due.retain(|(_, place)| !places.contains(&Some(*place)));
        let latest = now + next.settings.interval;
        let kept =
            self.due.iter().filter_map(|(due, place)| Some(((*due).min(latest), stays(*place)?)));
        next.due.extend(kept);
        next.due.make_contiguous().sort();
        for mut probe in self.probes.drain(..) {
            if let Some(place) = stays(probe.target) {
                probe.target = place;
                next.probes.push(probe);
            }
        }
        next.stepped = self.stepped;
        *self = next;
    }

    /// Advances all probes as far as possible without blocking, starts a bounded number of new
    /// ones, and returns what has changed.
    pub fn step(&mut self, now: Instant) -> impl Iterator<Item = Change> {
        let lost = now.saturating_duration_since(self.stepped).saturating_sub(STALL);
        self.stepped = now;
        // Answers first: an answer that has come in the meantime counts, however late it is seen.
        self.look(now);
        self.give_up(now, lost);
        self.begin(now);
        self.changes.drain(..)
    }

    /// Sleeps until a step has something to do, a signal comes, or `longest` has passed.
    pub fn wait(&self, longest: Duration) {
        let _ = poll_all(&self.probes, longest);
    }

    /// Returns the number of targets.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Returns whether there are no targets.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Returns the health of a target, by its index.
    pub fn health(&self, target: usize) -> &Health {
        &self.targets[target].health
    }

    /// Returns the statistics of all targets, in the order of the list.
    pub fn stats(&self) -> Vec<TargetStats> {
        self.targets.iter().map(|it| TargetStats::new(&it.target, &it.health)).collect()
    }

    fn look(&mut self, now: Instant) {
        let ready = poll_all(&self.probes, Duration::ZERO);
        // From the end, so that the places of those not yet looked at stay valid.
        for place in ready.into_iter().rev() {
            let probe = &mut self.probes[place];
            let request = self.targets[probe.target].request.as_deref();
            if let Some(result) = probe.advance(request) {
                self.finish(place, result, now);
            }
        }
    }

    fn give_up(&mut self, now: Instant, lost: Duration) {
        for place in (0..self.probes.len()).rev() {
            let probe = &mut self.probes[place];
            probe.deadline += lost;
            if probe.deadline <= now {
                let late = probe.too_late();
                self.finish(place, Err(late), now);
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        for _ in 0..STARTS {
            let Some(&(due, place)) = self.due.front() else { return };
            if due > now || self.probes.len() >= CONNECTIONS {
                return;
            }
            // Both keep the order of the queue. Because of the second, a target that is late, even
            // by many intervals, is not probed twice in a row.
            let again = (due + self.settings.interval).max(now + self.settings.timeout);
            self.due.pop_front();
            self.due.push_back((again, place));
            let watched = &mut self.targets[place];
            if watched.probing {
                continue;
            }
            match (self.connect)(watched.target.address) {
                Ok(stream) => {
                    watched.probing = true;
                    let deadline = now + self.settings.timeout;
                    self.probes.push(Probe::new(place, stream, now, deadline));
                }
                Err(failure) => self.record(place, Err(failure), None),
            }
        }
    }

    /// Ends a probe and closes its socket.
    fn finish(&mut self, place: usize, result: Result<Answer, Failure>, now: Instant) {
        let probe = self.probes.swap_remove(place);
        self.targets[probe.target].probing = false;
        let took = result.is_ok().then(|| now.saturating_duration_since(probe.started));
        self.record(probe.target, result, took);
    }

    fn record(&mut self, place: usize, answer: Result<Answer, Failure>, took: Option<Duration>) {
        let Watched { target, health, .. } = &mut self.targets[place];
        let tells_busy = target.http.as_ref().is_some_and(|http| http.tells_busy);
        let result = answer.and_then(|answer| answer.judge(tells_busy));
        let (from, was_busy) = (health.state(), health.busy());
        health.record(result, took, &self.settings);
        let (to, busy) = (health.state(), health.busy());
        if (from, was_busy) != (to, busy) {
            let reason = health.reason();
            self.changes.push(Change { target: place, from, to, busy, reason });
        }
    }
}

/// Waits until any probe can go on, at most for `longest`. Returns the indices of those that can.
fn poll_all(probes: &[Probe], longest: Duration) -> Vec<usize> {
    let mut fds: Vec<_> =
        probes.iter().map(|probe| PollFd::new(probe.stream.as_fd(), probe.events())).collect();
    // Rounded up, because a wait that ends early leads to another one.
    let millis = longest.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, timeout) {
        Ok(1..) => {
            let ready = |fd: &PollFd<'_>| fd.revents() != Some(PollFlags::empty());
            fds.iter().enumerate().filter(|(_, fd)| ready(fd)).map(|(place, _)| place).collect()
        }
        // Interrupted by a signal, at most: the next call looks again.
        _ => Vec::new(),
    }
}
