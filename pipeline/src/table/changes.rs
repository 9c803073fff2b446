//! Changes of the table: entries come, go, and change their state.

use super::memory::Mark;
use super::{
    Entry, FREE, Hash, Inserted, Key, NIL, Slot, State, Table, is_kept, place_of, slot_of,
};
use crate::base::time::Ticks;

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Returns the entries.
    #[cfg(test)]
    pub(crate) fn live(&self) -> impl Iterator<Item = &Entry<K, S, V>> {
        self.entries.iter().filter(|entry| entry.previous != FREE)
    }

    /// Changes the state of an entry and restarts its time-out.
    pub fn move_to(&mut self, slot: Slot, state: S, now: Ticks) {
        self.entries.save(slot.0);
        self.unlink(slot.0);
        let entry = &mut self.entries[slot.0 as usize];
        entry.seen = now;
        if let Some(census) = &mut self.census {
            census.note(entry.key, Some(entry.state), Some(state), &self.keyed);
        }
        match (is_kept(entry.state), is_kept(state)) {
            (false, true) => self.shares.add(&self.keyed, &entry.key),
            (true, false) => self.shares.subtract(&self.keyed, &entry.key),
            (true, true) | (false, false) => {}
        }
        self.entries.point();
        self.link(slot.0, state);
    }

    /// Inserts an entry for a key that has none.
    ///
    /// When the table is full it frees an expired entry. If it finds none, it evicts the first
    /// entry in the order of eviction ([`State::eviction_rank`]). If there is none, it looks for an
    /// entry of a client prefix that has reached its share of the table, and that has been idle for
    /// more than five minutes. Returns `None` if no entry may be evicted, and in a nearly full table
    /// if the prefix of `key` has reached its share itself.
    pub fn insert(
        &mut self,
        hash: Hash,
        key: K,
        state: S,
        now: Ticks,
        value: V,
    ) -> Option<Inserted<S, V>> {
        if self.shares.refuses(&self.keyed, &key) {
            return None;
        }
        let (mut evicted, mut vacant) = (None, None);
        let is_swept = self.live == self.capacity && self.expire_for_insert(now);
        if self.live == self.capacity {
            let oldest = match self.evictable() {
                Some(first) => first,
                None if is_swept => self.idle_beyond_share(now)?,
                None => return None,
            };
            let Entry { state, value, .. } = self.entries[oldest as usize];
            evicted = Some((state, value));
            // Until the new entry is complete, the old one is there for who takes the table over.
            let (bucket, slot) = self.vacancy(hash);
            self.entries.save_replaced(oldest, place_of(bucket, slot));
            vacant = Some((bucket, slot));
            self.remove(Slot(oldest));
        }
        let vacant = vacant.unwrap_or_else(|| self.vacancy(hash));
        let entry = Entry { key, state, seen: now, next: NIL, previous: NIL, value };
        let index = self.enter_unlinked(hash, vacant, entry);
        self.link(index, state);
        let slot = Slot(index);
        Some(match evicted {
            Some((state, value)) => Inserted::Evicted(slot, state, value),
            None => Inserted::Free(slot),
        })
    }

    /// Returns the bucket and the slot of a free place for a key: in its home bucket, if that has one,
    /// or else in the next that has. There are more places than entries.
    #[inline(always)]
    pub(super) fn vacancy(&self, hash: Hash) -> (usize, usize) {
        let mut at = hash.home as usize;
        loop {
            let free = self.buckets[at].free();
            if free != 0 {
                return (at, free.trailing_zeros() as usize);
            }
            at = self.after(at);
        }
    }

    /// Enters an entry into a table that has room for it, at a free place that [`Table::vacancy`] has
    /// returned for its key. The entry is in no queue yet.
    #[inline(always)]
    pub(super) fn enter_unlinked(
        &mut self,
        hash: Hash,
        (bucket, slot): (usize, usize),
        entry: Entry<K, S, V>,
    ) -> u32 {
        let Entry { key, state, .. } = entry;
        if is_kept(state) {
            self.shares.add(&self.keyed, &key);
        }
        let index = place_of(bucket, slot);
        let free = Mark { at: std::mem::offset_of!(Entry<K, S, V>, previous), value: FREE };
        self.entries.save_as_free(index, free);
        self.entries.replace(index, entry);
        if let Some(census) = &mut self.census {
            census.note(key, None, Some(state), &self.keyed);
        }
        self.live += 1;
        self.inserted += 1;
        self.buckets[bucket].set(slot, hash.signature as u16);
        let mut passed = hash.home as usize;
        while passed != bucket {
            self.buckets[passed].pass();
            passed = self.after(passed);
        }
        index
    }

    /// Removes an entry.
    pub fn remove(&mut self, slot: Slot) {
        let entry = &self.entries[slot.0 as usize];
        if entry.previous == FREE {
            debug_assert!(false, "an entry that is not there");
            return;
        }
        let Entry { key, state, .. } = *entry;
        let (bucket, at) = slot_of(slot.0);
        self.buckets[bucket].clear(at);
        let mut passed = self.hash(key).home as usize;
        while passed != bucket {
            self.buckets[passed].unpass();
            passed = self.after(passed);
        }
        self.unlink(slot.0);
        if let Some(census) = &mut self.census {
            census.note(key, Some(state), None, &self.keyed);
        }
        if is_kept(state) {
            self.shares.subtract(&self.keyed, &key);
        }
        // What tells that the place is free is one store, so that nothing is saved.
        self.entries[slot.0 as usize].previous = FREE;
        self.entries.point();
        self.live -= 1;
    }
}
