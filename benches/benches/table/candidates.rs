//! The candidates: tables that contain the connections 0 to `count`.

use std::error::Error;
use std::hash::BuildHasher;

use firstack::dpdk::Eal;
use firstack_benches::BURST;
use firstack_benches::dpdk::{HASH_KEY, HashTable, bytes_in_use};
use firstack_benches::find::{
    Ahead, Connections, NOTHING, Numbered, find, find_hashed, flow, insert, prefetch_buckets,
    prefetch_entries, remove, table,
};
use firstack_benches::fixtures::KEY;
use hashbrown::HashMap;
use pipeline::base::prefetch::prefetch;
use pipeline::role::gateway::flow::Flow;
use pipeline::wire::family::{Endpoint, V4, Version};

/// A table to be measured.
pub(crate) trait Candidate {
    /// Its key.
    type Key;
    /// Its name in the report.
    fn name(&self) -> &'static str;
    /// Returns the key of connection `number`.
    fn key(number: usize) -> Self::Key;
    /// Finds a burst's connections and reads the state of each. `next` is the following burst.
    fn find(&mut self, burst: &[Self::Key], next: &[Self::Key]) -> u32;
    /// Removes a connection and inserts it again.
    fn renew(&mut self, number: usize);
    /// Returns the bytes in use outside this process's own memory.
    fn bytes_elsewhere(&self) -> usize {
        0
    }
}

/// Our table, as the roles use it.
pub(crate) struct Ours<F: Numbered>(Connections<F>);

impl<F: Numbered> Ours<F> {
    pub(crate) fn new(count: usize) -> Self {
        Self(table(count, count))
    }
}

impl<F: Numbered> Candidate for Ours<F> {
    type Key = Endpoint<F>;

    fn name(&self) -> &'static str {
        match F::VERSION {
            Version::V4 => "ours",
            Version::V6 => "ours, IPv6 keys",
        }
    }

    fn key(number: usize) -> Self::Key {
        F::numbered(number)
    }

    #[inline]
    fn find(&mut self, burst: &[Self::Key], _: &[Self::Key]) -> u32 {
        find(&mut self.0, burst)
    }

    #[inline]
    fn renew(&mut self, number: usize) {
        remove(&mut self.0, number);
        insert(&mut self.0, number);
    }
}

/// Our table without prefetching.
pub(crate) struct NoPrefetch(Connections<V4>);

impl NoPrefetch {
    pub(crate) fn new(count: usize) -> Self {
        Self(table(count, count))
    }
}

impl Candidate for NoPrefetch {
    type Key = Endpoint<V4>;

    fn name(&self) -> &'static str {
        "ours, no prefetch"
    }

    fn key(number: usize) -> Self::Key {
        V4::numbered(number)
    }

    #[inline]
    fn find(&mut self, burst: &[Self::Key], _: &[Self::Key]) -> u32 {
        let mut hashes = NOTHING;
        for ((hash, _), key) in hashes.iter_mut().zip(burst) {
            *hash = self.0.hash(*key);
        }
        find_hashed(&mut self.0, burst, &hashes)
    }

    fn renew(&mut self, number: usize) {
        remove(&mut self.0, number);
        insert(&mut self.0, number);
    }
}

/// Our table, with the next burst's lines prefetched before this burst is looked up.
pub(crate) struct Pipelined {
    table: Connections<V4>,
    /// Lookups of the burst announced by the last call.
    hashes: Option<Ahead>,
}

impl Pipelined {
    pub(crate) fn new(count: usize) -> Self {
        Self { table: table(count, count), hashes: None }
    }
}

impl Candidate for Pipelined {
    type Key = Endpoint<V4>;

    fn name(&self) -> &'static str {
        "ours, pipelined"
    }

    fn key(number: usize) -> Self::Key {
        V4::numbered(number)
    }

    #[inline]
    fn find(&mut self, burst: &[Self::Key], next: &[Self::Key]) -> u32 {
        let table = &mut self.table;
        let now = self.hashes.take().unwrap_or_else(|| {
            let mut first = NOTHING;
            prefetch_buckets(table, burst, &mut first);
            first
        });
        let mut hashes = NOTHING;
        prefetch_buckets(table, next, &mut hashes);
        let sum = find_hashed(table, burst, &now);
        prefetch_entries(table, &mut hashes);
        self.hashes = Some(hashes);
        sum
    }

    fn renew(&mut self, number: usize) {
        remove(&mut self.table, number);
        insert(&mut self.table, number);
    }
}

/// A keyed hash for hashbrown: SipHash 1-3.
#[derive(Clone, Copy)]
pub(crate) struct Sip;

impl BuildHasher for Sip {
    type Hasher = siphasher::sip::SipHasher13;

    fn build_hasher(&self) -> Self::Hasher {
        Self::Hasher::new_with_keys(KEY.0, KEY.1)
    }
}

/// A hasher with a name.
pub(crate) trait Named: BuildHasher {
    const NAME: &'static str;
}

impl Named for Sip {
    const NAME: &'static str = "hashbrown, SipHash";
}

impl Named for hashbrown::DefaultHashBuilder {
    const NAME: &'static str = "hashbrown, foldhash";
}

/// Rust's hash map.
pub(crate) struct Hashbrown<S>(HashMap<Endpoint<V4>, Flow<V4>, S>);

impl<S: BuildHasher> Hashbrown<S> {
    pub(crate) fn new(count: usize, hasher: S) -> Self {
        let mut map = HashMap::with_capacity_and_hasher(count, hasher);
        map.extend((0..count).map(|number| (V4::numbered(number), flow(number))));
        Self(map)
    }
}

impl<S: Named> Candidate for Hashbrown<S> {
    type Key = Endpoint<V4>;

    fn name(&self) -> &'static str {
        S::NAME
    }

    fn key(number: usize) -> Self::Key {
        V4::numbered(number)
    }

    #[inline]
    fn find(&mut self, burst: &[Self::Key], _: &[Self::Key]) -> u32 {
        burst.iter().map(|key| self.0[key].isn).fold(0, u32::wrapping_add)
    }

    fn renew(&mut self, number: usize) {
        let key = V4::numbered(number);
        assert!(self.0.remove(&key).is_some());
        self.0.insert(key, flow(number));
    }
}

/// A connection's state: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct State {
    isn: u32,
}

/// DPDK's hash table, which returns positions, and an array of states.
pub(crate) struct Rte<'a> {
    table: HashTable<'a>,
    states: Vec<State>,
    eal: &'a Eal,
    before: usize,
}

impl<'a> Rte<'a> {
    pub(crate) fn new(eal: &'a Eal, count: usize) -> Result<Self, Box<dyn Error>> {
        let before = bytes_in_use(eal);
        let table = HashTable::new(eal, "table", u32::try_from(count)?)?;
        // Positions start at zero, and there is one slot more than keys.
        let mut candidate = Self { table, states: vec![State { isn: 0 }; count + 1], eal, before };
        for number in 0..count {
            candidate.add(number);
        }
        Ok(candidate)
    }

    fn add(&mut self, number: usize) {
        let position = self.table.add(&Self::key(number)).expect("a table with room");
        self.states[position as usize] = State { isn: number as u32 };
    }
}

impl Candidate for Rte<'_> {
    type Key = [u8; HASH_KEY];

    fn name(&self) -> &'static str {
        "rte_hash_lookup_bulk"
    }

    /// Returns addresses, ports and protocol of a connection, padded.
    fn key(number: usize) -> Self::Key {
        let client = V4::numbered(number);
        let mut key = [0; HASH_KEY];
        key[..4].copy_from_slice(&client.address.octets());
        key[4..8].copy_from_slice(&[203, 0, 113, 10]);
        key[8..10].copy_from_slice(&client.port.to_be_bytes());
        key[10..12].copy_from_slice(&80_u16.to_be_bytes());
        key[12] = 6;
        key
    }

    #[inline]
    fn find(&mut self, burst: &[Self::Key], _: &[Self::Key]) -> u32 {
        let keys: [&Self::Key; BURST] = std::array::from_fn(|number| &burst[number]);
        let positions = self.table.lookup_bulk(&keys);
        positions.iter().for_each(|&position| prefetch(&self.states[position as usize]));
        let isn = |&position: &i32| self.states[position as usize].isn;
        positions.iter().map(isn).fold(0, u32::wrapping_add)
    }

    fn renew(&mut self, number: usize) {
        assert!(self.table.remove(&Self::key(number)).is_some());
        self.add(number);
    }

    fn bytes_elsewhere(&self) -> usize {
        bytes_in_use(self.eal).saturating_sub(self.before)
    }
}
