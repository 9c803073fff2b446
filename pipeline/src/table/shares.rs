//! Shares of client prefixes: in a table that is nearly full of connections in use, no prefix gets
//! more than its share, so that one client, or one network of them, does not keep the others out.
//!
//! Only entries that are never evicted count: a flood of SYNs takes nobody's share. Counters are
//! indexed by a keyed hash of the prefix, so nobody can choose prefixes that share one. They change
//! when a connection is established, and when it is closed or removed.

use super::hash::{Blocks, KeyedHash};
use super::{Entry, FREE, Key, State, Table};
use crate::base::time::Ticks;

/// Number of counters.
const COUNTERS: usize = 8192;
/// A prefix's share is this part of the table: one sixteenth.
const PARTS: usize = 16;
/// A smaller table has no shares: a few connections would be one.
const LEAST_CAPACITY: usize = 256;
/// An entry of a prefix that has reached its share may be evicted after this idle time.
const IDLE: Ticks = Ticks::from_secs(300);

/// A client's prefix, as it is hashed.
struct Prefix(u64);

impl Blocks for Prefix {
    const BLOCKS: usize = 1;

    #[inline(always)]
    fn block(&self, _number: usize) -> u128 {
        u128::from(self.0)
    }
}

/// The entries of each client prefix that are never evicted.
pub(super) struct Shares {
    counts: Box<[u32]>,
    /// The sum of `counts`.
    total: usize,
    /// From this sum on, shares count: three quarters of the table.
    scarce: usize,
    share: u32,
    /// Insertions refused because the prefix had reached its share.
    refused: u64,
    /// Idle entries evicted because their prefix had reached its share.
    evicted: u64,
}

impl Shares {
    /// Returns the shares of a table with this capacity.
    pub(super) fn new(capacity: usize) -> Self {
        let has_shares = capacity >= LEAST_CAPACITY;
        Self {
            counts: vec![0; if has_shares { COUNTERS } else { 0 }].into(),
            total: 0,
            scarce: capacity - capacity / 4,
            share: (capacity / PARTS) as u32,
            refused: 0,
            evicted: 0,
        }
    }

    fn index<K: Key>(keyed: &KeyedHash, key: &K) -> usize {
        keyed.of(&Prefix(key.client_prefix())) as usize % COUNTERS
    }

    /// Counts an entry that is never evicted from now on.
    pub(super) fn add<K: Key>(&mut self, keyed: &KeyedHash, key: &K) {
        if let Some(count) = self.counts.get_mut(Self::index(keyed, key)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Counts an entry that was removed, or may be evicted from now on.
    pub(super) fn subtract<K: Key>(&mut self, keyed: &KeyedHash, key: &K) {
        if let Some(count) = self.counts.get_mut(Self::index(keyed, key)) {
            *count -= 1;
            self.total -= 1;
        }
    }

    /// Returns the number of entries of a client's prefix, if it has reached its share.
    fn beyond<K: Key>(&self, keyed: &KeyedHash, key: &K) -> Option<u32> {
        let count = *self.counts.get(Self::index(keyed, key))?;
        (count >= self.share).then_some(count)
    }

    /// Returns whether a client gets no new entry, and counts it.
    #[inline]
    pub(super) fn refuses<K: Key>(&mut self, keyed: &KeyedHash, key: &K) -> bool {
        let refuses = self.total >= self.scarce && self.beyond(keyed, key).is_some();
        self.refused += u64::from(refuses);
        refuses
    }
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Returns how many insertions were refused because the client's prefix had its share of the
    /// table.
    pub fn refused_by_share(&self) -> u64 {
        self.shares.refused
    }

    /// Returns how many idle entries were evicted because their prefix had its share of the table.
    pub fn evicted_for_share(&self) -> u64 {
        self.shares.evicted
    }

    /// Returns the entry that a table full of established connections gives up, among those that
    /// were checked for expiry last: of the prefix with the most connections, if it has reached its
    /// share, the one that was idle for the longest time, if that is long enough.
    pub(super) fn idle_beyond_share(&mut self, now: Ticks) -> Option<u32> {
        let end = self.entries.len() as u32;
        // From where the sweep began to where it ended, which is at the same place if it passed over
        // all of a small table.
        let checked: [_; 2] = match (self.swept_from, self.cursor) {
            (from, to) if from < to => [from..to, 0..0],
            (from, to) => [from..end, 1..to],
        };
        let candidate = |at: u32| {
            let Entry { key, seen, previous, .. } = &self.entries[at as usize];
            let idle = now.since(*seen);
            if *previous == FREE || idle <= IDLE {
                return None;
            }
            Some(((self.shares.beyond(&self.keyed, key)?, idle), at))
        };
        let checked = checked.into_iter().flatten();
        let (_, found) = checked.filter_map(candidate).max_by_key(|(rank, _)| *rank)?;
        self.shares.evicted += 1;
        Some(found)
    }
}

#[cfg(test)]
mod tests;
