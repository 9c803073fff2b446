//! Buckets that overflow, places that others have after an entry, and hints to both.

use super::*;

type Clients = Table<Endpoint<V4>, Phase, u32>;

/// Returns clients of which most have their home in the last bucket, so that it overflows into the first.
fn crowd(table: &Clients, count: usize) -> Vec<u32> {
    let last = table.buckets.len() as u32 - 1;
    let is_in = |number: &u32| table.hash(client(*number)).home == last;
    let (in_last, others): (Vec<u32>, Vec<u32>) = (0..20_000).partition(is_in);
    let most = (count * 4).div_ceil(5);
    let others = others.into_iter().chain(20_000..).take(count - most.min(in_last.len()));
    in_last.into_iter().take(most).chain(others).collect()
}

/// Checks that buckets and entries tell the same, and that overflows are counted.
fn check(table: &Clients) {
    let mut passed = vec![0u32; table.buckets.len()];
    let mut live = 0;
    for place in 1..table.entries.len() as u32 {
        let (bucket, slot) = slot_of(place);
        assert_eq!(place_of(bucket, slot), place);
        let entry = &table.entries[place as usize];
        let is_used = table.buckets[bucket].used() >> slot & 1 != 0;
        assert_eq!(is_used, entry.previous != FREE, "place {place}");
        assert_eq!(table.at(place as usize).is_some(), is_used);
        if !is_used {
            continue;
        }
        live += 1;
        let hash = table.hash(entry.key);
        assert_ne!(table.buckets[bucket].matches(hash.signature as u16) >> slot & 1, 0);
        let mut at = hash.home as usize;
        while at != bucket {
            passed[at] += 1;
            at = table.after(at);
        }
    }
    assert_eq!((live, table.at(0).is_none()), (table.len(), true));
    for (bucket, passed) in table.buckets.iter().zip(passed) {
        assert_eq!(bucket.is_last(), passed == 0);
    }
}

#[test]
fn a_full_bucket_overflows_into_the_next_ones_and_back_around() {
    let mut table = table(70);
    assert_eq!(table.buckets.len(), 3);
    let clients = crowd(&table, 70);
    for &number in &clients {
        assert!(insert(&mut table, number, Phase::Old, 0).is_some());
    }
    check(&table);
    let places = clients.iter().map(|&number| {
        let key = client(number);
        let hint = table.prefetch_entry(table.hash(key));
        assert!(!table.is_absent(hint), "a hint looks beyond the home bucket");
        let slot = table.find(table.hash(key), key, Ticks(1)).unwrap();
        (slot_of(slot.0).0, table.hash(key).home as usize)
    });
    let mut distances: Vec<_> = places.map(|(bucket, home)| (bucket + 3 - home) % 3).collect();
    distances.sort_unstable();
    assert_eq!(distances.last(), Some(&1), "56 of the last bucket fill it and most of the first");
    // A search for a key that is not there goes on as long as a bucket has overflowed.
    let absent = crowd(&table, 500).into_iter().find(|number| !clients.contains(number)).unwrap();
    let hash = table.hash(client(absent));
    assert!(!table.buckets[hash.home as usize].is_last());
    let hint = table.prefetch_entry(hash);
    assert!(table.is_absent(hint) || table.peek(hint, client(absent), Ticks(1)).is_none());
    for (number, &gone) in clients.iter().enumerate() {
        let slot = table.find(table.hash(client(gone)), client(gone), Ticks(1)).unwrap();
        table.remove(slot);
        check(&table);
        for &left in &clients[number + 1..] {
            assert_eq!(find(&mut table, left, 1), Some(left));
        }
    }
    assert!(table.buckets.iter().all(|bucket| bucket.is_last() && bucket.used() == 0));
}

#[test]
fn tables_of_every_small_size_fill_up_and_empty() {
    for capacity in (0..60).chain([77, 78, 79, 103, 104, 105]) {
        let mut table = table(capacity);
        let capacity = capacity.max(1);
        let clients = crowd(&table, capacity);
        for &number in &clients {
            assert!(matches!(insert(&mut table, number, Phase::Old, 0), Some(Inserted::Free(_))));
        }
        check(&table);
        assert_eq!((table.len(), table.capacity()), (capacity, capacity));
        assert!(insert(&mut table, 30_000, Phase::New, 1).is_none());
        // The sweep passes over all of them once, in steps of any size.
        let steps = (0..).map(|_| table.expire(Ticks::from_secs(100), 7));
        let removed = steps.take(10 + capacity).inspect(|removed| assert!(*removed <= 7));
        assert_eq!(removed.sum::<usize>(), capacity);
        check(&table);
    }
}

#[test]
fn a_sweep_passes_over_each_entry_once_before_it_begins_again() {
    for (capacity, live, limit) in [(200, 150, 16), (200, 3, 16), (26, 26, 5), (1, 1, 16)] {
        let mut table = table(capacity);
        // The last ones have expired.
        for n in 0..live {
            let seen = if n < live / 2 { 50 } else { 0 };
            assert!(insert(&mut table, n, Phase::Old, seen).is_some());
        }
        // Each bucket may be one without entries.
        let most = (live as usize + table.buckets.len() + 1).div_ceil(limit) + 1;
        (0..most).for_each(|_| _ = table.expire(Ticks::from_secs(100), limit));
        assert_eq!(table.len(), live as usize / 2, "of {live} in {capacity}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(usize, Phase),
    Remove(usize),
    Find(usize),
    Touch(usize),
    Move(usize, Phase),
    /// Reads a hint, to be used later.
    Hint(usize),
    /// Uses the hint that was read so many steps ago.
    Use(usize),
    Expire(usize),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0usize..200;
    let phase = || prop::sample::select(Phase::ALL);
    let step = prop_oneof![
        6 => (number(), phase()).prop_map(|(n, p)| Step::Insert(n, p)),
        2 => number().prop_map(Step::Remove),
        1 => number().prop_map(Step::Find),
        1 => number().prop_map(Step::Touch),
        1 => (number(), phase()).prop_map(|(n, p)| Step::Move(n, p)),
        3 => number().prop_map(Step::Hint),
        3 => (0usize..40).prop_map(Step::Use),
        1 => (1usize..20).prop_map(Step::Expire),
        1 => (1u64..9).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    /// Keys crowd into one bucket, the table gets full, and hints are used long after they were read.
    #[test]
    fn crowded_tables_behave_like_a_plain_map(
        steps in steps(), capacity in prop::sample::select(&[1usize, 2, 25, 26, 27, 31, 52, 80][..]),
    ) {
        let (mut table, mut model, mut now) = (table(capacity), Model::default(), 0);
        let clients = crowd(&table, capacity * 3 / 2 + 2);
        let number_of = |n: usize| clients[n % clients.len()];
        let mut hints = Vec::new();
        for step in steps {
            let time = Ticks::from_secs(now);
            match step {
                Step::Wait(seconds) => now += seconds,
                Step::Expire(limit) => { table.expire(time, limit); }
                Step::Find(n) => {
                    let n = number_of(n);
                    prop_assert_eq!(find(&mut table, n, now), model.find(n, now));
                }
                Step::Insert(n, state) => {
                    let n = number_of(n);
                    if find(&mut table, n, now).is_some() {
                        prop_assert_eq!(model.find(n, now), Some(n));
                        continue;
                    }
                    prop_assert_eq!(model.find(n, now), None);
                    match insert(&mut table, n, state, now) {
                        Some(Inserted::Free(_)) => {}
                        Some(Inserted::Evicted(_, state, value)) => {
                            prop_assert_eq!(model.find(value, now), Some(value));
                            prop_assert_eq!(model.0.remove(&value).map(|had| had.0), Some(state));
                            prop_assert!(!is_kept(state) && table.len() == capacity);
                        }
                        None => {
                            let all = model.0.values().filter(|had| is_kept(had.0)).count();
                            prop_assert!(all >= capacity, "{} of {}", all, capacity);
                            continue;
                        }
                    }
                    model.0.insert(n, (state, now));
                }
                Step::Touch(n) | Step::Move(n, _) | Step::Remove(n) => {
                    let n = number_of(n);
                    let slot = table.find(table.hash(client(n)), client(n), time);
                    prop_assert_eq!(slot.map(|slot| table.get(slot).value), model.find(n, now));
                    let Some(slot) = slot else { continue };
                    match step {
                        Step::Move(_, state) => {
                            table.move_to(slot, state, time);
                            model.0.insert(n, (state, now));
                        }
                        Step::Touch(_) => {
                            table.touch(slot, time);
                            model.0.get_mut(&n).unwrap().1 = now;
                        }
                        _ => {
                            table.remove(slot);
                            model.0.remove(&n);
                        }
                    }
                }
                Step::Hint(n) => {
                    let n = number_of(n);
                    hints.push((n, table.prefetch_entry(table.hash(client(n)))));
                }
                Step::Use(back) => {
                    let Some(&(n, hint)) = hints.iter().rev().nth(back) else { continue };
                    let (key, found) = (client(n), model.find(n, now));
                    if let Some(slot) = table.peek(hint, key, time) {
                        prop_assert_eq!((table.get(slot).key, Some(n)), (key, found));
                    }
                    prop_assert!(!table.is_absent(hint) || found.is_none());
                    let slot = table.find_hinted(table.hash(key), hint, key, time);
                    prop_assert_eq!(slot.map(|slot| table.get(slot).value), found);
                }
            }
            prop_assert!(table.len() <= capacity);
        }
        check(&table);
        for &n in &clients {
            prop_assert_eq!(find(&mut table, n, now), model.find(n, now));
        }
        prop_assert_eq!(table.len(), model.0.len());
    }
}
