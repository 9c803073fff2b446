//! What packets cost by the size of the configuration, in bursts of 32: whatever a packet needs of
//! it is compiled when the configuration is loaded, so the figures of a case stay within a factor of
//! two. Times are per packet (criterion's throughput).

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::configuration::{Size, new_connections};
use firstack_benches::{BURST, Harness};
use pipeline::packet::view::Side;
use pipeline::role::Role;
use pipeline::verdict::Verdict;

/// A case: its name, the side of its packets, and the verdict on them.
type Case = (&'static str, Side, Verdict);

fn measure<R: Role>(
    criterion: &mut Criterion,
    (name, side, verdict): Case,
    harness: impl Fn(Size) -> Harness<R>,
    frames: impl Fn(Size, usize) -> Vec<Vec<u8>>,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(BURST as u64));
    for size in Size::ALL {
        let (mut harness, frames) = (harness(size), frames(size, new_connections()));
        let mut bursts = frames.chunks_exact(BURST).cycle();
        let id = BenchmarkId::from_parameter(format!("{}x{}", size.services, size.each));
        group.bench_function(id, |bencher| {
            bencher.iter_custom(|count| {
                let next = bursts.by_ref().take(count as usize);
                next.map(|b| harness.run(side, b.iter().map(Vec::as_slice), verdict)).sum()
            });
        });
    }
    group.finish();
}

fn configuration(criterion: &mut Criterion) {
    let case = ("unknown_fragment", Side::Outside, Verdict::Fragment);
    measure(criterion, case, Size::gateway, Size::fragments);
    let case = ("syn_to_no_service", Side::Inside, Verdict::NoService);
    measure(criterion, case, Size::gateway, Size::foreign_syns);
    let case = ("syn_to_a_service", Side::Inside, Verdict::Tagged);
    measure(criterion, case, Size::gateway, Size::syns);
    let case = ("copy", Side::Outside, Verdict::CopyAccepted);
    measure(criterion, case, Size::replica, Size::copies);
    let case = ("forged_syn", Side::Outside, Verdict::ClientNotAllowed);
    measure(criterion, case, Size::switch, Size::forged_syns);
}

criterion_group!(benches, configuration);
criterion_main!(benches);
