//! The servers and replicas that answer a gateway's races, and their response times.

use std::net::IpAddr;
use std::sync::OnceLock;

use hashbrown::HashMap;

use super::{Counter, Histogram};

/// A server or replica that has answered races of a service.
#[derive(Debug, Default)]
pub struct Responder {
    name: OnceLock<(u16, IpAddr, bool)>,
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
        self.name.get().copied()
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

/// A worker's index into its [`Responders`].
#[derive(Debug)]
pub struct ResponderIndex {
    places: HashMap<(u16, Bits), usize>,
    /// Entries taken by origins.
    origins: usize,
}

impl Default for ResponderIndex {
    fn default() -> Self {
        Self { places: HashMap::with_capacity(Responders::LIMIT), origins: 0 }
    }
}

impl ResponderIndex {
    /// Returns the entry of a responder, and inserts one if there is none yet.
    pub fn of<'a>(
        &mut self,
        all: &'a Responders,
        service: u16,
        address: IpAddr,
        is_origin: bool,
    ) -> &'a Responder {
        let key = (service, Bits::of(address));
        if let Some(&place) = self.places.get(&key) {
            return &all.0[place];
        }
        let place = self.places.len();
        let others = Responders::LIMIT - 1;
        // A service may have any number of origins: half of the entries are left to replicas.
        if place >= others || is_origin && self.origins >= Responders::LIMIT / 2 {
            return &all.0[others];
        }
        self.origins += usize::from(is_origin);
        self.places.insert(key, place);
        let responder = &all.0[place];
        // The entry is new, so it has no name yet.
        let _ = responder.name.set((service, address, is_origin));
        responder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responders_beyond_the_limit_share_an_entry() {
        let (all, mut index) = (Responders::default(), ResponderIndex::default());
        for number in 0..300u32 {
            let address = IpAddr::from(number.to_be_bytes());
            index.of(&all, 0, address, false).won.add(1);
            index.of(&all, 0, address, false).won.add(1);
        }
        assert_eq!(all.iter().count(), Responders::LIMIT);
        assert_eq!(all.iter().map(|responder| responder.won.get()).sum::<u64>(), 600);
        assert_eq!(all.iter().last().unwrap().name(), None);
    }

    #[test]
    fn origins_leave_half_of_the_entries_to_replicas() {
        let (all, mut index) = (Responders::default(), ResponderIndex::default());
        for number in 0..300u32 {
            index.of(&all, 0, IpAddr::from(number.to_be_bytes()), true).won.add(1);
        }
        index.of(&all, 0, [198, 51, 100, 10].into(), false).won.add(1);
        assert_eq!(all.iter().count(), Responders::LIMIT / 2 + 2);
    }
}
