//! The translation table of one core. Its capacity is fixed. The key is the client endpoint, or at
//! the switch both endpoints.
//!
//! A bucket is one cache line of 31 signatures of 16 bits, and each has a place for its entry: bucket
//! and slot say where, so that nothing points to it. An entry holds key, time, state and the role's
//! value. The signatures of a million entries are 2.5 MB, and stay in cache where the entries do not.
//! A burst hashes its keys once, prefetches the buckets, then prefetches the entries, then finds them.
//! A full bucket overflows into its neighbour and counts these overflows, so that a search ends at the
//! first bucket that has not overflowed.
//!
//! Each entry is in the queue of its state, in order of expiry. A lazy state, whose entries are
//! touched by every packet, keeps no such order: its expired entries are found by a cursor that
//! passes over the buckets, a few entries per burst, or by the next packet with their key.
//!
//! In a table that is nearly full of established connections, each client prefix has a share.
//!
//! The entries, and nothing else, are in memory that may outlive the process ([`memory`]). Buckets,
//! queues and counts are derived from them when another process takes them over ([`import`]).

mod bucket;
mod census;
mod changes;
#[cfg(test)]
pub(crate) mod failpoints;
mod hash;
mod header;
mod import;
mod kept;
mod key;
mod lookup;
mod memory;
mod queues;
mod shares;

use crate::base::stored::Stored;
use crate::base::time::Ticks;
use bucket::{Bucket, SLOTS};
use census::Census;
use hash::KeyedHash;
use memory::Memory;
use shares::Shares;

pub use hash::Blocks;
#[cfg(test)]
pub(crate) use header::described as header_described;
pub use header::{Kind, LAYOUT};
pub use import::Adopt;
pub use kept::{Imported, Kept, Refused};
pub use key::Key;
pub use lookup::EntryHint;
pub use queues::{QUEUES, State};

/// Average number of entries per bucket at full capacity. At 26 of 31 about 2 % of the entries are
/// not in their home bucket.
const LOAD: usize = 26;
/// The most buckets, so that a place fits into 31 bits.
const MOST_BUCKETS: usize = (1 << 31) / SLOTS - 1;
/// Index that stands for no entry.
const NIL: u32 = u32::MAX;
/// Value of `previous` in a free place. No entry is in place 0.
const FREE: u32 = 0;
/// Number of entries that a full table checks for expiry, once a burst, before it evicts.
const FULL_SWEEP: usize = 64;

/// The home bucket of a key and its signature there, both from a keyed hash. Returned by
/// [`Table::hash`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hash {
    home: u32,
    /// In the lower half.
    signature: u32,
}

impl Hash {
    /// A placeholder for packets that are not looked up.
    pub const NONE: Self = Self { home: 0, signature: 1 };
}

impl Default for Hash {
    fn default() -> Self {
        Self::NONE
    }
}

/// Returns the number of buckets of a table.
const fn buckets_of(capacity: usize) -> usize {
    let buckets = capacity.div_ceil(LOAD);
    if buckets == 0 { 1 } else { buckets }
}

/// Returns the place that belongs to a slot of a bucket.
#[inline(always)]
fn place_of(bucket: usize, slot: usize) -> u32 {
    (bucket * SLOTS + slot + 1) as u32
}

/// Returns the bucket and the slot that a place belongs to. The place is not 0.
#[inline(always)]
fn slot_of(place: u32) -> (usize, usize) {
    let number = place.wrapping_sub(1);
    ((number / SLOTS as u32) as usize, (number % SLOTS as u32) as usize)
}

/// Returns the bytes of a table of this capacity: of its entries, and of all that is derived from
/// them and grows with it. `entry` is the size of an entry.
///
/// ```rust
/// let [entries, buckets] = pipeline::table::bytes_for(1 << 20, 64);
/// assert_eq!((entries >> 20, buckets >> 10), (76, 2520));
/// ```
pub const fn bytes_for(capacity: usize, entry: usize) -> [usize; 2] {
    let buckets = buckets_of(capacity);
    [header::BYTES + (buckets * SLOTS + 1) * entry, buckets * size_of::<Bucket>()]
}

/// The position of an entry in its table. Valid until the entry is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(u32);

/// The table's record of one connection.
///
/// Another process may read it, at any time that this one is killed. `next` and `previous` mean
/// nothing to it, but whether an entry is free.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Entry<K, S, V> {
    seen: Ticks,
    next: u32,
    previous: u32,
    /// The role's data about the connection.
    pub value: V,
    /// The key that the entry is found by.
    pub key: K,
    state: S,
}

impl<K, S: State, V> Entry<K, S, V> {
    /// Returns the state, which decides the entry's time-out.
    pub fn state(&self) -> S {
        self.state
    }

    /// Returns when the entry was last touched.
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

/// The result of a successful insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted<S, V> {
    /// The table had a free entry, or freed an expired one.
    Free(Slot),
    /// The table was full and evicted an entry, which had this state and value.
    Evicted(Slot, S, V),
}

impl<S, V> Inserted<S, V> {
    /// Returns the position of the new entry.
    pub fn slot(self) -> Slot {
        match self {
            Inserted::Free(slot) | Inserted::Evicted(slot, ..) => slot,
        }
    }
}

/// Returns whether entries of a state are never evicted for new ones, as long as no prefix has more
/// than its share.
fn is_kept<S: State>(state: S) -> bool {
    state.eviction_rank().is_none()
}

/// A hash table of connections with a fixed capacity and a time-out per state.
///
/// It has all memory when it is created. The caller passes the time, and hashes a key once
/// for all operations on it.
///
/// ```rust
/// use std::net::Ipv4Addr;
///
/// use pipeline::base::time::Ticks;
/// use pipeline::role::switch::Phase;
/// use pipeline::table::Table;
/// use pipeline::wire::family::{Endpoint, V4};
///
/// // The time-outs of all six states.
/// let timeouts = [30, 3600, 3600, 240, 240, 240].map(Ticks::from_secs);
/// let mut table: Table<Endpoint<V4>, Phase, u32> = Table::new(1024, &timeouts, (1, 2));
///
/// let client = Endpoint::<V4>::new(Ipv4Addr::new(198, 18, 1, 10), 40000);
/// let hash = table.hash(client);
/// assert!(table.insert(hash, client, Phase::Opening, Ticks::from_secs(0), 7).is_some());
///
/// let found = table.find(hash, client, Ticks::from_secs(29));
/// assert_eq!(found.map(|slot| table.get(slot).value), Some(7));
///
/// // The entry was not touched, so it expires 30 s after its insertion.
/// assert_eq!(table.expire(Ticks::from_secs(30), 8), 1);
/// assert!(table.is_empty());
/// ```
pub struct Table<K, S, V> {
    buckets: Box<[Bucket]>,
    entries: Memory<Entry<K, S, V>>,
    capacity: usize,
    live: usize,
    queues: [Queue; QUEUES],
    lengths: [usize; QUEUES],
    expired: u64,
    /// The place that the sweep for expired entries looks at next, and that where the last one of a
    /// full table began.
    cursor: u32,
    swept_from: u32,
    /// The time at which the full table was last searched for expired entries.
    swept: Option<Ticks>,
    /// Number of insertions so far. A key that was found absent may be present after the next one.
    inserted: u64,
    shares: Shares,
    hash_key: (u64, u64),
    keyed: KeyedHash,
    census: Option<Census<K, S>>,
}

impl<K: Key + Stored, S: State + Stored, V: Copy + Stored> Table<K, S, V> {
    /// Creates an empty table of at most `capacity` entries.
    ///
    /// `timeouts` are one for each state, in the order of [`State::ALL`]. `hash_key` must be
    /// secret, because an attacker chooses addresses and ports and could otherwise fill one bucket.
    ///
    /// # Panics
    /// If there are not as many time-outs as states, or the process has no address space for the
    /// table.
    pub fn new(capacity: usize, timeouts: &[Ticks], hash_key: (u64, u64)) -> Self {
        assert_eq!(timeouts.len(), S::ALL.len(), "one time-out for each state");
        let timeout_of = |queue| timeouts.get(queue).copied().unwrap_or_default();
        let capacity = capacity.clamp(1, MOST_BUCKETS * LOAD);
        let buckets = buckets_of(capacity);
        Self {
            buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(),
            entries: Memory::new(buckets * SLOTS + 1),
            capacity,
            live: 0,
            queues: std::array::from_fn(|queue| Queue {
                first: NIL,
                last: NIL,
                timeout: timeout_of(queue),
            }),
            lengths: [0; QUEUES],
            expired: 0,
            cursor: 1,
            swept_from: 1,
            swept: None,
            inserted: 0,
            shares: Shares::new(capacity),
            hash_key,
            keyed: KeyedHash::new(hash_key),
            census: None,
        }
    }
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Changes the time-outs, which are one for each state, in the order of [`State::ALL`]. They hold
    /// for the entries that are there, too; those that have expired by them are removed step by step.
    ///
    /// # Panics
    /// If there are not as many time-outs as states.
    pub fn set_timeouts(&mut self, timeouts: &[Ticks]) {
        assert_eq!(timeouts.len(), S::ALL.len(), "one time-out for each state");
        for (queue, timeout) in self.queues.iter_mut().zip(timeouts) {
            queue.timeout = *timeout;
        }
    }

    /// Makes the empty table count the entries of each host that are in a state which `counts`.
    /// `host` returns a key that all keys of the same host share.
    pub fn count_hosts(&mut self, counts: fn(S) -> bool, host: fn(K) -> K) {
        debug_assert!(self.is_empty());
        self.census = Some(Census::new(self.capacity, counts, host));
    }

    /// Returns how many entries of the host of this key are in a counted state. Now and then it is
    /// more, because hosts share numbers under a keyed hash; it is never less.
    pub fn count_of_host(&self, key: K) -> u32 {
        self.census.as_ref().map_or(0, |census| census.of(key, &self.keyed))
    }

    /// Returns the number of entries. Expired entries count until they are found and removed.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Returns whether the table has no entries.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Returns the largest possible number of entries.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Returns the number of entries in a state.
    pub fn count(&self, state: S) -> usize {
        self.lengths[state.queue()]
    }

    /// Returns how many entries have expired since the table was created.
    pub fn expired(&self) -> u64 {
        self.expired
    }

    /// Returns the keyed hash of a key.
    ///
    /// ```rust
    /// use std::net::Ipv4Addr;
    ///
    /// use pipeline::base::time::Ticks;
    /// use pipeline::role::switch::Phase;
    /// use pipeline::table::Table;
    /// use pipeline::wire::family::{Endpoint, V4};
    ///
    /// // Keyed by both ends, as at the switch.
    /// type Connections = Table<[Endpoint<V4>; 2], Phase, ()>;
    /// let client = Endpoint::new(Ipv4Addr::new(198, 18, 1, 10), 40000);
    /// let server = Endpoint::new(Ipv4Addr::new(203, 0, 113, 10), 80);
    ///
    /// let [first, second] = [(1, 2), (3, 4)].map(|key| Connections::new(16, &[Ticks(1); 6], key));
    /// assert_eq!(first.hash([client, server]), first.hash([client, server]));
    /// assert_ne!(first.hash([client, server]), first.hash([server, client]));
    /// assert_ne!(first.hash([client, server]), second.hash([client, server]));
    /// ```
    #[inline(always)]
    pub fn hash(&self, key: K) -> Hash {
        let hash = self.keyed.of(&key);
        // Multiply and shift works for any number of buckets and needs no division.
        let home = (((hash >> 32) * self.buckets.len() as u64) >> 32) as u32;
        // Zero marks an empty slot.
        Hash { home, signature: (hash as u16).max(1).into() }
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// Returns the entry in a slot.
    ///
    /// # Panics
    /// May panic if the slot is another table's.
    #[inline]
    pub fn get(&self, slot: Slot) -> &Entry<K, S, V> {
        &self.entries[slot.0 as usize]
    }

    /// Returns the number of places: those of all entries are below it.
    pub fn extent(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entry at a place, for passes over the table; `None` if there is none now. It may
    /// have expired.
    pub fn at(&self, place: usize) -> Option<&Entry<K, S, V>> {
        let entry = self.entries.get(place)?;
        // One cache line tells of 31 places whether there is an entry.
        let (bucket, slot) = slot_of(place as u32);
        let used = self.buckets.get(bucket)?.used();
        (used >> slot & 1 != 0).then_some(entry)
    }

    /// Returns the role's data in a slot, for changes of several fields. The entry's content is saved
    /// until [`Table::settle`], so that who takes the table over finds it either as it is now, or with
    /// all of these changes. One entry is changed at a time.
    ///
    /// # Panics
    /// May panic if the slot is another table's.
    #[inline]
    pub fn value_mut(&mut self, slot: Slot) -> &mut V {
        self.entries.save(slot.0);
        &mut self.entries[slot.0 as usize].value
    }

    /// Returns the role's data in a slot, for changes of single fields: whichever of them are done,
    /// the entry is one that may be. Costs nothing, as the fast path wants it.
    ///
    /// # Panics
    /// May panic if the slot is another table's.
    #[inline]
    pub fn value_mut_unsaved(&mut self, slot: Slot) -> &mut V {
        &mut self.entries[slot.0 as usize].value
    }

    /// Notes that the changes of an entry are complete. Called after each packet on the slow path,
    /// and after the periodic work, so that a worker without work has left nothing half done.
    #[inline(always)]
    pub fn settle(&mut self) {
        self.entries.settle();
    }

    /// Returns whether a change of an entry has not been noted as complete.
    pub fn is_pending(&self) -> bool {
        self.entries.is_pending()
    }

    fn is_expired(&self, slot: Slot, now: Ticks) -> bool {
        self.has_expired(self.get(slot), now)
    }

    #[inline(always)]
    fn has_expired(&self, entry: &Entry<K, S, V>, now: Ticks) -> bool {
        now.since(entry.seen) >= self.queues[entry.state.queue()].timeout
    }

    /// Restarts the time-out of an entry. Called for every packet of its connection.
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
}

#[cfg(test)]
mod tests;
