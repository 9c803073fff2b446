//! Changes of the table: entries come, go, and change their state.

use super::memory::Mark;
use super::{Entry, FREE, Hash, Inserted, Key, NIL, Slot, State, Table, is_kept};
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
        let mut evicted = None;
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
            self.entries.save(oldest);
            self.remove(Slot(oldest));
        }
        let slot =
            self.enter(hash, Entry { key, state, seen: now, next: NIL, previous: NIL, value });
        Some(match evicted {
            Some((state, value)) => Inserted::Evicted(slot, state, value),
            None => Inserted::Free(slot),
        })
    }

    /// Enters an entry into a table that has room for it.
    pub(super) fn enter(&mut self, hash: Hash, entry: Entry<K, S, V>) -> Slot {
        let Entry { key, state, .. } = entry;
        if is_kept(state) {
            self.shares.add(&self.keyed, &key);
        }
        let index = self.take_free(entry);
        if let Some(census) = &mut self.census {
            census.note(key, None, Some(state), &self.keyed);
        }
        self.live += 1;
        self.inserted += 1;
        self.link(index, state);
        self.put_in_bucket(hash, index);
        Slot(index)
    }

    fn take_free(&mut self, entry: Entry<K, S, V>) -> u32 {
        let free = Mark { at: std::mem::offset_of!(Entry<K, S, V>, previous), value: FREE };
        if self.free == NIL {
            self.entries.push(entry, free);
            return self.entries.len() as u32 - 1;
        }
        let index = self.free;
        self.free = self.entries[index as usize].next;
        self.entries.save_as_free(index, free);
        self.entries.replace(index, entry);
        index
    }

    fn put_in_bucket(&mut self, hash: Hash, index: u32) {
        let mut at = self.home(hash);
        loop {
            let bucket = &mut self.buckets[at];
            if let Some(slot) = bucket.signatures.iter().position(|&s| s == 0) {
                bucket.signatures[slot] = hash.signature();
                bucket.entries[slot] = index;
                return;
            }
            bucket.overflow += 1;
            at = self.after(at);
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, slot: Slot) {
        let hash = self.hash(self.get(slot).key);
        let Some((found, at)) = self.locate(hash, |entry| entry == slot.0) else {
            debug_assert!(false, "an entry that no bucket points to");
            return;
        };
        let emptied = &mut self.buckets[found];
        (emptied.signatures[at], emptied.entries[at]) = (0, NIL);
        let mut bucket = self.home(hash);
        while bucket != found {
            self.buckets[bucket].overflow -= 1;
            bucket = self.after(bucket);
        }
        self.unlink(slot.0);
        let entry = &mut self.entries[slot.0 as usize];
        if let Some(census) = &mut self.census {
            census.note(entry.key, Some(entry.state), None, &self.keyed);
        }
        if is_kept(entry.state) {
            self.shares.subtract(&self.keyed, &entry.key);
        }
        // What tells that the entry is free is one store, so that nothing is saved.
        (entry.previous, entry.next) = (FREE, self.free);
        self.entries.point();
        self.free = slot.0;
        self.live -= 1;
    }
}
