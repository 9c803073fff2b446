//! Single stages, each over one packet that is in cache: what they cost by themselves.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use pipeline::buffer::{HeapBuffer, HeapPool};
use pipeline::family::V4;
use pipeline::stage::{classify, crack, encap, reset, rewrite, tag};
use pipeline::testing::{LINUX_OPTIONS, Segment};
use pipeline::view::{Packet, View};

const CLIENT: &str = "198.18.1.10:40000";
const SERVER: &str = "203.0.113.10:80";
const TAG: tag::Tag = tag::Tag { permitted: true, configuration: Some(tag::Code::A) };

fn packet(frame: &[u8]) -> Packet<HeapBuffer> {
    Packet::new(HeapBuffer::new(frame))
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("stage");
    let format = tag::Format::default();
    let data = Segment::ack(CLIENT, SERVER, 8, 6).payload(&[0; 6]).frame();
    let syn = Segment::syn(CLIENT, SERVER, 7);
    let options = [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, 1, 1, 1, 1]].concat();
    let tagged = syn.clone().options(&options);

    group.bench_function("parse", |b| {
        b.iter(|| View::parse(std::hint::black_box(&data), data.len()))
    });
    let mut translated = packet(&data);
    group.bench_function("rewrite_destination", |b| {
        b.iter(|| rewrite::destination::<V4, _>(&mut translated, endpoint_of_replica()));
    });
    let start = packet(&syn.frame());
    group.bench_function("classify_start", |b| b.iter(|| classify::start::<V4, _>(&start, format)));
    let find = packet(&tagged.frame());
    group.bench_function("tag_find", |b| {
        b.iter(|| format.find(std::hint::black_box(find.options())))
    });

    let mut batched = |name: &str, frame: &[u8], stage: &dyn Fn(&mut Packet<HeapBuffer>)| {
        group.bench_function(name, |b| {
            b.iter_batched_ref(|| packet(frame), |packet| stage(packet), BatchSize::SmallInput);
        });
    };
    batched("tag_insert", &syn.frame(), &|p| assert!(tag::insert::<V4, _>(p, format, TAG)));
    let at = LINUX_OPTIONS.len();
    batched("tag_strip", &tagged.frame(), &|p| tag::strip::<V4, _>(p, at, tag::UNSIGNED));
    let (from, to) = ([203, 0, 113, 10].into(), [198, 51, 100, 10].into());
    batched("encap_ipip", &tagged.frame(), &|p| assert!(encap::ipip(p, from, to)));
    let tunnelled = tagged.tunnelled("203.0.113.10", "198.51.100.10");
    batched("crack_ipip", &tunnelled, &|p| assert!(crack::ipip(p).is_ok()));
    let loser = Segment::syn_ack(SERVER, CLIENT, 5, 8).frame();
    batched("reset_heap_buffer", &loser, &|p| {
        drop(reset::answer::<V4, _>(p, &mut HeapPool::default()));
    });
    group.finish();
}

fn endpoint_of_replica() -> pipeline::family::Endpoint<V4> {
    pipeline::family::Endpoint::new([198, 51, 100, 10].into(), 8080)
}

criterion_group!(benches, stages);
criterion_main!(benches);
