//! How many entries of a table are in certain states, by the host of their key: an array of fixed
//! size under a keyed hash, changed when an entry enters or leaves these states.

use super::{Key, KeyedHash};
use crate::base::prefetch::prefetch;

/// Places of the smallest array.
const LEAST: usize = 1 << 10;
/// Places of the largest array.
const MOST: usize = 1 << 20;

/// Counts entries by host.
#[derive(Debug)]
pub(super) struct Census<K, S> {
    /// A host has a place in each row. Its number is the smaller one: others can only add to it.
    rows: [Box<[u32]>; 2],
    counts: fn(S) -> bool,
    host: fn(K) -> K,
}

impl<K: Key, S: Copy> Census<K, S> {
    pub(super) fn new(capacity: usize, counts: fn(S) -> bool, host: fn(K) -> K) -> Self {
        let places = capacity.next_power_of_two().clamp(LEAST, MOST);
        let row = || vec![0; places].into_boxed_slice();
        Self { rows: [row(), row()], counts, host }
    }

    fn places(&self, key: K, keyed: &KeyedHash) -> [usize; 2] {
        let hash = keyed.of(&(self.host)(key));
        let mask = self.rows[0].len() - 1;
        [hash as usize & mask, (hash >> 32) as usize & mask]
    }

    /// Prefetches what [`Census::note`] changes for an entry that is about to come.
    pub(super) fn prefetch(&self, key: K, keyed: &KeyedHash) {
        for (row, place) in self.rows.iter().zip(self.places(key, keyed)) {
            prefetch(&row[place]);
        }
    }

    /// Notes that an entry goes from one state to another; `None` is outside of the table.
    #[inline]
    pub(super) fn note(&mut self, key: K, from: Option<S>, to: Option<S>, keyed: &KeyedHash) {
        let counts = |state: Option<S>| state.is_some_and(self.counts);
        let change = match (counts(from), counts(to)) {
            (false, true) => 1,
            (true, false) => -1,
            _ => return,
        };
        let places = self.places(key, keyed);
        for (row, place) in self.rows.iter_mut().zip(places) {
            row[place] = row[place].saturating_add_signed(change);
        }
    }

    /// Returns the number of a host's entries, or a little more.
    pub(super) fn of(&self, key: K, keyed: &KeyedHash) -> u32 {
        let places = self.places(key, keyed);
        self.rows.iter().zip(places).map(|(row, place)| row[place]).min().unwrap_or(0)
    }
}
