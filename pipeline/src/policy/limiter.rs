//! Token buckets by source prefix and address, which limit how many SYNs get copies.
//!
//! The buckets are fixed arrays, indexed by a keyed hash: nothing to fill, and nothing to tidy.
//! Sources whose hashes are equal share a bucket, so each source has one in each of two arrays, and
//! the fuller one counts. Whoever wants to use up a stranger's tokens without knowing the key has to
//! use up those of nearly all buckets.

use std::hash::Hasher;
use std::net::IpAddr;

use ipnet::IpNet;
use siphasher::sip::SipHasher13;

use crate::base::time::Ticks;

/// The buckets of one array.
const BUCKETS: usize = 1 << 16;
/// An address may use this part of its prefix's tokens.
const ADDRESS_SHARE: u64 = 4;
/// The addresses of an IPv6 source that count as one, by the length of their prefix in bits: one
/// host has a whole /64.
const ADDRESS_V6: u8 = 64;
/// Nanoseconds per second.
const SECOND: u64 = 1_000_000_000;

/// The limit of one source prefix, of the addresses in it, and of all sources together.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Tokens per second of a prefix.
    pub rate: u64,
    /// The most tokens in a prefix's bucket.
    pub burst: u64,
    /// Tokens per second of an address in it, or of a /64.
    pub address_rate: u64,
    /// The most tokens in the bucket of an address.
    pub address_burst: u64,
    /// Tokens per second of all prefixes together; its bucket holds those of one second.
    pub total: u64,
    /// Prefix length of IPv4 sources, in bits.
    pub prefix_v4: u8,
    /// Prefix length of IPv6 sources, in bits.
    pub prefix_v6: u8,
}

impl Default for Limit {
    /// For one worker: 5,000 tokens per second for each /24 or /48, at most 10,000 at once; a quarter
    /// of that for an address, or a /64; 250,000 per second for all.
    fn default() -> Self {
        let (rate, burst, total) = (5_000, 10_000, 250_000);
        let (address_rate, address_burst) = (rate / ADDRESS_SHARE, burst / ADDRESS_SHARE);
        Self { rate, burst, address_rate, address_burst, total, prefix_v4: 24, prefix_v6: 48 }
    }
}

impl Limit {
    /// Returns the limit of one of several workers, where `rate`, `burst` and `total` are given for
    /// all of them. An address has a quarter of its prefix's tokens. All packets of an address are
    /// the same worker's, so that the quarter is not divided, and a worker's share of a prefix is no
    /// less.
    pub fn of_worker(self, workers: usize) -> Self {
        let share = |all: u64| all.div_ceil(workers.max(1) as u64).max(1);
        let quarter = |all: u64| all.div_ceil(ADDRESS_SHARE).max(1);
        let (address_rate, address_burst) = (quarter(self.rate), quarter(self.burst));
        Self {
            rate: share(self.rate).max(address_rate),
            burst: share(self.burst).max(address_burst),
            address_rate,
            address_burst,
            total: share(self.total),
            ..self
        }
    }

    /// Returns the prefix of a source, by which it is limited.
    pub fn prefix(&self, source: IpAddr) -> IpNet {
        let length = if source.is_ipv4() { self.prefix_v4 } else { self.prefix_v6 };
        let net = IpNet::new(source, length).unwrap_or(IpNet::from(source));
        net.trunc()
    }
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

/// A rate and a burst, in the form that [`Bucket`]s of an array use: the time in which a token comes,
/// and the time in which an empty bucket fills.
#[derive(Clone, Copy, Debug)]
struct Pace {
    token: Ticks,
    full: Ticks,
}

impl Pace {
    fn new(rate: u64, burst: u64) -> Self {
        let token = SECOND.div_ceil(rate.max(1));
        Self { token: Ticks(token), full: Ticks(token.saturating_mul(burst.max(1))) }
    }
}

/// Buckets of one kind, in two arrays. Each bucket is the time at which it is full again: eight bytes,
/// and no product of a rate and a time to overflow.
#[derive(Debug)]
struct Rows {
    pace: Pace,
    full_at: [Box<[Ticks]>; 2],
    /// The time in which an empty bucket fills, by the slowest of all paces so far.
    longest: Ticks,
}

/// A token that may be taken: the buckets, and the time at which they are full again afterwards.
struct Offer {
    places: [usize; 2],
    full_at: Ticks,
}

impl Rows {
    fn new(rate: u64, burst: u64) -> Self {
        // All zeros: untouched memory, which the operating system maps at its first use.
        let row = || vec![Ticks(0); BUCKETS].into_boxed_slice();
        let pace = Pace::new(rate, burst);
        Self { pace, full_at: [row(), row()], longest: pace.full }
    }

    /// Changes rate and burst. A bucket is full again when it would have been, or in the time in which
    /// an empty one fills, if that is less.
    fn set_pace(&mut self, rate: u64, burst: u64) {
        self.pace = Pace::new(rate, burst);
        self.longest = self.longest.max(self.pace.full);
    }

    /// Returns the time until a bucket is full again. No bucket takes longer to fill than an empty
    /// one, unless the clock has gone back: then it is full.
    fn left(&self, full_at: Ticks, now: Ticks) -> Ticks {
        let left = full_at.since(now);
        if left > self.longest { Ticks(0) } else { left.min(self.pace.full) }
    }

    /// Returns a token of the source with this hash, if the fuller of its two buckets has one.
    fn offer(&self, hash: u64, now: Ticks) -> Option<Offer> {
        let places = [hash as usize % BUCKETS, (hash >> 32) as usize % BUCKETS];
        let [first, second] = [self.full_at[0][places[0]], self.full_at[1][places[1]]];
        let full_at = now + self.left(first.min(second), now) + self.pace.token;
        (full_at.since(now) <= self.pace.full).then_some(Offer { places, full_at })
    }

    /// Takes a token. The emptier bucket, which others have used, loses it only as far as it has more
    /// than the fuller one has left.
    fn take(&mut self, offer: &Offer, now: Ticks) {
        for (row, place) in offer.places.into_iter().enumerate() {
            let own = now + self.left(self.full_at[row][place], now);
            self.full_at[row][place] = own.max(offer.full_at);
        }
    }
}

/// Why there was no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// The source's address, or /64, has used up its part of its prefix's tokens.
    Address,
    /// The source's prefix has used up its tokens.
    Prefix,
    /// All sources together have used up theirs.
    Total,
}

/// The token buckets of one worker: by source prefix, by address within it, and one for all.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::policy::limiter::{Limit, Limiter, Spent};
///
/// let limit = Limit { rate: 40, burst: 8, total: 1000, ..Limit::default() };
/// let mut limiter = Limiter::new(limit.of_worker(1), (1, 2));
/// let (client, neighbour) = ("198.18.1.10".parse().unwrap(), "198.18.1.99".parse().unwrap());
/// let now = Ticks::from_secs(1);
/// assert!(limiter.take(client, now).is_ok() && limiter.take(client, now).is_ok());
/// // A quarter of the tokens of 198.18.1.0/24 are spent, but not the neighbour's.
/// assert_eq!(limiter.take(client, now), Err(Spent::Address));
/// assert!(limiter.take(neighbour, now).is_ok());
/// // Ten tokens come in a second for each address.
/// assert!(limiter.take(client, now + Ticks::from_millis(100)).is_ok());
/// ```
#[derive(Debug)]
pub struct Limiter {
    limit: Limit,
    key: (u64, u64),
    prefixes: Rows,
    addresses: Rows,
    total: Bucket,
}

impl Limiter {
    /// Returns a limiter whose buckets are all full. The key must be secret.
    pub fn new(limit: Limit, key: (u64, u64)) -> Self {
        Self {
            limit,
            key,
            prefixes: Rows::new(limit.rate, limit.burst),
            addresses: Rows::new(limit.address_rate, limit.address_burst),
            total: Bucket::full(limit.total, Ticks(0)),
        }
    }

    /// Changes the limit. A source that has used up its tokens does not get new ones by that.
    pub fn set_limit(&mut self, limit: Limit) {
        self.limit = limit;
        self.prefixes.set_pace(limit.rate, limit.burst);
        self.addresses.set_pace(limit.address_rate, limit.address_burst);
    }

    /// Returns the limit.
    pub fn limit(&self) -> &Limit {
        &self.limit
    }

    /// Takes one token for a source, from the buckets of its address and its prefix and from the one
    /// for all.
    ///
    /// # Errors
    /// Says which of them is empty. Then no token is taken from any.
    pub fn take(&mut self, source: IpAddr, now: Ticks) -> Result<(), Spent> {
        let prefix = self.limit.prefix(source);
        let host = match source {
            IpAddr::V4(_) => IpNet::from(source),
            IpAddr::V6(_) => IpNet::new(source, ADDRESS_V6).unwrap_or(IpNet::from(source)).trunc(),
        };
        // A prefix that is no longer than an address has all of its tokens for it.
        let address = match host.prefix_len() > prefix.prefix_len() {
            true => Some(self.addresses.offer(self.hash(host), now).ok_or(Spent::Address)?),
            false => None,
        };
        let by_prefix = self.prefixes.offer(self.hash(prefix), now).ok_or(Spent::Prefix)?;
        let total = self.limit.total;
        if !self.total.take(1, total, total, now) {
            return Err(Spent::Total);
        }
        self.prefixes.take(&by_prefix, now);
        if let Some(address) = address {
            self.addresses.take(&address, now);
        }
        Ok(())
    }

    fn hash(&self, prefix: IpNet) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match prefix.addr() {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Limit = Limit {
        rate: 40,
        burst: 20,
        address_rate: 10,
        address_burst: 5,
        total: 1_000_000,
        prefix_v4: 24,
        prefix_v6: 48,
    };

    fn limiter(limit: Limit) -> Limiter {
        Limiter::new(limit, (3, 4))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn granted(limiter: &mut Limiter, source: IpAddr, count: usize, now: Ticks) -> usize {
        (0..count).filter(|_| limiter.take(source, now).is_ok()).count()
    }

    #[test]
    fn an_address_may_use_a_quarter_of_its_prefix_at_once_and_then_at_its_rate() {
        let (mut limiter, start) = (limiter(LIMIT), Ticks::from_secs(100));
        assert_eq!(granted(&mut limiter, ip("198.18.1.10"), 30, start), 5);
        assert_eq!(limiter.take(ip("198.18.1.10"), start), Err(Spent::Address));
        assert_eq!(granted(&mut limiter, ip("198.18.1.99"), 30, start), 5, "a neighbour");
        let later = start + Ticks::from_millis(200);
        assert_eq!(granted(&mut limiter, ip("198.18.1.10"), 30, later), 2, "10 a second for 0.2 s");
        let exact = start + Ticks::from_millis(300);
        assert_eq!(granted(&mut limiter, ip("198.18.1.10"), 30, Ticks(exact.0 - 1)), 0);
        assert_eq!(granted(&mut limiter, ip("198.18.1.10"), 30, exact), 1);
    }

    #[test]
    fn the_addresses_of_a_prefix_share_its_tokens() {
        let (mut limiter, now) = (limiter(LIMIT), Ticks::from_secs(100));
        let addresses: Vec<_> = (0..10u8).map(|n| IpAddr::from([198, 18, 1, n])).collect();
        let all = addresses.iter().map(|address| granted(&mut limiter, *address, 30, now));
        assert_eq!(all.sum::<usize>(), 20);
        assert_eq!(limiter.take(ip("198.18.1.99"), now), Err(Spent::Prefix));
        assert!(limiter.take(ip("198.18.2.10"), now).is_ok(), "another prefix");
        // A host has a whole /64, of which it may use any address.
        let hosts = |n: u16| ip(&format!("2001:db8:0:1::{n:x}"));
        let one = (0..30).filter(|n| limiter.take(hosts(*n), now).is_ok()).count();
        assert_eq!(one, 5);
        assert!(limiter.take(ip("2001:db8:0:2::1"), now).is_ok());
        // A prefix that is one address has all its tokens for it.
        let mut single = self::limiter(Limit { prefix_v4: 32, prefix_v6: 64, ..LIMIT });
        assert_eq!(granted(&mut single, ip("198.18.1.10"), 30, now), 20);
        assert_eq!(granted(&mut single, ip("2001:db8::1"), 30, now), 20);
    }

    #[test]
    fn what_is_refused_takes_no_token() {
        let (mut limiter, now) = (limiter(LIMIT), Ticks::from_secs(100));
        granted(&mut limiter, ip("198.18.1.10"), 1000, now);
        let others = (20..30u8).map(|n| granted(&mut limiter, [198, 18, 1, n].into(), 30, now));
        assert_eq!(others.sum::<usize>(), 15);
        let mut all = self::limiter(Limit { total: 3, ..LIMIT });
        assert_eq!(granted(&mut all, ip("198.18.1.10"), 3, now), 3);
        assert_eq!(all.take(ip("198.18.1.10"), now), Err(Spent::Total));
        let second = now + Ticks::from_secs(1);
        assert_eq!(granted(&mut all, ip("198.18.9.10"), 9, second), 3);
    }

    #[test]
    fn a_flood_of_other_prefixes_does_not_use_up_a_prefix() {
        let (mut limiter, now) = (limiter(Limit { burst: 5, ..LIMIT }), Ticks::from_secs(100));
        let prefix = |n: u32| IpAddr::from((n << 8 | 9).to_be_bytes());
        let used: usize = (0..2_000).map(|n| granted(&mut limiter, prefix(n), 9, now)).sum();
        assert!(used > 9_900, "{used}");
        let served = (1 << 20..(1 << 20) + 1000).filter(|n| limiter.take(prefix(*n), now).is_ok());
        // 3 % of the buckets of each array are used up: both of a prefix are in one case of 1,000.
        assert!(served.count() >= 990);
    }

    #[test]
    fn a_clock_that_goes_back_locks_nobody_out() {
        let (mut limiter, source) = (limiter(LIMIT), ip("198.18.1.10"));
        assert_eq!(granted(&mut limiter, source, 30, Ticks::from_secs(1000)), 5);
        assert_eq!(granted(&mut limiter, source, 30, Ticks::from_secs(10)), 5);
        assert_eq!(granted(&mut limiter, source, 30, Ticks::from_secs(11)), 5);
    }

    #[test]
    fn a_changed_limit_gives_no_token_to_who_has_used_them_up() {
        let source = ip("198.18.1.10");
        let at = |millis| Ticks::from_secs(100) + Ticks::from_millis(millis);
        let spent = || {
            let mut limiter = limiter(LIMIT);
            assert_eq!(granted(&mut limiter, source, 30, at(0)), 5);
            limiter
        };
        // The same limit again changes nothing.
        let mut same = spent();
        same.set_limit(LIMIT);
        assert_eq!(granted(&mut same, source, 30, at(0)), 0);
        assert_eq!(granted(&mut same, source, 30, at(200)), 2);
        // Ten times the rate: empty at first, and full after a tenth of the time.
        let mut faster = spent();
        faster.set_limit(Limit { address_rate: 100, rate: 400, ..LIMIT });
        assert_eq!(granted(&mut faster, source, 30, at(0)), 0);
        assert_eq!(granted(&mut faster, source, 30, at(50)), 5);
        // A tenth of it: what was spent is not forgotten, and the next tokens come slowly.
        let mut slower = spent();
        slower.set_limit(Limit { address_rate: 1, rate: 4, ..LIMIT });
        assert_eq!(granted(&mut slower, source, 30, at(0)), 4);
        assert_eq!(granted(&mut slower, source, 30, at(400)), 0);
        // All together.
        let mut total = limiter(Limit { total: 3, ..LIMIT });
        assert_eq!(granted(&mut total, source, 30, at(0)), 3);
        total.set_limit(Limit { total: 2, ..LIMIT });
        assert_eq!(granted(&mut total, source, 30, at(0)), 0);
        assert_eq!(granted(&mut total, source, 30, at(1500)), 2);
    }

    #[test]
    fn hashes_depend_on_the_key() {
        let places = |key| {
            let limiter = Limiter::new(LIMIT, key);
            limiter.hash("198.18.1.0/24".parse().unwrap())
        };
        assert_ne!(places((1, 2)), places((1, 3)));
    }

    #[test]
    fn a_worker_has_its_share_but_an_address_all_of_its_quarter() {
        let limit = Limit { rate: 5000, burst: 10_000, total: 200_000, ..Limit::default() };
        let one = limit.of_worker(1);
        assert_eq!((one.rate, one.burst, one.total), (5000, 10_000, 200_000));
        assert_eq!((one.address_rate, one.address_burst), (1250, 2500));
        let eight = limit.of_worker(8);
        assert_eq!((eight.rate, eight.burst, eight.total), (1250, 2500, 25_000));
        assert_eq!((eight.address_rate, eight.address_burst), (1250, 2500));
        let least = Limit { rate: 1, burst: 1, total: 1, ..limit }.of_worker(4);
        assert_eq!((least.rate, least.address_burst, least.total), (1, 1, 1));
    }
}
