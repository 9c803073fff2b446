//! Sends frames, and compares what leaves.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;

use super::appliance::{Appliance, Place, blame};
use super::frames::Plain;
use super::wire::Wire;
use super::{Machine, PATIENCE, Result};
use crate::scenario::{Side, Step};

/// The shortest frame on a wire, without checksum: cards fill up shorter ones with zeros.
const SHORTEST: usize = 60;
/// The time in which a frame that must not leave would have left.
const QUIET: Duration = Duration::from_millis(100);
/// Frames on their way at a time: fewer than any queue holds.
const AT_A_TIME: usize = 32;

/// A machine with a process, and the far ends of its ports.
pub(super) struct Drive<'a> {
    pub(super) machine: &'a mut dyn Machine,
    pub(super) wire: &'a mut dyn Wire,
    pub(super) place: &'a Place,
    /// Frames sent since the process has started, by side.
    pub(super) sent: [u64; 2],
}

impl Drive<'_> {
    /// Sends frames one after the other; each leaves by the other side as it came.
    pub(super) fn pass(&mut self, frames: &[Plain]) -> Result<()> {
        for Plain { what, side, bytes } in frames {
            self.send(*side, bytes)?;
            self.expect(side.other(), bytes, bytes.len(), what)?;
        }
        self.is_quiet()
    }

    /// Sends frames, many at a time; each leaves by the other side as it came, in any order.
    pub(super) fn pass_together(&mut self, frames: &[Plain]) -> Result<()> {
        for some in frames.chunks(AT_A_TIME) {
            let mut missing: [BTreeMap<&[u8], usize>; 2] = Default::default();
            for Plain { side, bytes, .. } in some {
                self.send(*side, bytes)?;
                *missing[side.other() as usize].entry(bytes).or_default() += 1;
            }
            for side in Side::ALL {
                let count = missing[side as usize].values().sum();
                for _ in 0..count {
                    let frame = self.receive(side, "one of many clients")?;
                    let known = missing[side as usize].get_mut(&*frame).filter(|left| **left > 0);
                    *known.ok_or_else(|| format!("not sent by anybody: {}", hex(&frame)))? -= 1;
                }
            }
        }
        self.is_quiet()
    }

    /// Plays a scenario's steps in their order, and waits for each to be through. What has no frame
    /// leave is waited for in the counters.
    pub(super) fn play(&mut self, steps: &[&Step], process: &Appliance) -> Result<()> {
        for step in steps {
            let bytes = step.frame.bytes();
            self.send(step.side, &bytes)?;
            for (side, frame) in &step.out {
                let what = format!("line {} ({})", step.line, step.verdict);
                self.expect(*side, &frame.bytes(), bytes.len(), &what)?;
            }
            if step.out.is_empty() {
                self.settle(process)?;
            }
        }
        Ok(())
    }

    fn send(&mut self, side: Side, frame: &[u8]) -> Result<()> {
        let sent = self.wire.send(side, frame);
        if let Err(error) = sent {
            let what = format!("{} takes no frame: {error}", side.name());
            return Err(blame(self.machine, what));
        }
        self.sent[side as usize] += 1;
        Ok(())
    }

    /// Waits for the next frame that leaves by a side.
    fn receive(&mut self, side: Side, what: &str) -> Result<Vec<u8>> {
        if let Some(frame) = self.wire.receive(side, PATIENCE)? {
            return Ok(frame);
        }
        let said = format!("{what}: nothing left by the {} for {PATIENCE:?}", side.name());
        Err(blame(self.machine, said))
    }

    /// Waits for this frame.
    fn expect(&mut self, side: Side, expected: &[u8], came: usize, what: &str) -> Result<()> {
        let found = self.receive(side, what)?;
        let filled = SHORTEST.saturating_sub(came.min(expected.len()));
        let is_it = found.get(..expected.len()) == Some(expected)
            && found.len() - expected.len() <= filled
            && found[expected.len()..].iter().all(|byte| *byte == 0);
        if is_it {
            return Ok(());
        }
        let at = expected.iter().zip(&found).position(|(a, b)| a != b);
        let (left, expected_length) = (found.len(), expected.len());
        Err(format!(
            "{what}: {left} bytes left by the {}, expected {expected_length}, the first difference at \
             {at:?}: {} expected {}",
            side.name(),
            hex(&found),
            hex(expected)
        )
        .into())
    }

    /// Nothing leaves that was not waited for.
    fn is_quiet(&mut self) -> Result<()> {
        for side in Side::ALL {
            if let Some(frame) = self.wire.receive(side, QUIET)? {
                return Err(format!("left by the {}: {}", side.name(), hex(&frame)).into());
            }
        }
        Ok(())
    }

    /// Returns the counters once everything that was sent is accounted for.
    pub(super) fn settle(&mut self, process: &Appliance) -> Result<Snapshot> {
        let start = Instant::now();
        loop {
            let snapshot = process.stats(self.machine, self.place)?;
            let received = snapshot.sides.each_ref().map(|side| side.received);
            if received == self.sent && snapshot.is_conserved() {
                return Ok(snapshot);
            }
            if start.elapsed() > PATIENCE {
                let said = format!("{received:?} received, {:?} sent; {snapshot}", self.sent);
                return Err(blame(self.machine, said));
            }
        }
    }
}

/// The first bytes of a frame.
fn hex(frame: &[u8]) -> String {
    let shown = frame.iter().take(80).map(|byte| format!("{byte:02x}"));
    shown.collect::<String>() + if frame.len() > 80 { ".." } else { "" }
}
