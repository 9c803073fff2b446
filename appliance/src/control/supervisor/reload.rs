//! Reload: what the supervisor knows of members, checks and memory goes on under the changed
//! configuration.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{BUSY_CHECK, Supervisor, prober_settings, target};
use crate::config::{self, Config};
use crate::control::health::BusyFile;
use crate::control::reload::{Plan, Prepared, Refusal, Reloading, log, starts_drained};
use crate::control::share::Sharing;
use crate::control::socket::Answer;
use crate::roles;

/// How long the answer to a reload waits for the workers, which take what they are given within a
/// burst.
const MAX_WAIT: Duration = Duration::from_millis(100);
/// The time after which a worker that has not taken what it was given is logged.
const LATE: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Lets the configuration be reloaded.
    pub fn with_reloading(self, reloading: Option<Reloading>) -> Self {
        Self { reloading, ..self }
    }

    /// Reads the configuration file again and goes on with it; or only says what would change, if this
    /// is a `dry_run`. Logs the result.
    pub fn reload(&mut self, dry_run: bool) -> Answer {
        let Some(mut reloading) = self.reloading.take() else {
            return Answer::Error("this process has no configuration file".to_owned());
        };
        let answer = self.reload_by(&mut reloading, dry_run);
        self.reloading = Some(reloading);
        answer
    }

    fn reload_by(&mut self, reloading: &mut Reloading, dry_run: bool) -> Answer {
        let file = reloading.source.path().display().to_string();
        let waiting = self.note_taken_by(reloading);
        if !waiting.is_empty() {
            let text = format!(
                "not reloaded: {} not taken over what was reloaded before; try again",
                workers(&waiting)
            );
            return Answer::Error(text);
        }
        let plan = match reloading.check(&self.controls.carried) {
            Ok(plan) => plan,
            Err(refusal) => return refused(&refusal, dry_run),
        };
        if plan.lines.is_empty() {
            if !dry_run {
                // The same settings may stand on other lines.
                (reloading.source, reloading.config) = (plan.source, plan.config);
            }
            return Answer::Done(format!("nothing to do: {file} has no changes"));
        }
        let lines = indented(&plan.lines);
        if dry_run {
            return Answer::Done(format!("a reload of {file} would make these changes:{lines}"));
        }
        let changed = plan.lines.clone();
        match self.apply(reloading, plan) {
            Err(reason) => {
                tracing::warn!(reason, "reload failed, the running configuration stays in force");
                Answer::Error(format!("not reloaded, nothing was changed: {reason}"))
            }
            Ok(()) => {
                tracing::info!(file, changes = changed.len(), "configuration reloaded");
                changed.iter().for_each(|change| tracing::info!("reload: {change}"));
                let waiting = self.wait_until_taken(reloading);
                let late = match waiting.is_empty() {
                    true => String::new(),
                    false => {
                        format!("\n{} not taken it over yet; the log will tell", workers(&waiting))
                    }
                };
                Answer::Done(format!("reloaded {file}:{lines}{late}"))
            }
        }
    }

    /// Goes on with a changed configuration. After an error nothing has changed.
    fn apply(&mut self, reloading: &mut Reloading, plan: Plan) -> Result<(), String> {
        let sharing = match plan.sharing == reloading.sharing {
            true => None,
            false => {
                let started = plan.sharing.clone().map(Sharing::start).transpose();
                Some(started.map_err(|error| format!("sharing: {error}"))?)
            }
        };
        let environment = roles::Environment {
            keys: plan.keys.clone(),
            carried: self.controls.carried.clone(),
            ..reloading.environment.clone()
        };
        if plan.changes_roles {
            let successors = Reloading::of_successors(&plan.config, environment.workers);
            let prepared = reloading.workers.prepare(&successors, &environment);
            let prepared = prepared.ok_or("the roles are of another kind")?;
            (reloading.persist)(&prepared.controls.carried.numbers)
                .map_err(|error| format!("the numbers of services cannot be stored: {error}"))?;
            self.take_over(prepared, (&reloading.config, &plan.config));
            reloading.workers.hand_over();
            reloading.given = Some(Instant::now());
        } else {
            let purpose = roles::purpose(&plan.config);
            self.controls.keys.publish(roles::pipeline_keys(
                &plan.keys,
                purpose,
                &self.controls.unix,
            ));
        }
        if let Some(sharing) = sharing {
            self.sharing = match (self.sharing.take(), sharing) {
                (Some(before), Some(next)) => Some(next.go_on_from(&before)),
                (_, next) => next,
            };
        }
        if plan.config.log != reloading.config.log {
            log::set_level(plan.config.log.level);
        }
        let known = reloading.config.warnings();
        let warnings = plan.config.warnings().into_iter();
        for warning in warnings.filter(|warning| !known.contains(warning)) {
            tracing::warn!("{warning}");
        }
        reloading.environment.keys = plan.keys;
        (reloading.source, reloading.config) = (plan.source, plan.config);
        reloading.sharing = plan.sharing;
        Ok(())
    }

    /// Takes over what is known of members, checks and memory, before the workers use it.
    fn take_over(&mut self, prepared: Prepared, (old, new): (&Config, &Config)) {
        let Prepared { labels, mut controls, counters } = prepared;
        let mut targets = Vec::new();
        let mut add = |name: &str, check: &config::Check, tells_busy| {
            targets.push(target(name, check, tells_busy));
            targets.len() - 1
        };
        let members = std::mem::take(&mut controls.members);
        self.members = self.members.successors(members, |member| {
            member.check.as_ref().map(|check| add(&member.name, check, false))
        });
        self.busy_target = controls.busy_check.as_ref().map(|check| add(BUSY_CHECK, check, true));
        self.prober.go_on(prober_settings(&new.health), targets, Instant::now());
        if self.busy_file.as_ref().map(BusyFile::path) != controls.busy_file.as_deref() {
            self.busy_file = controls.busy_file.clone().map(BusyFile::new);
        }
        if let (Some(admission), Some(drained)) = (&controls.admission, starts_drained(new))
            && starts_drained(old) != Some(drained)
        {
            admission.dead.store(drained, Relaxed);
        }
        if let (Some(next), Some(mut memory)) =
            (controls.memory.take(), self.controls.memory.take())
        {
            memory.reload(next, (self.clock)());
            controls.memory = Some(memory);
        }
        let drains = self.drains();
        self.controls = controls;
        self.set_unix_clock();
        self.set_busy();
        self.update_members();
        (self.controls.apply)(&self.members.states());
        if let Some(drain) = &self.controls.drain {
            drains.apply(drain, &labels.services);
        }
        self.next_counters = Some((labels, counters));
    }

    fn wait_until_taken(&mut self, reloading: &mut Reloading) -> Vec<usize> {
        let start = Instant::now();
        loop {
            let waiting = self.note_taken_by(reloading);
            if waiting.is_empty() || start.elapsed() > MAX_WAIT {
                return waiting;
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    /// Looks whether all workers have taken what they were given, and logs those that are late.
    pub fn note_taken(&mut self) {
        if let Some(mut reloading) = self.reloading.take() {
            self.note_taken_by(&mut reloading);
            self.reloading = Some(reloading);
        }
    }

    /// Returns the workers that have not. Until the last one has, the counters shown are those before:
    /// the others' stand still for that long.
    fn note_taken_by(&mut self, reloading: &mut Reloading) -> Vec<usize> {
        let Some(given) = reloading.given else { return Vec::new() };
        let waiting = reloading.workers.waiting();
        if waiting.is_empty() {
            reloading.given = None;
            if let Some((labels, counters)) = self.next_counters.take() {
                (self.labels, self.counters) = (labels, counters);
            }
            if std::mem::take(&mut self.late_logged) {
                tracing::info!("all workers have taken over what was reloaded");
            }
        } else if given.elapsed() > LATE && !std::mem::replace(&mut self.late_logged, true) {
            tracing::warn!("{} not taken over what was reloaded for a second", workers(&waiting));
        }
        waiting
    }
}

/// Returns the beginning of a sentence about workers that have (not) done something.
fn workers(numbers: &[usize]) -> String {
    let numbers: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    match numbers.as_slice() {
        [one] => format!("worker {one} has"),
        all => format!("workers {} have", all.join(", ")),
    }
}

fn indented(lines: &[String]) -> String {
    lines.iter().map(|line| format!("\n  {line}")).collect()
}

fn refused(refusal: &Refusal, dry_run: bool) -> Answer {
    let not = if dry_run { "a reload would be refused" } else { "not reloaded" };
    match refusal {
        Refusal::Invalid(errors) => {
            let text = format!("{not}, the running configuration stays in force:\n{errors}");
            if !dry_run {
                tracing::warn!("{text}");
            }
            Answer::Invalid(text)
        }
        Refusal::Restart(reasons) => {
            let lines = indented(reasons);
            let text = format!("{not}, nothing was changed; these changes need a restart:{lines}");
            if !dry_run {
                tracing::warn!("{text}");
            }
            Answer::Error(text)
        }
    }
}

#[cfg(test)]
mod tests;
