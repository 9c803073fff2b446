//! Lookup of a burst's connections in the translation table, as a role does it.

use pipeline::base::time::Ticks;
use pipeline::role::gateway::flow::{Flow, Phase};
use pipeline::table::{EntryHint, Hash, State, Table};
use pipeline::wire::family::{Endpoint, Family};

use crate::BURST;
use crate::fixtures::KEY;

/// The gateway's table.
pub type Connections<F> = Table<Endpoint<F>, Phase, Flow<F>>;

/// A family with numbered keys.
pub trait Numbered: Family {
    /// Returns the client endpoint of connection `number`.
    fn numbered(number: usize) -> Endpoint<Self>;
}

/// Clients of so many prefixes take turns, so that none has more than its share of the table.
const PREFIXES: usize = 64;

/// Returns the prefix of a connection's client, and its port.
fn prefix_and_port(number: usize) -> (u32, u16) {
    let (round, turn) = (number / PREFIXES, number % PREFIXES);
    ((round / 50_000 * PREFIXES + turn) as u32, (10_000 + round % 50_000) as u16)
}

impl Numbered for pipeline::wire::family::V4 {
    fn numbered(number: usize) -> Endpoint<Self> {
        let (prefix, port) = prefix_and_port(number);
        Endpoint::new((0xc612_0001 + (prefix << 8)).into(), port)
    }
}

impl Numbered for pipeline::wire::family::V6 {
    fn numbered(number: usize) -> Endpoint<Self> {
        let (prefix, port) = prefix_and_port(number);
        Endpoint::new((0x2001_0db8_u128 << 96 | u128::from(prefix) << 80 | 1).into(), port)
    }
}

/// Returns the state of connection `number`.
pub fn flow<F: Numbered>(number: usize) -> Flow<F> {
    Flow::new(F::numbered(0), number as u32, 0, Ticks(0))
}

/// Inserts connection `number`.
pub fn insert<F: Numbered>(table: &mut Connections<F>, number: usize) {
    let key = F::numbered(number);
    let inserted = table.insert(table.hash(key), key, Phase::Replica, Ticks(0), flow(number));
    assert!(inserted.is_some(), "the table is full");
}

/// Removes connection `number`.
pub fn remove<F: Numbered>(table: &mut Connections<F>, number: usize) {
    let key = F::numbered(number);
    let slot = table.find(table.hash(key), key, Ticks(1)).expect("it was inserted");
    table.remove(slot);
}

/// Returns a table of `capacity` with the connections 0 to `count`, which never expire.
pub fn table<F: Numbered>(capacity: usize, count: usize) -> Connections<F> {
    let mut table = Table::new(capacity, &[Ticks(u64::MAX); Phase::ALL.len()], KEY);
    (0..count).for_each(|number| insert(&mut table, number));
    table
}

/// The prefetched state of a burst's lookups.
pub type Ahead = [(Hash, EntryHint); BURST];

/// Nothing is prefetched.
pub const NOTHING: Ahead = [(Hash::NONE, EntryHint::NONE); BURST];

/// Hashes the burst's keys and prefetches their buckets.
#[inline]
pub fn prefetch_buckets<F: Family>(
    table: &Connections<F>,
    keys: &[Endpoint<F>],
    ahead: &mut Ahead,
) {
    for ((hash, _), key) in ahead.iter_mut().zip(keys) {
        *hash = table.hash(*key);
        table.prefetch_bucket(*hash);
    }
}

/// Prefetches the entries.
#[inline]
pub fn prefetch_entries<F: Family>(table: &Connections<F>, ahead: &mut Ahead) {
    ahead.iter_mut().for_each(|(hash, hint)| *hint = table.prefetch_entry(*hash));
}

/// Finds the burst's connections and reads the state of each.
#[inline]
pub fn find_hashed<F: Family>(
    table: &mut Connections<F>,
    keys: &[Endpoint<F>],
    ahead: &Ahead,
) -> u32 {
    let mut sum = 0u32;
    for ((hash, hint), key) in ahead.iter().zip(keys) {
        let slot = table.find_hinted(*hash, *hint, *key, Ticks(1)).expect("it was inserted");
        sum = sum.wrapping_add(table.get(slot).value.isn);
    }
    sum
}

/// The whole lookup: hash, prefetch buckets, prefetch entries, find.
#[inline]
pub fn find<F: Family>(table: &mut Connections<F>, keys: &[Endpoint<F>]) -> u32 {
    let mut ahead = NOTHING;
    prefetch_buckets(table, keys, &mut ahead);
    prefetch_entries(table, &mut ahead);
    find_hashed(table, keys, &ahead)
}

/// Returns scattered numbers below `below`, the same each time.
pub fn scattered(count: usize, below: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize % below
    })
}
