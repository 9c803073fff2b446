//! Log lines about limits that keep SYNs from being copied: the workers count, and never log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use pipeline::counters::{RoleCounters, Scalar};

use crate::control::stats::limited_by_prefix;

/// The shortest time between two rounds of log lines: whoever sends a flood must not fill the log.
const INTERVAL: Duration = Duration::from_secs(10);
/// The most prefixes of one round.
const PREFIXES: usize = 4;

/// What was logged so far.
#[derive(Debug, Default)]
pub(super) struct Limits {
    by_prefix: BTreeMap<IpNet, u64>,
    total: u64,
    last: Option<Instant>,
}

/// SYNs without copies since the last round.
#[derive(Debug, PartialEq, Eq)]
struct Round {
    /// By prefix, the worst first.
    prefixes: Vec<(IpNet, u64)>,
    /// Because all prefixes together had used up their limit.
    total: u64,
}

impl Limits {
    /// Logs the prefixes that were limited since the last such lines.
    pub(super) fn log(&mut self, workers: &[Arc<dyn RoleCounters>], now: Instant) {
        let Some(round) = self.round(workers, now) else { return };
        for (prefix, syns) in &round.prefixes {
            tracing::warn!(%prefix, syns, "source prefix limited, its SYNs get no copies");
        }
        if round.total > 0 {
            tracing::warn!(syns = round.total, "copies of SYNs limited for all sources");
        }
    }

    /// Returns what is to be logged; `None` before the next round is due, or if there is nothing.
    fn round(&mut self, workers: &[Arc<dyn RoleCounters>], now: Instant) -> Option<Round> {
        if self.last.is_some_and(|last| now.duration_since(last) < INTERVAL) {
            return None;
        }
        let total: u64 = workers.iter().map(|w| w.common().scalar(Scalar::FanOutTotal).get()).sum();
        let by_prefix = limited_by_prefix(workers);
        let since = |(prefix, count): (&IpNet, &u64)| {
            (*prefix, count.saturating_sub(self.by_prefix.get(prefix).copied().unwrap_or(0)))
        };
        let mut prefixes: Vec<_> =
            by_prefix.iter().map(since).filter(|(_, count)| *count > 0).collect();
        prefixes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        prefixes.truncate(PREFIXES);
        let round = Round { prefixes, total: total.saturating_sub(self.total) };
        if round.prefixes.is_empty() && round.total == 0 {
            return None;
        }
        (self.by_prefix, self.total, self.last) = (by_prefix, total, Some(now));
        Some(round)
    }
}

#[cfg(test)]
mod tests {
    use pipeline::counters::SwitchCounters;

    use super::*;

    #[test]
    fn the_worst_prefixes_are_logged_at_most_every_ten_seconds() {
        let counters = [(); 2].map(|()| Arc::new(SwitchCounters::new(0, 0)));
        let workers = counters.clone().map(|worker| worker as Arc<dyn RoleCounters>);
        let prefix = |n: u8| format!("198.18.{n}.0/24").parse::<IpNet>().unwrap();
        let (mut limits, start) = (Limits::default(), Instant::now());
        assert_eq!(limits.round(&workers, start), None);
        for n in 0..6 {
            (0..=n).for_each(|_| counters[0].limited.count(prefix(n)));
        }
        counters[1].limited.count(prefix(5));
        let first = limits.round(&workers, start).unwrap();
        let worst = [5, 4, 3, 2].map(|n| (prefix(n), u64::from(n) + 1 + u64::from(n == 5)));
        assert_eq!(first, Round { prefixes: worst.to_vec(), total: 0 });
        counters[0].limited.count(prefix(3));
        counters[1].common.scalar(Scalar::FanOutTotal).add(7);
        assert_eq!(limits.round(&workers, start + INTERVAL / 2), None);
        let next = limits.round(&workers, start + INTERVAL).unwrap();
        assert_eq!(next, Round { prefixes: vec![(prefix(3), 1)], total: 7 });
        assert_eq!(limits.round(&workers, start + 3 * INTERVAL), None);
    }
}
