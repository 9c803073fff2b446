//! Later fragments: they bear no ports, so what became of their first fragment is remembered for
//! a while (RFC 6146, section 3.4, does it alike).

use std::collections::VecDeque;
use std::net::Ipv4Addr;

use hashbrown::HashMap;

use crate::time::Ticks;
use crate::wire::ipv4;

/// What names the packet that a fragment is of (RFC 791; the protocol is always TCP here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketId {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Identification.
    pub identification: u16,
}

impl PacketId {
    /// That of the packet whose IP header is at the start of `ip`.
    pub fn of(ip: &[u8]) -> Self {
        Self {
            source: ipv4::source(ip),
            destination: ipv4::destination(ip),
            identification: ipv4::identification(ip),
        }
    }
}

/// Packets remembered; beyond that the oldest is forgotten.
const CAPACITY: usize = 1024;
/// How often, at the most, the full pairs are looked through: that takes a while.
const TIDY: Ticks = Ticks::from_secs(1);
/// As long as hosts wait for the rest of a packet (Linux's `ipfrag_time`).
const LIFETIME: Ticks = Ticks::from_secs(30);

/// What was done to a first fragment, and when.
#[derive(Clone, Copy, Debug)]
struct First<T> {
    /// What was done to it; none when it passed as it was.
    done: Option<T>,
    seen: Ticks,
}

/// What one worker knows of fragmented packets: `T` is what is to be done to the later fragments,
/// such as an address to be put in.
#[derive(Debug)]
pub struct Fragments<T> {
    known: HashMap<PacketId, First<T>>,
    /// In the order in which they were seen; an identification that recurs is in it again.
    order: VecDeque<(Ticks, PacketId)>,
    /// Address pairs to whose fragments something has been done lately.
    pairs: HashMap<(Ipv4Addr, Ipv4Addr), Ticks>,
    /// When the pairs were last looked through for what can be forgotten.
    tidied: Ticks,
}

impl<T> Default for Fragments<T> {
    fn default() -> Self {
        Self {
            known: HashMap::with_capacity(2 * CAPACITY),
            order: VecDeque::with_capacity(CAPACITY),
            pairs: HashMap::with_capacity(2 * CAPACITY),
            tidied: Ticks(0),
        }
    }
}

/// What to do with a later fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate<T> {
    /// Do what was done to its first fragment.
    Follow(T),
    /// Something is done to fragments between these addresses, but the first of this packet has
    /// not been seen.
    Unknown,
    /// Its first fragment passed as it was, or nothing is done between these addresses.
    Untouched,
}

impl<T: Copy> Fragments<T> {
    /// Remembers what was done to a first fragment, if anything.
    pub fn learn(&mut self, id: PacketId, done: Option<T>, now: Ticks) {
        if self.order.len() == CAPACITY {
            self.forget_oldest();
        }
        self.known.insert(id, First { done, seen: now });
        self.order.push_back((now, id));
        if done.is_none() {
            return;
        }
        if self.pairs.len() == CAPACITY && now.since(self.tidied) >= TIDY {
            self.tidied = now;
            self.pairs.retain(|_, last| now.since(*last) < LIFETIME);
        }
        if self.pairs.len() < CAPACITY {
            self.pairs.insert((id.source, id.destination), now);
        }
    }

    /// What to do with a later fragment.
    pub fn find(&mut self, id: PacketId, now: Ticks) -> Fate<T> {
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= LIFETIME) {
            self.forget_oldest();
        }
        if let Some(first) = self.known.get(&id) {
            return first.done.map_or(Fate::Untouched, Fate::Follow);
        }
        match self.pairs.get(&(id.source, id.destination)) {
            Some(&last) if now.since(last) < LIFETIME => Fate::Unknown,
            _ => Fate::Untouched,
        }
    }

    fn forget_oldest(&mut self) {
        let Some((since, id)) = self.order.pop_front() else { return };
        // Seen again since, it stays: its later place in the order stands for it.
        if self.known.get(&id).is_some_and(|first| first.seen == since) {
            self.known.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    fn id(identification: u16) -> PacketId {
        let (source, destination) = ([198, 51, 100, 10].into(), [198, 18, 1, 10].into());
        PacketId { source, destination, identification }
    }

    #[test]
    fn remembers_for_a_while() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.find(id(1), Ticks(0)), Fate::Untouched);
        fragments.learn(id(1), Some(V), Ticks::from_secs(1));
        fragments.learn(id(3), None, Ticks::from_secs(1));
        assert_eq!(fragments.find(id(3), Ticks::from_secs(30)), Fate::Untouched);
        assert_eq!(fragments.find(id(1), Ticks::from_secs(30)), Fate::Follow(V));
        assert_eq!(fragments.find(id(2), Ticks::from_secs(30)), Fate::Unknown);
        assert_eq!(fragments.find(id(1), Ticks::from_secs(31)), Fate::Untouched);
    }

    #[test]
    fn an_identification_that_recurs_starts_anew() {
        let mut fragments = Fragments::default();
        fragments.learn(id(1), Some(V), Ticks::from_secs(0));
        fragments.learn(id(1), Some(V), Ticks::from_secs(29));
        assert_eq!(fragments.find(id(1), Ticks::from_secs(58)), Fate::Follow(V));
    }

    #[test]
    fn forgets_the_oldest_when_full() {
        let mut fragments = Fragments::default();
        for n in 0..=CAPACITY as u16 {
            fragments.learn(id(n), Some(V), Ticks(0));
        }
        assert_eq!(fragments.find(id(0), Ticks(1)), Fate::Unknown);
        assert_eq!(fragments.find(id(1), Ticks(1)), Fate::Follow(V));
        assert_eq!(fragments.known.len(), CAPACITY);
    }
}
