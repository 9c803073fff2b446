//! How a burst finds its entries: three passes, so that no packet waits for the cache lines of its own.

use super::bucket::LAST;
use super::{FREE, Hash, Key, NIL, Slot, State, Table, place_of};
use crate::base::prefetch::prefetch;
use crate::base::time::Ticks;

/// Index in an [`EntryHint`] when no entry had the key.
const ABSENT: u32 = u32::MAX - 1;

/// The entry that probably holds a key, read from the bucket while prefetching.
///
/// Returned by [`Table::prefetch_entry`]; [`Table::peek`] and [`Table::find_hinted`] check it.
#[derive(Clone, Copy, Debug)]
pub struct EntryHint {
    index: u32,
    /// The lower half of `Table::inserted` when the hint was read.
    inserted: u32,
}

impl EntryHint {
    /// A hint that never matches.
    pub const NONE: Self = Self { index: NIL, inserted: 0 };
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Prefetches the home bucket of a key. First pass over a burst.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: Hash) {
        prefetch(&self.buckets[hash.home as usize]);
    }

    /// Prefetches the entry whose signature is in the bucket, and returns a hint to it. Second pass
    /// over a burst.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: Hash) -> EntryHint {
        let home = hash.home as usize;
        let bucket = &self.buckets[home];
        // The bit above those of the slots stands for no match. The place that follows from it is
        // prefetched for nothing, but no branch depends on whether there was a match.
        let found = bucket.search(hash.signature as u16);
        if found == 0 {
            return self.prefetch_beyond(hash);
        }
        let place = place_of(home, found.trailing_zeros() as usize);
        self.entries.prefetch(place as usize);
        let index = if found == LAST { ABSENT } else { place };
        EntryHint { index, inserted: self.inserted as u32 }
    }

    /// Does the same for a key that may be in one of the buckets after its home.
    #[cold]
    #[inline(never)]
    fn prefetch_beyond(&self, hash: Hash) -> EntryHint {
        let index = match self.locate(hash, |_| true) {
            Some((bucket, slot)) => place_of(bucket, slot),
            None => ABSENT,
        };
        self.entries.prefetch(index as usize);
        EntryHint { index, inserted: self.inserted as u32 }
    }

    /// Finds the entry of a key as [`Table::find`] does, starting from a hint. Third pass over a
    /// burst.
    #[inline(always)]
    pub fn find_hinted(&mut self, hash: Hash, hint: EntryHint, key: K, now: Ticks) -> Option<Slot> {
        match self.peek(hint, key, now) {
            Some(slot) => Some(slot),
            None if self.is_absent(hint) => None,
            None => self.find(hash, key, now),
        }
    }

    /// Returns whether the key is certainly absent: it had no entry when the hint was read, and no
    /// entry was inserted since.
    #[inline(always)]
    pub fn is_absent(&self, hint: EntryHint) -> bool {
        hint.index == ABSENT && hint.inserted == self.inserted as u32
    }

    /// Returns the hinted entry if it still holds `key` and has not expired. `None` is
    /// inconclusive: fall back to [`Table::find`].
    #[inline(always)]
    pub fn peek(&self, hint: EntryHint, key: K, now: Ticks) -> Option<Slot> {
        let entry = self.entries.get(hint.index as usize)?;
        // Another key may have had the place since, or nobody.
        let matches = entry.key == key && entry.previous != FREE;
        (matches && !self.has_expired(entry, now)).then_some(Slot(hint.index))
    }

    /// Returns bucket and slot of the entry with this hash that `matches` accepts.
    pub(super) fn locate(
        &self,
        hash: Hash,
        matches: impl Fn(u32) -> bool,
    ) -> Option<(usize, usize)> {
        let mut at = hash.home as usize;
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut found = bucket.matches(hash.signature as u16);
            while found != 0 {
                let slot = found.trailing_zeros() as usize;
                if matches(place_of(at, slot)) {
                    return Some((at, slot));
                }
                found &= found - 1;
            }
            if bucket.is_last() {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Finds the entry of a key. Removes the entry and returns `None` if it has expired.
    pub fn find(&mut self, hash: Hash, key: K, now: Ticks) -> Option<Slot> {
        let (bucket, slot) = self.locate(hash, |entry| self.entries[entry as usize].key == key)?;
        let slot = Slot(place_of(bucket, slot));
        if self.is_expired(slot, now) {
            self.expired += 1;
            self.remove(slot);
            return None;
        }
        Some(slot)
    }
}
