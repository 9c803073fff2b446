//! Tracking of fragmented packets. Later fragments carry no ports, so each worker remembers for a
//! while how it handled the first fragment (similar to RFC 6146, section 3.4).

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::base::time::Ticks;
use crate::wire::family::Family;

/// The identity of a fragmented packet (RFC 791, RFC 8200). The protocol is not part of it, because
/// only TCP is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacketId<F: Family> {
    /// Source address.
    pub source: F::Address,
    /// Destination address.
    pub destination: F::Address,
    /// Identification, which all fragments of the packet share.
    pub identification: u32,
}

impl<F: Family> PacketId<F> {
    /// Returns the identity of the packet that a fragment belongs to. The fragment's IP header is
    /// at the start of `ip`.
    pub fn of(ip: &[u8]) -> Self {
        Self {
            source: F::source(ip),
            destination: F::destination(ip),
            identification: F::fragment(ip).identification,
        }
    }
}

/// Number of packets remembered. Beyond that the oldest is forgotten.
const CAPACITY: usize = 1024;
/// Time after which a packet is forgotten: as long as hosts wait for missing fragments (Linux's
/// `ipfrag_time`).
const LIFETIME: Ticks = Ticks::from_secs(30);

/// The handling of a first fragment, and the time of its arrival.
#[derive(Clone, Copy, Debug)]
struct First<T> {
    /// How it was handled, or `None` if it was forwarded unchanged.
    done: Option<T>,
    seen: Ticks,
}

/// One worker's memory of fragmented packets.
///
/// `T` says how to handle the later fragments, for example which address to write into them.
///
/// ```rust
/// use std::net::Ipv4Addr;
///
/// use pipeline::base::time::Ticks;
/// use pipeline::packet::fragments::{FirstFragment, Fragments, PacketId};
/// use pipeline::wire::family::V4;
///
/// let (source, destination) = (Ipv4Addr::new(198, 18, 1, 10), Ipv4Addr::new(203, 0, 113, 10));
/// let id = PacketId::<V4> { source, destination, identification: 7 };
/// let mut fragments = Fragments::default();
/// assert_eq!(fragments.find(id, Ticks(0)), FirstFragment::Unseen);
///
/// fragments.learn(id, Some("translate"), Ticks(0));
/// assert_eq!(fragments.find(id, Ticks::from_secs(29)), FirstFragment::Handled("translate"));
/// assert_eq!(fragments.find(id, Ticks::from_secs(30)), FirstFragment::Unseen);
/// ```
#[derive(Debug)]
pub struct Fragments<F: Family, T> {
    known: HashMap<PacketId<F>, First<T>>,
    /// The packets in the order in which they were seen. An identification that recurs is listed
    /// again.
    order: VecDeque<(Ticks, PacketId<F>)>,
}

impl<F: Family, T> Default for Fragments<F, T> {
    fn default() -> Self {
        Self {
            // Twice the capacity, so that entries that come and go never make it grow.
            known: HashMap::with_capacity(2 * CAPACITY),
            order: VecDeque::with_capacity(CAPACITY),
        }
    }
}

/// How the first fragment of a packet was handled. The later fragments are handled in the same way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstFragment<T> {
    /// It was handled in this way.
    Handled(T),
    /// It was forwarded unchanged.
    PassedThrough,
    /// It was not seen, or is forgotten.
    Unseen,
}

impl<F: Family, T: Copy> Fragments<F, T> {
    /// Remembers how a first fragment was handled. `None` means that it was forwarded unchanged.
    pub fn learn(&mut self, id: PacketId<F>, done: Option<T>, now: Ticks) {
        if self.order.len() == CAPACITY {
            self.forget_oldest();
        }
        self.known.insert(id, First { done, seen: now });
        self.order.push_back((now, id));
    }

    /// Returns how the first fragment of a packet was handled, and forgets packets older than 30 s.
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
        // If it was seen again since, it stays, and its later element of `order` removes it.
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
    fn remembers_for_30_seconds() {
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
    fn an_identification_that_recurs_restarts_the_lifetime() {
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
    fn an_ipv6_packet_is_identified_by_its_fragment_header() {
        let mut packet = Segment::ack("[2001:db8::1]:1", "[2001:db8::2]:80", 7, 9).packet();
        packet.splice(40..40, [6, 0, 0, 1, 0, 1, 0, 9]);
        (packet[6], packet[5]) = (44, packet[5] + 8);
        assert_eq!(PacketId::<V6>::of(&packet).identification, 0x0001_0009);
    }
}
