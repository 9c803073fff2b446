//! The pipeline's notion of time. The caller supplies it; the pipeline reads no clock.

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::base::stored::stored;

/// A point in time, or a span of time, in nanoseconds.
///
/// A point in time counts from an origin that the caller chooses. Addition saturates.
///
/// ```rust
/// use pipeline::base::time::Ticks;
///
/// let start = Ticks::from_millis(1);
/// let end = start + Ticks::from_micros(250);
/// assert_eq!(end.since(start).micros(), 250);
/// // A clock that goes backwards gives a span of zero.
/// assert_eq!(start.since(end), Ticks(0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub struct Ticks(pub u64);

stored!(Ticks, [] { 0: u64 });

impl Ticks {
    /// Creates a span of `micros` microseconds.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros * 1_000)
    }

    /// Creates a span of `millis` milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self::from_micros(millis * 1_000)
    }

    /// Creates a span of `secs` seconds.
    pub const fn from_secs(secs: u64) -> Self {
        Self::from_millis(secs * 1_000)
    }

    /// Returns the span from `earlier` to `self`, or zero if `earlier` is later.
    #[must_use]
    #[inline(always)]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// Returns the span in whole microseconds, rounded down.
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

/// Unix time as the workers know it: the Unix time at the origin of their [`Ticks`], which the
/// control thread sets and corrects. Clones share it.
///
/// ```rust
/// use std::time::Duration;
///
/// use pipeline::base::time::{Ticks, UnixClock};
///
/// let clock = UnixClock::default();
/// assert_eq!(clock.seconds(Ticks::from_secs(7)), 7);
/// clock.set(Duration::from_secs(1_700_000_000), Ticks::from_secs(7));
/// assert_eq!(clock.seconds(Ticks::from_secs(9)), 1_700_000_002);
/// ```
#[derive(Clone, Debug, Default)]
pub struct UnixClock(Arc<AtomicU64>);

impl UnixClock {
    /// Sets the Unix time that it is at `now`.
    pub fn set(&self, unix: Duration, now: Ticks) {
        // A difference that may be negative: a clock that was never set shows 1970.
        self.0.store(Ticks::from(unix).0.wrapping_sub(now.0), Relaxed);
    }

    /// Returns the Unix time at `now`, in whole seconds.
    #[inline]
    pub fn seconds(&self, now: Ticks) -> u64 {
        now.0.wrapping_add(self.0.load(Relaxed)) / 1_000_000_000
    }
}
