//! `firstack replay`: runs captures through the same pipeline as the workers, with the captures'
//! timestamps as its clock. It needs no DPDK and no root and uses no randomness: the same captures
//! give the same bytes.

pub mod capture;
pub mod describe;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipeline::base::time::Ticks;
use pipeline::packet::buffer::{HeapBuffer, HeapPool};
use pipeline::packet::burst::{Burst, Output};
use pipeline::packet::view::Side;
use pipeline::role::{Context, Role};
use pipeline::stage::tag;
use pipeline::verdict::Verdict;
use serde_json::json;

use self::capture::{Frame, Reader, Writer};
use crate::config::Config;
use crate::control::stats::Snapshot;
use crate::roles::{self, Environment, RoleSet, WithRole};

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

/// Replays captures and prints the report to `print`. Returns a message for each capture that is
/// damaged; such a capture is replayed up to the damage.
///
/// # Errors
/// If a file cannot be read or written, or the key file is rejected.
pub fn run(
    config: &Config,
    options: &Options,
    print: &mut dyn Write,
) -> Result<Vec<String>, Error> {
    std::fs::create_dir_all(&options.out)
        .map_err(|source| Error::Directory { path: options.out.clone(), source })?;
    let environment = Environment {
        workers: 1,
        macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
        hash_key: (0, 0),
        keys: roles::load_keys(config)?,
        probe_id: 0,
    };
    let format = tag::OptionId { kind: config.tag.kind, exid: config.tag.exid };
    roles::with_role_set(config, &environment, Replay { options, print, format })
}

struct Replay<'a> {
    options: &'a Options,
    print: &'a mut dyn Write,
    format: tag::OptionId,
}

impl WithRole for Replay<'_> {
    type Output = Result<Vec<String>, Error>;

    fn run<R: Role + Send + 'static>(mut self, mut set: RoleSet<R>) -> Self::Output {
        let open = |path: &Option<PathBuf>| path.as_deref().map(Reader::open).transpose();
        let (inside, outside) = (open(&self.options.inside)?, open(&self.options.outside)?);
        let mut inputs = Inputs::new(inside, outside);
        let mut stage = Stage {
            role: set.roles.remove(0),
            burst: Burst::default(),
            out: Output::new(set.copies),
            pool: HeapPool::default(),
            writers: Writers::create(&self.options.out)?,
            clock: Duration::ZERO,
        };
        let (mut number, mut first) = (0, None);
        while let Some((side, frame)) = inputs.next() {
            number += 1;
            let since = frame.time.saturating_sub(*first.get_or_insert(frame.time));
            // Timestamps that run backwards do not turn the clock back.
            stage.clock = stage.clock.max(frame.time);
            if let Some(memory) = &mut set.controls.memory {
                memory.step(Ticks::from(stage.clock));
            }
            let step = stage.step(side, &frame)?;
            self.explain(number, since, side, &frame, &step)?;
        }
        if number > 0 {
            stage.settle()?;
        }
        let snapshot = Snapshot::take(&set.labels, &[stage.role.counters()]);
        match self.options.report {
            Report::Json => writeln!(self.print, "{}", json!({ "counters": snapshot }))?,
            _ => write!(self.print, "{snapshot}")?,
        }
        stage.writers.finish()?;
        Ok(inputs.damage())
    }
}

impl Replay<'_> {
    fn explain(
        &mut self,
        number: u64,
        since: Duration,
        side: Side,
        frame: &Frame,
        step: &Step,
    ) -> io::Result<()> {
        let format = self.format;
        match self.options.report {
            Report::Summary => Ok(()),
            Report::Json => {
                let left = step.left.iter().map(|(side, bytes)| {
                    json!({ "side": side.name(), "frame": describe::frame(bytes, format) })
                });
                let line = json!({
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
                writeln!(self.print, "{line}")
            }
            Report::Explain => {
                let (time, from) = (since.as_secs_f64(), side.name());
                let what = describe::frame(&frame.bytes, format);
                writeln!(self.print, "{number:>5} {time:>12.6} {from:<7} {what}")?;
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
struct Inputs {
    sides: [Option<Reader>; 2],
    heads: [Option<Frame>; 2],
}

impl Inputs {
    fn new(inside: Option<Reader>, outside: Option<Reader>) -> Self {
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

    /// Returns where captures broke off, and why.
    fn damage(&self) -> Vec<String> {
        self.sides.iter().flatten().filter_map(Reader::damage).collect()
    }
}

struct Writers([Writer; 2]);

impl Writers {
    fn create(directory: &Path) -> Result<Self, capture::Error> {
        let create = |side: Side| Writer::create(&directory.join(format!("{}.pcap", side.name())));
        Ok(Self([create(Side::Inside)?, create(Side::Outside)?]))
    }

    fn finish(self) -> Result<(), capture::Error> {
        let [inside, outside] = self.0;
        inside.finish()?;
        outside.finish()
    }
}

/// A role and all it needs to process packets.
struct Stage<R> {
    role: R,
    burst: Burst<HeapBuffer>,
    out: Output<HeapBuffer>,
    pool: HeapPool,
    writers: Writers,
    clock: Duration,
}

/// The verdict and output of one packet.
struct Step {
    verdict: Verdict,
    left: Vec<(Side, Vec<u8>)>,
}

impl<R: Role> Stage<R> {
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
                self.writers.0[side as usize].write(self.clock, buffer.frame())?;
                self.role.counters().side(side).sent.add(1);
                left.push((side, buffer.frame().to_vec()));
            }
        }
        Ok(left)
    }
}
