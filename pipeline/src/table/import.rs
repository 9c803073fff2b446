//! Adoption: the entries of tables that another process, or another number of workers, has left are
//! copied into a new table. So sizes, hash keys and number of workers may all differ.
//!
//! The entries of a lazy state need no order: they are inserted as they are found. The others wait,
//! and are inserted in order of the time that they were seen last, so that each queue is in order of
//! expiry again. If the new table is smaller, established connections get its entries first.

use std::io;
use std::net::IpAddr;

use arrayvec::ArrayVec;
use memmap2::MmapMut;

use super::header::{Header, Kind, LAYOUT};
use super::memory::Memory;
use super::{Entry, Hash, Imported, Kept, Key, NIL, Refused, State, Table, place_of};
use crate::base::prefetch::prefetch;
use crate::base::stored::Stored;
use crate::base::time::Ticks;

/// Entries whose buckets are prefetched before the first of them is inserted.
const BATCH: usize = 32;

/// What a role knows of the entries that it takes over.
pub trait Adopt<K, S, V> {
    /// Returns whether this worker owns the connections of a client.
    fn owns(&self, client: IpAddr) -> bool;

    /// Returns the value with which an entry goes on; `None` if its numbers mean nothing to the role.
    fn accept(&self, key: &K, state: S, value: V) -> Option<V>;

    /// Notes an entry that was taken over, for what the role derives from its entries.
    fn adopted(&mut self, entry: &Entry<K, S, V>);
}

/// An entry that waits for its turn.
#[derive(Clone, Copy)]
struct Waiting {
    seen: Ticks,
    number: u32,
    kept: u16,
    /// The rank in the order of eviction; the largest for one that is not evicted.
    rank: u8,
}

/// Entries whose buckets are being prefetched.
type Batch<K, S, V> = ArrayVec<(Hash, Entry<K, S, V>), BATCH>;

/// The rank of entries that are not evicted for others.
const KEPT: u8 = u8::MAX;

impl<K: Key + Stored, S: State + Stored, V: Copy + Stored> Stored for Entry<K, S, V> {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        use std::mem::offset_of;
        Some(Self {
            seen: Ticks::read(bytes.get(offset_of!(Self, seen)..)?)?,
            next: NIL,
            previous: NIL,
            value: V::read(bytes.get(offset_of!(Self, value)..)?)?,
            key: K::read(bytes.get(offset_of!(Self, key)..)?)?,
            state: S::read(bytes.get(offset_of!(Self, state)..)?)?,
        })
    }

    const FIELDS: &'static [(&'static str, usize, usize)] = &[
        ("seen", std::mem::offset_of!(Self, seen), size_of::<Ticks>()),
        ("next", std::mem::offset_of!(Self, next), size_of::<u32>()),
        ("previous", std::mem::offset_of!(Self, previous), size_of::<u32>()),
        ("value", std::mem::offset_of!(Self, value), size_of::<V>()),
        ("key", std::mem::offset_of!(Self, key), size_of::<K>()),
        ("state", std::mem::offset_of!(Self, state), size_of::<S>()),
    ];
}

impl<K: Key + Stored, S: State + Stored, V: Copy + Stored> Table<K, S, V> {
    /// Returns the bytes of memory that the table takes.
    pub fn bytes(&self) -> usize {
        Memory::<Entry<K, S, V>>::bytes_for(self.entries.len())
    }

    /// Gives the table of a role, which has never had an entry, its memory: zeros, of at least
    /// [`Table::bytes`]; `None` leaves it in memory of this process alone. Populates the memory and
    /// writes its header.
    ///
    /// # Errors
    /// If the table has had entries, if the memory is too small, is not aligned to a page or is not
    /// all zeros, or if the kernel has no pages for it.
    pub fn place(&mut self, kind: Kind, memory: Option<MmapMut>) -> io::Result<()> {
        if self.inserted > 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the table has entries"));
        }
        let header = Header {
            layout: LAYOUT,
            kind,
            version: K::VERSION,
            entry_size: size_of::<Entry<K, S, V>>(),
            capacity: self.capacity,
            hash_key: self.hash_key,
        };
        self.entries.place(memory, &header)
    }

    /// Returns a copy of the table's memory, as another process would see it. For tests.
    #[doc(hidden)]
    pub fn memory(&self) -> Vec<u8> {
        self.entries.snapshot()
    }

    /// Returns whether entries can be read from memory that is said to be a table's of this role and
    /// family.
    ///
    /// # Errors
    /// If it is another role's, or its entries have another size.
    pub fn may_import(kind: Kind, kept: &Kept<'_>) -> Result<(), Refused> {
        if kept.kind() != kind {
            return Err(Refused::OtherRole(kept.kind()));
        }
        match kept.version() == K::VERSION && kept.entry_size() == size_of::<Entry<K, S, V>>() {
            true => Ok(()),
            false => Err(Refused::Damaged("its entries have another size")),
        }
    }

    /// Takes over the entries of tables that were left: those that belong to this worker, have not
    /// expired, and are sound. Tables that [`Table::may_import`] refuses are passed over.
    pub fn import(
        &mut self,
        kind: Kind,
        kept: &[Kept<'_>],
        now: Ticks,
        role: &mut impl Adopt<K, S, V>,
    ) -> Imported {
        let readable = kept.iter().filter(|kept| Self::may_import(kind, kept).is_ok());
        let readable: Vec<_> = readable.take(usize::from(u16::MAX)).copied().collect();
        let mut adoption = Adoption { table: self, role, done: Imported::default(), now };
        let mut waiting = Vec::new();
        for (number, kept) in readable.iter().enumerate() {
            adoption.scan(kept, number as u16, &mut waiting);
        }
        adoption.cut(&mut waiting);
        waiting.sort_unstable_by_key(|entry| entry.seen);
        adoption.insert_all(&readable, &waiting);
        let done = adoption.done;
        self.entries.settle();
        done
    }
}

/// A table that takes entries over.
struct Adoption<'a, K, S, V, A> {
    table: &'a mut Table<K, S, V>,
    role: &'a mut A,
    done: Imported,
    now: Ticks,
}

impl<K, S, V, A> Adoption<'_, K, S, V, A>
where
    K: Key + Stored,
    S: State + Stored,
    V: Copy + Stored,
    A: Adopt<K, S, V>,
{
    /// Inserts the entries of a lazy state, and makes the others wait.
    fn scan(&mut self, kept: &Kept<'_>, table: u16, waiting: &mut Vec<Waiting>) {
        let mut batch = Batch::new();
        for number in 0..kept.places() {
            let (bytes, is_torn) = kept.entry(number);
            self.done.torn += u64::from(is_torn);
            let Some(entry) = self.examine(bytes, kept.free()) else { continue };
            match entry.state.eviction_rank() {
                None if entry.state.is_lazy() => self.insert_batched(&mut batch, entry),
                rank => waiting.push(Waiting {
                    seen: entry.seen.min(self.now),
                    number: number as u32,
                    kept: table,
                    rank: rank.unwrap_or(KEPT),
                }),
            }
        }
        self.insert_batch(&mut batch);
    }

    /// Reads an entry, if this table may take it over, and counts why not.
    #[inline(always)]
    fn examine(&mut self, bytes: &[u8], free: u32) -> Option<Entry<K, S, V>> {
        let previous = bytes.get(std::mem::offset_of!(Entry<K, S, V>, previous)..)?;
        if u32::read(previous)? == free {
            return None;
        }
        let key = bytes.get(std::mem::offset_of!(Entry<K, S, V>, key)..).and_then(K::read)?;
        if !self.role.owns(key.client()) {
            self.done.others += 1;
            return None;
        }
        let Some(entry) = self.accepted(bytes) else {
            self.done.invalid += 1;
            return None;
        };
        if self.table.has_expired(&entry, self.now) {
            self.done.expired += 1;
            return None;
        }
        Some(entry)
    }

    #[inline(always)]
    fn accepted(&self, bytes: &[u8]) -> Option<Entry<K, S, V>> {
        let mut entry = Entry::<K, S, V>::read(bytes)?;
        entry.value = self.role.accept(&entry.key, entry.state, entry.value)?;
        // A clock that goes backwards must not make an entry that never expires.
        entry.seen = entry.seen.min(self.now);
        Some(entry)
    }

    /// Drops those that the table has no room for: what would be evicted first, and of that what was
    /// seen least recently.
    fn cut(&mut self, waiting: &mut Vec<Waiting>) {
        let room = self.table.capacity - self.table.live;
        if waiting.len() > room {
            self.done.unplaced += (waiting.len() - room) as u64;
            waiting.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.rank, entry.seen)));
            waiting.truncate(room);
        }
    }

    /// Inserts those that have waited, in their order. They are anywhere in memory, so some are
    /// prefetched.
    fn insert_all(&mut self, readable: &[Kept<'_>], waiting: &[Waiting]) {
        let bytes_of =
            |found: &Waiting| readable[usize::from(found.kept)].entry(found.number as usize).0;
        let mut batch = Batch::new();
        for (at, found) in waiting.iter().enumerate() {
            if let Some(later) = waiting.get(at + BATCH) {
                prefetch(&bytes_of(later)[0]);
            }
            // They have been accepted before.
            if let Some(entry) = self.accepted(bytes_of(found)) {
                self.insert_batched(&mut batch, entry);
            }
        }
        self.insert_batch(&mut batch);
    }

    #[inline(always)]
    fn insert_batched(&mut self, batch: &mut Batch<K, S, V>, entry: Entry<K, S, V>) {
        let hash = self.table.hash(entry.key);
        self.table.prefetch_bucket(hash);
        if let Some(census) = &self.table.census {
            census.prefetch(entry.key, &self.table.keyed);
        }
        batch.push((hash, entry));
        if batch.is_full() {
            self.insert_batch(batch);
        }
    }

    fn insert_batch(&mut self, batch: &mut Batch<K, S, V>) {
        // Others of the batch may take a place before, but then the next one is near.
        for (hash, _) in batch.iter() {
            let (bucket, slot) = self.table.vacancy(*hash);
            self.table.entries.prefetch(place_of(bucket, slot) as usize);
        }
        for (hash, entry) in batch.drain(..) {
            let is_key = |other: u32| self.table.entries[other as usize].key == entry.key;
            if self.table.locate(hash, is_key).is_some() {
                // No table has a key twice.
                self.done.invalid += 1;
            } else if self.table.live == self.table.capacity {
                self.done.unplaced += 1;
            } else {
                self.role.adopted(&entry);
                self.table.enter(hash, self.table.vacancy(hash), entry);
                self.done.adopted += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
