//! Quantiles of a histogram, interpolated within the bucket.

use pipeline::counters::Histogram;

/// Returns a quantile in microseconds: the times of a bucket are taken to be spread evenly over it.
/// The histogram's entries are lower bounds in ascending order, and counts. Zero when there are none.
pub(in crate::control) fn quantile(histogram: &[(u64, u64)], quantile: f64) -> u64 {
    let total: u64 = histogram.iter().map(|(_, count)| count).sum();
    let rank = (total as f64 * quantile).ceil().max(1.0) as u64;
    let mut below = 0;
    for &(lower_bound, count) in histogram {
        if below + count >= rank {
            // The middle of the share of the bucket that belongs to the time of this rank.
            let share = ((rank - below) as f64 - 0.5) / count as f64;
            return lower_bound + (Histogram::width(lower_bound) as f64 * share) as u64;
        }
        below += count;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_over_their_bucket() {
        // Buckets of 64 and 512 us, as the histogram has them.
        let histogram = [(512, 64), (4096, 36)];
        assert_eq!(quantile(&histogram, 0.01), 512);
        assert_eq!(quantile(&histogram, 0.32), 512 + 31);
        assert_eq!(quantile(&histogram, 0.64), 512 + 63);
        assert_eq!(quantile(&histogram, 0.65), 4096 + 7);
        assert_eq!(quantile(&histogram, 1.0), 4096 + 504);
        assert_eq!(quantile(&[(3, 1)], 0.5), 3);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn one_time_is_less_than_a_sixteenth_off() {
        for micros in [30_000u64, 40_000, 62_500, 140_000] {
            let bucket = (0..Histogram::BUCKETS)
                .rev()
                .find(|&bucket| Histogram::lower_bound(bucket) <= micros)
                .unwrap();
            let shown = quantile(&[(Histogram::lower_bound(bucket), 1)], 0.5);
            assert!(shown.abs_diff(micros) * 16 <= micros, "{micros} is shown as {shown}");
        }
    }
}
