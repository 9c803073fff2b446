//! The pipeline's notion of time: told by the caller, never asked of a clock.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since an origin of the caller's choice; also a span of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// A span of microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros * 1_000)
    }

    /// A span of milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis * 1_000)
    }

    /// A span of seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs * 1_000)
    }

    /// From `earlier` to this; zero when the clock went backwards.
    #[must_use]
    #[inline(always)]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Whole microseconds.
    pub fn micros(self) -> u64 {
        self.0 / 1_000
    }
}

impl From<Duration> for Ticks {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Add for Ticks {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Ticks {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.since(other)
    }
}
