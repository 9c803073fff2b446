//! Token buckets per source prefix: how many start packets of a neighbourhood are fanned out.

use std::net::IpAddr;

use hashbrown::HashMap;
use ipnet::IpNet;

use crate::base::time::Ticks;

/// The most prefixes remembered; the others share one bucket. The maps here and elsewhere on the
/// data path have twice the room that they need: at half full, hashbrown clears the traces of
/// removed entries in place instead of allocating.
const PREFIXES: usize = 4096;
/// How often, at the most, a full map is looked through: that takes a while.
const TIDY: Ticks = Ticks::from_secs(1);

/// How much one prefix may have.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Tokens per second.
    pub rate: u64,
    /// The most tokens saved up.
    pub burst: u64,
    /// Prefix length for IPv4 sources.
    pub prefix_v4: u8,
    /// Prefix length for IPv6 sources.
    pub prefix_v6: u8,
}

/// One token bucket.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// In billionths of a token.
    tokens: u64,
    filled: Ticks,
}

const TOKEN: u64 = 1_000_000_000;

impl Bucket {
    /// A bucket with `burst` tokens in it.
    pub fn full(burst: u64, now: Ticks) -> Self {
        Self { tokens: burst.saturating_mul(TOKEN), filled: now }
    }

    /// Takes `count` tokens; `false`, and none taken, when there are fewer. `rate` tokens come in
    /// per second, up to `burst` of them are kept.
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

/// The buckets of one worker.
#[derive(Debug)]
pub struct Limiter {
    limit: Limit,
    buckets: HashMap<IpAddr, Bucket>,
    others: Bucket,
    /// When the buckets were last looked through for what can be forgotten.
    tidied: Ticks,
}

impl Limiter {
    /// Buckets that are all full.
    pub fn new(limit: Limit) -> Self {
        let others = Bucket::full(limit.burst, Ticks(0));
        Self { limit, buckets: HashMap::with_capacity(2 * PREFIXES), others, tidied: Ticks(0) }
    }

    /// Takes `count` tokens of the source's prefix; `false`, and none taken, when it has fewer.
    pub fn take(&mut self, source: IpAddr, count: u64, now: Ticks) -> bool {
        let length = if source.is_ipv4() { self.limit.prefix_v4 } else { self.limit.prefix_v6 };
        let prefix = IpNet::new(source, length).map_or(source, |net| net.network());
        let Limit { rate, burst, .. } = self.limit;
        if self.buckets.len() == PREFIXES && !self.buckets.contains_key(&prefix) {
            self.forget_the_idle(now);
        }
        let bucket = if self.buckets.len() < PREFIXES || self.buckets.contains_key(&prefix) {
            self.buckets.entry(prefix).or_insert(Bucket::full(burst, now))
        } else {
            &mut self.others
        };
        bucket.take(count, rate, burst, now)
    }

    /// Forgets prefixes whose bucket is full again: they lose nothing. At most once a second,
    /// for it looks at all of them.
    fn forget_the_idle(&mut self, now: Ticks) {
        if now.since(self.tidied) < TIDY {
            return;
        }
        self.tidied = now;
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
    fn a_prefix_has_its_burst_and_then_its_rate() {
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
    fn beyond_the_table_all_share_one_bucket() {
        let mut limiter = Limiter::new(LIMIT);
        let now = Ticks::from_secs(1);
        let source = |n: u32| IpAddr::from((n << 8).to_be_bytes());
        (0..PREFIXES as u32).for_each(|n| assert!(limiter.take(source(n), 1, now)));
        let granted = (0..100).filter(|n| limiter.take(source(1_000_000 + n), 1, now)).count();
        assert_eq!(granted, 5);
        let later = now + Ticks::from_secs(10);
        let granted = (0..100).filter(|n| limiter.take(source(2_000_000 + n), 1, later)).count();
        assert_eq!(granted, 100, "the idle ones were forgotten");
    }

    #[test]
    fn a_full_table_is_looked_through_once_a_second_though_that_gave_room() {
        let mut limiter = Limiter::new(LIMIT);
        let now = Ticks::from_secs(100);
        let source = |n: u32| IpAddr::from((n << 8).to_be_bytes());
        let spent = |n: u32| if n == 0 { 1 } else { LIMIT.burst };
        (0..PREFIXES as u32).for_each(|n| assert!(limiter.take(source(n), spent(n), now)));
        // One is full again, then another one: the first makes room, the second must wait.
        for (millis, n, has_its_own) in [(150, 1 << 20, true), (300, 2 << 20, false)] {
            assert!(limiter.take(source(n), 1, now + Ticks::from_millis(millis)));
            assert_eq!(limiter.buckets.contains_key(&source(n)), has_its_own);
        }
    }
}
