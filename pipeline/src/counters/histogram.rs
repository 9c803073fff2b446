//! Histograms of times.

use super::Counter;
use crate::base::time::Ticks;

/// A histogram of times in microseconds, with eight buckets per octave: from 8 us on, a bucket is
/// an eighth as wide as the lower bound of its octave.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::counters::Histogram;
///
/// let times = Histogram::default();
/// times.record(Ticks::from_millis(40));
/// let bucket = times.counts().iter().position(|count| *count == 1).unwrap();
/// let lower = Histogram::lower_bound(bucket);
/// assert!((lower..lower + Histogram::width(lower)).contains(&40_000));
/// ```
#[derive(Debug)]
pub struct Histogram([Counter; Histogram::BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl Histogram {
    /// The number of buckets. They cover times up to 2^26 us (67 s); the last one also counts
    /// longer times.
    pub const BUCKETS: usize = 24 * 8;

    fn bucket(micros: u64) -> usize {
        if micros < 8 {
            return micros as usize;
        }
        let octave = micros.ilog2() as usize;
        let eighth = (micros >> (octave - 3)) as usize & 7;
        ((octave - 2) * 8 + eighth).min(Self::BUCKETS - 1)
    }

    /// Returns the shortest time that a bucket counts, in microseconds.
    pub fn lower_bound(bucket: usize) -> u64 {
        if bucket < 8 {
            return bucket as u64;
        }
        (8 + bucket as u64 % 8) << (bucket / 8 - 1)
    }

    /// Returns the width of the bucket with this lower bound, in microseconds.
    pub fn width(lower_bound: u64) -> u64 {
        if lower_bound < 8 { 1 } else { 1 << (lower_bound.ilog2() - 3) }
    }

    /// Counts a time.
    pub fn record(&self, elapsed: Ticks) {
        self.0[Self::bucket(elapsed.micros())].add(1);
    }

    /// Adds all counts to another histogram, and sets them to zero.
    pub(super) fn move_to(&self, other: &Self) {
        for (from, to) in self.0.iter().zip(&other.0) {
            to.add(from.get());
            from.set(0);
        }
    }

    /// Goes on from the counts of another histogram.
    pub(super) fn continue_from(&self, earlier: &Self) {
        super::continue_all(&self.0, &earlier.0);
    }

    /// Returns the counts by bucket.
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|bucket| self.0[bucket].get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_ascend_without_gaps() {
        for bucket in 0..Histogram::BUCKETS {
            let lower = Histogram::lower_bound(bucket);
            assert_eq!(Histogram::bucket(lower), bucket);
            let next = Histogram::lower_bound(bucket + 1);
            assert_eq!(lower + Histogram::width(lower), next);
        }
        assert_eq!(Histogram::bucket(u64::MAX), Histogram::BUCKETS - 1);
        assert_eq!(Histogram::bucket(40_000), Histogram::bucket(40_900));
    }
}
