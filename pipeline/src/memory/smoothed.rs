//! A smoothed round-trip time.

use crate::base::time::Ticks;

/// Samples further apart than this weigh more than an eighth: after a pause the old value says
/// little.
const PAUSE: Ticks = Ticks::from_secs(2);

/// A sample so much later than the value is of an answer that was sent again, because the first was
/// lost: it counts only if the next one is as late.
const SENT_AGAIN: Ticks = Ticks::from_millis(500);

/// A smoothed time and its variation, as the round-trip time of a TCP (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Smoothed {
    time: Ticks,
    variation: Ticks,
    /// Whether the last sample was too late to count.
    was_late: bool,
    /// When the last sample was taken.
    pub(super) at: Ticks,
}

impl Smoothed {
    /// Returns the value after one sample.
    pub(super) fn first(sample: Ticks, now: Ticks) -> Self {
        Self { time: sample, variation: Ticks(sample.0 / 2), was_late: false, at: now }
    }

    /// Adds a sample to a value that may have none yet.
    pub(super) fn add(value: &mut Option<Self>, sample: Ticks, now: Ticks) {
        match value {
            None => *value = Some(Self::first(sample, now)),
            Some(smoothed) => smoothed.sample(sample, now),
        }
    }

    fn sample(&mut self, sample: Ticks, now: Ticks) {
        let is_late = sample >= self.time + SENT_AGAIN;
        if is_late && !std::mem::replace(&mut self.was_late, is_late) {
            return;
        }
        self.was_late = is_late;
        let difference = self.time.0.abs_diff(sample.0);
        let weight = match now.since(self.at) > PAUSE {
            // Whoever has become faster is found by the first sample. A slower one may be late by
            // chance, and may have no other sample for a while.
            true if sample < self.time => 1,
            true => 2,
            false => 8,
        };
        self.variation = Ticks((3 * self.variation.0 + difference) / 4);
        self.time = Ticks(((weight - 1) * self.time.0 + sample.0) / weight);
        self.at = now;
    }

    /// Returns the smoothed time.
    pub(super) fn time(self) -> Ticks {
        self.time
    }

    /// Returns the time after which an answer is overdue: as a retransmission time-out (RFC 6298,
    /// section 2.3), but at least 200 ms and at most 3 s.
    pub(super) fn overdue_after(self) -> Ticks {
        let timeout = self.time.0 + 4 * self.variation.0;
        Ticks(timeout.clamp(Ticks::from_millis(200).0, Ticks::from_secs(3).0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_6298() {
        let ms = Ticks::from_millis;
        let mut value = None;
        Smoothed::add(&mut value, ms(80), ms(1000));
        assert_eq!(value.unwrap().overdue_after(), ms(80 + 4 * 40));
        Smoothed::add(&mut value, ms(160), ms(1010));
        let smoothed = value.unwrap();
        assert_eq!((smoothed.time, smoothed.variation), (ms(90), ms(50)));
        // After a pause a slower sample counts for half, a faster one alone.
        Smoothed::add(&mut value, ms(110), ms(10_000));
        assert_eq!(value.unwrap().time(), ms(100));
        Smoothed::add(&mut value, ms(10), ms(20_000));
        assert_eq!(value.unwrap().time(), ms(10));
    }

    #[test]
    fn a_sample_of_an_answer_that_was_sent_again_counts_if_the_next_one_is_as_late() {
        let ms = Ticks::from_millis;
        let time = |samples: &[u64]| {
            let mut value = None;
            samples.iter().for_each(|sample| Smoothed::add(&mut value, ms(*sample), ms(1)));
            value.unwrap().time()
        };
        assert_eq!(time(&[80, 1080]), ms(80));
        assert_eq!(time(&[80, 1080, 80, 1080]), ms(80));
        assert_eq!(time(&[80, 579]), Ticks((7 * ms(80).0 + ms(579).0) / 8));
        // The way has become longer.
        assert_eq!(time(&[80, 1080, 1080]), Ticks((7 * ms(80).0 + ms(1080).0) / 8));
    }
}
