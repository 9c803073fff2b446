//! Target `story`: packets, pauses and what operators do, one after the other, to one role.
//!
//! Input: role and set-up (2 bytes), then records of [`RECORD`] bytes. Every byte of a record stands
//! for one decision, so that a mutation of one byte changes one thing, and a record keeps its
//! meaning wherever it is put. Frames that the role itself has sent may come back: again, answered,
//! quoted in an ICMP error, or in a tunnel.

mod build;
mod mutate;

use std::time::Duration;

use firstack_tests::model::corpus::prelude;
use firstack_tests::model::{Arrival, Carrier};
use pipeline::packet::view::Side;

use crate::oracle;
use crate::rig::{Setup, Subject};
use crate::source::Source;

/// Bytes in front of the records.
pub const HEADER: usize = 2;
/// Bytes of a record.
pub const RECORD: usize = 12;
/// The longest input in bytes.
pub const LONGEST: usize = HEADER + 96 * RECORD;

/// Pauses in milliseconds: none, short ones, those around the time-outs.
const PAUSES: [u64; 16] = [
    1, 10, 30, 40, 200, 1_000, 3_000, 10_000, 31_000, 61_000, 130_000, 250_000, 610_000, 4_000_000,
    7_441_000, 8_000_000,
];
/// Frames sent by the role that may come back.
const REMEMBERED: usize = 16;
/// Longer than any time-out.
const QUIET: Duration = Duration::from_secs(44 * 3600);

/// One thing that happens to a role.
pub(crate) enum Happening {
    Packet(Arrival),
    /// The role does its periodic work.
    Tidy(Duration),
    /// It can have this many buffers from now on.
    Pool(usize),
    /// A replica is taken out of service, or is busy.
    Admission(bool, bool),
}

impl Happening {
    /// Does to a role what is no packet; returns what leaves.
    pub(crate) fn act(&self, subject: &mut dyn Subject) -> [Vec<Vec<u8>>; 2] {
        match *self {
            Self::Packet(_) => {}
            Self::Tidy(at) => return subject.tidy(at),
            Self::Pool(limit) => subject.set_pool(limit),
            Self::Admission(dead, busy) => subject.admit(dead, busy),
        }
        Default::default()
    }
}

/// The story in an input.
pub(crate) struct Story<'a> {
    pub(crate) setup: Setup,
    records: Source<'a>,
    pub(crate) at: Duration,
    /// What happens before the next record.
    ahead: std::vec::IntoIter<Arrival>,
    /// Frames that the role has sent, with the side that they left by.
    sent: Vec<(Side, Vec<u8>)>,
    needs_tidying: bool,
}

impl<'a> Story<'a> {
    pub(crate) fn new(input: &'a [u8]) -> Self {
        let mut records = Source::new(&input[..input.len().min(LONGEST)]);
        let setup = Setup::of(&mut records);
        let at = Duration::from_secs(1);
        let ahead = if setup.with_prelude { prelude(at) } else { Vec::new() };
        let (sent, needs_tidying) = (Vec::new(), false);
        Self { setup, records, at, ahead: ahead.into_iter(), sent, needs_tidying }
    }

    /// Notes what a role has sent.
    pub(crate) fn has_left(&mut self, left: &[Vec<Vec<u8>>; 2]) {
        for side in Side::ALL {
            for frame in &left[side as usize] {
                if self.sent.len() == REMEMBERED {
                    self.sent.remove(0);
                }
                self.sent.push((side, frame.clone()));
            }
        }
    }

    /// Returns what happens next.
    pub(crate) fn next(&mut self) -> Option<Happening> {
        if let Some(arrival) = self.ahead.next() {
            return Some(Happening::Packet(arrival));
        }
        if std::mem::take(&mut self.needs_tidying) {
            return Some(Happening::Tidy(self.at));
        }
        if self.records.is_empty() {
            return None;
        }
        let mut record = [0; RECORD];
        let taken = self.records.take(RECORD);
        record[..taken.len()].copy_from_slice(taken);
        if let Some(pause) = record[9].checked_sub(160) {
            self.at += Duration::from_millis(PAUSES[usize::from(pause) % PAUSES.len()]);
            self.needs_tidying = true;
        }
        let happening = match record[0] & 0x1f {
            0x1f => match record[1] % 4 {
                0 => Happening::Pool([0, 1, 3, usize::MAX][usize::from(record[2]) % 4]),
                1 => Happening::Admission(record[2] & 1 != 0, record[2] & 2 != 0),
                _ => Happening::Tidy(self.at),
            },
            _ => {
                let (side, frame) = build::frame(&record, &self.sent);
                let (frame, carrier) = mutate::apply(frame, record[10], record[11]);
                Happening::Packet(Arrival { at: self.at, side, frame, carrier })
            }
        };
        Some(happening)
    }
}

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let mut story = Story::new(input);
    let mut subject = story.setup.start();
    while let Some(happening) = story.next() {
        if let Happening::Packet(arrival) = &happening {
            let fed = subject.feed(std::slice::from_ref(arrival));
            oracle::check(arrival, &fed);
            story.has_left(&fed.left);
            continue;
        }
        let left = happening.act(subject.as_mut());
        oracle::check_made(&left);
        story.has_left(&left);
        let live = subject.live();
        assert!(live.iter().all(|live| *live <= story.setup.connections), "{live:?} entries");
    }
    // After a long quiet nothing is left of it.
    subject.set_pool(usize::MAX);
    for _ in 0..8 {
        subject.tidy(story.at + QUIET);
    }
    assert_eq!(subject.live(), [0, 0], "entries that never expire");
}

/// A frame as a whole, in two segments, or with hardly any headroom.
fn carried(mut frame: Vec<u8>, how: u8, parameter: u8) -> (Vec<u8>, Carrier) {
    // Padded, so that the frame leaves this much headroom.
    let room = pipeline::packet::buffer::HEADROOM - usize::from(parameter % 64);
    let carrier = match how {
        0 => Carrier::Split(usize::from(parameter).min(frame.len())),
        1 if frame.len() <= room => {
            frame.resize(room, 0);
            Carrier::Cramped
        }
        _ => Carrier::Whole,
    };
    (frame, carrier)
}
