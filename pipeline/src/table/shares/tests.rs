//! Shares, by themselves and beside a plain model.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::{Inserted, Slot};
use super::*;
use crate::base::stored::Stored;
use crate::wire::family::{Endpoint, V4, V6};

const CAPACITY: usize = 256;
/// Three quarters, and a sixteenth.
const SCARCE: usize = 192;
const SHARE: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Established,
}

impl Stored for Phase {
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(*bytes.first()?)).copied()
    }
}

impl State for Phase {
    const ALL: &'static [Self] = &[Phase::Opening, Phase::Established];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    fn eviction_rank(self) -> Option<u8> {
        (self == Phase::Opening).then_some(0)
    }
}

type Client = Endpoint<V4>;
type Flows = Table<Client, Phase, ()>;

fn flows(capacity: usize) -> Flows {
    // No entry expires here.
    Table::new(capacity, &[Ticks::from_secs(100_000); 2], (5, 6))
}

/// The endpoint with a number in a /24.
fn client(prefix: u8, number: u16) -> Client {
    Endpoint::new([198, 18, prefix, number as u8].into(), 1024 + number)
}

fn seconds(time: u64) -> Ticks {
    Ticks::from_secs(time)
}

fn insert(flows: &mut Flows, key: Client, state: Phase, now: u64) -> Option<Inserted<Phase, ()>> {
    flows.insert(flows.hash(key), key, state, seconds(now), ())
}

fn find(flows: &mut Flows, key: Client, now: u64) -> Option<Slot> {
    flows.find(flows.hash(key), key, seconds(now))
}

/// Inserts established connections of a prefix until one is refused, at most `most`. Returns how
/// many there are.
fn fill(flows: &mut Flows, prefix: u8, most: u16, now: u64) -> u16 {
    let mut keys = (0..most).map(|number| client(prefix, number));
    let refused = keys.position(|key| insert(flows, key, Phase::Established, now).is_none());
    refused.map_or(most, |refused| refused as u16)
}

#[test]
fn one_prefix_leaves_a_quarter_of_the_table_to_others() {
    let mut flows = flows(CAPACITY);
    assert_eq!(usize::from(fill(&mut flows, 1, 1000, 0)), SCARCE);
    assert_eq!(flows.refused_by_share(), 1);
    // Others have their share, one after the other.
    for prefix in 2..=4 {
        assert_eq!(usize::from(fill(&mut flows, prefix, 1000, 0)), SHARE);
    }
    assert_eq!(flows.len(), CAPACITY - SHARE);
    // Below three quarters, nobody's share counts.
    let gone: Vec<_> = (0..64).map(|number| client(1, number)).collect();
    for key in gone {
        let slot = find(&mut flows, key, 0).unwrap();
        flows.remove(slot);
    }
    assert!(insert(&mut flows, client(1, 2000), Phase::Established, 0).is_some());
}

#[test]
fn a_flood_of_syns_takes_nobodys_share() {
    let mut flows = flows(CAPACITY);
    fill(&mut flows, 1, 100, 0);
    for number in 0..1000u16 {
        let spoofed = client((number % 200) as u8 + 50, number);
        assert!(insert(&mut flows, spoofed, Phase::Opening, 1).is_some());
    }
    // The table is full, but not of established connections.
    assert_eq!((flows.len(), flows.count(Phase::Established)), (CAPACITY, 100));
    let inserted = insert(&mut flows, client(1, 3000), Phase::Established, 2);
    assert!(matches!(inserted, Some(Inserted::Evicted(_, Phase::Opening, ()))));
    assert_eq!(flows.refused_by_share(), 0);
}

#[test]
fn a_full_table_gives_up_the_longest_idle_of_the_largest_prefix() {
    let mut flows = flows(CAPACITY);
    fill(&mut flows, 1, 150, 0);
    fill(&mut flows, 2, 42, 0);
    for prefix in 10..74 {
        assert_eq!(fill(&mut flows, prefix, 1, 0), 1);
    }
    assert_eq!(flows.len(), CAPACITY);
    let newcomer = |number| client(100, number);
    // Nothing is idle for more than five minutes.
    assert!(insert(&mut flows, newcomer(0), Phase::Opening, 300).is_none());
    assert_eq!((flows.refused_by_share(), flows.evicted_for_share()), (0, 0));
    // All but one of the largest prefix are in use, and that one is idle for longest.
    for (prefix, count) in [(1, 150u16), (2, 42)] {
        for number in (0..count).filter(|number| (prefix, *number) != (1, 77)) {
            let slot = find(&mut flows, client(prefix, number), 301).unwrap();
            flows.touch(slot, seconds(if prefix == 2 { 100 } else { 290 }));
        }
    }
    // The table looks at 64 entries at a time: four times for all.
    let evicted = (0..4).filter(|n| {
        matches!(
            insert(&mut flows, newcomer(1), Phase::Opening, 302 + n),
            Some(Inserted::Evicted(_, Phase::Established, ()))
        )
    });
    assert_eq!(evicted.count(), 1);
    assert!(find(&mut flows, client(1, 77), 310).is_none());
    assert_eq!((flows.evicted_for_share(), flows.len()), (1, CAPACITY));
}

#[test]
fn prefixes_below_their_share_lose_nothing() {
    let mut flows = flows(CAPACITY);
    for prefix in 0..32 {
        assert_eq!(fill(&mut flows, prefix, 8, 0), 8);
    }
    for now in 1000..1010 {
        assert!(insert(&mut flows, client(100, 1), Phase::Opening, now).is_none());
    }
    assert_eq!((flows.evicted_for_share(), flows.len()), (0, CAPACITY));
}

#[test]
fn a_small_table_has_no_shares() {
    let mut flows = flows(LEAST_CAPACITY - 1);
    assert_eq!(usize::from(fill(&mut flows, 1, 1000, 0)), LEAST_CAPACITY - 1);
    assert_eq!(flows.refused_by_share(), 0);
}

#[test]
fn a_clients_prefix_is_a_24_or_a_48() {
    let v4 = |text: &str| Endpoint::<V4>::new(text.parse().unwrap(), 1).client_prefix();
    assert_eq!(v4("198.18.1.7"), v4("198.18.1.200"));
    assert_ne!(v4("198.18.1.7"), v4("198.18.2.7"));
    let v6 = |text: &str| Endpoint::<V6>::new(text.parse().unwrap(), 1).client_prefix();
    assert_eq!(v6("2001:db8:1::1"), v6("2001:db8:1:ffff::9"));
    assert_ne!(v6("2001:db8:1::1"), v6("2001:db8:2::1"));
    let server = Endpoint::<V4>::new([203, 0, 113, 10].into(), 80);
    assert_eq!([client(1, 1), server].client_prefix(), client(1, 1).client_prefix());
}

/// The expected behaviour: all entries by key, with state and order of the last touch.
#[derive(Default)]
struct Model {
    entries: HashMap<(u8, u16), (Phase, u64, u64)>,
    order: u64,
    refused: u64,
    evicted: u64,
}

impl Model {
    fn established(&self, prefix: Option<u8>) -> usize {
        let of = |(own, _): &(u8, u16)| prefix.is_none_or(|prefix| prefix == *own);
        let all = self.entries.iter().filter(|(key, _)| of(key));
        all.filter(|(_, (state, ..))| *state == Phase::Established).count()
    }

    fn set(&mut self, key: (u8, u16), state: Phase, now: u64) {
        self.order += 1;
        self.entries.insert(key, (state, now, self.order));
    }

    fn has_its_share(&self, prefix: u8) -> bool {
        self.established(Some(prefix)) >= SHARE
    }

    /// Checks what the table did to make room for a key, and does it, too.
    fn insert(&mut self, flows: &mut Flows, key: (u8, u16), state: Phase, now: u64) {
        let inserted = insert(flows, client(key.0, key.1), state, now);
        if self.established(None) >= SCARCE && self.has_its_share(key.0) {
            self.refused += 1;
            assert!(inserted.is_none());
            return;
        }
        if self.entries.len() < CAPACITY {
            assert!(matches!(inserted, Some(Inserted::Free(_))));
            return self.set(key, state, now);
        }
        let opening = self.entries.iter().filter(|(_, (state, ..))| *state == Phase::Opening);
        let gone = match opening.min_by_key(|(_, (.., order))| *order) {
            Some((oldest, _)) => {
                assert!(matches!(inserted, Some(Inserted::Evicted(_, Phase::Opening, ()))));
                *oldest
            }
            None if inserted.is_none() => return,
            None => {
                let mut missing = self.entries.keys().copied();
                let gone = missing
                    .find(|&(prefix, number)| find(flows, client(prefix, number), now).is_none());
                let gone = gone.expect("an entry was evicted");
                let (_, seen, _) = self.entries[&gone];
                assert!(now - seen > 300 && self.has_its_share(gone.0), "{gone:?}");
                self.evicted += 1;
                gone
            }
        };
        self.entries.remove(&gone);
        self.set(key, state, now);
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// So many new connections of a prefix.
    Insert(u8, u16, Phase),
    /// Every n-th connection of a prefix.
    Establish(u8, u16),
    Close(u8, u16),
    Touch(u8, u16),
    Remove(u8, u16),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let prefix = || prop_oneof![3 => 0u8..2, 2 => 2u8..40];
    let some = || (prefix(), 1u16..4);
    let state = prop::sample::select(Phase::ALL);
    let step = prop_oneof![
        8 => (prefix(), 1u16..80, state).prop_map(|(p, n, state)| Step::Insert(p, n, state)),
        2 => some().prop_map(|(p, n)| Step::Establish(p, n)),
        1 => some().prop_map(|(p, n)| Step::Close(p, n)),
        1 => some().prop_map(|(p, n)| Step::Touch(p, n)),
        1 => some().prop_map(|(p, n)| Step::Remove(p, n)),
        2 => (1u64..400).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #[test]
    fn shares_are_kept_beside_a_plain_model(steps in steps()) {
        let (mut flows, mut model, mut now) = (flows(CAPACITY), Model::default(), 0);
        let mut next = 0u16;
        for step in steps {
            let (prefix, every) = match step {
                Step::Wait(time) => { now += time; continue }
                Step::Insert(prefix, count, state) => {
                    for _ in 0..count {
                        next += 1;
                        model.insert(&mut flows, (prefix, next), state, now);
                    }
                    continue
                }
                Step::Establish(p, n) | Step::Close(p, n) | Step::Touch(p, n)
                | Step::Remove(p, n) => (p, n),
            };
            let mut keys: Vec<_> = model.entries.keys().copied().collect();
            keys.retain(|(own, number)| *own == prefix && number % every == 0);
            keys.sort_unstable();
            for key in keys {
                let slot = find(&mut flows, client(key.0, key.1), now);
                prop_assert!(slot.is_some(), "{:?}", key);
                let Some(slot) = slot else { continue };
                match step {
                    Step::Establish(..) => {
                        flows.move_to(slot, Phase::Established, seconds(now));
                        model.set(key, Phase::Established, now);
                    }
                    Step::Close(..) => {
                        flows.move_to(slot, Phase::Opening, seconds(now));
                        model.set(key, Phase::Opening, now);
                    }
                    Step::Touch(..) => {
                        flows.touch(slot, seconds(now));
                        let state = model.entries[&key].0;
                        model.set(key, state, now);
                    }
                    _ => {
                        flows.remove(slot);
                        model.entries.remove(&key);
                    }
                }
            }
        }
        prop_assert_eq!(flows.len(), model.entries.len());
        prop_assert_eq!(flows.count(Phase::Established), model.established(None));
        prop_assert_eq!(flows.refused_by_share(), model.refused);
        prop_assert_eq!(flows.evicted_for_share(), model.evicted);
        for &(prefix, number) in model.entries.keys() {
            prop_assert!(find(&mut flows, client(prefix, number), now).is_some());
        }
    }
}
