//! Scenarios as data: packets in, packets out, verdicts and counters in one readable file.
//!
//! ```text
//! # What it shows, in a sentence or two.
//! # protocol.md 3.2; ops 204, 210      where the rule stands: see [`crate::citation`]
//! config gateway                     configs/gateway.toml beside the roles' directories
//! set timeouts.racing = "2s"         a key of it that is different here
//! keys 7 K7 sign                     a line of its key file: id, name of the key, "sign" or not
//! name W = 198.51.100.30:8080        a name beyond those of the file `names`: an endpoint,
//!                                    [IPv6]:port, a MAC address, or a key (32 digits)
//!
//! 0.000 inside C > V SYN seq=1000 opts=linux => tagged
//!   outside same opts=linux,tag
//! 0.040 outside S > C SYN ACK seq=5000 ack=1001 => dropped not_permitted
//!
//! table inserted=1 racing=1
//! ```
//! A line that begins with a time is a packet that comes in, with its verdict (`dropped` or
//! `consumed` in front unless it is forwarded); the indented lines below it are what leaves
//! because of it, in order. The last lines say which counters moved, beyond those that follow
//! from the packets: [`counters`]. All others must not have moved. The notation of packets is
//! that of [`notation`].
//!
//! [`check`] replays a scenario and compares captures byte by byte, verdicts and counters.
//! With `FIRSTACK_BLESS=1` what is expected is written anew, to be read before it is kept.

pub mod binary;
pub mod bless;
pub mod check;
pub mod counters;
pub mod names;
pub mod notation;
pub mod options;
pub mod pcap;
pub mod render;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use firstack_packets::Frame;
pub use pipeline::packet::view::Side;

use names::Names;
use notation::Scope;

/// What a configuration says until it is known where the key file will be.
pub const KEY_FILE: &str = "/KEYS";

/// When the first second of a scenario is, since the epoch.
pub const EPOCH: Duration = Duration::from_secs(1_700_000_000);

/// Returns the side of this name.
fn side(name: &str) -> Option<Side> {
    Side::ALL.into_iter().find(|side| side.name() == name)
}

/// A packet that comes in, and what is to become of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// Line of the file, counted from 1.
    pub line: usize,
    /// Since the scenario's start.
    pub time: Duration,
    /// By which side it comes in.
    pub side: Side,
    /// The packet.
    pub frame: Frame,
    /// `forwarded`, `consumed` or `dropped`.
    pub fate: String,
    /// The verdict's name.
    pub verdict: String,
    /// What leaves, and by which side.
    pub out: Vec<(Side, Frame)>,
}

/// A scenario.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The file.
    pub path: PathBuf,
    /// The directory of all scenarios, which the name leaves out.
    pub directory: PathBuf,
    /// The configuration as TOML; [`KEY_FILE`] stands for the path of the key file.
    pub config: String,
    /// The key file; empty when there is none.
    pub keys: String,
    /// What the names mean.
    pub names: Names,
    /// The packets.
    pub steps: Vec<Step>,
    /// Counter lines.
    pub counters: Vec<String>,
    /// Why the appliance is known not to do this: the scenario has to fail.
    pub defect: Option<String>,
}

impl Scenario {
    /// Reads the scenario files below a directory, in the order of their names.
    pub fn load_all(directory: &Path) -> Vec<Result<Self, String>> {
        let mut files = Vec::new();
        list(directory, &mut files);
        files.sort();
        files.iter().map(|file| Self::load(file, directory)).collect()
    }

    /// Reads one.
    pub fn load(path: &Path, directory: &Path) -> Result<Self, String> {
        Self::parse(&read(path)?, path, directory)
    }

    /// Reads one from the text of a file.
    pub fn parse(text: &str, path: &Path, directory: &Path) -> Result<Self, String> {
        let names = Names::parse(&read(&directory.join("names"))?)?;
        let mut scenario = Self {
            path: path.to_owned(),
            directory: directory.to_owned(),
            config: String::new(),
            keys: String::new(),
            names,
            steps: Vec::new(),
            counters: Vec::new(),
            defect: None,
        };
        let mut config = toml::Table::new();
        for (number, line) in text.lines().enumerate() {
            let words = line.trim();
            let at = |error: String| format!("{}:{}: {error}", path.display(), number + 1);
            if words.is_empty() || words.starts_with('#') {
                continue;
            }
            let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
            match first {
                "config" => {
                    let base = directory.join("configs").join(format!("{rest}.toml"));
                    config = read(&base)?.parse().map_err(|e| at(format!("{e}")))?;
                }
                "set" => set(&mut config, rest).map_err(at)?,
                "keys" => scenario.add_key(rest, &mut config).map_err(at)?,
                "defect" => scenario.defect = Some(rest.to_owned()),
                "name" => {
                    let (name, value) =
                        rest.split_once(" = ").ok_or_else(|| at("no value".to_owned()))?;
                    scenario.names.add(name, value).map_err(at)?;
                }
                _ if line.starts_with(char::is_whitespace) => {
                    scenario.leaves(words).map_err(at)?;
                }
                _ if first.starts_with(|c: char| c.is_ascii_digit()) => {
                    scenario.comes(words, number + 1).map_err(at)?;
                }
                _ => scenario.counters.push(words.to_owned()),
            }
        }
        scenario.config = config.to_string();
        Ok(scenario)
    }

    /// `ID NAME`, or `ID NAME sign`.
    fn add_key(&mut self, words: &str, config: &mut toml::Table) -> Result<(), String> {
        let mut words = words.split(' ');
        let (id, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let key = self.names.key(name).ok_or(format!("{name} is no key"))?;
        let sign = words.next().unwrap_or_default();
        let _ = writeln!(self.keys, "{id} {} {sign}", to_hex(&key));
        set(config, &format!("tag.keys = \"{KEY_FILE}\""))
    }

    /// Returns its name: the path below the directory of all scenarios, without the extension,
    /// such as `gateway/race/replica-wins`.
    pub fn name(&self) -> String {
        let path = self.path.strip_prefix(&self.directory).unwrap_or(&self.path);
        path.with_extension("").to_string_lossy().into_owned()
    }

    /// Returns the role that it is about: the first part of its name.
    pub fn role(&self) -> String {
        self.name().split('/').next().unwrap_or_default().to_owned()
    }

    fn comes(&mut self, words: &str, line: usize) -> Result<(), String> {
        let (words, verdict) = words.split_once(" => ").unwrap_or((words, "?"));
        let mut parts = words.splitn(3, ' ');
        let time = seconds(parts.next().unwrap_or_default())?;
        let side = parts.next().and_then(self::side).ok_or("neither inside nor outside")?;
        let scope = self.scope(side.other(), None);
        let frame = notation::parse(parts.next().unwrap_or_default(), scope)?;
        let (fate, verdict) = verdict.split_once(' ').unwrap_or(("forwarded", verdict));
        let (fate, verdict) = (fate.to_owned(), verdict.trim().to_owned());
        if let Some(last) = self.steps.last()
            && (time, side) < (last.time, last.side)
        {
            return Err("comes before the packet above it".to_owned());
        }
        self.steps.push(Step { line, time, side, frame, fate, verdict, out: Vec::new() });
        Ok(())
    }

    fn leaves(&mut self, words: &str) -> Result<(), String> {
        let (side, words) = words.split_once(' ').unwrap_or((words, ""));
        let side = self::side(side).ok_or("neither inside nor outside")?;
        let input = self.steps.last().ok_or("nothing has come in yet")?.frame.clone();
        let frame = notation::parse(words.trim(), self.scope(side, Some(&input)))?;
        let step = self.steps.last_mut().ok_or("nothing has come in yet")?;
        step.out.push((side, frame));
        Ok(())
    }

    /// How packets are written that leave by this side, or come in by the other.
    pub fn scope<'a>(&'a self, to: Side, input: Option<&'a Frame>) -> Scope<'a> {
        let macs = match to {
            Side::Inside => ("host", "router"),
            Side::Outside => ("router", "host"),
        };
        Scope { names: &self.names, macs, input }
    }

    /// The capture that comes in by a side.
    pub fn input(&self, side: Side) -> Vec<pcap::Record> {
        let steps = self.steps.iter().filter(|step| step.side == side);
        steps.map(|step| pcap::Record::new(EPOCH + step.time, step.frame.bytes())).collect()
    }

    /// The capture that is to leave by a side.
    pub fn output(&self, side: Side) -> Vec<pcap::Record> {
        let out = self.steps.iter().flat_map(|step| step.out.iter().map(move |out| (step, out)));
        let out = out.filter(|(_, (by, _))| *by == side);
        out.map(|(step, (_, frame))| pcap::Record::new(EPOCH + step.time, frame.bytes())).collect()
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn list(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "scenario") {
            files.push(path);
        }
    }
}

/// `a.b[0].c = VALUE`: VALUE as in TOML, `none` takes the key away.
fn set(config: &mut toml::Table, text: &str) -> Result<(), String> {
    let (path, value) = text.split_once(" = ").ok_or("no value")?;
    let (parents, key) = path.rsplit_once('.').unwrap_or(("", path));
    let mut table = config;
    for part in parents.split('.').filter(|part| !part.is_empty()) {
        let (name, index) = match part.strip_suffix(']').and_then(|part| part.split_once('[')) {
            Some((name, index)) => (name, index.parse().map_err(|_| format!("{part}: no index"))?),
            None => (part, 0usize),
        };
        let new = || toml::Value::Table(toml::Table::new());
        let mut value = table.entry(name).or_insert_with(new);
        if let toml::Value::Array(list) = value {
            value = list.get_mut(index).ok_or(format!("{part} is not there"))?;
        }
        table = value.as_table_mut().ok_or(format!("{part} is no section"))?;
    }
    if value == "none" {
        table.remove(key);
        return Ok(());
    }
    let parsed: toml::Table = format!("value = {value}").parse().map_err(|e| format!("{e}"))?;
    table.insert(key.to_owned(), parsed["value"].clone());
    Ok(())
}

/// Seconds with up to nine digits behind the point.
fn seconds(text: &str) -> Result<Duration, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let bad = |_| format!("{text} is no time");
    let nanos: u32 = format!("{fraction:0<9}").parse().map_err(bad)?;
    Ok(Duration::new(whole.parse().map_err(bad)?, nanos))
}

/// Bytes from hexadecimal digits.
fn hex(text: &str) -> Result<Vec<u8>, String> {
    let pair = |at: usize| {
        let pair = text.get(at..at + 2).ok_or(format!("{text}: half a byte"))?;
        u8::from_str_radix(pair, 16).map_err(|_| format!("{pair} is no byte"))
    };
    (0..text.len()).step_by(2).map(pair).collect()
}

/// Hexadecimal digits.
fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_keys_are_read() {
        assert_eq!(seconds("7440.5"), Ok(Duration::new(7440, 500_000_000)));
        assert_eq!(seconds("0.000000001"), Ok(Duration::from_nanos(1)));
        assert!(seconds("x").is_err());
        let mut config: toml::Table = "[a]\n[[a.list]]\nx = 1\n[[a.list]]\nx = 2".parse().unwrap();
        set(&mut config, "a.list[1].x = [3, 4]").unwrap();
        set(&mut config, "b.c = \"2s\"").unwrap();
        set(&mut config, "a.list[0].x = none").unwrap();
        assert_eq!(config["a"]["list"][1]["x"][1].as_integer(), Some(4));
        assert_eq!(config["b"]["c"].as_str(), Some("2s"));
        assert!(config["a"]["list"][0].get("x").is_none());
        assert!(set(&mut config, "a.list[9].x = 1").is_err());
    }
}
