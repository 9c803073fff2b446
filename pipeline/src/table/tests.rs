mod overflow;

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::base::stored::Stored;
use crate::wire::family::{Endpoint, V4};

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(u8)]
pub(super) enum Phase {
    New,
    Old,
    Short,
    Late,
}

impl State for Phase {
    const ALL: &'static [Self] = &[Phase::New, Phase::Old, Phase::Short, Phase::Late];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Old
    }

    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::New | Phase::Short => Some(1),
            Phase::Late => Some(0),
            Phase::Old => None,
        }
    }
}

impl Stored for Phase {
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(*bytes.first()?)).copied()
    }
}

pub(super) const TIMEOUTS: [Ticks; 4] =
    [Ticks::from_secs(30), Ticks::from_secs(100), Ticks::from_secs(5), Ticks::from_secs(50)];

pub(super) fn client(number: u32) -> Endpoint<V4> {
    // Each address is in a prefix of its own, so that none has more than its share.
    Endpoint::new((0x0a00_0000 + ((number / 7) << 8)).into(), (number % 7) as u16)
}

fn table(capacity: usize) -> Table<Endpoint<V4>, Phase, u32> {
    Table::new(capacity, &TIMEOUTS, (1, 2))
}

fn insert(
    table: &mut Table<Endpoint<V4>, Phase, u32>,
    number: u32,
    state: Phase,
    now: u64,
) -> Option<Inserted<Phase, u32>> {
    let key = client(number);
    table.insert(table.hash(key), key, state, Ticks::from_secs(now), number)
}

fn find(table: &mut Table<Endpoint<V4>, Phase, u32>, number: u32, now: u64) -> Option<u32> {
    let key = client(number);
    let slot = table.find(table.hash(key), key, Ticks::from_secs(now))?;
    Some(table.get(slot).value)
}

#[test]
fn fills_to_its_capacity_and_finds_every_entry() {
    let mut table = table(10_000);
    for number in 0..10_000 {
        assert!(matches!(insert(&mut table, number, Phase::Old, 0), Some(Inserted::Free(_))));
    }
    assert_eq!((table.len(), table.count(Phase::Old)), (10_000, 10_000));
    for number in 0..10_000 {
        assert_eq!(find(&mut table, number, 1), Some(number));
    }
    assert_eq!(find(&mut table, 10_000, 1), None);
    assert!(insert(&mut table, 10_000, Phase::New, 1).is_none(), "no entry is evictable");
}

#[test]
fn a_full_table_reuses_expired_entries_first_then_evicts_the_oldest_evictable() {
    let mut table = table(3);
    insert(&mut table, 1, Phase::New, 0);
    insert(&mut table, 2, Phase::New, 1);
    insert(&mut table, 3, Phase::Short, 2);
    assert!(matches!(insert(&mut table, 4, Phase::Old, 7), Some(Inserted::Free(_))));
    assert_eq!(find(&mut table, 3, 7), None);
    assert!(matches!(insert(&mut table, 5, Phase::Old, 8), Some(Inserted::Evicted(..))));
    assert_eq!((find(&mut table, 1, 8), find(&mut table, 2, 8)), (None, Some(2)));
}

#[test]
fn a_full_table_evicts_by_rank_and_then_by_age() {
    let mut table = table(4);
    insert(&mut table, 1, Phase::Short, 0);
    insert(&mut table, 2, Phase::New, 1);
    insert(&mut table, 3, Phase::Late, 2);
    insert(&mut table, 4, Phase::Old, 0);
    let mut evicted = Vec::new();
    for number in 5..8 {
        match insert(&mut table, number, Phase::Old, 3) {
            Some(Inserted::Evicted(_, state, value)) => evicted.push((state, value)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(evicted, [(Phase::Late, 3), (Phase::Short, 1), (Phase::New, 2)]);
    assert!(insert(&mut table, 8, Phase::Late, 3).is_none());
}

#[test]
fn a_full_table_reuses_an_expired_entry_of_a_lazy_state() {
    let mut table = table(3);
    insert(&mut table, 1, Phase::Old, 0);
    insert(&mut table, 2, Phase::New, 90);
    insert(&mut table, 3, Phase::New, 90);
    assert!(matches!(insert(&mut table, 4, Phase::New, 100), Some(Inserted::Free(_))));
    assert_eq!(find(&mut table, 1, 100), None);
}

#[test]
fn touching_restarts_the_timeout_and_reorders() {
    let mut table = table(2);
    insert(&mut table, 1, Phase::New, 0);
    insert(&mut table, 2, Phase::New, 1);
    let slot = table.find(table.hash(client(1)), client(1), Ticks::from_secs(2)).unwrap();
    table.touch(slot, Ticks::from_secs(2));
    assert!(matches!(insert(&mut table, 3, Phase::New, 3), Some(Inserted::Evicted(..))));
    assert_eq!((find(&mut table, 1, 31), find(&mut table, 2, 31)), (Some(1), None));
    assert_eq!(find(&mut table, 1, 32), None, "30 s after the touch");
    assert_eq!(table.expired(), 1);
}

/// The expected behaviour of the table, as a plain map.
#[derive(Default)]
struct Model(HashMap<u32, (Phase, u64)>);

impl Model {
    fn find(&mut self, number: u32, now: u64) -> Option<u32> {
        let &(state, seen) = self.0.get(&number)?;
        if Ticks::from_secs(now - seen) >= TIMEOUTS[state.queue()] {
            self.0.remove(&number);
            return None;
        }
        Some(number)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u32, Phase),
    Find(u32),
    Touch(u32),
    Move(u32, Phase),
    Remove(u32),
    Expire,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = 0u32..40;
    let phase = prop::sample::select(Phase::ALL);
    let step = prop_oneof![
        4 => (number.clone(), phase.clone()).prop_map(|(n, p)| Step::Insert(n, p)),
        3 => number.clone().prop_map(Step::Find),
        2 => number.clone().prop_map(Step::Touch),
        1 => (number.clone(), phase).prop_map(|(n, p)| Step::Move(n, p)),
        1 => number.prop_map(Step::Remove),
        1 => Just(Step::Expire),
        1 => (1u64..20).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn behaves_like_a_plain_map_with_timeouts(steps in steps()) {
        let (mut table, mut model, mut now) = (table(40), Model::default(), 0);
        table.count_hosts(|state| state == Phase::Old, |key| Endpoint::new(key.address, 0));
        for step in steps {
            let time = Ticks::from_secs(now);
            let slot = |table: &mut Table<Endpoint<V4>, Phase, u32>, n| {
                table.find(table.hash(client(n)), client(n), time)
            };
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Expire => { table.expire(time, 4); }
                Step::Find(n) => prop_assert_eq!(find(&mut table, n, now), model.find(n, now)),
                Step::Insert(n, state) => {
                    if model.find(n, now).is_none() {
                        prop_assert!(slot(&mut table, n).is_none());
                        // There are as many keys as entries, so the table is never full.
                        let inserted = insert(&mut table, n, state, now);
                        prop_assert!(matches!(inserted, Some(Inserted::Free(_))));
                        model.0.insert(n, (state, now));
                    }
                }
                Step::Touch(n) => if model.find(n, now).is_some() {
                    let slot = slot(&mut table, n).unwrap();
                    table.touch(slot, time);
                    model.0.get_mut(&n).unwrap().1 = now;
                },
                Step::Move(n, state) => if model.find(n, now).is_some() {
                    let slot = slot(&mut table, n).unwrap();
                    table.move_to(slot, state, time);
                    model.0.insert(n, (state, now));
                },
                Step::Remove(n) => if model.find(n, now).is_some() {
                    let slot = slot(&mut table, n).unwrap();
                    table.remove(slot);
                    model.0.remove(&n);
                },
            }
        }
        for n in 0..40 {
            prop_assert_eq!(find(&mut table, n, now), model.find(n, now));
        }
        prop_assert_eq!(table.len(), model.0.len());
        let counted: usize = Phase::ALL.iter().map(|&state| table.count(state)).sum();
        prop_assert_eq!(counted, table.len());
        // Seven clients a host: those that are old are counted by host.
        for host in 0..6 {
            let old = |n: &u32| model.0.get(n).is_some_and(|(state, _)| *state == Phase::Old);
            let expected = (7 * host..7 * host + 7).filter(old).count();
            prop_assert_eq!(table.count_of_host(client(7 * host)) as usize, expected);
        }
    }
}

#[test]
fn changed_time_outs_hold_at_once_and_take_a_bounded_step_at_a_time() {
    let mut table = table(300);
    (0..100).for_each(|number| assert!(insert(&mut table, number, Phase::New, 0).is_some()));
    (100..200).for_each(|number| assert!(insert(&mut table, number, Phase::Old, 0).is_some()));
    assert_eq!(table.expire(Ticks::from_secs(20), 10), 0);
    table.set_timeouts(&[15, 18, 5, 50].map(Ticks::from_secs));
    assert_eq!((find(&mut table, 7, 20), find(&mut table, 107, 20)), (None, None));
    let steps: Vec<_> = (0..40).map(|_| table.expire(Ticks::from_secs(20), 10)).collect();
    assert!(steps.iter().all(|removed| *removed <= 20), "{steps:?}");
    assert!(table.is_empty());
    // A longer one holds for entries that are there, too.
    assert!(insert(&mut table, 1, Phase::New, 20).is_some());
    table.set_timeouts(&[100, 100, 5, 50].map(Ticks::from_secs));
    assert_eq!(find(&mut table, 1, 119), Some(1));
    assert_eq!(find(&mut table, 1, 120), None);
}
