//! The worker that owns a client, and the check that a port's RSS agrees.
//!
//! The owner follows from the client's address alone: the low bits of its [`toeplitz`] hash index a
//! redirection table (RETA). A port that can hash a single address gets the same secret key and the same
//! table, and then distributes packets itself. Whether it does affects who looks at a packet,
//! never who owns it.
//!
//! A worker trusts a port only after checking it on real packets: see [`RssCheck`].

pub mod toeplitz;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use toeplitz::Toeplitz;

/// Entries of the table when no port has one.
pub const ENTRIES: u16 = 512;

/// The map from a client's address to the worker that owns it.
#[derive(Clone, Debug)]
pub struct RetaMap {
    map: Arc<Map>,
}

#[derive(Debug)]
struct Map {
    hash: Toeplitz,
    /// Worker by the low bits of the hash. The length is a power of two.
    table: Box<[u16]>,
}

impl RetaMap {
    /// Distributes the hashes evenly over `workers` workers in a table of `entries` entries: the
    /// smallest table of the ports that distribute packets, or else [`ENTRIES`].
    ///
    /// # Panics
    /// If `entries` is not a power of two, or `workers` is 0.
    pub fn new(workers: u16, entries: u16, hash: Toeplitz) -> Self {
        assert!(entries.is_power_of_two() && workers > 0);
        let table = (0..entries).map(|entry| entry % workers).collect();
        Self { map: Arc::new(Map { hash, table }) }
    }

    /// Returns the number of the worker that owns a client.
    #[inline]
    pub fn worker_of(&self, client: IpAddr) -> usize {
        let Map { hash, table } = &*self.map;
        usize::from(table[hash.of_address(client) as usize & (table.len() - 1)])
    }

    /// Returns the table for a port with `entries` entries, such that the port agrees with
    /// [`RetaMap::worker_of`].
    pub fn port_table(&self, entries: u16) -> Vec<u16> {
        let table = &self.map.table;
        (0..usize::from(entries)).map(|entry| table[entry & (table.len() - 1)]).collect()
    }
}

/// Packets that a port must distribute correctly before it is trusted.
const TRIAL: u32 = 4096;
/// One packet in this many is checked on a trusted port.
const SAMPLE: u32 = 64;

/// A worker's check of one receive queue on a port that claims to distribute packets by RSS.
///
/// No test here covers the RSS of a real NIC, so each port has to prove itself: first every packet
/// is checked, later a sample. A single packet in the wrong queue ends the trust for good; from
/// then on all packets are checked and handed over, as on a port without RSS.
#[derive(Debug)]
pub struct RssCheck {
    /// Set by the worker that finds a packet in the wrong queue. `None` for a port that is not
    /// trusted at all.
    mismatch: Option<Arc<AtomicBool>>,
    /// Packets left of the trial.
    trial_left: u32,
    /// Packets not checked since the last one that was.
    unchecked: u32,
}

impl RssCheck {
    /// Creates the check of a port that does not distribute packets: never trusted.
    pub fn untrusted() -> Self {
        Self { mismatch: None, trial_left: 0, unchecked: 0 }
    }

    /// Creates the check of a port that claims to distribute packets. `mismatch` is shared by the
    /// port's queues and set when one of them finds a packet in the wrong queue.
    pub fn on_trial(mismatch: Arc<AtomicBool>) -> Self {
        Self { mismatch: Some(mismatch), trial_left: TRIAL, unchecked: 0 }
    }

    /// Returns whether the next packet distributed by the port can go unchecked.
    #[inline]
    pub fn trusts(&mut self) -> bool {
        if self.mismatch.is_none() || self.trial_left > 0 {
            return false;
        }
        self.unchecked += 1;
        if self.unchecked < SAMPLE {
            return true;
        }
        self.unchecked = 0;
        false
    }

    /// Records that a packet distributed by the port was checked, and whether it came to the right
    /// queue.
    #[inline]
    pub fn record(&mut self, matches: bool) {
        let Some(mismatch) = &self.mismatch else { return };
        if !matches {
            mismatch.store(true, Relaxed);
        }
        // Another worker may have set it.
        if mismatch.load(Relaxed) {
            self.mismatch = None;
        }
        self.trial_left = self.trial_left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> impl Iterator<Item = IpAddr> {
        (0..3000u32).map(|n| IpAddr::from((0xc612_0000 + n).to_be_bytes()))
    }

    #[test]
    fn clients_are_spread_over_workers() {
        let mut shares = [0; 3];
        let reta = RetaMap::new(3, ENTRIES, Toeplitz::default());
        clients().for_each(|client| shares[reta.worker_of(client)] += 1);
        assert!(shares.iter().all(|share| (950..1050).contains(share)), "{shares:?}");
        assert!(
            clients().all(|client| RetaMap::new(1, 64, Toeplitz::default()).worker_of(client) == 0)
        );
    }

    #[test]
    fn ports_with_tables_of_other_sizes_agree() {
        let reta = RetaMap::new(3, 128, Toeplitz::default());
        for entries in [128, 512, 2048] {
            let table = reta.port_table(entries);
            assert_eq!(table.len(), usize::from(entries));
            for client in clients() {
                let placed = table[Toeplitz::default().of_address(client) as usize % table.len()];
                assert_eq!(usize::from(placed), reta.worker_of(client));
            }
        }
    }

    #[test]
    fn a_port_is_trusted_after_its_trial_and_still_sampled() {
        let mut check = RssCheck::on_trial(Arc::default());
        for _ in 0..TRIAL {
            assert!(!check.trusts());
            check.record(true);
        }
        let trusted = (0..SAMPLE * 10).filter(|_| check.trusts()).count();
        assert_eq!(trusted, (SAMPLE as usize - 1) * 10);
    }

    #[test]
    fn one_packet_in_the_wrong_queue_ends_the_trust() {
        for right in [0, TRIAL, TRIAL + 7] {
            let mismatch = Arc::new(AtomicBool::new(false));
            let mut check = RssCheck::on_trial(Arc::clone(&mismatch));
            (0..right).for_each(|_| check.record(true));
            assert!(!mismatch.load(Relaxed));
            check.record(false);
            assert!(mismatch.load(Relaxed));
            (0..2 * TRIAL).for_each(|_| check.record(true));
            assert!((0..2 * SAMPLE).all(|_| !check.trusts()));
        }
        // A worker on another queue of the port notices with its next sample.
        let mismatch = Arc::new(AtomicBool::new(false));
        let mut check = RssCheck::on_trial(Arc::clone(&mismatch));
        (0..TRIAL).for_each(|_| check.record(true));
        mismatch.store(true, Relaxed);
        assert!(check.trusts());
        check.record(true);
        assert!((0..2 * SAMPLE).all(|_| !check.trusts()));
        let mut untrusted = RssCheck::untrusted();
        untrusted.record(true);
        assert!(!untrusted.trusts());
    }
}
