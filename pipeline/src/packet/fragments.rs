//! Later fragments: they bear no ports, so what became of their first fragment is remembered for
//! a while (RFC 6146, section 3.4, does it alike).

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::base::time::Ticks;
use crate::wire::family::Family;

/// What names the packet that a fragment is of (RFC 791, RFC 8200; its payload is always TCP
/// here).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketId<F: Family> {
    /// Source address.
    pub source: F::Address,
    /// Destination address.
    pub destination: F::Address,
    /// Identification.
    pub identification: u32,
}

impl<F: Family> PacketId<F> {
    /// That of the packet whose IP header is at the start of `ip`, a fragment.
    pub fn of(ip: &[u8]) -> Self {
        Self {
            source: F::source(ip),
            destination: F::destination(ip),
            identification: F::fragment(ip).identification,
        }
    }
}

/// Packets remembered; beyond that the oldest is forgotten.
const CAPACITY: usize = 1024;
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
pub struct Fragments<F: Family, T> {
    known: HashMap<PacketId<F>, First<T>>,
    /// In the order in which they were seen; an identification that recurs is in it again.
    order: VecDeque<(Ticks, PacketId<F>)>,
}

impl<F: Family, T> Default for Fragments<F, T> {
    fn default() -> Self {
        Self {
            // Twice the room: entries that come and go never make it grow.
            known: HashMap::with_capacity(2 * CAPACITY),
            order: VecDeque::with_capacity(CAPACITY),
        }
    }
}

/// What was done to the first fragment of a packet: the later ones follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFragment<T> {
    /// It was handled this way.
    Handled(T),
    /// It was forwarded as it was.
    PassedThrough,
    /// It has not been seen.
    Unseen,
}

impl<F: Family, T: Copy> Fragments<F, T> {
    /// What was done to a first fragment.
    pub fn learn(&mut self, id: PacketId<F>, done: Option<T>, now: Ticks) {
        if self.order.len() == CAPACITY {
            self.forget_oldest();
        }
        self.known.insert(id, First { done, seen: now });
        self.order.push_back((now, id));
    }

    /// What is to become of a later fragment.
    pub fn find(&mut self, id: PacketId<F>, now: Ticks) -> FirstFragment<T> {
        while self.order.front().is_some_and(|(since, _)| now.since(*since) >= LIFETIME) {
            self.forget_oldest();
        }
        match self.known.get(&id) {
            Some(first) => first.done.map_or(FirstFragment::PassedThrough, FirstFragment::Handled),
            None => FirstFragment::Unseen,
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
    use std::net::Ipv4Addr;

    use super::*;
    use crate::testing::Segment;
    use crate::wire::family::{V4, V6};

    const V: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);

    fn id(identification: u32) -> PacketId<V4> {
        let (source, destination) = ([198, 51, 100, 10].into(), [198, 18, 1, 10].into());
        PacketId { source, destination, identification }
    }

    #[test]
    fn remembers_for_a_while() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.find(id(1), Ticks(0)), FirstFragment::Unseen);
        fragments.learn(id(1), Some(V), Ticks::from_secs(1));
        fragments.learn(id(3), None, Ticks::from_secs(1));
        assert_eq!(fragments.find(id(3), Ticks::from_secs(30)), FirstFragment::PassedThrough);
        assert_eq!(fragments.find(id(1), Ticks::from_secs(30)), FirstFragment::Handled(V));
        assert_eq!(fragments.find(id(2), Ticks::from_secs(30)), FirstFragment::Unseen);
        assert_eq!(fragments.find(id(1), Ticks::from_secs(31)), FirstFragment::Unseen);
    }

    #[test]
    fn an_identification_that_recurs_starts_anew() {
        let mut fragments = Fragments::default();
        fragments.learn(id(1), Some(V), Ticks::from_secs(0));
        fragments.learn(id(1), Some(V), Ticks::from_secs(29));
        assert_eq!(fragments.find(id(1), Ticks::from_secs(58)), FirstFragment::Handled(V));
    }

    #[test]
    fn forgets_the_oldest_when_full() {
        let mut fragments = Fragments::default();
        for n in 0..=CAPACITY as u32 {
            fragments.learn(id(n), Some(V), Ticks(0));
        }
        assert_eq!(fragments.find(id(0), Ticks(1)), FirstFragment::Unseen);
        assert_eq!(fragments.find(id(1), Ticks(1)), FirstFragment::Handled(V));
        assert_eq!(fragments.known.len(), CAPACITY);
    }

    #[test]
    fn a_packet_of_ipv6_is_named_by_its_fragment_header() {
        let mut packet = Segment::ack("[2001:db8::1]:1", "[2001:db8::2]:80", 7, 9).packet();
        packet.splice(40..40, [6, 0, 0, 1, 0, 1, 0, 9]);
        (packet[6], packet[5]) = (44, packet[5] + 8);
        assert_eq!(PacketId::<V6>::of(&packet).identification, 0x0001_0009);
    }
}
