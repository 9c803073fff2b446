//! The workers' clock: converts the CPU's time stamp counter to nanoseconds.

use pipeline::base::time::Ticks;

/// A conversion from counts of the time stamp counter to the time since the clock was created.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: u64,
    /// Nanoseconds per count, in units of 2^-32.
    scale: u64,
}

impl Clock {
    /// Creates a clock that starts at `origin` counts and advances by `per_second` counts a second.
    pub fn new(origin: u64, per_second: u64) -> Self {
        let scale = (1_000_000_000u128 << 32) / u128::from(per_second.max(1));
        Self { origin, scale: scale as u64 }
    }

    /// Returns the time at a count.
    #[inline]
    pub fn at(&self, count: u64) -> Ticks {
        let elapsed = u128::from(count.saturating_sub(self.origin));
        Ticks(((elapsed * u128::from(self.scale)) >> 32) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_a_second_even_after_a_year() {
        let clock = Clock::new(5_000, 2_596_100_000);
        assert_eq!(clock.at(4_000), Ticks(0));
        let second = clock.at(5_000 + 2_596_100_000).0;
        assert!((999_999_990..=1_000_000_000).contains(&second), "{second}");
        let year = clock.at(5_000 + 2_596_100_000 * 31_536_000).0 / 1_000_000_000;
        assert!((31_535_998..=31_536_000).contains(&year), "{year}");
    }
}
