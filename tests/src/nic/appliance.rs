//! A firstack process on a machine.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;

use super::{Machine, PATIENCE, Result, Trouble};
use crate::lab::LabError;
use crate::scenario::Scenario;

/// The time for a start and for an end. Two ports start in 2 to 14 s in a guest.
const LIMIT: Duration = PATIENCE;
/// The interval at which its log is looked at.
const LOOKS: Duration = Duration::from_millis(20);
/// What it logs once it forwards.
const FORWARDS: &str = "forwarding packets";

/// Where it runs.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The DPDK devices, inside and outside.
    pub(super) devices: [String; 2],
    /// CPUs of its workers.
    pub(super) cores: Vec<usize>,
    /// Arguments of DPDK's EAL.
    pub(super) eal: Vec<String>,
    /// The program, on the machine.
    pub(super) program: String,
    /// A directory of the machine's own.
    pub(super) own: PathBuf,
}

/// A process that was started.
#[derive(Debug)]
pub(super) struct Appliance {
    /// Tells processes with tables of their own apart.
    name: String,
    /// From the command to the first packet that it could forward.
    pub(super) took: Duration,
}

impl Appliance {
    /// Starts it with a scenario's configuration, and waits until it forwards. A process of the same
    /// name adopts what the last one has left.
    pub(super) fn start(
        machine: &mut dyn Machine,
        place: &Place,
        scenario: &Scenario,
        name: &str,
    ) -> Result<Self> {
        let config = config(place, scenario, name)?;
        let file = machine.share().join("run.toml");
        fs::write(&file, config).map_err(|source| LabError::File { path: file, source })?;
        let (shared, program) = (machine.shared().display(), &place.program);
        // Detached, so that it outlives this script, which waits for that; and its exit code is kept.
        let script = format!(
            "cd {shared} && rm -f run.rc run.pid && : >run.log && {program} check run.toml || exit 1\n\
             setsid sh -c 'sh -c \"echo \\$\\$ >run.pid; exec {program} run --config run.toml\" \
             >run.log 2>&1; echo $? >run.rc' </dev/null >/dev/null 2>&1 &\n\
             until [ -s run.pid ]; do sleep 0.1; done"
        );
        let answer = machine.shell(&script, LIMIT)?;
        if answer.code != 0 {
            return Err(format!("firstack check: {}", answer.text).into());
        }
        let start = Instant::now();
        let appliance = Self { name: name.to_owned(), took: Duration::ZERO };
        loop {
            let log = appliance.log(machine);
            if log.contains(FORWARDS) {
                return Ok(Self { took: start.elapsed(), ..appliance });
            }
            if appliance.code(machine).is_some() {
                return Err(format!("it ends at its start: {}", end_of(&log)).into());
            }
            appliance.patient(machine, start, "it does not come to forward")?;
        }
    }

    /// Returns everything that it has logged.
    pub(super) fn log(&self, machine: &dyn Machine) -> String {
        let log = fs::read(machine.share().join("run.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Returns its counters.
    pub(super) fn stats(&self, machine: &mut dyn Machine, place: &Place) -> Result<Snapshot> {
        let (shared, program) = (machine.shared().display(), &place.program);
        let script = format!("{program} stats --json --config {shared}/run.toml");
        let answer = machine.shell(&script, LIMIT)?;
        serde_json::from_str(&answer.text)
            .map_err(|error| format!("stats: {error}: {}", end_of(&answer.text)).into())
    }

    /// Waits until its log has a line with all these words beyond the first `known` bytes.
    pub(super) fn logs(
        &self,
        machine: &mut dyn Machine,
        known: usize,
        words: &[&str],
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let log = self.log(machine);
            let mut new = log.get(known..).unwrap_or_default().lines();
            if new.any(|line| words.iter().all(|word| line.contains(word))) {
                return Ok(());
            }
            self.patient(machine, start, &format!("its log does not say {words:?}"))?;
        }
    }

    /// Sends a signal, by name, and waits for its end. Returns its exit code and how long that took.
    pub(super) fn end(self, machine: &mut dyn Machine, signal: &str) -> Result<(i32, Duration)> {
        let start = Instant::now();
        let script = format!("kill -{signal} $(cat {}/run.pid)", machine.shared().display());
        machine.shell(&script, LIMIT)?;
        loop {
            if let Some(code) = self.code(machine) {
                return Ok((code, start.elapsed()));
            }
            self.patient(machine, start, "it does not end")?;
        }
    }

    /// Returns its exit code once it has ended.
    fn code(&self, machine: &dyn Machine) -> Option<i32> {
        fs::read_to_string(machine.share().join("run.rc")).ok()?.trim().parse().ok()
    }

    /// Waits a moment; fails when it has been too long.
    fn patient(&self, machine: &mut dyn Machine, since: Instant, what: &str) -> Result<()> {
        std::thread::sleep(LOOKS);
        if since.elapsed() < LIMIT {
            return Ok(());
        }
        let said = format!("{} {what}: {}", self.name, end_of(&self.log(machine)));
        Err(blame(machine, said))
    }
}

/// Returns whose fault a time-out is: the machine's if it does not answer, or has said that it stalled.
pub(super) fn blame(machine: &mut dyn Machine, what: String) -> Trouble {
    match machine.shell("true", PATIENCE) {
        Ok(_) if machine.has_stalled() => Trouble::Silent(format!("it stalled; {what}")),
        Ok(_) => Trouble::Failed(what),
        Err(silent) => silent,
    }
}

/// Returns the last lines of a text.
fn end_of(text: &str) -> String {
    let lines: Vec<_> = text.lines().rev().take(6).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}

/// Returns the configuration: the scenario's, on the ports of the machine.
fn config(place: &Place, scenario: &Scenario, name: &str) -> Result<String, String> {
    let mut config: toml::Table = scenario.config.parse().map_err(|error| format!("{error}"))?;
    let Place { devices, cores, eal, own, .. } = place;
    let text = format!(
        "[port.inside]\ndevice = {:?}\n[port.outside]\ndevice = {:?}\n\
         [worker]\ncores = {cores:?}\n\
         [eal]\nfile_prefix = \"fsl-nic-{name}\"\nargs = {eal:?}\n\
         [control]\nsocket = \"{}/{name}.sock\"\n\
         [memory]\nmbufs = 32768\n\
         [table]\nmax_connections = 65536\n",
        devices[0],
        devices[1],
        own.display()
    );
    let sections: toml::Table = text.parse().map_err(|error| format!("{error}"))?;
    config.extend(sections);
    Ok(config.to_string())
}
