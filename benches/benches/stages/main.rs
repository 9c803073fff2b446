//! The cost of single stages over one packet in cache, in nanoseconds and in cycles of the time
//! stamp counter, which runs at the processor's nominal rate.
//!
//! Table operations, and the fixed cost of a burst (verdicts, counters, output, periodic work), are
//! measured for bursts of 32; their throughput is per key or packet.

mod cycles;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use cycles::Cycles;
use firstack_benches::cases::{self, Work};
use firstack_packets::{LINUX_OPTIONS, Segment, ethernet_frame, tag as tags, tunnel_in};
use pipeline::base::time::Ticks;
use pipeline::packet::buffer::{HeapBuffer, HeapPool};
use pipeline::packet::view::{Packet, View};
use pipeline::stage::encap::Outer;
use pipeline::stage::sign::Keys;
use pipeline::stage::{classify, decap, encap, reset, rewrite, tag};
use pipeline::wire::family::{V4, V6};
use pipeline::wire::tunnel::Format;

const CLIENT: &str = "198.18.1.10:40000";
const SERVER: &str = "203.0.113.10:80";
const TAG: tag::Tag = tag::Tag::requesting(tag::CopiesWanted::ALL, tag::Configuration::A);

fn packet(frame: &[u8]) -> Packet<HeapBuffer> {
    Packet::new(HeapBuffer::new(frame))
}

fn stages(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("stage");
    let format = tag::OptionId::default();
    let data = Segment::ack(CLIENT, SERVER, 8, 6).payload(&[0; 6]).frame();
    let syn = Segment::syn(CLIENT, SERVER, 7);
    let options = [&LINUX_OPTIONS[..], &tags::unsigned(tags::PERMITTED)].concat();
    let tagged = syn.clone().options(&options);

    group.bench_function("parse", |b| {
        b.iter(|| View::parse(std::hint::black_box(&data), data.len()))
    });
    let data_v6 = Segment::ack("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80", 8, 6).frame();
    group.bench_function("parse_v6", |b| {
        b.iter(|| View::parse(std::hint::black_box(&data_v6), data_v6.len()))
    });
    let mut translated = packet(&data);
    group.bench_function("rewrite_destination", |b| {
        b.iter(|| rewrite::destination::<V4, _>(&mut translated, endpoint_of_replica()));
    });
    let start = packet(&syn.frame());
    group.bench_function("classify_syn", |b| b.iter(|| classify::syn::<V4, _>(&start, format, 8)));
    let find = packet(&tagged.frame());
    group.bench_function("tag_find", |b| {
        b.iter(|| format.find(std::hint::black_box(find.options())))
    });

    let mut batched = |name: &str, frame: &[u8], stage: &dyn Fn(&mut Packet<HeapBuffer>)| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| packet(frame), |packet| stage(packet), BatchSize::SmallInput);
        });
    };
    let keys = [Keys::default(), Keys::new([(1, [7; 16])], Some(1))];
    for (name, keys) in ["tag_insert", "tag_insert_signed"].iter().zip(&keys) {
        let stage = |p: &mut Packet<HeapBuffer>| {
            assert!(tag::insert::<V4, _>(p, format, TAG, keys.at(Ticks(0))))
        };
        batched(name, &syn.frame(), &stage);
    }
    let at = LINUX_OPTIONS.len();
    batched("tag_strip", &tagged.frame(), &|p| tag::strip::<V4, _>(p, at, tag::UNSIGNED));
    let loser = Segment::syn_ack(SERVER, CLIENT, 5, 8).frame();
    batched("reset_heap_buffer", &loser, &|p| {
        drop(reset::answer::<V4, _>(p, &mut HeapPool::default()));
    });
    group.finish();
}

/// Encapsulation and decapsulation in every format, over both families.
fn tunnels(criterion: &mut Criterion<Cycles>) {
    let mut group = criterion.benchmark_group("stage");
    let data = Segment::ack(CLIENT, SERVER, 8, 6).payload(&[0; 6]);
    let (macs, data) = (data.macs, data.frame());
    let data_v6 = Segment::ack("[2001:db8:1::10]:40000", "[2001:db8:2::10]:80", 8, 6).frame();
    let mut batched = |name: &str, frame: &[u8], stage: &dyn Fn(&mut Packet<HeapBuffer>)| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| packet(frame), |packet| stage(packet), BatchSize::SmallInput);
        });
    };
    let ends = ("198.18.1.10", "198.51.100.10");
    let ends_v6 = ("2001:db8:1::10", "2001:db8:3::10");
    for (format, built) in Format::ALL.into_iter().zip(firstack_packets::Format::ALL) {
        let name = format!("{format:?}").to_lowercase();
        let outer = Outer::<V4> {
            format,
            source: [198, 18, 1, 10].into(),
            destination: [198, 51, 100, 10].into(),
            entropy: 9,
        };
        let put = |p: &mut Packet<HeapBuffer>| assert!(encap::put(p, &outer));
        batched(&format!("encap_{name}"), &data, &put);
        let outer = Outer::<V6> {
            format,
            source: ends_v6.0.parse().expect("an address"),
            destination: ends_v6.1.parse().expect("an address"),
            entropy: 9,
        };
        let put = |p: &mut Packet<HeapBuffer>| assert!(encap::put(p, &outer));
        batched(&format!("encap_{name}_v6"), &data_v6, &put);
        let open = |p: &mut Packet<HeapBuffer>| {
            let inner = p.view.inner(pipeline::packet::buffer::Buffer::head(&p.buffer));
            assert!(decap::open(p, inner).is_ok());
        };
        for (frame, ends, family) in [(&data, ends, ""), (&data_v6, ends_v6, "_v6")] {
            let tunnel = tunnel_in(built.clone(), ends, (0, 9), &frame[14..]);
            let frame = ethernet_frame(macs, &tunnel);
            batched(&format!("decap_{name}{family}"), &frame, &open);
        }
    }
    group.finish();
}

fn endpoint_of_replica() -> pipeline::wire::family::Endpoint<V4> {
    pipeline::wire::family::Endpoint::new([198, 51, 100, 10].into(), 8080)
}

/// The library's cases, one step at a time: 32 keys, 32 packets, or one burst's periodic work.
fn bursts(criterion: &mut Criterion<Cycles>) {
    let names = [
        "table_hash",
        "table_find_64k",
        "table_find_64k_v6",
        "gateway_not_tcp",
        "gateway_empty_burst",
    ];
    let mut group = criterion.benchmark_group("burst");
    for case in cases::all().filter(|case| names.contains(&case.name)) {
        let mut work = (case.build)();
        group.throughput(Throughput::Elements(case.units as u64));
        group.bench_function(case.name, |b| {
            b.iter_custom(|steps| (0..steps).map(|_| one_step(work.as_mut())).sum());
        });
    }
    group.finish();
}

/// Returns the cycles that a step takes.
fn one_step(work: &mut dyn Work) -> u64 {
    work.prepare();
    let start = cycles::now();
    work.step();
    let elapsed = cycles::now() - start;
    work.check();
    elapsed
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(Cycles::calibrated());
    targets = stages, tunnels, bursts
}
criterion_main!(benches);
