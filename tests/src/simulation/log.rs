//! What was seen where, one line each, kept only when asked for: a seed that fails is run again
//! with the log on.

use std::collections::VecDeque;

use firstack::replay::describe;
use pipeline::packet::view::Side;
use pipeline::stage::tag;
use pipeline::verdict::Verdict;

use super::plan::{MS, Nanos, SECOND};

/// Lines kept; the earliest go first.
const LINES: usize = 2_000;

/// The log of one run.
#[derive(Debug, Default)]
pub struct Log {
    on: bool,
    lines: VecDeque<String>,
}

impl Log {
    /// A log that keeps lines, or none.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self { on, lines: VecDeque::new() }
    }

    /// Notes something; `text` is made only when it is kept.
    pub fn note(&mut self, now: Nanos, place: &str, text: impl FnOnce() -> String) {
        if self.on {
            if self.lines.len() == LINES {
                self.lines.pop_front();
            }
            let (seconds, micros) = (now / SECOND, now % SECOND / (MS / 1_000));
            self.lines.push_back(format!("{seconds:>4}.{micros:06} {place:<9} {}", text()));
        }
    }

    /// Notes what an appliance did with a frame.
    pub fn verdict(&mut self, now: Nanos, place: &str, from: Side, frame: &[u8], verdict: Verdict) {
        let arrow = ["inside ->", "outside ->"][from as usize];
        self.note(now, place, || format!("{arrow} {} : {}", describe(frame), verdict.name()));
    }

    /// Notes what leaves an appliance.
    pub fn leaves(&mut self, now: Nanos, place: &str, side: Side, frame: &[u8]) {
        let arrow = ["-> inside", "-> outside"][side as usize];
        self.note(now, place, || format!("{arrow} {}", describe(frame)));
    }

    /// The last so many lines.
    #[must_use]
    pub fn tail(&self, most: usize) -> String {
        let skipped = self.lines.len().saturating_sub(most);
        self.lines.iter().skip(skipped).map(|line| format!("{line}\n")).collect()
    }
}

/// A frame in one line, with the numbers of a TCP segment.
#[must_use]
pub fn describe(frame: &[u8]) -> String {
    let numbers = super::segment::read(frame)
        .map(|segment| format!(" seq {} ack {}", segment.sequence, segment.acknowledgement));
    describe::frame(frame, tag::OptionId::default()) + &numbers.unwrap_or_default()
}
