//! What has been seen lately, in constant memory: two Bloom filters that take turns.

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::base::time::Ticks;

/// The cache lines of one filter: 256 KiB. With 130,000 endpoints in it, one in 1,000 others is taken
/// for one of them; with 500,000 one in 20.
const LINES: usize = 1 << 12;
/// Bits of a cache line that an endpoint sets.
const BITS: usize = 4;

/// A cache line: all bits of an endpoint are in one.
type Line = [u64; 8];

/// The endpoints that were seen within the last one to two periods. It forgets none earlier, and takes
/// few others for one of them. Nobody who does not know the key can choose which.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::policy::recent::Recent;
///
/// let mut recent = Recent::new(Ticks::from_secs(600), (1, 2));
/// let client = "198.18.1.10".parse().unwrap();
/// recent.insert(client, 40000);
/// assert!(recent.contains(client, 40000) && !recent.contains(client, 40001));
/// recent.forget_old(Ticks::from_secs(600));
/// assert!(recent.contains(client, 40000));
/// recent.forget_old(Ticks::from_secs(1200));
/// assert!(!recent.contains(client, 40000));
/// ```
#[derive(Debug)]
pub struct Recent {
    /// The newer filter, and the one before.
    filters: [Filter; 2],
    /// When the newer one was begun.
    begun: Ticks,
    period: Ticks,
    key: (u64, u64),
}

#[derive(Debug)]
struct Filter {
    lines: Box<[Line]>,
    is_empty: bool,
}

impl Filter {
    fn new() -> Self {
        Self { lines: vec![[0; 8]; LINES].into_boxed_slice(), is_empty: true }
    }
}

/// The place of an endpoint: its line, and the bits in it.
struct Place {
    line: usize,
    bits: [usize; BITS],
}

impl Recent {
    /// Returns an empty memory. The key must be secret.
    pub fn new(period: Ticks, key: (u64, u64)) -> Self {
        Self { filters: [Filter::new(), Filter::new()], begun: Ticks(0), period, key }
    }

    /// Remembers an endpoint.
    pub fn insert(&mut self, address: IpAddr, port: u16) {
        let Place { line, bits } = self.place(address, port);
        let [newer, _] = &mut self.filters;
        newer.is_empty = false;
        bits.iter().for_each(|bit| newer.lines[line][bit / 64] |= 1 << (bit % 64));
    }

    /// Returns whether an endpoint is remembered.
    pub fn contains(&self, address: IpAddr, port: u16) -> bool {
        let Place { line, bits } = self.place(address, port);
        self.filters.iter().any(|filter| {
            bits.iter().all(|bit| filter.lines[line][bit / 64] & 1 << (bit % 64) != 0)
        })
    }

    /// Forgets what is older than two periods. Called between bursts.
    pub fn forget_old(&mut self, now: Ticks) {
        if now.since(self.begun) < self.period {
            return;
        }
        self.begun = now;
        self.filters.swap(0, 1);
        let [newer, _] = &mut self.filters;
        if !newer.is_empty {
            newer.lines.fill([0; 8]);
            newer.is_empty = true;
        }
    }

    fn place(&self, address: IpAddr, port: u16) -> Place {
        let mut hasher = SipHasher13::new_with_keys(self.key.0, self.key.1);
        match address {
            IpAddr::V4(address) => hasher.write_u32(address.to_bits()),
            IpAddr::V6(address) => hasher.write_u128(address.to_bits()),
        }
        hasher.write_u16(port);
        let hash = hasher.finish();
        // Nine bits each, of the lower half.
        let bits = std::array::from_fn(|number| (hash >> (9 * number)) as usize % 512);
        Place { line: (hash >> 40) as usize % LINES, bits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(number: u32) -> (IpAddr, u16) {
        (IpAddr::from((0x0a00_0000 + number / 100).to_be_bytes()), 1024 + (number % 100) as u16)
    }

    #[test]
    fn all_that_were_inserted_are_found_and_few_others() {
        let mut recent = Recent::new(Ticks::from_secs(600), (1, 2));
        for number in 0..130_000 {
            let (address, port) = endpoint(number);
            recent.insert(address, port);
        }
        let contains = |number| {
            let (address, port) = endpoint(number);
            recent.contains(address, port)
        };
        assert!((0..130_000).all(contains));
        let others = (1_000_000..1_100_000).filter(|number| contains(*number)).count();
        assert!(others < 300, "{others} of 100,000");
    }

    #[test]
    fn endpoints_are_remembered_for_one_to_two_periods() {
        let mut recent = Recent::new(Ticks::from_secs(10), (1, 2));
        let (first, second) = (endpoint(1), endpoint(2));
        recent.insert(first.0, first.1);
        for (seconds, has_first, has_second) in [
            (9, true, false),
            (10, true, true),
            (19, true, true),
            (20, false, true),
            (30, false, false),
        ] {
            recent.forget_old(Ticks::from_secs(seconds));
            if seconds == 10 {
                recent.insert(second.0, second.1);
            }
            let found = [first, second].map(|(address, port)| recent.contains(address, port));
            assert_eq!(found, [has_first, has_second], "{seconds} s");
        }
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        recent.insert(v6, 7);
        assert!(recent.contains(v6, 7) && !recent.contains(v6, 8));
    }
}
