//! A worker's pulse: one word of its own cache line, in which it says how often it has come round and
//! what it is doing. The control thread reads it ([`crate::control::watchdog`]); the worker only
//! stores, a few times a burst.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};

use crossbeam::utils::CachePadded;

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// It has not begun.
    Start,
    /// It receives from the inside port.
    ReceiveInside,
    /// It receives from the outside port.
    ReceiveOutside,
    /// Its role decides packets from the inside.
    RoleInside,
    /// Its role decides packets from the outside.
    RoleOutside,
    /// It transmits.
    Transmit,
    /// It takes what other workers have handed over.
    Handoff,
    /// Its role does its periodic work.
    Timer,
    /// It has nothing to do, and may sleep.
    Idle,
    /// It ends.
    End,
}

impl Stage {
    const ALL: [Self; 10] = [
        Self::Start,
        Self::ReceiveInside,
        Self::ReceiveOutside,
        Self::RoleInside,
        Self::RoleOutside,
        Self::Transmit,
        Self::Handoff,
        Self::Timer,
        Self::Idle,
        Self::End,
    ];

    /// Returns its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::ReceiveInside => "receive inside",
            Self::ReceiveOutside => "receive outside",
            Self::RoleInside => "role, packets from inside",
            Self::RoleOutside => "role, packets from outside",
            Self::Transmit => "transmit",
            Self::Handoff => "handoff",
            Self::Timer => "timer",
            Self::Idle => "idle",
            Self::End => "end",
        }
    }
}

/// The bits of the word that are the stage; the others count the rounds.
const STAGE: u64 = 0xf;

/// What a worker publishes.
#[derive(Debug, Default)]
pub struct Pulse {
    beat: AtomicU64,
    thread: AtomicI32,
}

/// A reading of a pulse. Two that are equal have no round between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat(u64);

impl Beat {
    /// Returns what the worker does.
    pub fn stage(self) -> Stage {
        Stage::ALL[(self.0 & STAGE) as usize % Stage::ALL.len()]
    }

    /// Returns how often it has come round.
    pub fn round(self) -> u64 {
        self.0 / (STAGE + 1)
    }
}

impl Pulse {
    /// Reads the pulse.
    pub fn beat(&self) -> Beat {
        Beat(self.beat.load(Relaxed))
    }

    /// Returns the kernel's number of the worker's thread; `None` before it runs.
    pub fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Relaxed)).filter(|thread| *thread != 0)
    }
}

/// A pulse that another thread reads.
pub type SharedPulse = Arc<CachePadded<Pulse>>;

/// The worker's end of its pulse.
#[derive(Debug)]
pub struct Heart {
    pulse: SharedPulse,
    rounds: u64,
}

impl Heart {
    /// Creates the worker's end.
    pub fn new(pulse: SharedPulse) -> Self {
        Self { pulse, rounds: 0 }
    }

    /// Says that the calling thread is the worker's.
    pub fn begin(&self) {
        self.pulse.thread.store(nix::unistd::gettid().as_raw(), Relaxed);
    }

    /// Begins another round.
    #[inline(always)]
    pub fn round(&mut self) {
        self.rounds += STAGE + 1;
    }

    /// Says what the worker does from here on.
    #[inline(always)]
    pub fn at(&self, stage: Stage) {
        self.pulse.beat.store(self.rounds | stage as u64, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_tells_the_round_and_the_stage() {
        let pulse = SharedPulse::default();
        let mut heart = Heart::new(Arc::clone(&pulse));
        assert_eq!((pulse.beat().stage(), pulse.thread()), (Stage::Start, None));
        heart.begin();
        assert_eq!(pulse.thread(), Some(nix::unistd::gettid().as_raw()));
        for round in 1..40 {
            heart.round();
            for stage in Stage::ALL {
                heart.at(stage);
                let beat = pulse.beat();
                assert_eq!((beat.stage(), beat.round()), (stage, round));
            }
        }
        let names: std::collections::HashSet<_> = Stage::ALL.map(Stage::name).into();
        assert_eq!(names.len(), Stage::ALL.len());
    }
}
