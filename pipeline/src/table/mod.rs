//! The translation table of one core: fixed capacity, keyed by the client endpoint (at the switch
//! by both endpoints).
//!
//! A bucket is one cache line of eight 16-bit signatures and the numbers of the entries they
//! stand for; an entry holds key, times and state. A burst hashes its keys once, prefetches
//! buckets, then entries, then finds. A full bucket overflows into its neighbour and counts
//! how often, so that a search ends at the first bucket that never overflowed.
//!
//! Each entry waits in the queue of its state, first the one that expires first. A state whose
//! entries every packet touches (a lazy one) keeps no such order: its expired entries are found
//! by a cursor that passes over a few entries per burst, or by the next packet of their key.

mod bucket;
mod hash;
mod key;
mod queues;

use crate::base::prefetch::prefetch;
use crate::base::time::Ticks;
use bucket::{Bucket, SLOTS};
use hash::KeyedHash;

pub use hash::Blocks;
pub use key::Key;
pub use queues::{QUEUES, State};

/// Entries per bucket at full capacity, on average. At 5 of 8 about 7 % of the buckets overflow.
const LOAD: usize = 5;
/// No entry.
const NIL: u32 = u32::MAX;
/// In `previous`: this entry is free, and `next` is the next free one.
const FREE: u32 = u32::MAX - 1;
/// In a [`EntryHint`]: no entry had the key.
const ABSENT: u32 = u32::MAX - 1;
/// How many entries a full table looks at for an expired one, once a burst, before it evicts.
const FULL_SWEEP: usize = 64;

/// A key's hash: where its bucket is, and its signature there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash(u64);

impl Hash {
    /// The hash of nothing.
    pub const NONE: Self = Self(0);

    fn signature(self) -> u16 {
        // Zero marks an empty slot.
        (self.0 as u16).max(1)
    }
}

/// Which entry a key's is likely to be, as its bucket had it.
#[derive(Clone, Copy, Debug)]
pub struct EntryHint {
    index: u32,
    /// [`Table::made`], its lower half.
    made: u32,
}

impl EntryHint {
    /// No guess: good for finding nothing by.
    pub const NONE: Self = Self { index: NIL, made: 0 };
}

/// Where an entry stands. Good until the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// One connection: its key, when it was last heard of, its state, and what the role keeps.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub struct Entry<K, S, V> {
    /// The key.
    pub key: K,
    state: S,
    seen: Ticks,
    next: u32,
    previous: u32,
    /// What the role keeps.
    pub value: V,
}

impl<K, S: State, V> Entry<K, S, V> {
    /// The state, which says how long the entry lives.
    pub fn state(&self) -> S {
        self.state
    }

    /// When the entry was last touched.
    pub fn seen(&self) -> Ticks {
        self.seen
    }
}

#[derive(Clone, Copy)]
struct Queue {
    first: u32,
    last: u32,
    timeout: Ticks,
}

/// What an insertion had to do for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted<S, V> {
    /// There was room, or an expired entry made it.
    Free(Slot),
    /// The oldest evictable entry had to go: its state and what was kept of it.
    Evicted(Slot, S, V),
}

impl<S, V> Inserted<S, V> {
    /// Where the new entry stands.
    pub fn slot(self) -> Slot {
        match self {
            Inserted::Free(slot) | Inserted::Evicted(slot, ..) => slot,
        }
    }
}

/// The table.
pub struct Table<K, S, V> {
    buckets: Box<[Bucket]>,
    entries: Vec<Entry<K, S, V>>,
    capacity: usize,
    free: u32,
    live: usize,
    queues: [Queue; QUEUES],
    lengths: [usize; QUEUES],
    expired: u64,
    cursor: usize,
    /// When the table was last found full and looked through for expired entries.
    swept: Option<Ticks>,
    /// Entries made since the start: what was found absent may be there after another.
    made: u64,
    keyed: KeyedHash,
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// A table of at most `capacity` entries, whose states time out as given in the order of
    /// [`State::ALL`]. The hash key is secret: addresses and ports are the attacker's to choose.
    pub fn new(capacity: usize, timeouts: [Ticks; QUEUES], hash_key: (u64, u64)) -> Self {
        let capacity = capacity.clamp(1, FREE as usize);
        let buckets = capacity.div_ceil(LOAD).max(2);
        Self {
            buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(),
            entries: Vec::with_capacity(capacity),
            capacity,
            free: NIL,
            live: 0,
            queues: timeouts.map(|timeout| Queue { first: NIL, last: NIL, timeout }),
            lengths: [0; QUEUES],
            expired: 0,
            cursor: 0,
            swept: None,
            made: 0,
            keyed: KeyedHash::new(hash_key),
        }
    }

    /// How many entries there are, expired ones included until they are met.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// How many entries there can be.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many entries are in this state.
    pub fn count(&self, state: S) -> usize {
        self.lengths[state.queue()]
    }

    /// How many entries have expired since the start.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Hashes a key.
    #[inline(always)]
    pub fn hash(&self, key: K) -> Hash {
        Hash(self.keyed.of(&key))
    }

    #[inline(always)]
    fn home(&self, hash: Hash) -> usize {
        // Multiply and shift: any number of buckets, no division.
        (((hash.0 >> 32) * self.buckets.len() as u64) >> 32) as usize
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// First pass over a burst: asks for the bucket.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: Hash) {
        prefetch(&self.buckets[self.home(hash)]);
    }

    /// Second pass over a burst: asks for the entry that the bucket points to, and tells which
    /// it is.
    #[inline(always)]
    pub fn prefetch_entry(&self, hash: Hash) -> EntryHint {
        let bucket = &self.buckets[self.home(hash)];
        let found = bucket.matches(hash.signature());
        // Without a match the last slot stands in: its entry is fetched for nothing, but nothing
        // depends on which slot it was.
        let slot = (found.trailing_zeros() as usize).min(SLOTS - 1);
        let index = bucket.entries[slot];
        if let Some(entry) = self.entries.get(index as usize) {
            prefetch(entry);
        }
        let absent = found == 0 && bucket.overflow == 0;
        EntryHint { index: if absent { ABSENT } else { index }, made: self.made as u32 }
    }

    /// Third pass over a burst: [`Table::find`], with what the second has found.
    #[inline(always)]
    pub fn find_hinted(
        &mut self,
        hash: Hash,
        guess: EntryHint,
        key: K,
        now: Ticks,
    ) -> Option<Slot> {
        match self.peek(guess, key, now) {
            Some(slot) => Some(slot),
            None if self.is_absent(guess) => None,
            None => self.find(hash, key, now),
        }
    }

    /// Whether the guess is that there is no entry, and none has been made since.
    #[inline(always)]
    pub fn is_absent(&self, guess: EntryHint) -> bool {
        guess.index == ABSENT && guess.made == self.made as u32
    }

    /// The entry of this key, if it is the guessed one; nothing is said by `None`.
    #[inline(always)]
    pub fn peek(&self, guess: EntryHint, key: K, now: Ticks) -> Option<Slot> {
        let entry = self.entries.get(guess.index as usize)?;
        let right = entry.key == key && entry.previous != FREE;
        (right && !self.has_expired(entry, now)).then_some(Slot(guess.index))
    }

    fn locate(&self, hash: Hash, matches: impl Fn(u32) -> bool) -> Option<(usize, usize)> {
        let signature = hash.signature();
        let mut at = self.home(hash);
        for _ in 0..self.buckets.len() {
            let bucket = &self.buckets[at];
            let mut found = bucket.matches(signature);
            while found != 0 {
                let slot = found.trailing_zeros() as usize;
                if matches(bucket.entries[slot % SLOTS]) {
                    return Some((at, slot));
                }
                found &= found - 1;
            }
            if bucket.overflow == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// The entry of this key. One that has expired is removed, and is none.
    pub fn find(&mut self, hash: Hash, key: K, now: Ticks) -> Option<Slot> {
        let (bucket, slot) = self.locate(hash, |entry| self.entries[entry as usize].key == key)?;
        let slot = Slot(self.buckets[bucket].entries[slot]);
        if self.is_expired(slot, now) {
            self.expired += 1;
            self.remove(slot);
            return None;
        }
        Some(slot)
    }

    /// Reads an entry.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Entry<K, S, V> {
        &self.entries[slot.0 as usize]
    }

    /// What the role keeps of a connection, to be changed.
    #[inline]
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        &mut self.entries[slot.0 as usize].value
    }

    fn is_expired(&self, slot: Slot, now: Ticks) -> bool {
        self.has_expired(self.get(slot), now)
    }

    #[inline(always)]
    fn has_expired(&self, entry: &Entry<K, S, V>, now: Ticks) -> bool {
        now.since(entry.seen) >= self.queues[entry.state.queue()].timeout
    }

    /// The connection has been heard of: its time-out syns again.
    #[inline(always)]
    pub fn touch(&mut self, slot: Slot, now: Ticks) {
        let entry = &mut self.entries[slot.0 as usize];
        entry.seen = now;
        let state = entry.state;
        if !state.is_lazy() {
            self.unlink(slot.0);
            self.link(slot.0, state);
        }
    }

    /// The connection is in this state from now on; its time-out syns again.
    pub fn move_to(&mut self, slot: Slot, state: S, now: Ticks) {
        self.unlink(slot.0);
        self.entries[slot.0 as usize].seen = now;
        self.link(slot.0, state);
    }

    /// Makes an entry for a key that has none. When the table is full, expired
    /// entries go first, then the oldest evictable one, of the last state that has one; `None`
    /// when there is neither.
    pub fn insert(
        &mut self,
        hash: Hash,
        key: K,
        state: S,
        now: Ticks,
        value: V,
    ) -> Option<Inserted<S, V>> {
        let mut evicted = None;
        if self.live == self.capacity {
            self.make_room(now);
        }
        if self.live == self.capacity {
            // The last states first: what is closing before what is beginning.
            let oldest = S::ALL
                .into_iter()
                .rev()
                .filter(|state| state.is_evictable())
                .map(|state| self.queues[state.queue()].first)
                .find(|&first| first != NIL)?;
            let Entry { state, value, .. } = self.entries[oldest as usize];
            evicted = Some((state, value));
            self.remove(Slot(oldest));
        }
        let entry = Entry { key, state, seen: now, next: NIL, previous: NIL, value };
        let index = self.take_free(entry);
        self.live += 1;
        self.made += 1;
        self.link(index, state);
        self.place(hash, index);
        let slot = Slot(index);
        Some(match evicted {
            Some((state, value)) => Inserted::Evicted(slot, state, value),
            None => Inserted::Free(slot),
        })
    }

    fn take_free(&mut self, entry: Entry<K, S, V>) -> u32 {
        if self.free == NIL {
            // Within the capacity reserved at the start: never allocates.
            self.entries.push(entry);
            return self.entries.len() as u32 - 1;
        }
        let index = self.free;
        self.free = self.entries[index as usize].next;
        self.entries[index as usize] = entry;
        index
    }

    fn place(&mut self, hash: Hash, index: u32) {
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

    /// Takes an entry out.
    pub fn remove(&mut self, slot: Slot) {
        let hash = self.hash(self.get(slot).key);
        let Some((found, at)) = self.locate(hash, |entry| entry == slot.0) else {
            debug_assert!(false, "an entry without a place");
            return;
        };
        self.buckets[found].signatures[at] = 0;
        self.buckets[found].entries[at] = NIL;
        let mut bucket = self.home(hash);
        while bucket != found {
            self.buckets[bucket].overflow -= 1;
            bucket = self.after(bucket);
        }
        self.unlink(slot.0);
        let entry = &mut self.entries[slot.0 as usize];
        (entry.previous, entry.next) = (FREE, self.free);
        self.free = slot.0;
        self.live -= 1;
    }
}

#[cfg(test)]
mod tests;
