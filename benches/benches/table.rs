//! The translation table beside hashbrown, in one run, over bursts of 32 scattered keys: hash,
//! find, and read the connection's state.
//!
//! What prefetching over a burst is worth is the difference between `ours` and
//! `ours_without_prefetch`; what the table's shape is worth, that between `ours` and the maps.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::BURST;
use hashbrown::HashMap;
use pipeline::family::{Endpoint, V4};
use pipeline::flow::{Flow, Phase};
use pipeline::table::Table;
use pipeline::time::Ticks;
use std::hash::BuildHasher;
use std::hint::black_box;

const COUNTS: [usize; 4] = [1_000, 64_000, 1_000_000, 8_000_000];

fn key(number: usize) -> Endpoint<V4> {
    let (host, port) = (number / 50_000, 10_000 + number % 50_000);
    Endpoint::new((0xc612_0000 + host as u32).into(), port as u16)
}

/// Scattered over all connections, the same order for every table; so many that those of a large
/// table do not come round while its entries are still in cache.
fn keys(count: usize) -> Vec<Endpoint<V4>> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..count.clamp(1 << 16, 1 << 22))
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            key(state as usize % count)
        })
        .collect()
}

fn flow(number: usize) -> Flow<V4> {
    Flow::new(key(0), number as u32, 0, Ticks(0))
}

/// hashbrown under the keyed hash that our table uses.
#[derive(Clone, Copy)]
struct Sip;

impl BuildHasher for Sip {
    type Hasher = siphasher::sip::SipHasher13;

    fn build_hasher(&self) -> Self::Hasher {
        Self::Hasher::new_with_keys(1, 2)
    }
}

fn bench_map<S: BuildHasher>(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    name: &str,
    count: usize,
    hasher: S,
) {
    let mut map = HashMap::with_capacity_and_hasher(count, hasher);
    map.extend((0..count).map(|n| (key(n), flow(n))));
    let keys = keys(count);
    let mut bursts = keys.chunks_exact(BURST).cycle();
    group.bench_function(BenchmarkId::new(name, count), |bencher| {
        bencher.iter(|| {
            let burst = bursts.next().expect("an endless cycle");
            burst.iter().map(|key| map[key].isn).fold(0, u32::wrapping_add)
        });
    });
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("table_find");
    group.throughput(Throughput::Elements(BURST as u64));
    for count in COUNTS {
        bench_map(
            &mut group,
            "hashbrown_foldhash",
            count,
            hashbrown::DefaultHashBuilder::default(),
        );
        bench_map(&mut group, "hashbrown_siphash", count, Sip);
        let mut table =
            Table::<Endpoint<V4>, Phase, Flow<V4>>::new(count, [Ticks(u64::MAX); 4], (1, 2));
        for n in 0..count {
            let inserted =
                table.insert(table.hash(key(n)), key(n), Phase::Replica, Ticks(0), flow(n));
            assert!(inserted.is_some());
        }
        let keys = keys(count);
        for prefetch in [true, false] {
            let name = if prefetch { "ours" } else { "ours_without_prefetch" };
            let mut bursts = keys.chunks_exact(BURST).cycle();
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter(|| {
                    let burst = bursts.next().expect("an endless cycle");
                    let mut hashes = [table.hash(burst[0]); BURST];
                    for (hash, key) in hashes.iter_mut().zip(burst) {
                        *hash = table.hash(*key);
                        if prefetch {
                            table.prefetch_bucket(*hash);
                        }
                    }
                    if prefetch {
                        hashes.iter().for_each(|hash| table.prefetch_entry(*hash));
                    }
                    let mut sum = 0u32;
                    for (hash, key) in hashes.iter().zip(burst) {
                        let slot = table.find(*hash, *key, Ticks(1)).expect("it was inserted");
                        sum = sum.wrapping_add(table.get(slot).value.isn);
                    }
                    black_box(sum)
                });
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = find
}
criterion_main!(benches);
