//! The work of the control thread besides serving its socket: it probes servers, takes members into
//! and out of service, marks a replica drained or busy, and reloads keys. The workers learn of
//! changes through values that they read once a burst; they never wait.

mod limits;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pipeline::base::time::Ticks;
use pipeline::counters::{RoleCounters, Scalar};
use pipeline::packet::view::Side;
use pipeline::verdict::Verdict;

use super::health::{BusyFile, Change, Http, Prober, Settings, State, Target};
use super::members::Members;
use super::notices::Notices;
use super::operator::Operator;
use super::share::Sharing;
use super::socket::{Answer, Command, Name};
use super::stats::{KeptStats, MemoryAnswer, Neighbour, Snapshot};
use crate::config::{self, Check};
use crate::control::keys;
use crate::datapath::clock::{Reading, monotonic};
use crate::keep;
use crate::roles::{self, Controls, Labels};
use limits::Limits;

/// The name of the busy check among the probed targets.
const BUSY_CHECK: &str = "busy_check";

/// The shortest time between two log lines about destinations left untagged: there may be many
/// behind one path that drops the tag.
const BACKOFF_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Controls a role set while its workers run.
pub struct Supervisor {
    labels: Labels,
    counters: Vec<Arc<dyn RoleCounters>>,
    controls: Controls,
    members: Members,
    prober: Prober,
    /// The number of the busy check among the probed targets.
    busy_target: Option<usize>,
    busy_file: Option<BusyFile>,
    /// An operator has marked the replica busy.
    busy_by_operator: bool,
    /// Backoffs logged so far, by worker.
    backoffs_logged: Vec<u64>,
    /// The time at which backoffs were last logged.
    last_backoff_log: Option<Instant>,
    /// Limits that kept SYNs from being copied, as far as they were logged.
    limits: Limits,
    /// Mistakes that traffic has shown, as far as they were logged.
    notices: Notices,
    /// By side: whether cut frames have been logged.
    cut_logged: [bool; 2],
    /// What is remembered is shared through a store.
    sharing: Option<Sharing>,
    /// What operators have set.
    operator: Operator,
    /// What became of the tables of an earlier process; `None` if tables are not kept.
    kept: Option<KeptStats>,
    /// The workers' clock.
    clock: Box<dyn Fn() -> Ticks + Send>,
}

impl Supervisor {
    /// Creates the supervisor of workers with these counters, one per worker.
    pub fn new(
        labels: Labels,
        counters: Vec<Arc<dyn RoleCounters>>,
        mut controls: Controls,
        health: &config::Health,
    ) -> Self {
        let mut targets = Vec::new();
        let mut add = |name: &str, check: &Check, tells_busy| {
            targets.push(target(name, check, tells_busy));
            targets.len() - 1
        };
        let members = Members::new(std::mem::take(&mut controls.members), |member| {
            member.check.as_ref().map(|check| add(&member.name, check, false))
        });
        let busy_target = controls.busy_check.as_ref().map(|check| add(BUSY_CHECK, check, true));
        let settings = Settings {
            interval: health.interval,
            timeout: health.timeout,
            rise: health.rise,
            fall: health.fall,
        };
        let supervisor = Self {
            backoffs_logged: vec![0; counters.len()],
            last_backoff_log: None,
            limits: Limits::default(),
            notices: Notices::default(),
            cut_logged: [false; 2],
            sharing: None,
            operator: Operator::default(),
            kept: None,
            clock: Box::new(|| Ticks(0)),
            labels,
            counters,
            members,
            prober: Prober::new(settings, targets, Instant::now()),
            busy_target,
            busy_file: controls.busy_file.clone().map(BusyFile::new),
            busy_by_operator: false,
            controls,
        };
        (supervisor.controls.apply)(&supervisor.members.states());
        supervisor
    }

    /// Sets the workers' clock, which their reports refer to.
    pub fn with_clock(self, clock: impl Fn() -> Ticks + Send + 'static) -> Self {
        let supervisor = Self { clock: Box::new(clock), ..self };
        supervisor.set_unix_clock();
        supervisor
    }

    /// Tells the workers the time of day, by which signatures are valid. Repeated, because it may be
    /// corrected.
    fn set_unix_clock(&self) {
        if let Ok(unix) = SystemTime::now().duration_since(UNIX_EPOCH) {
            self.controls.unix.set(unix, (self.clock)());
        }
    }

    /// Shares what is remembered through a store.
    pub fn with_sharing(self, sharing: Option<Sharing>) -> Self {
        Self { sharing, ..self }
    }

    /// Does everything that is due once. Waits for probes at most for `longest`.
    pub fn run_once(&mut self, longest: Duration) {
        self.prober.wait(longest);
        self.set_unix_clock();
        if let Some(memory) = &mut self.controls.memory {
            let now = (self.clock)();
            memory.step(now);
            if let Some(sharing) = &mut self.sharing {
                sharing.step(memory.memory(), now);
            }
        }
        let now = Instant::now();
        let mut signal = self.busy_file.as_mut().and_then(|file| file.step(now)).is_some();
        let changes: Vec<_> = self.prober.step(now).collect();
        for change in changes {
            signal |= Some(change.target) == self.busy_target;
            let name = self.members.name_of_target(change.target).unwrap_or(BUSY_CHECK);
            log_health(name, &change);
        }
        if signal {
            self.set_busy();
        }
        let (prober, tunnels) = (&self.prober, self.controls.tunnels.as_deref());
        let up = |target| prober.health(target).is_up();
        let answers = |number| tunnels.is_none_or(|tunnels| tunnels.is_alive(number));
        if self.members.update(up, answers) {
            (self.controls.apply)(&self.members.states());
        }
        self.log_backoffs();
        self.limits.log(&self.counters, now);
        self.notices.log(&self.counters, now);
        self.log_cut_frames();
    }

    /// Logs once for each side that frames arrive cut: the interface must be mended.
    fn log_cut_frames(&mut self) {
        for side in Side::ALL {
            let cut = |counters: &Arc<dyn RoleCounters>| {
                counters.common().side(side).verdicts[Verdict::FrameCut as usize].get()
            };
            let frames: u64 = self.counters.iter().map(cut).sum();
            if frames > 0 && !std::mem::replace(&mut self.cut_logged[side as usize], true) {
                tracing::warn!(
                    side = side.name(),
                    frames,
                    "frames arrive shorter than their IP headers say: the port cuts them (GRO, LRO \
                     or an MTU beyond its buffers), or a device before it"
                );
            }
        }
    }

    /// Logs destinations that were left untagged since the last such line.
    fn log_backoffs(&mut self) {
        if self.last_backoff_log.is_some_and(|at| at.elapsed() < BACKOFF_LOG_INTERVAL) {
            return;
        }
        for (counters, seen) in self.counters.iter().zip(&mut self.backoffs_logged) {
            let count = counters.common().scalar(Scalar::TagBackoffs).get();
            if count > *seen
                && let Some(server) = counters.last_backoff()
            {
                let times = count - std::mem::replace(seen, count);
                self.last_backoff_log = Some(Instant::now());
                tracing::warn!(
                    %server,
                    times,
                    "tagged SYNs not answered, leaving SYNs to this destination untagged for a while"
                );
            }
        }
    }

    /// Returns the number of packets received by all workers.
    pub fn received(&self) -> u64 {
        let sides = self.counters.iter().flat_map(|counters| &counters.common().sides);
        sides.map(|side| side.received.get()).sum()
    }

    /// Goes on with what an earlier process has left: the MAC addresses of hosts on the inside, and what
    /// operators have set. A drain of what the configuration does not have any more is dropped.
    pub fn with_kept(mut self, kept: KeptStats, state: Option<&keep::State>) -> Self {
        self.kept = Some(kept);
        let Some(state) = state else { return self };
        if let Some(neighbours) = &self.controls.neighbours {
            state.neighbours.iter().for_each(|(address, mac)| neighbours.restore(*address, *mac));
        }
        for command in state.operator.commands() {
            let shown = format!("{command:?}");
            match self.answer(command) {
                Answer::Error(why) => tracing::warn!(why, "an operator's {shown} is dropped"),
                _ => tracing::info!("an operator's {shown} of before the restart still holds"),
            }
        }
        self
    }

    /// Notes in a state what the next process has to go on with.
    pub fn note(&self, state: &mut keep::State) {
        state.set_reading(Reading { ticks: (self.clock)(), monotonic: monotonic() });
        state.operator = self.operator.clone();
        let neighbours = self.controls.neighbours.iter().flat_map(|neighbours| neighbours.list());
        let known = neighbours.filter(|neighbour| neighbour.known);
        state.neighbours =
            known.filter_map(|neighbour| Some((neighbour.address, neighbour.mac?))).collect();
    }

    /// Carries out an operator's command.
    pub fn answer(&mut self, command: Command) -> Answer {
        let noted = command.clone();
        let answer = self.carry_out(command);
        if matches!(answer, Answer::Done(_)) {
            self.operator.note(&noted);
        }
        answer
    }

    fn carry_out(&mut self, command: Command) -> Answer {
        match command {
            Command::Stats => Answer::Stats(Box::new(self.snapshot())),
            Command::Drain { name: None } => self.drain_replica(true),
            Command::Undrain { name: None } => self.drain_replica(false),
            Command::Drain { name: Some(name) } => self.drain_member(&name, true),
            Command::Undrain { name: Some(name) } => self.drain_member(&name, false),
            Command::Busy => self.override_busy(true),
            Command::Unbusy => self.override_busy(false),
            Command::Reload => self.reload(),
            Command::Memory => self.memory(),
            Command::Forget { name } => self.forget(name.as_ref()),
            Command::Why { client, port } => self.why(client, port),
            // What hands over answers it.
            Command::Upgrade { .. } => Answer::Error("not upgraded: nothing runs here".to_owned()),
        }
    }

    /// Returns what is remembered of replicas.
    fn memory(&self) -> Answer {
        let Some(memory) = &self.controls.memory else { return self.no_memory() };
        let services = memory.shown(&self.labels.services, (self.clock)());
        let share = self.sharing.as_ref().map(Sharing::stats);
        Answer::Memory(Box::new(MemoryAnswer { services, share, ..MemoryAnswer::default() }))
    }

    /// Forgets what was learned of a service, or of all.
    fn forget(&mut self, name: Option<&Name>) -> Answer {
        let now = (self.clock)();
        let Some(memory) = &mut self.controls.memory else { return self.no_memory() };
        let number = match name {
            None => None,
            Some(name) => {
                let known = &self.labels.services;
                match known.iter().position(|service| service == name.as_str()) {
                    Some(number) => Some(number as u16),
                    None => {
                        let known = known.join(", ");
                        return Answer::Error(format!("unknown service {name}; known: {known}"));
                    }
                }
            }
        };
        memory.clear(number, now);
        let what = name.map_or_else(|| "all services".to_owned(), Name::to_string);
        tracing::info!(what, "memory cleared by operator");
        Answer::Done(format!("memory of {what} cleared"))
    }

    /// Returns the last races of a client.
    fn why(&self, client: IpAddr, port: Option<u16>) -> Answer {
        let Some(memory) = &self.controls.memory else { return self.no_memory() };
        let races = memory.races_of((client, port), &self.labels.services, (self.clock)());
        Answer::Memory(Box::new(MemoryAnswer { races, ..MemoryAnswer::default() }))
    }

    fn no_memory(&self) -> Answer {
        Answer::Error(format!("a {} remembers no replicas", self.labels.role))
    }

    /// Drains or undrains a replica as a whole (op 404).
    fn drain_replica(&self, drained: bool) -> Answer {
        let Some(admission) = &self.controls.admission else {
            return Answer::Error(format!("a {} cannot be drained", self.labels.role));
        };
        admission.dead.store(drained, Relaxed);
        log_drained(self.labels.role, drained);
        Answer::Done(format!("{} {}", self.labels.role, drained_word(drained)))
    }

    /// Marks a replica busy, or lets its load decide again (op 406).
    fn override_busy(&mut self, busy: bool) -> Answer {
        if self.controls.admission.is_none() {
            return Answer::Error(format!("a {} cannot be busy", self.labels.role));
        }
        self.busy_by_operator = busy;
        self.set_busy();
        match busy {
            true => tracing::info!("busy override set by operator"),
            false => tracing::info!("busy override cleared by operator"),
        }
        Answer::Done(format!("busy override {}", if busy { "set" } else { "cleared" }))
    }

    fn busy_by_signal(&self) -> bool {
        let file = self.busy_file.as_ref().is_some_and(BusyFile::busy);
        file || self.busy_target.is_some_and(|target| self.prober.health(target).busy())
    }

    fn set_busy(&self) {
        if let Some(admission) = &self.controls.admission {
            admission.busy.store(self.busy_by_operator || self.busy_by_signal(), Relaxed);
        }
    }

    /// Drains or undrains one server or replica.
    fn drain_member(&mut self, name: &Name, drained: bool) -> Answer {
        if !self.members.set_drained(name.as_str(), drained) {
            let known = self.members.names();
            return Answer::Error(match known.is_empty() {
                true => format!("a {} has no server or replica to drain", self.labels.role),
                false => format!("unknown server or replica {:?}; known: {known}", name.as_str()),
            });
        }
        (self.controls.apply)(&self.members.states());
        log_drained(name.as_str(), drained);
        Answer::Done(format!("{name} {}", drained_word(drained)))
    }

    /// Reloads the key file. If the file is rejected, the current keys stay in use.
    pub fn reload(&mut self) -> Answer {
        let Some((path, purpose)) = &self.controls.key_file else {
            return Answer::Error(format!("this {} has no key file", self.labels.role));
        };
        match keys::Keys::load(path, *purpose) {
            Ok(keys) => {
                self.controls.keys.publish(roles::pipeline_keys(
                    &keys,
                    *purpose,
                    &self.controls.unix,
                ));
                let ids: Vec<_> = keys.all().iter().map(|(id, _)| id.to_string()).collect();
                tracing::info!(ids = ids.join(","), "key file reloaded");
                Answer::Done(format!("key file reloaded, key ids: {}", ids.join(", ")))
            }
            Err(error) => {
                tracing::warn!("key file rejected, keeping current keys: {error}");
                Answer::Error(format!("key file rejected, keeping current keys: {error}"))
            }
        }
    }

    /// Returns all counters.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::take(&self.labels, &self.counters);
        if let Some(admission) = &self.controls.admission {
            let reasons = [
                ("drained", admission.dead.load(Relaxed)),
                ("busy (set by operator)", self.busy_by_operator),
                ("busy (busy_file or busy_check)", self.busy_by_signal()),
            ];
            let set = reasons.into_iter().filter(|(_, value)| *value);
            snapshot.admission = set.map(|(name, _)| name.to_owned()).collect();
        }
        snapshot.out_of_service = self.members.out();
        snapshot.health = self.prober.stats();
        snapshot.kept = self.kept.clone();
        snapshot.share = self.sharing.as_ref().map(Sharing::stats);
        let neighbours = self.controls.neighbours.iter().flat_map(|neighbours| neighbours.list());
        snapshot.neighbours = neighbours.map(Neighbour::from).collect();
        snapshot
    }
}

fn drained_word(drained: bool) -> &'static str {
    if drained { "drained" } else { "undrained" }
}

fn log_drained(name: &str, drained: bool) {
    match drained {
        true => tracing::info!(name, "drained by operator"),
        false => tracing::info!(name, "undrained by operator"),
    }
}

/// Logs a change of a probed server: trouble as a warning, all else as information.
fn log_health(name: &str, change: &Change) {
    let Change { from, to, busy, reason, .. } = change;
    match (from, to) {
        (_, State::Down) => tracing::warn!(name, reason, "health check failed"),
        (State::Down, _) => tracing::info!(name, busy, reason, "health check recovered"),
        (State::Unknown, _) => tracing::info!(name, busy, reason, "health check passed"),
        (State::Up, _) => tracing::info!(name, busy, reason, "busy state changed"),
    }
}

fn target(name: &str, check: &Check, tells_busy: bool) -> Target {
    Target {
        name: name.to_owned(),
        address: check.target,
        http: check.http.as_ref().map(|http| Http {
            host: http.host.clone(),
            path: http.path.clone(),
            tells_busy,
        }),
    }
}

#[cfg(test)]
mod tests;
