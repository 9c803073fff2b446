//! The source prefixes that a limit has refused most often.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::*, fence};

use ipnet::IpNet;

/// Prefixes that are counted one by one.
const PLACES: usize = 16;
/// Above the length of a prefix: it is one of IPv6.
const V6: u64 = 1 << 8;

/// A source prefix and how often it was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The prefix.
    pub prefix: IpNet,
    /// The count, which may include some of prefixes that were counted in the same place before.
    pub count: u64,
}

/// One prefix and its count. One worker writes it, any thread reads it.
#[derive(Debug, Default)]
struct Place {
    /// Odd while the worker changes the rest.
    version: AtomicU64,
    count: AtomicU64,
    /// Length and family.
    prefix: AtomicU64,
    /// Upper and lower half.
    address: [AtomicU64; 2],
}

/// The prefixes that one worker has refused most often: at most 16 (the algorithm "space saving",
/// Metwally et al., ICDT 2005). A prefix that is refused more often than one in 16 of all refusals is
/// among them, whatever the others do.
///
/// # Examples
/// ```
/// use pipeline::counters::RefusedPrefixes;
///
/// let refused = RefusedPrefixes::default();
/// let prefix = "198.18.1.0/24".parse().unwrap();
/// refused.count(prefix);
/// refused.count(prefix);
/// assert_eq!(refused.all().map(|r| (r.prefix, r.count)).collect::<Vec<_>>(), [(prefix, 2)]);
/// ```
#[derive(Debug, Default)]
pub struct RefusedPrefixes([Place; PLACES]);

impl RefusedPrefixes {
    /// Counts a refusal. Only the single writer may call this.
    pub fn count(&self, prefix: IpNet) {
        let name = Name::of(prefix);
        let mut least = (u64::MAX, &self.0[0]);
        for place in &self.0 {
            let count = place.count.load(Relaxed);
            if count > 0 && place.name() == name {
                return place.count.store(count + 1, Relaxed);
            }
            if count < least.0 {
                least = (count, place);
            }
        }
        least.1.replace(name, least.0 + 1);
    }

    /// Goes on from what `earlier` has counted.
    pub(crate) fn continue_from(&self, earlier: &Self) {
        for (own, earlier) in self.0.iter().zip(&earlier.0) {
            if let (name, count @ 1..) = (earlier.name(), earlier.count.load(Relaxed)) {
                own.replace(name, count);
            }
        }
    }

    /// Returns the prefixes and their counts, in no order. Any thread may call this.
    pub fn all(&self) -> impl Iterator<Item = Refused> {
        self.0.iter().filter_map(Place::read)
    }
}

/// A prefix in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name {
    prefix: u64,
    address: [u64; 2],
}

impl Name {
    fn of(prefix: IpNet) -> Self {
        let (family, bits) = match prefix.addr() {
            IpAddr::V4(address) => (0, address.to_bits().into()),
            IpAddr::V6(address) => (V6, address.to_bits()),
        };
        let address = [(bits >> 64) as u64, bits as u64];
        Self { prefix: family | u64::from(prefix.prefix_len()), address }
    }

    fn read(self) -> Option<IpNet> {
        let [upper, lower] = self.address;
        let bits = u128::from(upper) << 64 | u128::from(lower);
        let address = match self.prefix & V6 {
            0 => IpAddr::V4((bits as u32).into()),
            _ => IpAddr::V6(bits.into()),
        };
        IpNet::new(address, self.prefix as u8).ok()
    }
}

impl Place {
    fn name(&self) -> Name {
        let address = [self.address[0].load(Relaxed), self.address[1].load(Relaxed)];
        Name { prefix: self.prefix.load(Relaxed), address }
    }

    /// Counts another prefix here from now on.
    fn replace(&self, name: Name, count: u64) {
        let version = self.version.load(Relaxed);
        self.version.store(version + 1, Relaxed);
        fence(Release);
        self.prefix.store(name.prefix, Relaxed);
        self.address[0].store(name.address[0], Relaxed);
        self.address[1].store(name.address[1], Relaxed);
        self.count.store(count, Relaxed);
        self.version.store(version + 2, Release);
    }

    /// Returns the prefix and its count; `None` without one, or while the worker changes it.
    fn read(&self) -> Option<Refused> {
        let version = self.version.load(Acquire);
        let (name, count) = (self.name(), self.count.load(Relaxed));
        fence(Acquire);
        let is_whole = version.is_multiple_of(2) && self.version.load(Relaxed) == version;
        let prefix = name.read().filter(|_| is_whole && count > 0)?;
        Some(Refused { prefix, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(number: u32) -> IpNet {
        IpNet::new(IpAddr::from((number << 8).to_be_bytes()), 24).unwrap()
    }

    fn count_of(refused: &RefusedPrefixes, prefix: IpNet) -> Option<u64> {
        refused.all().find(|one| one.prefix == prefix).map(|one| one.count)
    }

    #[test]
    fn prefixes_of_both_families_are_read_as_they_were_counted() {
        let refused = RefusedPrefixes::default();
        let all = ["198.18.1.0/24", "0.0.0.0/8", "2001:db8:f::/48", "::/1", "::c612:100/120"];
        for (number, text) in all.iter().enumerate() {
            (0..=number).for_each(|_| refused.count(text.parse().unwrap()));
        }
        for (number, text) in all.iter().enumerate() {
            assert_eq!(count_of(&refused, text.parse().unwrap()), Some(number as u64 + 1));
        }
        assert_eq!(refused.all().count(), all.len());
    }

    #[test]
    fn a_flood_of_others_does_not_hide_the_worst() {
        let refused = RefusedPrefixes::default();
        for number in 0..10_000 {
            refused.count(prefix(number));
            if number % 10 == 0 {
                refused.count(prefix(1 << 20));
            }
        }
        let count = count_of(&refused, prefix(1 << 20)).unwrap();
        assert!((1000..1000 + 11_000 / 16 + 1).contains(&count), "{count}");
        assert_eq!(refused.all().count(), PLACES);
    }
}
