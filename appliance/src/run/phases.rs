//! Where the time of a start goes.

use std::time::{Duration, Instant};

/// A stopwatch over the phases of a start, logged at debug.
#[derive(Debug)]
pub(super) struct Phases {
    since: Instant,
}

impl Phases {
    /// Starts the stopwatch.
    pub(super) fn begin() -> Self {
        Self { since: Instant::now() }
    }

    /// Logs the time that a phase took, which is the time since the one before it.
    pub(super) fn done(&mut self, phase: &'static str) {
        let now = Instant::now();
        let took: Duration = now - std::mem::replace(&mut self.since, now);
        tracing::debug!(phase, took = ?took, "phase done");
    }
}
