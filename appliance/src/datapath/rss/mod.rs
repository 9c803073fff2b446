//! The worker that owns a client, and the check that a port's RSS agrees.
//!
//! The owner follows from the client's address alone: the low bits of its [`toeplitz`] hash index a
//! redirection table (RETA). Ports get keys under which they compute the same, and the same table, and
//! then distribute packets themselves. Whether they do affects who looks at a packet,
//! never who owns it.
//!
//! A worker trusts a port only after checking it on real packets: see [`RssCheck`].

mod check;
pub mod toeplitz;
pub mod words;

use std::net::IpAddr;
use std::sync::Arc;

pub use check::{Mismatches, RssCheck};
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
    /// Distributes the hashes evenly over `workers` workers in a table of `entries` entries (the
    /// smallest table of the ports that distribute packets, or else [`ENTRIES`]), or as many as the
    /// hash can index.
    ///
    /// # Panics
    /// If `entries` is not a power of two, or `workers` is 0.
    pub fn new(workers: u16, entries: u16, hash: Toeplitz) -> Self {
        assert!(entries.is_power_of_two() && workers > 0);
        let entries = hash.most_entries().min(entries.into()) as u16;
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
    /// [`RetaMap::worker_of`]: this table, repeated. `None` if the port's table is shorter.
    pub fn port_table(&self, entries: u16) -> Option<Vec<u16>> {
        let table = &self.map.table;
        let is_enough = usize::from(entries) >= table.len() && entries.is_power_of_two();
        is_enough.then(|| table.iter().copied().cycle().take(entries.into()).collect())
    }
}

#[cfg(test)]
mod testing {
    /// Returns a sequence of words (xorshift) that a seed decides.
    pub(super) fn random(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::random;
    use super::toeplitz::toeplitz;
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

    /// The queue of a port is what it makes of a packet with its own key and its own table.
    #[test]
    fn ports_with_tables_of_other_sizes_agree() {
        let server = [203, 0, 113, 1];
        let one_address = Toeplitz::of_one_address(random(1));
        for (hash, workers) in [(Toeplitz::default(), 3), (one_address, 5)] {
            let reta = RetaMap::new(workers, 128, hash.clone());
            for entries in [128, 512, 2048] {
                let table = reta.port_table(entries).unwrap();
                assert_eq!(table.len(), usize::from(entries));
                let queue = |key: &[u8], input: &[u8]| {
                    usize::from(table[toeplitz(key, input) as usize % table.len()])
                };
                for client in clients() {
                    let IpAddr::V4(address) = client else { continue };
                    let other = if hash.is_of_one_address() { [0; 4] } else { server };
                    let out = [address.octets(), other].concat();
                    let back = [other, address.octets()].concat();
                    assert_eq!(queue(hash.source_key(), &out), reta.worker_of(client));
                    assert_eq!(queue(hash.destination_key(), &back), reta.worker_of(client));
                }
            }
            assert!([0, 64, 100, 300].iter().all(|&entries| reta.port_table(entries).is_none()));
        }
    }

    #[test]
    fn a_table_is_no_longer_than_the_hash_can_index() {
        let reta = RetaMap::new(100, 2048, Toeplitz::by_key(6, random(1)));
        assert_eq!(reta.map.table.len(), 64);
        assert_eq!(RetaMap::new(2, 512, Toeplitz::of_one_address(random(1))).map.table.len(), 256);
    }
}
