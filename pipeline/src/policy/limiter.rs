//! Token buckets by source prefix, which limit the number of copies of its packets.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::base::time::Ticks;

/// The most prefixes with a bucket of their own; all others share one bucket. The maps on the data
/// path are created with twice the capacity that they need: up to half full, hashbrown clears the
/// tombstones of removed entries in place instead of allocating.
const PREFIXES: usize = 4096;
/// The shortest time between two scans of a full map, because a scan visits every entry.
const SCAN_INTERVAL: Ticks = Ticks::from_secs(1);

/// The limit of one source prefix.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Tokens per second.
    pub rate: u64,
    /// The most tokens in a bucket.
    pub burst: u64,
    /// Prefix length of IPv4 sources, in bits.
    pub prefix_v4: u8,
    /// Prefix length of IPv6 sources, in bits.
    pub prefix_v6: u8,
}

/// One token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Unit: a billionth of a token.
    tokens: u64,
    filled: Ticks,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// Returns a bucket with `burst` tokens in it.
    pub fn full(burst: u64, now: Ticks) -> Self {
        Self { tokens: burst.saturating_mul(TOKEN), filled: now }
    }

    /// Takes `count` tokens; returns `false`, and takes none, when there are fewer. The bucket
    /// gains `rate` tokens per second, up to `burst` tokens.
    pub fn take(&mut self, count: u64, rate: u64, burst: u64, now: Ticks) -> bool {
        self.tokens = self.level(rate, burst, now);
        self.filled = now;
        let wanted = count.saturating_mul(TOKEN);
        let taken = self.tokens >= wanted;
        if taken {
            self.tokens -= wanted;
        }
        taken
    }

    fn level(&self, rate: u64, burst: u64, now: Ticks) -> u64 {
        let gained = now.since(self.filled).0.saturating_mul(rate);
        self.tokens.saturating_add(gained).min(burst.saturating_mul(TOKEN))
    }
}

/// The token buckets of one worker, by source prefix: up to 4096, and one for all other prefixes.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::policy::limiter::{Limit, Limiter};
///
/// let mut limiter = Limiter::new(Limit { rate: 10, burst: 2, prefix_v4: 24, prefix_v6: 48 });
/// let (client, neighbour) = ("198.18.1.10".parse().unwrap(), "198.18.1.99".parse().unwrap());
/// let now = Ticks::from_secs(1);
/// assert!(limiter.take(client, 2, now));
/// // The /24 has no tokens left, but gains 10 per second.
/// assert!(!limiter.take(neighbour, 1, now));
/// assert!(limiter.take(neighbour, 1, now + Ticks::from_millis(100)));
/// ```
#[derive(Debug)]
pub struct Limiter {
    limit: Limit,
    buckets: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// The time at which the buckets were last scanned for full ones.
    last_scan: Ticks,
}

impl Limiter {
    /// Returns a limiter whose buckets are all full.
    pub fn new(limit: Limit) -> Self {
        let others = Bucket::full(limit.burst, Ticks(0));
        Self { limit, buckets: HashMap::with_capacity(2 * PREFIXES), others, last_scan: Ticks(0) }
    }

    /// Takes `count` tokens from the bucket of a source's prefix; returns `false`, and takes none,
    /// when there are fewer.
    pub fn take(&mut self, source: IpAddr, count: u64, now: Ticks) -> bool {
        let length = if source.is_ipv4() { self.limit.prefix_v4 } else { self.limit.prefix_v6 };
        let prefix = IpNet::new(source, length).map_or(source, |net| net.network());
        let Limit { rate, burst, .. } = self.limit;
        if self.buckets.len() == PREFIXES && !self.buckets.contains_key(&prefix) {
            self.remove_full_buckets(now);
        }
        let bucket = if self.buckets.len() < PREFIXES || self.buckets.contains_key(&prefix) {
            self.buckets.entry(prefix).or_insert(Bucket::full(burst, now))
        } else {
            &mut self.others
        };
        bucket.take(count, rate, burst, now)
    }

    /// Removes buckets that are full again: a new bucket is full, too. Does so at most once a
    /// second, because it visits all of them.
    fn remove_full_buckets(&mut self, now: Ticks) {
        if now.since(self.last_scan) < SCAN_INTERVAL {
            return;
        }
        self.last_scan = now;
        let Limit { rate, burst, .. } = self.limit;
        let full = burst.saturating_mul(TOKEN);
        self.buckets.retain(|_, bucket| bucket.level(rate, burst, now) < full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit { rate: 10, burst: 5, prefix_v4: 24, prefix_v6: 48 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_may_use_its_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(LIMIT);
        let start = Ticks::from_secs(100);
        let granted = (0..20).filter(|_| limiter.take(ip("198.18.1.10"), 1, start)).count();
        assert_eq!(granted, 5);
        assert!(!limiter.take(ip("198.18.1.99"), 1, start), "the same prefix");
        assert!(limiter.take(ip("198.18.2.10"), 1, start), "another prefix");
        let second = start + Ticks::from_millis(200);
        let granted = (0..20).filter(|_| limiter.take(ip("198.18.1.10"), 1, second)).count();
        assert_eq!(granted, 2, "10 a second for 0.2 s");
        assert!(
            limiter.take(ip("2001:db8::1"), 1, start)
                && limiter.take(ip("2001:db8:0:ffff::1"), 1, start)
        );
    }

    #[test]
    fn prefixes_beyond_the_limit_share_one_bucket() {
        let mut limiter = Limiter::new(LIMIT);
        let now = Ticks::from_secs(1);
        let source = |n: u32| IpAddr::from((n << 8).to_be_bytes());
        (0..PREFIXES as u32).for_each(|n| assert!(limiter.take(source(n), 1, now)));
        let granted = (0..100).filter(|n| limiter.take(source(1_000_000 + n), 1, now)).count();
        assert_eq!(granted, 5);
        let later = now + Ticks::from_secs(10);
        let granted = (0..100).filter(|n| limiter.take(source(2_000_000 + n), 1, later)).count();
        assert_eq!(granted, 100, "full buckets were removed");
    }

    #[test]
    fn a_full_map_is_scanned_at_most_once_a_second() {
        let mut limiter = Limiter::new(LIMIT);
        let now = Ticks::from_secs(100);
        let source = |n: u32| IpAddr::from((n << 8).to_be_bytes());
        let spent = |n: u32| if n == 0 { 1 } else { LIMIT.burst };
        (0..PREFIXES as u32).for_each(|n| assert!(limiter.take(source(n), spent(n), now)));
        // One bucket is full again, then another: the first is removed, the second not yet.
        for (millis, n, has_own_bucket) in [(150, 1 << 20, true), (300, 2 << 20, false)] {
            assert!(limiter.take(source(n), 1, now + Ticks::from_millis(millis)));
            assert_eq!(limiter.buckets.contains_key(&source(n)), has_own_bucket);
        }
    }
}
