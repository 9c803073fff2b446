use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::failpoints::killed_in;
use super::super::tests::{Phase, TIMEOUTS, client};
use super::*;
use crate::base::stored::stored;
use crate::table::header::{BYTES, FREED, HAS_CONTENT, PENDING, PLACES, u64_at};
use crate::table::{FREE, Inserted, Slot};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, V4, Version};

const KIND: Kind = Kind::Gateway(Configuration::A);

/// A value whose first two fields belong together: they change in two stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
struct Value {
    number: u32,
    inverse: u32,
    /// Changed alone.
    counter: u64,
}

stored!(Value, [] { number: u32, inverse: u32, counter: u64 });

impl Value {
    fn new(number: u32) -> Self {
        Self { number, inverse: !number, counter: 0 }
    }
}

type Connections = Table<Endpoint<V4>, Phase, Value>;
type Content = BTreeMap<(u32, u16), (usize, Ticks, Value)>;

/// Takes over whatever is whole, of one worker of several.
struct Whole {
    workers: u32,
    number: u32,
    adopted: Vec<(usize, Ticks)>,
}

impl Adopt<Endpoint<V4>, Phase, Value> for Whole {
    fn owns(&self, client: IpAddr) -> bool {
        let IpAddr::V4(client) = client else { return false };
        (client.to_bits() >> 8) % self.workers == self.number
    }

    fn accept(&self, _key: &Endpoint<V4>, _state: Phase, value: Value) -> Option<Value> {
        (value.inverse == !value.number).then_some(value)
    }

    fn adopted(&mut self, entry: &Entry<Endpoint<V4>, Phase, Value>) {
        self.adopted.push((entry.state.queue(), entry.seen));
    }
}

fn alone() -> Whole {
    Whole { workers: 1, number: 0, adopted: Vec::new() }
}

fn table(capacity: usize, hash_key: u64) -> Connections {
    let mut table = Table::new(capacity, &TIMEOUTS, (hash_key, 2));
    table.place(KIND, None).unwrap();
    table.count_hosts(
        |state| state == Phase::Old,
        |key: Endpoint<V4>| Endpoint::new(key.address, 0),
    );
    table
}

fn insert(table: &mut Connections, number: u32, state: Phase, now: u64) -> Slot {
    let (key, now) = (client(number), Ticks::from_secs(now));
    let inserted = table.insert(table.hash(key), key, state, now, Value::new(number));
    table.settle();
    inserted.map(Inserted::slot).unwrap()
}

fn adopt(memory: &[&[u8]], capacity: usize, now: u64) -> (Connections, Imported) {
    let mut next = table(capacity, 99);
    let kept: Vec<_> = memory.iter().map(|bytes| Kept::new(bytes).unwrap()).collect();
    let done = next.import(KIND, &kept, Ticks::from_secs(now), &mut alone());
    check(&mut next);
    (next, done)
}

/// Returns the entries that have not expired, by their keys.
fn content(table: &Connections, now: Ticks) -> Content {
    let live = table.entries.iter().filter(|entry| entry.previous != FREE);
    live.filter(|entry| !table.has_expired(entry, now))
        .map(|e| ((e.key.address.to_bits(), e.key.port), (e.state.queue(), e.seen, e.value)))
        .collect()
}

/// Checks all that is derived from the entries.
fn check(table: &mut Connections) {
    assert!(!table.is_pending());
    let mut seen = 0;
    for &state in Phase::ALL {
        let (mut at, mut last, mut length) = (table.queues[state.queue()].first, Ticks(0), 0);
        while at != NIL {
            let entry = table.entries[at as usize];
            assert_eq!(entry.state, state);
            assert!(state.is_lazy() || entry.seen >= last, "a queue is not in order of expiry");
            (at, last, length) = (entry.next, entry.seen, length + 1);
        }
        assert_eq!(length, table.count(state));
        seen += length;
    }
    assert_eq!(seen, table.len());
    let live: Vec<_> = table.entries.iter().filter(|e| e.previous != FREE).copied().collect();
    for entry in &live {
        let found = table.find(table.hash(entry.key), entry.key, entry.seen).unwrap();
        assert_eq!(table.get(found).value, entry.value);
        let is_old = |other: &&Entry<_, Phase, _>| {
            let other: &Entry<Endpoint<V4>, Phase, Value> = other;
            other.key.address == entry.key.address && other.state == Phase::Old
        };
        let old = live.iter().filter(is_old).count();
        // Hosts may share a number.
        assert!(table.count_of_host(entry.key) as usize >= old);
    }
}

#[test]
fn takes_over_what_lives_with_another_key_and_size() {
    let mut old = table(1000, 1);
    for number in 0..1000 {
        let state = Phase::ALL[number as usize % 4];
        insert(&mut old, number, state, 100 + u64::from(number % 7));
    }
    let freed = old.find(old.hash(client(5)), client(5), Ticks::from_secs(101)).unwrap();
    old.remove(freed);
    let (next, done) = adopt(&[&old.entries.snapshot()], 2000, 107);
    // The short ones of the first two seconds have expired.
    let expired = (0..1000).filter(|n| n % 4 == 2 && n % 7 <= 2).count() as u64;
    assert_eq!(done, Imported { adopted: 999 - expired, expired, ..Imported::default() });
    assert_eq!(content(&next, Ticks::from_secs(107)), content(&old, Ticks::from_secs(107)));
}

#[test]
fn entries_are_shared_out_anew() {
    let mut old = [table(500, 1), table(500, 2)];
    (0..600).for_each(|n| {
        insert(&mut old[n as usize % 2], n, Phase::ALL[n as usize % 4], 10);
    });
    let memory = old.each_ref().map(|table| table.entries.snapshot());
    let kept = memory.each_ref().map(|bytes| Kept::new(bytes).unwrap());
    let mut all = Content::new();
    for number in 0..3 {
        let mut next = table(600, 3);
        let mut worker = Whole { workers: 3, number, adopted: Vec::new() };
        let done = next.import(KIND, &kept, Ticks::from_secs(10), &mut worker);
        check(&mut next);
        assert_eq!(done.adopted as usize, worker.adopted.len());
        assert_eq!((done.adopted + done.others, done.invalid), (600, 0));
        all.append(&mut content(&next, Ticks::from_secs(10)));
    }
    assert_eq!(all.len(), 600);
}

#[test]
fn queues_of_several_tables_are_merged_in_order() {
    let mut old = [table(100, 1), table(100, 2)];
    for (n, at) in [(0, 5), (1, 1), (2, 9), (3, 3), (4, 7), (5, 2)] {
        insert(&mut old[n as usize % 2], n, Phase::New, at);
    }
    let memory = old.each_ref().map(|table| table.entries.snapshot());
    let (mut next, _) = adopt(&[&memory[0], &memory[1]], 6, 10);
    // The first to expire is the first that was seen.
    let (key, at) = (client(9), Ticks::from_secs(10));
    for number in [1, 5, 3] {
        let inserted = next.insert(next.hash(key), key, Phase::Old, at, Value::new(9));
        let Some(Inserted::Evicted(slot, _, value)) = inserted else { panic!("{inserted:?}") };
        assert_eq!(value.number, number);
        next.remove(slot);
        insert(&mut next, 100 + number, Phase::Old, 10);
    }
}

#[test]
fn a_smaller_table_takes_established_connections_first_then_the_last_seen() {
    let mut old = table(100, 1);
    for number in 0..100 {
        let state = [Phase::New, Phase::Late, Phase::Old, Phase::New][number as usize % 4];
        insert(&mut old, number, state, u64::from(number) / 10);
    }
    let (next, done) = adopt(&[&old.entries.snapshot()], 40, 10);
    assert_eq!((done.adopted, done.unplaced), (40, 60));
    assert_eq!((next.count(Phase::Old), next.count(Phase::New)), (25, 15));
    let new = content(&next, Ticks::from_secs(10)).into_values();
    let oldest = new.filter(|entry| entry.0 == Phase::New.queue()).map(|entry| entry.1).min();
    assert_eq!(oldest, Some(Ticks::from_secs(7)));
    let (next, done) = adopt(&[&old.entries.snapshot()], 20, 10);
    assert_eq!((done.adopted, done.unplaced, next.count(Phase::Old)), (20, 80, 20));
}

#[test]
fn a_key_is_taken_over_once() {
    let mut old = table(10, 1);
    insert(&mut old, 1, Phase::New, 1);
    insert(&mut old, 2, Phase::Old, 1);
    let memory = old.entries.snapshot();
    let (next, done) = adopt(&[&memory, &memory], 10, 2);
    assert_eq!((next.len(), done.adopted, done.invalid), (2, 2, 2));
}

#[test]
fn an_entry_of_the_future_expires_like_one_of_now() {
    let mut old = table(10, 1);
    insert(&mut old, 1, Phase::New, 1_000_000);
    insert(&mut old, 2, Phase::Old, 1_000_000);
    let (next, _) = adopt(&[&old.entries.snapshot()], 10, 50);
    assert!(content(&next, Ticks::from_secs(50)).values().all(|e| e.1 == Ticks::from_secs(50)));
}

#[test]
fn what_is_no_table_of_this_role_and_layout_is_refused() {
    let mut old = table(10, 1);
    (0..10).for_each(|number| {
        insert(&mut old, number, Phase::Old, 1);
    });
    let memory = old.entries.snapshot();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut memory = memory.clone();
        change(&mut memory);
        Kept::new(&memory).map(drop).unwrap_err().to_string()
    };
    assert_eq!(refused(&|m| m.truncate(4095)), "not a table of firstack");
    assert_eq!(refused(&|m| m.clear()), "not a table of firstack");
    assert_eq!(refused(&|m| m[3] ^= 1), "not a table of firstack");
    let other = refused(&|m| m[8..12].copy_from_slice(&77u32.to_ne_bytes()));
    assert_eq!(other, "a table of layout 77, and this version of firstack has 2");
    for byte in (12..56).filter(|byte| *byte < 48) {
        assert_eq!(refused(&|m| m[byte] ^= 4), "a damaged table: its header was changed");
    }
    assert!(refused(&|m| m[PENDING + 7] = 1).contains("undo slot"));
    let kept = Kept::new(&memory).unwrap();
    assert_eq!((kept.version(), kept.capacity(), kept.places()), (Version::V4, 10, 32));
    assert_eq!(Connections::may_import(KIND, &kept), Ok(()));
    let other = Connections::may_import(Kind::Switch, &kept).unwrap_err();
    assert_eq!(other.to_string(), "the table of a gateway of configuration A");
    // Another type of entry under the same name.
    type Others = Table<[Endpoint<V4>; 2], Phase, [[Value; 2]; 2]>;
    assert!(Others::may_import(KIND, &kept).is_err());
    let mut next = table(10, 1);
    assert_eq!(next.import(Kind::Replica, &[kept], Ticks(0), &mut alone()), Imported::default());
}

/// Returns memory that is given by its length, and the parts of it that are not zero.
fn memory_of(text: &str) -> Vec<u8> {
    let mut lines = text.lines();
    let length = lines.next().and_then(|line| line.strip_suffix(" bytes")).unwrap();
    let mut memory = vec![0; length.parse().unwrap()];
    for (at, digits) in lines.map(|line| line.split_once(' ').unwrap()) {
        let at: usize = at.parse().unwrap();
        for (number, byte) in memory[at..at + digits.len() / 2].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * number..][..2], 16).unwrap();
        }
    }
    memory
}

/// The file is what the last build with layout 1 has left: 9 places, of which 6 were used; two entries
/// were removed, one of their places was used again, and a change of client 4 is not finished.
#[test]
fn a_table_of_layout_1_is_taken_over() {
    let memory = memory_of(include_str!("layout_1.txt"));
    let kept = Kept::new(&memory).unwrap();
    assert_eq!((kept.kind(), kept.capacity(), kept.places()), (KIND, 9, 6));
    let (next, done) = adopt(&[&memory], 20, 107);
    assert_eq!(done, Imported { adopted: 5, torn: 1, ..Imported::default() });
    let expected =
        [(0, Phase::New), (1, Phase::Old), (4, Phase::New), (5, Phase::Old), (6, Phase::Late)];
    let entry = |(number, state): (u32, Phase)| {
        let seen = Ticks::from_secs(100 + u64::from(number));
        (key_of(number), (state.queue(), seen, Value::new(number)))
    };
    assert_eq!(content(&next, Ticks::from_secs(107)), expected.map(entry).into_iter().collect());
    // What only layout 1 has.
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut memory = memory.clone();
        change(&mut memory);
        Kept::new(&memory).map(drop).unwrap_err().to_string()
    };
    assert!(refused(&|m| m[PLACES] = 10).contains("more entries than room"));
    assert!(refused(&|m| m[8] = 2).contains("its header was changed"));
}

#[test]
fn memory_that_ends_early_is_a_table_with_fewer_entries() {
    let mut old = table(10, 1);
    (0..10).for_each(|number| {
        insert(&mut old, number, Phase::Old, 1);
    });
    let memory = old.entries.snapshot();
    for length in BYTES..memory.len() {
        let (_, done) = adopt(&[&memory[..length]], 10, 1);
        let whole = old.entries[..(length - BYTES) / 64].iter();
        assert_eq!(done.adopted as usize, whole.filter(|entry| entry.previous != FREE).count());
    }
}

#[test]
fn a_table_with_entries_and_memory_that_does_not_fit_are_refused() {
    let map = |bytes| Some(MmapMut::map_anon(bytes).unwrap());
    let mut dirty = MmapMut::map_anon(1 << 20).unwrap();
    dirty[(1 << 20) - 1] = 1;
    let mut empty = Connections::new(100, &TIMEOUTS, (1, 2));
    assert!(empty.place(KIND, map(empty.bytes() - 1)).is_err());
    assert!(empty.place(KIND, Some(dirty)).is_err());
    empty.place(KIND, map(empty.bytes())).unwrap();
    insert(&mut empty, 1, Phase::New, 1);
    assert!(empty.place(KIND, map(1 << 20)).is_err());
    assert_eq!(adopt(&[&empty.entries.snapshot()], 1, 1).1.adopted, 1);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, Phase),
    Touch(u32),
    Count(u32),
    Change(u32, Option<Phase>),
    Move(u32, Phase),
    Remove(u32),
    Replace(u32, u32),
    Expire,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0u32..14;
    let phase = prop::sample::select(Phase::ALL);
    let step = prop_oneof![
        5 => (number.clone(), phase.clone()).prop_map(|(n, p)| Step::Insert(n, p)),
        1 => number.clone().prop_map(Step::Touch),
        1 => number.clone().prop_map(Step::Count),
        3 => (number.clone(), prop::option::of(phase.clone())).prop_map(|(n, p)| Step::Change(n, p)),
        1 => (number.clone(), phase).prop_map(|(n, p)| Step::Move(n, p)),
        1 => number.clone().prop_map(Step::Remove),
        1 => (number.clone(), number).prop_map(|(n, m)| Step::Replace(n, m)),
        1 => Just(Step::Expire),
        1 => (1u64..9).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..60)
}

fn key_of(number: u32) -> (u32, u16) {
    let key = client(number);
    (key.address.to_bits(), key.port)
}

/// Does a step with a table and with a plain model of it.
fn run(table: &mut Connections, model: &mut Content, step: &Step, now: Ticks) {
    let find = |table: &mut Connections, n| table.find(table.hash(client(n)), client(n), now);
    let enter = |table: &mut Connections, model: &mut Content, n, state: Phase| {
        let key = client(n);
        let inserted = table.insert(table.hash(key), key, state, now, Value::new(n));
        if let Some(Inserted::Evicted(_, _, value)) = &inserted {
            model.remove(&key_of(value.number & 0xff));
        }
        if inserted.is_some() {
            model.insert(key_of(n), (state.queue(), now, Value::new(n)));
        }
    };
    match *step {
        Step::Wait(_) => {}
        Step::Expire => drop(table.expire(now, 4)),
        Step::Insert(n, state) => {
            if find(table, n).is_none() {
                enter(table, model, n, state);
            }
        }
        Step::Replace(n, m) => {
            if let Some(slot) = find(table, n) {
                table.remove(slot);
                model.remove(&key_of(n));
            } else if find(table, m).is_none() {
                enter(table, model, m, Phase::New);
            }
        }
        Step::Remove(n) => {
            if let Some(slot) = find(table, n) {
                table.remove(slot);
                model.remove(&key_of(n));
            }
        }
        Step::Touch(n) => {
            if let Some(slot) = find(table, n) {
                table.touch(slot, now);
                model.get_mut(&key_of(n)).unwrap().1 = now;
            }
        }
        Step::Count(n) => {
            if let Some(slot) = find(table, n) {
                table.value_mut_unsaved(slot).counter += 1;
                model.get_mut(&key_of(n)).unwrap().2.counter += 1;
            }
        }
        Step::Move(n, state) => {
            if let Some(slot) = find(table, n) {
                table.move_to(slot, state, now);
                let own = model.get_mut(&key_of(n)).unwrap();
                (own.0, own.1) = (state.queue(), now);
            }
        }
        Step::Change(n, state) => {
            if let Some(slot) = find(table, n) {
                let number = n + 0x100;
                table.value_mut(slot).number = number;
                table.entries.point();
                table.value_mut(slot).inverse = !number;
                table.entries.point();
                table.value_mut(slot).counter += 1;
                let own = model.get_mut(&key_of(n)).unwrap();
                own.2 = Value { counter: own.2.counter + 1, ..Value::new(number) };
                if let Some(state) = state {
                    table.move_to(slot, state, now);
                    (own.0, own.1) = (state.queue(), now);
                }
            }
        }
    }
    table.settle();
}

fn unexpired(model: &Content, now: Ticks) -> Content {
    let lives = |entry: &(usize, Ticks, Value)| now.since(entry.1) < TIMEOUTS[entry.0];
    model.iter().filter(|(_, entry)| lives(entry)).map(|(key, entry)| (*key, *entry)).collect()
}

proptest! {
    /// Wherever a process is killed, what it leaves is the table before the operation or after it.
    #[test]
    fn a_process_killed_between_two_stores_leaves_the_table_as_before_or_after(
        steps in steps(), noise: u8
    ) {
        let (mut table, mut model, mut now) = (table(8, 1), Content::new(), 100);
        for step in steps {
            if let Step::Wait(seconds) = step {
                now += seconds;
            }
            let time = Ticks::from_secs(now);
            let before = unexpired(&model, time);
            let seen = killed_in(|| run(&mut table, &mut model, &step, time));
            let after = unexpired(&model, time);
            for mut memory in seen {
                let pending = u64_at(&memory, PENDING);
                let (next, done) = adopt(&[&memory], 8, now);
                let found = content(&next, time);
                prop_assert!(found == before || found == after, "{step:?}: {found:?}");
                prop_assert_eq!(done.torn, u64::from(pending != 0));
                prop_assert_eq!((done.invalid, done.unplaced), (0, 0));
                // While an entry is changed, its content does not matter, nor does that of the place
                // of the entry that replaces it.
                if pending & HAS_CONTENT != 0 {
                    let places = [pending as u32 as usize, (pending >> FREED) as usize];
                    for place in places.into_iter().filter(|place| *place != 0) {
                        let place = BYTES + 64 * place;
                        memory[place..place + 64].iter_mut().for_each(|byte| *byte ^= noise);
                    }
                    let (next, done) = adopt(&[&memory], 8, now);
                    let found = content(&next, time);
                    prop_assert!(found == before || found == after, "{step:?}: {found:?}");
                    prop_assert_eq!((done.torn, done.invalid), (1, 0));
                }
            }
            let (next, done) = adopt(&[&table.entries.snapshot()], 8, now);
            prop_assert_eq!(content(&next, time), after);
            prop_assert_eq!(done.torn, 0);
        }
    }

    /// Whatever the memory holds, what is taken over is whole, and everything is counted.
    #[test]
    fn any_bytes_are_read_without_harm(
        noise in prop::collection::vec(any::<u8>(), 64 * 63),
        flips in prop::collection::vec((0..64 * 63usize, 0..8u32), 0..20),
        pending in prop::option::of((0..80u32, 0..80u64)),
        is_random: bool,
        places in 0..=63u8,
    ) {
        let mut old = table(40, 1);
        (0..40).for_each(|n| {
            insert(&mut old, n, Phase::ALL[n as usize % 4], 1);
        });
        let mut memory = old.entries.snapshot();
        if is_random {
            memory[BYTES..].copy_from_slice(&noise);
            memory[BYTES - 1024..BYTES].copy_from_slice(&noise[..1024]);
        }
        flips.iter().for_each(|&(at, bit)| memory[BYTES + at] ^= 1 << bit);
        memory[PLACES] = places;
        if let Some((changed, freed)) = pending {
            let word = HAS_CONTENT | u64::from(changed) | freed << FREED;
            memory[PENDING..PENDING + 8].copy_from_slice(&word.to_ne_bytes());
        }
        let (next, done) = adopt(&[&memory], 30, 1);
        let free = (0..u64::from(places)).filter(|&n| {
            let kept = Kept::new(&memory).unwrap();
            u32::read(&kept.entry(n as usize).0[12..]) == Some(FREE)
        });
        let Imported { adopted, torn, expired, invalid, unplaced, others } = done;
        let all = adopted + expired + invalid + unplaced + others + free.count() as u64;
        prop_assert_eq!(all, u64::from(places));
        prop_assert!(torn <= 1);
        prop_assert_eq!(next.len() as u64, adopted);
        let is_whole = |entry: &(usize, Ticks, Value)| entry.2.inverse == !entry.2.number;
        prop_assert!(content(&next, Ticks::from_secs(1)).values().all(is_whole));
    }

    #[test]
    fn a_header_of_any_bytes_is_read_without_harm(
        noise in prop::collection::vec((0..200usize, any::<u8>()), 1..8), length in 0..5000usize
    ) {
        let mut memory = table(10, 1).entries.snapshot();
        noise.iter().for_each(|&(at, byte)| memory[at] = byte);
        memory.truncate(length);
        if let Ok(kept) = Kept::new(&memory) {
            let mut next = table(10, 2);
            let _ = next.import(kept.kind(), &[kept], Ticks(0), &mut alone());
        }
    }
}
