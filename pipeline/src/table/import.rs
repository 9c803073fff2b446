//! Adoption: the entries of tables that another process, or another number of workers, has left are
//! copied into a new table. So sizes, hash keys and number of workers may all differ.
//!
//! Entries are inserted as they are found: with the same hash key and size, next to each other. Those
//! of a lazy state need no order. The others enter their queues at the end, in order of the time that
//! they were seen last, so that each queue is in order of expiry again. If the new table is too small,
//! established connections get its places first.

use std::io;
use std::net::IpAddr;

use arrayvec::ArrayVec;
use memmap2::MmapMut;

use super::header::{Header, Kind, LAYOUT};
use super::memory::Memory;
use super::{Entry, Hash, Imported, Kept, Key, NIL, Refused, Slot, State, Table, place_of};
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

/// An entry that is in no queue yet, or found no place.
#[derive(Clone, Copy)]
struct Waiting {
    seen: Ticks,
    /// Its place in this table, or its number in the other one.
    number: u32,
    /// The number of the other table; [`PLACED`] for an entry that is in this one.
    kept: u16,
    /// The higher, the rather it gets a place.
    rank: u8,
}

/// Stands for no other table.
const PLACED: u16 = u16::MAX;
/// The rank of entries of a lazy state, and of others that are not evicted. Below are those that are,
/// in their order.
const LAZY: u8 = u8::MAX;
const KEPT: u8 = LAZY - 1;

/// An entry whose bucket is being prefetched, and where it was found.
struct Found<K, S, V> {
    hash: Hash,
    entry: Entry<K, S, V>,
    number: u32,
    kept: u16,
}

/// Entries whose buckets are being prefetched.
type Batch<K, S, V> = ArrayVec<Found<K, S, V>, BATCH>;

/// Returns the rank of entries of a state.
fn rank_of<S: State>(state: S) -> u8 {
    match state.eviction_rank() {
        None if state.is_lazy() => LAZY,
        None => KEPT,
        Some(rank) => rank.min(KEPT - 1),
    }
}

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
        let mut adoption = Adoption {
            table: self,
            role,
            done: Imported::default(),
            now,
            queued: Vec::new(),
            left: Vec::new(),
        };
        for (number, kept) in readable.iter().enumerate() {
            adoption.scan(kept, number as u16);
        }
        adoption.make_room(&readable);
        adoption.queue();
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
    /// The entries of this table that are in no queue yet.
    queued: Vec<Waiting>,
    /// Those that found the table full.
    left: Vec<Waiting>,
}

impl<K, S, V, A> Adoption<'_, K, S, V, A>
where
    K: Key + Stored,
    S: State + Stored,
    V: Copy + Stored,
    A: Adopt<K, S, V>,
{
    /// Inserts the entries of a table, as long as there is room.
    fn scan(&mut self, from: &Kept<'_>, kept: u16) {
        let mut batch = Batch::new();
        for number in 0..from.places() {
            let (bytes, is_torn) = from.entry(number);
            self.done.torn += u64::from(is_torn);
            let Some(entry) = self.examine(bytes, from.free()) else { continue };
            let hash = self.table.hash(entry.key);
            self.table.prefetch_bucket(hash);
            if let Some(census) = &self.table.census {
                census.prefetch(entry.key, &self.table.keyed);
            }
            batch.push(Found { hash, entry, number: number as u32, kept });
            if batch.is_full() {
                self.insert_batch(&mut batch);
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

    fn insert_batch(&mut self, batch: &mut Batch<K, S, V>) {
        // Others of the batch may take a place before, but then the next one is near.
        for found in batch.iter() {
            let (bucket, slot) = self.table.vacancy(found.hash);
            self.table.entries.prefetch(place_of(bucket, slot) as usize);
        }
        for found in batch.drain(..) {
            self.insert(&found);
        }
    }

    #[inline(always)]
    fn insert(&mut self, found: &Found<K, S, V>) {
        let Found { hash, entry, number, kept } = found;
        let is_key = |other: u32| self.table.entries[other as usize].key == entry.key;
        let (seen, rank) = (entry.seen, rank_of(entry.state));
        if self.table.locate(*hash, is_key).is_some() {
            // No table has a key twice.
            self.done.invalid += 1;
        } else if self.table.live == self.table.capacity {
            self.left.push(Waiting { seen, number: *number, kept: *kept, rank });
        } else {
            self.role.adopted(entry);
            let place = self.table.enter_unlinked(*hash, self.table.vacancy(*hash), *entry);
            match rank {
                LAZY => self.table.link(place, entry.state),
                _ => self.queued.push(Waiting { seen, number: place, kept: PLACED, rank }),
            }
            self.done.adopted += 1;
        }
    }

    /// Drops what the table has no room for: what would be evicted first, and of that what was seen
    /// least recently. Inserts those that found it full and rank above.
    fn make_room(&mut self, readable: &[Kept<'_>]) {
        if self.left.is_empty() {
            return;
        }
        let lazy = self.table.live - self.queued.len();
        let mut all = std::mem::take(&mut self.queued);
        all.append(&mut self.left);
        all.sort_unstable_by_key(|entry| std::cmp::Reverse((entry.rank, entry.seen)));
        let dropped = all.split_off((self.table.capacity - lazy).min(all.len()));
        self.done.unplaced += dropped.len() as u64;
        for entry in dropped.iter().filter(|entry| entry.kept == PLACED) {
            self.table.link(entry.number, self.table.entries[entry.number as usize].state);
            self.table.remove(Slot(entry.number));
            self.done.adopted -= 1;
        }
        for Waiting { number, kept, .. } in all.iter().copied().filter(|e| e.kept != PLACED) {
            let bytes = readable[usize::from(kept)].entry(number as usize).0;
            // They have been accepted before.
            if let Some(entry) = self.accepted(bytes) {
                let hash = self.table.hash(entry.key);
                self.insert(&Found { hash, entry, number, kept });
            }
        }
        self.queued.extend(all.into_iter().filter(|entry| entry.kept == PLACED));
    }

    /// Puts the entries that have an order into their queues. They are anywhere in memory, so some are
    /// prefetched.
    fn queue(&mut self) {
        self.queued.sort_unstable_by_key(|entry| entry.seen);
        for (at, entry) in self.queued.iter().enumerate() {
            if let Some(later) = self.queued.get(at + BATCH / 2) {
                self.table.entries.prefetch(later.number as usize);
            }
            self.table.link(entry.number, self.table.entries[entry.number as usize].state);
        }
    }
}

#[cfg(test)]
mod tests;
