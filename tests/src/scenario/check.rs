//! Replays a scenario, and says what is not as expected.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{EPOCH, Scenario, Side, bless, counters, pcap, render};

/// What a replay is given.
#[derive(Clone, Debug)]
pub struct Job {
    /// The configuration file.
    pub config: PathBuf,
    /// The capture of what comes in by the inside, if anything does.
    pub inside: Option<PathBuf>,
    /// The same for the outside.
    pub outside: Option<PathBuf>,
    /// Where `inside.pcap` and `outside.pcap` are to go.
    pub out: PathBuf,
}

/// Does a job; gives the JSON lines of `firstack replay --json`.
pub type Engine<'a> = &'a dyn Fn(&Job) -> Result<String, String>;

/// What a replay came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The captures that it wrote.
    pub captures: [Vec<u8>; 2],
    /// A JSON object for each packet.
    pub packets: Vec<Value>,
    /// The counters.
    pub counters: Value,
}

impl Scenario {
    /// Writes the configuration, the key file and the captures of what comes in.
    pub fn lay_out(&self, directory: &Path) -> std::io::Result<Job> {
        let config = directory.join("config.toml");
        let keys = directory.join("keys");
        if !self.keys.is_empty() {
            let owner_only =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(&keys);
            owner_only?.write_all(self.keys.as_bytes())?;
        }
        let key_file = keys.to_string_lossy();
        std::fs::write(&config, self.config.replace(super::KEY_FILE, &key_file))?;
        let mut inputs = [None, None];
        for side in Side::ALL {
            let records = self.input(side);
            if !records.is_empty() {
                let path = directory.join(format!("{}-in.pcap", side.name()));
                std::fs::write(&path, pcap::write(&records))?;
                inputs[side as usize] = Some(path);
            }
        }
        let [inside, outside] = inputs;
        Ok(Job { config, inside, outside, out: directory.join("out") })
    }

    /// Replays.
    pub fn replay(&self, engine: Engine<'_>) -> Result<Outcome, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let job = self.lay_out(directory.path()).map_err(|error| error.to_string())?;
        Outcome::of(&job, &engine(&job)?)
    }

    /// Replays and compares; the error says everything that differs. With `FIRSTACK_BLESS`
    /// set, writes what is expected anew where anything does.
    pub fn check(&self, engine: Engine<'_>) -> Result<Outcome, String> {
        let outcome = self.replay(engine)?;
        let mut report = String::new();
        self.compare_packets(&outcome, &mut report);
        let complete = report.is_empty();
        for (side, found) in Side::ALL.into_iter().zip(&outcome.captures) {
            if complete && !pcap::same(found, &pcap::write(&self.output(side))) {
                let _ = writeln!(report, "  {}.pcap differs in its headers or times", side.name());
            }
        }
        for difference in counters::differences(self, &outcome.counters) {
            let _ = writeln!(report, "  {difference}");
        }
        if report.is_empty() {
            return Ok(outcome);
        }
        if std::env::var_os("FIRSTACK_BLESS").is_some() && self.defect.is_none() {
            bless::rewrite(self, &outcome)?;
            return Ok(outcome);
        }
        Err(format!("{}\n{report}", self.name()))
    }

    fn compare_packets(&self, outcome: &Outcome, report: &mut String) {
        if outcome.packets.len() != self.steps.len() {
            let (expected, found) = (self.steps.len(), outcome.packets.len());
            let _ = writeln!(report, "  expected {expected} packets, {found} were processed");
        }
        let mut left = outcome.left();
        for (step, packet) in self.steps.iter().zip(&outcome.packets) {
            let mut what = String::new();
            let expected = format!("{} {} {}", step.side.name(), step.fate, step.verdict);
            let said = |key: &str| packet[key].as_str().unwrap_or_default().to_owned();
            let found = format!("{} {} {}", said("side"), said("fate"), said("verdict"));
            if expected != found {
                let _ = writeln!(what, "    expected {expected}\n    found    {found}");
            }
            let mut sent = Vec::new();
            for side in packet["left"].as_array().into_iter().flatten() {
                let side = super::side(side["side"].as_str().unwrap_or_default());
                let side = side.unwrap_or(Side::Inside);
                sent.extend(left[side as usize].next().map(|record| (side, record)));
            }
            self.compare_out(step, &sent, &mut what);
            if !what.is_empty() {
                let _ = write!(report, "  line {}:\n{what}", step.line);
            }
        }
        if left.iter_mut().any(|side| side.next().is_some()) {
            let _ = writeln!(report, "  the captures hold more packets than were said to leave");
        }
    }

    fn compare_out(&self, step: &super::Step, sent: &[(Side, pcap::Record)], what: &mut String) {
        for number in 0..sent.len().max(step.out.len()) {
            let expected = step.out.get(number).map(|(side, frame)| (*side, frame.bytes()));
            let found = sent.get(number).map(|(side, record)| (*side, record.bytes.clone()));
            if expected != found {
                let show = |packet: &Option<(Side, Vec<u8>)>| match packet {
                    None => "nothing".to_owned(),
                    Some((side, bytes)) => {
                        let scope = self.scope(*side, Some(&step.frame));
                        format!("{} {}", side.name(), render::show(bytes, scope))
                    }
                };
                let (expected, found) = (show(&expected), show(&found));
                let _ = writeln!(what, "    expected {expected}\n    found    {found}");
            }
            let at = sent.get(number).map(|(_, record)| record.time);
            if at.is_some_and(|at| at != EPOCH + step.time) {
                let _ = writeln!(what, "    left at another time than it came in");
            }
        }
    }
}

impl Outcome {
    /// Reads what a job's engine printed and wrote.
    pub fn of(job: &Job, printed: &str) -> Result<Self, String> {
        let mut packets = Vec::new();
        for line in printed.lines() {
            packets.push(serde_json::from_str(line).map_err(|error| format!("{line}: {error}"))?);
        }
        let mut counters: Value = packets.pop().ok_or("nothing was printed")?;
        let counters = counters["counters"].take();
        let read = |side: Side| {
            let path = job.out.join(format!("{}.pcap", side.name()));
            std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let captures = [read(Side::Inside)?, read(Side::Outside)?];
        Ok(Self { captures, packets, counters })
    }

    /// What left, by side.
    pub fn left(&self) -> [std::vec::IntoIter<pcap::Record>; 2] {
        self.captures.each_ref().map(|capture| pcap::read(capture).into_iter())
    }
}
