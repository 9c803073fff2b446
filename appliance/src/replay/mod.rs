//! `firstack replay`: runs captures through the same pipeline as the workers, with the captures'
//! timestamps as its clock. It needs no DPDK and no root and uses no randomness: the same captures
//! give the same bytes.

pub mod capture;
pub mod describe;

use std::any::Any;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::packet::buffer::{HeapBuffer, HeapPool};
use pipeline::packet::burst::{Burst, Output};
use pipeline::packet::view::Side;
use pipeline::role::{Context, Role};
use pipeline::stage::tag;
use pipeline::verdict::Verdict;
use serde_json::json;

use self::capture::{Frame, LAST_TIME, Reader, Writer};
use crate::config::Config;
use crate::control::stats::Snapshot;
use crate::roles::{self, Carried, Environment, RoleSet, WithRole};

/// The inputs and outputs of a replay.
#[derive(Clone, Debug)]
pub struct Options {
    /// Capture of packets received on the inside.
    pub inside: Option<PathBuf>,
    /// Capture of packets received on the outside.
    pub outside: Option<PathBuf>,
    /// Directory for `inside.pcap` and `outside.pcap`; created if it does not exist.
    pub out: PathBuf,
    /// The report to print.
    pub report: Report,
    /// Whether the role is reloaded with the same configuration before each packet. Nothing may be
    /// seen of that; tests check it.
    pub reloads: bool,
}

/// The report that a replay prints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Report {
    /// The counters at the end.
    #[default]
    Summary,
    /// A description of each packet, then the counters.
    Explain,
    /// A JSON object per packet, then one with the counters.
    Json,
}

/// The inputs and outputs of a replay, opened.
pub struct Streams<R, W> {
    /// Packets received on the inside.
    pub inside: Option<Reader<R>>,
    /// Packets received on the outside.
    pub outside: Option<Reader<R>>,
    /// Packets sent: inside, outside.
    pub out: [Writer<W>; 2],
}

/// What a replay has to say besides its report. Each message names its file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Captures that are damaged, and where. They were replayed up to the damage.
    pub damage: Vec<String>,
    /// What differs from what the appliance would have seen or sent.
    pub notes: Vec<String>,
}

/// An error that ends a replay.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An error of a capture file.
    #[error(transparent)]
    Capture(#[from] capture::Error),
    /// An error of the key file.
    #[error(transparent)]
    Keys(#[from] crate::control::keys::Error),
    /// The output directory cannot be created.
    #[error("{path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The report cannot be printed.
    #[error("cannot print: {0}")]
    Print(#[from] io::Error),
}

impl Error {
    /// Returns whether the input is at fault, so that nothing was replayed and nothing written.
    pub fn is_of_input(&self) -> bool {
        use capture::Error::{Format, Open};
        matches!(self, Self::Capture(Open { .. } | Format { .. }) | Self::Keys(_))
    }
}

/// Replays captures and prints the report to `print`.
///
/// # Errors
/// If a file cannot be read or written, or the key file is rejected.
pub fn run(config: &Config, options: &Options, print: &mut dyn Write) -> Result<Remarks, Error> {
    let open = |path: &Option<PathBuf>| path.as_deref().map(Reader::open).transpose();
    let (inside, outside) = (open(&options.inside)?, open(&options.outside)?);
    let keys = roles::load_keys(config)?;
    std::fs::create_dir_all(&options.out)
        .map_err(|source| Error::Directory { path: options.out.clone(), source })?;
    let create = |side: Side| Writer::create(&options.out.join(format!("{}.pcap", side.name())));
    let out = [create(Side::Inside)?, create(Side::Outside)?];
    let streams = Streams { inside, outside, out };
    replay_with(config, keys, streams, (options.report, options.reloads), print)
}

/// Replays opened captures with these keys, and prints the report to `print`.
///
/// # Errors
/// If the output cannot be written.
pub fn replay<R: Read, W: Write>(
    config: &Config,
    keys: crate::control::keys::Keys,
    streams: Streams<R, W>,
    report: Report,
    print: &mut dyn Write,
) -> Result<Remarks, Error> {
    replay_with(config, keys, streams, (report, false), print)
}

fn replay_with<R: Read, W: Write>(
    config: &Config,
    keys: crate::control::keys::Keys,
    streams: Streams<R, W>,
    (report, reloads): (Report, bool),
    print: &mut dyn Write,
) -> Result<Remarks, Error> {
    let environment = Environment {
        workers: 1,
        macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
        hash_key: (0, 0),
        keys,
        probe_id: 0,
        carried: Carried::default(),
    };
    let format = tag::OptionId { kind: config.tag.kind, exid: config.tag.exid };
    let reloads = reloads.then_some((config, &environment));
    let replay = Replay { streams, report, print, format, reloads };
    roles::with_role_set(config, &environment, replay)
}

struct Replay<'a, I, W> {
    streams: Streams<I, W>,
    report: Report,
    print: &'a mut dyn Write,
    format: tag::OptionId,
    /// What the role is reloaded with before each packet.
    reloads: Option<(&'a Config, &'a Environment)>,
}

/// Builds a role of this type once more.
struct Again<R>(PhantomData<R>);

impl<S: 'static> WithRole for Again<S> {
    type Output = Option<Box<S>>;

    fn run<R: Role + Send + 'static>(self, mut set: RoleSet<R>) -> Self::Output {
        let role: Box<dyn Any> = Box::new(set.roles.remove(0));
        role.downcast().ok()
    }
}

/// Returns a role of the same configuration, whose tables are as small as can be.
fn again<R: 'static>(config: &Config, environment: &Environment) -> Option<Box<R>> {
    let mut config = config.clone();
    (config.table.max_connections, config.table.max_connections_v6) = (1, 1);
    roles::with_role_set(&config, environment, Again(PhantomData))
}

impl<I: Read, W: Write> WithRole for Replay<'_, I, W> {
    type Output = Result<Remarks, Error>;

    fn run<R: Role + Send + 'static>(self, mut set: RoleSet<R>) -> Self::Output {
        let Self { streams, report, print, format, reloads } = self;
        let reloads = reloads.map(|(config, own)| {
            let carried = set.controls.carried.clone();
            (config, Environment { carried, ..own.clone() })
        });
        let mut printer = Printer { report, print, format };
        let mut inputs = Inputs::new(streams.inside, streams.outside);
        let mut stage = Stage {
            role: set.roles.remove(0),
            burst: Burst::default(),
            out: Output::new(set.copies),
            pool: HeapPool::default(),
            writers: streams.out,
            clock: Duration::ZERO,
        };
        let (mut number, mut first, mut too_late) = (0, None, None);
        while let Some((side, frame)) = inputs.next() {
            number += 1;
            let since = frame.time.saturating_sub(*first.get_or_insert(frame.time));
            // Timestamps that run backwards do not turn the clock back.
            stage.clock = stage.clock.max(frame.time);
            if stage.clock > LAST_TIME && too_late.is_none() {
                too_late = Some(inputs.too_late(side, &frame));
            }
            if let Some(memory) = &mut set.controls.memory {
                memory.step(Ticks::from(stage.clock));
            }
            if let Some(next) = reloads.as_ref().and_then(|(config, own)| again(config, own)) {
                drop(stage.role.reload(*next, Ticks::from(stage.clock)));
            }
            let step = stage.step(side, &frame)?;
            printer.explain(number, since, side, &frame, &step)?;
        }
        if number > 0 {
            stage.settle()?;
        }
        let snapshot = Snapshot::take(&set.labels, &[stage.role.counters()]);
        match report {
            Report::Json => writeln!(printer.print, "{}", json!({ "counters": snapshot }))?,
            _ => write!(printer.print, "{snapshot}")?,
        }
        for writer in stage.writers {
            writer.finish()?;
        }
        let mut remarks = inputs.remarks();
        remarks.notes.extend(too_late);
        Ok(remarks)
    }
}

/// Prints the report of each packet.
struct Printer<'a> {
    report: Report,
    print: &'a mut dyn Write,
    format: tag::OptionId,
}

impl Printer<'_> {
    fn explain(
        &mut self,
        number: u64,
        since: Duration,
        side: Side,
        frame: &Frame,
        step: &Step,
    ) -> io::Result<()> {
        let format = self.format;
        match self.report {
            Report::Summary => Ok(()),
            Report::Json => {
                let left = step.left.iter().map(|(side, bytes)| {
                    json!({ "side": side.name(), "frame": describe::frame(bytes, format) })
                });
                let mut line = json!({
                    "packet": number,
                    "time": since.as_secs_f64(),
                    "side": side.name(),
                    "frame": describe::frame(&frame.bytes, format),
                    "verdict": step.verdict.name(),
                    "fate": step.verdict.fate().name(),
                    "operation": step.verdict.operation(),
                    "meaning": step.verdict.meaning(),
                    "left": left.collect::<Vec<_>>(),
                });
                if frame.is_cut() {
                    line["wire_length"] = frame.wire_length.into();
                }
                writeln!(self.print, "{line}")
            }
            Report::Explain => {
                let (time, from) = (since.as_secs_f64(), side.name());
                let what = describe::frame(&frame.bytes, format);
                write!(self.print, "{number:>5} {time:>12.6} {from:<7} {what}")?;
                match frame.is_cut() {
                    true => {
                        let (captured, whole) = (frame.bytes.len(), frame.wire_length);
                        writeln!(self.print, ", cut to {captured} of {whole} bytes")?;
                    }
                    false => writeln!(self.print)?,
                }
                let (name, meaning) = (step.verdict.name(), step.verdict.meaning());
                match step.verdict.operation() {
                    "" => writeln!(self.print, "{:19}{name}: {meaning}", "")?,
                    operation => writeln!(self.print, "{:19}{name} ({operation}): {meaning}", "")?,
                }
                for (side, bytes) in &step.left {
                    let (to, what) = (side.name(), describe::frame(bytes, format));
                    writeln!(self.print, "{:19}-> {to} {what}", "")?;
                }
                if step.left.is_empty() {
                    writeln!(self.print, "{:19}-> nothing leaves", "")?;
                }
                Ok(())
            }
        }
    }
}

/// Both captures, merged by timestamp.
struct Inputs<R> {
    sides: [Option<Reader<R>>; 2],
    heads: [Option<Frame>; 2],
}

impl<R: Read> Inputs<R> {
    fn new(inside: Option<Reader<R>>, outside: Option<Reader<R>>) -> Self {
        let mut sides = [inside, outside];
        let heads = sides.each_mut().map(|side| side.as_mut().and_then(Iterator::next));
        Self { sides, heads }
    }

    /// Returns the earlier of the two next frames; the inside's if both have the same time.
    fn next(&mut self) -> Option<(Side, Frame)> {
        let [inside, outside] = self.heads.each_ref().map(|head| head.as_ref().map(|f| f.time));
        let side = match (inside, outside) {
            (None, None) => return None,
            (Some(inside), Some(outside)) if outside < inside => Side::Outside,
            (None, Some(_)) => Side::Outside,
            _ => Side::Inside,
        };
        let index = side as usize;
        let next = self.sides[index].as_mut().and_then(Iterator::next);
        Some((side, std::mem::replace(&mut self.heads[index], next)?))
    }

    /// Returns the note about the first frame whose time cannot be written.
    fn too_late(&self, side: Side, frame: &Frame) -> String {
        let name = self.sides[side as usize].as_ref().map_or("", Reader::name);
        let number = frame.number;
        format!("{name}: frame {number} is of after 2106; times are written as pcap's last")
    }

    /// Returns where captures broke off, and what they lack.
    fn remarks(&self) -> Remarks {
        let sides = || self.sides.iter().flatten();
        Remarks {
            damage: sides().filter_map(Reader::damage).collect(),
            notes: sides().flat_map(Reader::notes).collect(),
        }
    }
}

/// A role and all it needs to process packets.
struct Stage<R, W> {
    role: R,
    burst: Burst<HeapBuffer>,
    out: Output<HeapBuffer>,
    pool: HeapPool,
    writers: [Writer<W>; 2],
    clock: Duration,
}

/// The verdict and output of one packet.
struct Step {
    verdict: Verdict,
    left: Vec<(Side, Vec<u8>)>,
}

impl<R: Role, W: Write> Stage<R, W> {
    fn step(&mut self, side: Side, frame: &Frame) -> Result<Step, capture::Error> {
        let mut context =
            Context { now: Ticks::from(self.clock), pool: &mut self.pool, out: &mut self.out };
        self.role.on_timer(&mut context);
        self.burst.fill(std::iter::once(HeapBuffer::new(&frame.bytes)));
        self.role.process(side, &mut self.burst, &mut context);
        let left = self.write_out()?;
        Ok(Step { verdict: self.burst.verdicts()[0], left })
    }

    /// Does the role's periodic work, which updates its gauges.
    fn settle(&mut self) -> Result<(), capture::Error> {
        let now = Ticks::from(self.clock);
        let mut context = Context { now, pool: &mut self.pool, out: &mut self.out };
        self.role.on_timer(&mut context);
        self.write_out()?;
        loop {
            let mut context = Context { now, pool: &mut self.pool, out: &mut self.out };
            self.role.finish(&mut context);
            if self.write_out()?.is_empty() {
                return Ok(());
            }
        }
    }

    /// Writes the output to the captures and returns it.
    fn write_out(&mut self) -> Result<Vec<(Side, Vec<u8>)>, capture::Error> {
        let mut left = Vec::new();
        for side in Side::ALL {
            for buffer in self.out.side(side).drain(..) {
                self.writers[side as usize].write(self.clock, buffer.frame())?;
                self.role.counters().side(side).sent.add(1);
                left.push((side, buffer.frame().to_vec()));
            }
        }
        Ok(left)
    }
}
