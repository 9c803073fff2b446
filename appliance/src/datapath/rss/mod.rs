//! Which worker owns a client, and whether the ports have placed its packets there.
//!
//! The owner follows from the client's address alone: the low bits of its [`toeplitz`] hash,
//! looked up in a table. A port that can hash one address alone is given the same key and the same
//! table, and then places packets itself; whether it does changes who looks, never who owns.
//!
//! A worker believes a port only once it has seen it do so: see [`Trust`].

pub mod toeplitz;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Entries of the table when no port has one.
pub const ENTRIES: u16 = 512;

/// Who owns whom.
#[derive(Clone, Debug)]
pub struct Owners {
    /// Worker by the low bits of the hash; as many entries as a power of two.
    table: Arc<[u16]>,
}

impl Owners {
    /// Shares the hashes out among `workers` workers, by a table of `entries` entries: the smallest
    /// of those of the ports that place packets, or else [`ENTRIES`].
    ///
    /// # Panics
    /// When `entries` is not a power of two, or there are no workers.
    pub fn new(workers: u16, entries: u16) -> Self {
        assert!(entries.is_power_of_two() && workers > 0);
        Self { table: (0..entries).map(|entry| entry % workers).collect() }
    }

    /// The number of the worker that owns a client. The key is no secret: nothing is gained by
    /// knowing it but an uneven load, which a sender with many addresses can have anyway.
    #[inline]
    pub fn of(&self, client: IpAddr) -> usize {
        usize::from(self.table[toeplitz::of_address(client) as usize & (self.table.len() - 1)])
    }

    /// The table of a port that has `entries` of them, such that it agrees with [`Owners::of`].
    pub fn indirection(&self, entries: u16) -> Vec<u16> {
        (0..usize::from(entries)).map(|entry| self.table[entry & (self.table.len() - 1)]).collect()
    }
}

/// Packets that a port has to place right before it is believed.
const TRIAL: u32 = 4096;
/// Of those that a believed port has placed, every so many is looked at.
const SAMPLE: u32 = 64;

/// What a worker thinks of its receive queue on a port that says it places packets. No test here
/// can see a network card do it, so each has to show it: until then every packet is looked at, and
/// later one of many. One that is found where it does not belong ends it for good. Packets are
/// looked at and handed over from then on, as on any other port.
#[derive(Debug)]
pub struct Trust {
    /// Set by whoever finds a packet out of place. None for a port that is not believed at all.
    doubted: Option<Arc<AtomicBool>>,
    /// Packets still to be looked at before the next that is not.
    left: u32,
    /// Packets not looked at since the last that was.
    passed: u32,
}

impl Trust {
    /// Of a port that does not place packets.
    pub fn none() -> Self {
        Self { doubted: None, left: 0, passed: 0 }
    }

    /// Of one that says that it does. `doubted` tells others when it turns out not to.
    pub fn on_trial(doubted: Arc<AtomicBool>) -> Self {
        Self { doubted: Some(doubted), left: TRIAL, passed: 0 }
    }

    /// Whether the next packet that the port has placed need not be looked at.
    #[inline]
    pub fn believes(&mut self) -> bool {
        if self.doubted.is_none() || self.left > 0 {
            return false;
        }
        self.passed += 1;
        if self.passed < SAMPLE {
            return true;
        }
        self.passed = 0;
        false
    }

    /// A packet that the port has placed was looked at: it was, or was not, in its place.
    #[inline]
    pub fn seen(&mut self, in_place: bool) {
        let Some(doubted) = &self.doubted else { return };
        if !in_place {
            doubted.store(true, Relaxed);
        }
        // Another worker may have found out.
        if doubted.load(Relaxed) {
            self.doubted = None;
        }
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..3000u32).map(|n| IpAddr::from((0xc612_0000 + n).to_be_bytes()))
    }

    #[test]
    fn owners_are_spread() {
        let mut shares = [0; 3];
        let owners = Owners::new(3, ENTRIES);
        clients().for_each(|client| shares[owners.of(client)] += 1);
        assert!(shares.iter().all(|share| (950..1050).contains(share)), "{shares:?}");
        assert!(clients().all(|client| Owners::new(1, 64).of(client) == 0));
    }

    #[test]
    fn ports_with_tables_of_other_sizes_agree() {
        let owners = Owners::new(3, 128);
        for entries in [128, 512, 2048] {
            let table = owners.indirection(entries);
            assert_eq!(table.len(), usize::from(entries));
            for client in clients() {
                let placed = table[toeplitz::of_address(client) as usize % table.len()];
                assert_eq!(usize::from(placed), owners.of(client));
            }
        }
    }

    #[test]
    fn a_port_is_believed_after_its_trial_and_still_sampled() {
        let mut trust = Trust::on_trial(Arc::default());
        for _ in 0..TRIAL {
            assert!(!trust.believes());
            trust.seen(true);
        }
        let believed = (0..SAMPLE * 10).filter(|_| trust.believes()).count();
        assert_eq!(believed, (SAMPLE as usize - 1) * 10);
    }

    #[test]
    fn one_packet_in_the_wrong_place_ends_it() {
        for right in [0, TRIAL, TRIAL + 7] {
            let doubted = Arc::new(AtomicBool::new(false));
            let mut trust = Trust::on_trial(Arc::clone(&doubted));
            (0..right).for_each(|_| trust.seen(true));
            assert!(!doubted.load(Relaxed));
            trust.seen(false);
            assert!(doubted.load(Relaxed));
            (0..2 * TRIAL).for_each(|_| trust.seen(true));
            assert!((0..2 * SAMPLE).all(|_| !trust.believes()));
        }
        // Who looks at another queue of the port takes notice with its next sample.
        let doubted = Arc::new(AtomicBool::new(false));
        let mut trust = Trust::on_trial(Arc::clone(&doubted));
        (0..TRIAL).for_each(|_| trust.seen(true));
        doubted.store(true, Relaxed);
        assert!(trust.believes());
        trust.seen(true);
        assert!((0..2 * SAMPLE).all(|_| !trust.believes()));
        let mut none = Trust::none();
        none.seen(true);
        assert!(!none.believes());
    }
}
