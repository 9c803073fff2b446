//! Tracking of fragmented packets. Later fragments carry no ports, so each worker remembers for a
//! while how it handled the first fragment (similar to RFC 6146, section 3.4).

use std::hash::{Hash, Hasher};

use siphasher::sip::SipHasher13;

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

/// The most packets from one host to another that are remembered. Beyond that the oldest is
/// forgotten.
const SHARE: usize = 16;
/// The number of shares. Two hosts have one, which they share with others under a keyed hash.
const SHARES: usize = 64;
/// Time after which a packet is forgotten: as long as hosts wait for missing fragments (Linux's
/// `ipfrag_time`).
const LIFETIME: Ticks = Ticks::from_secs(30);

/// The handling of a first fragment, and the time of its arrival.
#[derive(Clone, Copy, Debug)]
struct First<F: Family, T> {
    id: PacketId<F>,
    /// How it was handled, or `None` if it was forwarded unchanged.
    done: Option<T>,
    seen: Ticks,
}

/// The packets of two hosts.
type Share<F, T> = [Option<First<F, T>>; SHARE];

/// One worker's memory of fragmented packets: 1024 of them, of which two hosts take 16 at most.
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
/// let mut fragments = Fragments::new((1, 2));
/// assert_eq!(fragments.find(id, Ticks(0)), FirstFragment::Unseen);
///
/// fragments.learn(id, Some("translate"), Ticks(0));
/// assert_eq!(fragments.find(id, Ticks::from_secs(29)), FirstFragment::Handled("translate"));
/// assert_eq!(fragments.find(id, Ticks::from_secs(30)), FirstFragment::Unseen);
/// ```
#[derive(Debug)]
pub struct Fragments<F: Family, T> {
    shares: Box<[Share<F, T>]>,
    hash_key: (u64, u64),
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
    /// Returns an empty memory. The hash key must be secret.
    pub fn new(hash_key: (u64, u64)) -> Self {
        Self { shares: vec![[None; SHARE]; SHARES].into_boxed_slice(), hash_key }
    }

    /// Remembers how a first fragment was handled. `None` means that it was forwarded unchanged.
    pub fn learn(&mut self, id: PacketId<F>, done: Option<T>, now: Ticks) {
        let share = self.share(&id);
        // A recurring identification, then a free place, then the oldest packet.
        let worth = |first: &Option<First<F, T>>| match first {
            Some(first) if first.id == id => (0, Ticks(0)),
            None => (1, Ticks(0)),
            Some(first) => (2, first.seen),
        };
        if let Some(place) = self.shares[share].iter_mut().min_by_key(|first| worth(first)) {
            *place = Some(First { id, done, seen: now });
        }
    }

    /// Returns how the first fragment of a packet was handled within the last 30 s.
    pub fn find(&self, id: PacketId<F>, now: Ticks) -> FirstFragment<T> {
        let share = &self.shares[self.share(&id)];
        match share.iter().flatten().find(|first| first.id == id) {
            Some(first) if now.since(first.seen) < LIFETIME => {
                first.done.map_or(FirstFragment::PassedThrough, FirstFragment::Handled)
            }
            _ => FirstFragment::Unseen,
        }
    }

    fn share(&self, id: &PacketId<F>) -> usize {
        let mut hasher = SipHasher13::new_with_keys(self.hash_key.0, self.hash_key.1);
        (id.source, id.destination).hash(&mut hasher);
        hasher.finish() as usize % SHARES
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
        let mut fragments = Fragments::new((1, 2));
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
        let mut fragments = Fragments::new((1, 2));
        fragments.learn(id(1), Some(V), Ticks::from_secs(0));
        fragments.learn(id(1), Some(V), Ticks::from_secs(29));
        assert_eq!(fragments.find(id(1), Ticks::from_secs(58)), FirstFragment::Handled(V));
        fragments.learn(id(1), None, Ticks::from_secs(58));
        assert_eq!(fragments.find(id(1), Ticks::from_secs(58)), FirstFragment::PassedThrough);
    }

    #[test]
    fn two_hosts_have_a_share_and_forget_their_oldest_packet() {
        let mut fragments = Fragments::new((1, 2));
        let other = |n: u8| PacketId { source: [198, 18, 2, n].into(), ..id(7) };
        (0..8).for_each(|n| fragments.learn(other(n), None, Ticks(1)));
        for n in 0..100_000 {
            fragments.learn(id(n), Some(V), Ticks(u64::from(n)));
        }
        let known = (0..100_000)
            .filter(|n| fragments.find(id(*n), Ticks(100_000)) != FirstFragment::Unseen);
        assert_eq!(
            known.collect::<Vec<_>>(),
            (100_000 - SHARE as u32..100_000).collect::<Vec<_>>()
        );
        let others =
            (0..8).filter(|n| fragments.find(other(*n), Ticks(2)) != FirstFragment::Unseen);
        assert!(others.count() >= 7, "others are not forgotten");
    }

    #[test]
    fn an_ipv6_packet_is_identified_by_its_fragment_header() {
        let mut packet = Segment::ack("[2001:db8::1]:1", "[2001:db8::2]:80", 7, 9).packet();
        packet.splice(40..40, [6, 0, 0, 1, 0, 1, 0, 9]);
        (packet[6], packet[5]) = (44, packet[5] + 8);
        assert_eq!(PacketId::<V6>::of(&packet).identification, 0x0001_0009);
    }
}
