//! The workers' clock: converts the CPU's time stamp counter to nanoseconds, and survives a counter
//! that jumps, as after a suspend or when a virtual machine is restored.
//!
//! It counts from the origin of the system's monotonic clock, and a process that takes over the tables
//! of another goes on with that one's time ([`Reading`]). So the times in entries stay valid.

use std::time::Duration;

use pipeline::base::time::Ticks;

/// The interval at which the counter is compared with the system's monotonic clock.
const CHECK_INTERVAL: Ticks = Ticks::from_secs(1);
/// The difference from the monotonic clock since the last check that is taken for a jump.
const JUMP: Ticks = Ticks::from_secs(1);

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

/// Returns the time of the system's monotonic clock, which stands still while the system does. It
/// takes no system call where the kernel offers it in the process.
pub fn monotonic() -> Duration {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC);
    time.map_or(Duration::ZERO, Duration::from)
}

/// The workers' time and the system's monotonic time at one moment, by which the next process goes on
/// with the same time: the two clocks drift apart by some millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The workers' time.
    pub ticks: Ticks,
    /// The monotonic time.
    pub monotonic: Duration,
}

impl Reading {
    /// Returns the workers' time at another monotonic time.
    pub fn at(self, monotonic: Duration) -> Ticks {
        match monotonic.checked_sub(self.monotonic) {
            Some(since) => self.ticks + Ticks::from(since),
            None => self.ticks - Ticks::from(self.monotonic - monotonic),
        }
    }
}

/// One thread's clock. It follows the time stamp counter, and the system's monotonic clock where the
/// counter has jumped: then time neither stands still until the counter is where it was, nor does
/// everything expire at once.
///
/// # Examples
/// ```
/// use std::time::Duration;
///
/// use firstack::datapath::clock::{Clock, SteadyClock};
/// use pipeline::base::time::Ticks;
///
/// // The system has run for 9 s.
/// let mut clock = SteadyClock::new(Clock::new(5_000_000, 1_000), Duration::from_secs(9));
/// assert_eq!(clock.at(5_002_000, || Duration::from_secs(11)), Ticks::from_secs(11));
/// // Restored on another machine, whose counter began a second ago.
/// assert_eq!(clock.at(1_000, || Duration::from_secs(12)), Ticks::from_secs(12));
/// assert_eq!(clock.at(1_500, || unreachable!()), Ticks::from_millis(12_500));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SteadyClock {
    clock: Clock,
    /// The time at the conversion's origin.
    base: Ticks,
    /// The count of the last reading.
    last: u64,
    /// The time and the monotonic time at the last check.
    checked: (Ticks, Duration),
    /// The time of the next check.
    next_check: Ticks,
}

impl SteadyClock {
    /// Creates a clock from the conversion and the monotonic time at its origin, which is the time
    /// there.
    pub fn new(clock: Clock, monotonic: Duration) -> Self {
        Self::continued(clock, monotonic, Reading::default())
    }

    /// The same for a clock that goes on with the time of another process.
    pub fn continued(clock: Clock, monotonic: Duration, other: Reading) -> Self {
        let base = other.at(monotonic);
        let next_check = base + CHECK_INTERVAL;
        Self { clock, base, last: clock.origin, checked: (base, monotonic), next_check }
    }

    /// Returns the conversion, for short spans of counts.
    pub fn spans(&self) -> Clock {
        self.clock
    }

    /// Returns the time at a count. About once a second, and when the count has gone back, the
    /// monotonic time is asked for.
    #[inline]
    pub fn at(&mut self, count: u64, monotonic: impl FnOnce() -> Duration) -> Ticks {
        let now = self.base + self.clock.at(count);
        if count < self.last || now >= self.next_check {
            return self.check(count, now, monotonic());
        }
        self.last = count;
        now
    }

    /// Compares the counter with the monotonic clock, and follows the latter if the counter has
    /// jumped.
    #[cold]
    fn check(&mut self, count: u64, now: Ticks, monotonic: Duration) -> Ticks {
        let (then, monotonic_then) = self.checked;
        let expected = then + Ticks::from(monotonic.saturating_sub(monotonic_then));
        let apart = now.since(expected).max(expected.since(now));
        let now = match count < self.last || apart > JUMP {
            false => now,
            true => {
                // The two clocks never agree to the nanosecond, and time must not go back.
                let last = self.base + self.clock.at(self.last);
                self.clock.origin = count;
                self.base = expected.max(last);
                self.base
            }
        };
        self.last = count;
        self.checked = (now, monotonic);
        self.next_check = now + CHECK_INTERVAL;
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A million counts a second.
    const RATE: u64 = 1_000_000;

    /// A clock that has run for a thousand seconds in steps, from this count on.
    fn run(origin: u64, monotonic: &mut Duration) -> (SteadyClock, u64) {
        let mut clock = SteadyClock::new(Clock::new(origin, RATE), *monotonic);
        let mut count = origin;
        for _ in 0..10_000 {
            count += RATE / 10;
            *monotonic += Duration::from_millis(100);
            clock.at(count, || *monotonic);
        }
        (clock, count)
    }

    fn near(now: Ticks, seconds: u64) -> bool {
        let expected = Ticks::from_secs(seconds);
        now.since(expected).max(expected.since(now)) < Ticks::from_millis(1)
    }

    #[test]
    fn a_counter_that_goes_back_or_forward_moves_the_time_by_what_has_passed() {
        let origin = 77 * RATE;
        // To zero, by a little, by minutes; forward by an hour, by ages.
        let jumps: [fn(u64) -> u64; 5] = [
            |_| 0,
            |count| count - 1,
            |count| count - 500 * RATE,
            |count| count + 3600 * RATE,
            |count| count + (1 << 60),
        ];
        for jump in jumps {
            let mut monotonic = Duration::from_secs(5);
            let (mut clock, count) = run(origin, &mut monotonic);
            let mut count = jump(count);
            assert!(near(clock.at(count, || monotonic), 1005), "{count}");
            // And goes on at its rate.
            for tenth in 1..=100 {
                count += RATE / 10;
                monotonic += Duration::from_millis(100);
                let now = clock.at(count, || monotonic);
                let expected = Ticks::from_secs(1005) + Ticks::from_millis(100 * tenth);
                let apart = now.since(expected).max(expected.since(now));
                assert!(apart < Ticks::from_millis(1), "{now:?} for {expected:?}");
            }
        }
    }

    #[test]
    fn a_thread_that_slept_for_long_has_not_jumped() {
        let mut monotonic = Duration::ZERO;
        let (mut clock, count) = run(0, &mut monotonic);
        monotonic += Duration::from_secs(50);
        let now = clock.at(count + 50 * RATE, || monotonic);
        assert!(near(now, 1050), "{now:?}");
    }

    #[test]
    fn a_rate_that_is_slightly_wrong_is_no_jump_and_time_never_goes_back() {
        let mut monotonic = Duration::ZERO;
        let mut clock = SteadyClock::new(Clock::new(0, RATE), monotonic);
        let (mut count, mut last) = (0, Ticks(0));
        for step in 0..100_000u64 {
            count += RATE / 10;
            // The monotonic clock is slewed by 500 ppm.
            monotonic += Duration::from_nanos(100_050_000);
            if step % 1000 == 999 {
                count = 0;
            }
            let now = clock.at(count, || monotonic);
            assert!(now >= last, "{now:?} after {last:?}");
            last = now;
        }
        assert!(last > Ticks::from_secs(9_900), "{last:?}");
    }

    #[test]
    fn a_clock_goes_on_with_the_time_of_another_process() {
        let second = Duration::from_secs(1);
        // It is 2 s ahead of the monotonic clock after a year, or behind.
        for apart in [2, -2i64] {
            let ticks = Ticks::from_secs(31_536_000u64.saturating_add_signed(apart));
            let other = Reading { ticks, monotonic: 31_536_000 * second };
            let mut clock = SteadyClock::continued(Clock::new(7, RATE), other.monotonic, other);
            assert_eq!(clock.at(7, || other.monotonic), ticks);
            let mut clock = SteadyClock::continued(Clock::new(7, RATE), 31_536_003 * second, other);
            let now = clock.at(7 + 2 * RATE, || 31_536_005 * second);
            let expected = ticks + Ticks::from_secs(5);
            assert!(now.since(expected).max(expected.since(now)) < Ticks::from_micros(1));
            // And it does not jump when it compares with the monotonic clock.
            assert_eq!(clock.checked.1, 31_536_005 * second);
        }
        let later = Reading { ticks: Ticks::from_secs(9), monotonic: 8 * second };
        assert_eq!(later.at(7 * second), Ticks::from_secs(8));
    }

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
