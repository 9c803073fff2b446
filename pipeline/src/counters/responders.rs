//! The servers and replicas that answer a gateway's races, and their response times.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use hashbrown::HashMap;

use super::{Counter, Histogram};

/// A server or replica that has answered races of a service.
#[derive(Debug, Default)]
pub struct Responder {
    name: Name,
    /// Races it won.
    pub won: Counter,
    /// SYN/ACKs it sent too late, each answered with a reset.
    pub lost: Counter,
    /// The time for which its lost SYN/ACKs have held a half-open connection there, in
    /// microseconds: a round trip each, from its SYN/ACK to the reset.
    pub half_open: Counter,
    /// Time from the race's first SYN to each of its SYN/ACKs, won or lost. A loser that
    /// retransmits its SYN/ACK because the reset was lost is counted again.
    pub time_to_syn_ack: Histogram,
}

impl Responder {
    /// Returns service number, address, and whether the responder is the origin; `None` for the
    /// entry that counts all responders beyond the limit.
    pub fn name(&self) -> Option<(u16, IpAddr, bool)> {
        self.name.get()
    }

    /// Goes on from what `earlier` has counted, under the same name.
    fn continue_from(&self, earlier: &Self) {
        let is_unused = earlier.name.is_unset() && earlier.won.get() + earlier.lost.get() == 0;
        if is_unused {
            return;
        }
        let Self { name, won, lost, half_open, time_to_syn_ack } = self;
        name.continue_from(&earlier.name);
        won.set(earlier.won.get());
        lost.set(earlier.lost.get());
        half_open.set(earlier.half_open.get());
        time_to_syn_ack.continue_from(&earlier.time_to_syn_ack);
    }

    /// Moves what was counted into another entry, whose counts go on.
    fn move_to(&self, other: &Responder) {
        for (from, to) in [
            (&self.won, &other.won),
            (&self.lost, &other.lost),
            (&self.half_open, &other.half_open),
        ] {
            to.add(from.get());
            from.set(0);
        }
        self.time_to_syn_ack.move_to(&other.time_to_syn_ack);
    }
}

/// A responder's name, which its worker may change while others read it.
#[derive(Debug, Default)]
struct Name {
    /// Odd while the words change; 0 before there is a name.
    version: AtomicU64,
    /// Service, whether it is an origin and whether it is of IPv6; the address.
    words: [AtomicU64; 3],
}

impl Name {
    const ORIGIN: u64 = 1 << 16;
    const V6: u64 = 1 << 17;

    fn set(&self, (service, address, is_origin): (u16, IpAddr, bool)) {
        let Bits { is_v6, bits } = Bits::of(address);
        let flags = if is_origin { Self::ORIGIN } else { 0 } | if is_v6 { Self::V6 } else { 0 };
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        fence(Ordering::Release);
        let words = [u64::from(service) | flags, (bits >> 64) as u64, bits as u64];
        for (place, word) in self.words.iter().zip(words) {
            place.store(word, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    fn is_unset(&self) -> bool {
        self.version.load(Ordering::Relaxed) == 0
    }

    /// Takes over a name. Nobody reads this one yet, and nobody writes the other any more.
    fn continue_from(&self, earlier: &Self) {
        for (own, word) in self.words.iter().zip(&earlier.words) {
            own.store(word.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.version.store(earlier.version.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Returns the name; `None` without one, or while it changes.
    fn get(&self) -> Option<(u16, IpAddr, bool)> {
        let version = self.version.load(Ordering::Acquire);
        let [head, upper, lower] = [0, 1, 2].map(|word| self.words[word].load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        let is_whole = version.is_multiple_of(2) && version != 0;
        if !is_whole || self.version.load(Ordering::Relaxed) != version {
            return None;
        }
        let address = match head & Self::V6 {
            0 => Ipv4Addr::from_bits(lower as u32).into(),
            _ => Ipv6Addr::from_bits(u128::from(upper) << 64 | u128::from(lower)).into(),
        };
        Some((head as u16, address, head & Self::ORIGIN != 0))
    }
}

/// The responders of one worker, up to [`Responders::LIMIT`]; the last entry counts all others.
#[derive(Debug)]
pub struct Responders(Box<[Responder]>);

impl Default for Responders {
    fn default() -> Self {
        Self((0..Self::LIMIT).map(|_| Responder::default()).collect())
    }
}

impl Responders {
    /// The number of entries.
    pub const LIMIT: usize = 128;

    /// Goes on from what `earlier` has counted. The index stays right.
    pub(crate) fn continue_from(&self, earlier: &Self) {
        for (own, earlier) in self.0.iter().zip(&earlier.0) {
            own.continue_from(earlier);
        }
    }

    /// Returns the responders that have answered at least once.
    pub fn iter(&self) -> impl Iterator<Item = &Responder> {
        self.0.iter().filter(|responder| responder.won.get() + responder.lost.get() > 0)
    }
}

/// An address in the form that takes least to hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Bits {
    is_v6: bool,
    bits: u128,
}

impl Bits {
    #[inline]
    fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self { is_v6: false, bits: address.to_bits().into() },
            IpAddr::V6(address) => Self { is_v6: true, bits: address.to_bits() },
        }
    }
}

/// The most of a responder's answers that speak for keeping it.
const MOST_CREDIT: u16 = 1024;

/// What the index knows of an entry.
#[derive(Clone, Copy, Debug)]
struct Place {
    key: (u16, Bits),
    is_origin: bool,
    /// Answers, less the times that it was passed over for a new responder.
    credit: u16,
}

/// A worker's index into its [`Responders`].
#[derive(Debug)]
pub struct ResponderIndex {
    numbers: HashMap<(u16, Bits), usize>,
    places: Vec<Place>,
    /// The place that a new responder takes next, if it is not worth keeping.
    hand: usize,
    /// Entries taken by origins.
    origins: usize,
}

impl Default for ResponderIndex {
    fn default() -> Self {
        Self {
            // Twice what it needs, so that entries which come and go never make it grow.
            numbers: HashMap::with_capacity(2 * Responders::LIMIT),
            places: Vec::with_capacity(Responders::LIMIT),
            hand: 0,
            origins: 0,
        }
    }
}

impl ResponderIndex {
    /// The number of entries that have a name; the last one counts all others.
    const NAMED: usize = Responders::LIMIT - 1;

    /// Returns the entry of a responder, and inserts one if there is none yet. When there is no
    /// place left, the new one takes that of one that hardly answers, or is counted among all
    /// others.
    pub fn of<'a>(
        &mut self,
        all: &'a Responders,
        service: u16,
        address: IpAddr,
        is_origin: bool,
    ) -> &'a Responder {
        let key = (service, Bits::of(address));
        if let Some(&number) = self.numbers.get(&key) {
            let credit = &mut self.places[number].credit;
            *credit = MOST_CREDIT.min(*credit + 1);
            return &all.0[number];
        }
        let place = Place { key, is_origin, credit: 0 };
        let Some(number) = self.make_room(all, place) else { return &all.0[Self::NAMED] };
        self.origins += usize::from(is_origin);
        self.numbers.insert(key, number);
        let responder = &all.0[number];
        responder.name.set((service, address, is_origin));
        responder
    }

    /// Returns the number of the entry that a new responder gets, if it gets one.
    fn make_room(&mut self, all: &Responders, new: Place) -> Option<usize> {
        // A service may have any number of origins: half of the entries are left to replicas.
        let is_full_of_origins = new.is_origin && self.origins >= Responders::LIMIT / 2;
        if self.places.len() < Self::NAMED && !is_full_of_origins {
            self.places.push(new);
            return Some(self.places.len() - 1);
        }
        let number = self.hand % self.places.len();
        self.hand = number + 1;
        let old = &mut self.places[number];
        if old.credit > 0 || is_full_of_origins && !old.is_origin {
            old.credit = old.credit.saturating_sub(1);
            return None;
        }
        let gone = std::mem::replace(old, new);
        self.numbers.remove(&gone.key);
        self.origins -= usize::from(gone.is_origin);
        all.0[number].move_to(&all.0[Self::NAMED]);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> IpAddr {
        n.to_be_bytes().into()
    }

    fn named(all: &Responders, address: IpAddr) -> Option<&Responder> {
        all.iter().find(|responder| responder.name().is_some_and(|name| name.1 == address))
    }

    #[test]
    fn responders_beyond_the_limit_share_an_entry() {
        let (all, mut index) = (Responders::default(), ResponderIndex::default());
        for number in 0..300u32 {
            index.of(&all, 0, address(number), false).won.add(1);
            index.of(&all, 0, address(number), false).won.add(1);
        }
        assert_eq!(all.iter().count(), Responders::LIMIT);
        assert_eq!(all.iter().map(|responder| responder.won.get()).sum::<u64>(), 600);
        assert_eq!(all.iter().last().unwrap().name(), None);
    }

    #[test]
    fn origins_leave_half_of_the_entries_to_replicas() {
        let (all, mut index) = (Responders::default(), ResponderIndex::default());
        for number in 0..300u32 {
            index.of(&all, 0, address(number), true).won.add(1);
        }
        index.of(&all, 0, [198, 51, 100, 10].into(), false).won.add(1);
        assert_eq!(all.iter().count(), Responders::LIMIT / 2 + 2);
    }

    #[test]
    fn forged_responders_do_not_keep_the_real_ones_out() {
        let (all, mut index) = (Responders::default(), ResponderIndex::default());
        let forged = |index: &mut ResponderIndex, numbers: std::ops::Range<u32>| {
            numbers.for_each(|n| index.of(&all, 0, address(n), false).lost.add(1));
        };
        forged(&mut index, 0..127);
        let real = IpAddr::from([198, 51, 100, 10]);
        (0..100).for_each(|_| index.of(&all, 0, real, false).won.add(1));
        assert_eq!(named(&all, real).unwrap().won.get(), 100);
        // Nor do they drive one out that goes on answering.
        for round in 1..100 {
            forged(&mut index, round * 1000..round * 1000 + 500);
            (0..100).for_each(|_| index.of(&all, 0, real, false).won.add(1));
        }
        assert_eq!(named(&all, real).unwrap().won.get(), 10_000);
        let lost: u64 = all.iter().map(|responder| responder.lost.get()).sum();
        assert_eq!(lost, 127 + 99 * 500, "none is forgotten");
        let times = index.of(&all, 0, "2001:db8::1".parse().unwrap(), true);
        assert_eq!(times.time_to_syn_ack.counts().iter().sum::<u64>(), 0);
        assert_eq!(times.name(), Some((0, "2001:db8::1".parse().unwrap(), true)));
    }
}
