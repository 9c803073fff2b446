//! Whole roles over bursts of 32 packets of 60 bytes, by number of connections: parse, look up,
//! decide, act. Time is per packet (criterion's throughput), or per race where it says so.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::{BURST, Rig, client};
use pipeline::configuration::A;
use pipeline::limiter::Limit;
use pipeline::role::gateway::{self, Gateway, Timeouts};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::services::Scope;
use pipeline::stage::tag;
use pipeline::testing::{LINUX_OPTIONS, Segment};
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::Side;

const SERVER: &str = "203.0.113.10:80";
const REPLICA: &str = "198.51.100.10:80";
const LOSERS: [&str; 2] = ["198.51.100.20:80", "203.0.113.10:80"];
const COUNTS: [usize; 3] = [1_000, 64_000, 1_000_000];
const KEY: (u64, u64) = (0x1234_5678, 0x9abc_def0);

fn gateway_rig(connections: usize) -> Rig<Gateway<A>> {
    let scope = Scope::Prefix("203.0.113.10/32".parse().expect("a prefix"));
    let service = gateway::Service { scope, ports: vec![80], replicas: Vec::new() };
    let role = Gateway::new(gateway::Settings {
        services: vec![service],
        tag: tag::Format::default(),
        timeouts: Timeouts::default(),
        max_connections: connections,
        hash_key: KEY,
    });
    Rig::new(role, 2)
}

fn frames(count: usize, frame: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(&client(number))).collect()
}

fn run_all<R: pipeline::role::Role>(
    rig: &mut Rig<R>,
    side: Side,
    frames: &[Vec<u8>],
    expected: Verdict,
) -> Duration {
    frames.chunks(BURST).map(|b| rig.run(side, b.iter().map(Vec::as_slice), expected)).sum()
}

/// Opens connections through the pipeline; the replica wins them all.
fn established(connections: usize) -> Rig<Gateway<A>> {
    let mut rig = gateway_rig(connections);
    let syns = frames(connections, |client| Segment::syn(client, SERVER, 7).frame());
    run_all(&mut rig, Side::Inside, &syns, Verdict::Tagged);
    let answers = frames(connections, |client| Segment::syn_ack(REPLICA, client, 5, 8).frame());
    run_all(&mut rig, Side::Outside, &answers, Verdict::ReplicaWon);
    rig
}

/// Bursts of connections that are far from each other, so that none finds its entry in cache.
fn scattered(frames: &[Vec<u8>], burst: usize) -> impl Iterator<Item = &[u8]> {
    let stride = frames.len() / BURST;
    let first = burst.wrapping_mul(7919) % stride.max(1);
    (0..BURST).map(move |n| frames[(first + n * stride) % frames.len()].as_slice())
}

fn gateway(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway_a");
    group.throughput(Throughput::Elements(BURST as u64));
    for count in COUNTS {
        let mut rig = established(count);
        let cases = [
            ("to_replica", Side::Inside, Verdict::ToReplica),
            ("from_replica", Side::Outside, Verdict::FromReplica),
        ];
        for (name, side, verdict) in cases {
            let frames = frames(count, |client| match side {
                Side::Inside => Segment::ack(client, SERVER, 8, 6).payload(&[0; 6]).frame(),
                Side::Outside => Segment::ack(REPLICA, client, 6, 8).payload(&[0; 6]).frame(),
            });
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_custom(|bursts| {
                    (0..bursts as usize)
                        .map(|burst| rig.run(side, scattered(&frames, burst), verdict))
                        .sum()
                });
            });
        }
    }
    let other = frames(1_000, |client| Segment::ack(client, "192.0.2.1:22", 8, 6).frame());
    let mut rig = established(64_000);
    // Connections that are not in the table: numbers past those that were opened.
    let other: Vec<_> = other
        .into_iter()
        .map(|mut frame| {
            frame[26] = 10;
            frame
        })
        .collect();
    group.bench_function("no_entry/64000", |bencher| {
        bencher.iter_custom(|bursts| {
            (0..bursts as usize)
                .map(|burst| rig.run(Side::Inside, scattered(&other, burst), Verdict::NoEntry))
                .sum()
        });
    });
    group.finish();
}

/// SYN in, tagged out, SYN/ACK in, decided, out, two losers reset: 32 races in four bursts.
fn races(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("race_a");
    group.throughput(Throughput::Elements(BURST as u64));
    for live in [1_000, 1_000_000] {
        let mut rig = gateway_rig(live + BURST);
        let opened = frames(live, |client| Segment::syn(client, SERVER, 7).frame());
        run_all(&mut rig, Side::Inside, &opened, Verdict::Tagged);
        let opened = frames(live, |client| Segment::syn_ack(REPLICA, client, 5, 8).frame());
        run_all(&mut rig, Side::Outside, &opened, Verdict::ReplicaWon);
        let racers: Vec<_> = (live..live + BURST).map(client).collect();
        group.bench_function(BenchmarkId::new("whole_race", live), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for round in 0..rounds as u32 {
                    // A new sequence number after a reset: the endpoints race afresh.
                    let build = |frame: &dyn Fn(&str) -> Segment| -> Vec<Vec<u8>> {
                        racers.iter().map(|client| frame(client).frame()).collect()
                    };
                    let syns = build(&|client| Segment::syn(client, SERVER, round * 2));
                    let answer = |from: &'static str| {
                        build(&|client| Segment::syn_ack(from, client, 5, round * 2 + 1))
                    };
                    let first = rig.run(
                        Side::Inside,
                        syns.iter().map(Vec::as_slice),
                        if round == 0 { Verdict::Tagged } else { Verdict::TaggedAnew },
                    );
                    let won = answer(REPLICA);
                    let won =
                        rig.run(Side::Outside, won.iter().map(Vec::as_slice), Verdict::ReplicaWon);
                    let lost: Duration = LOSERS
                        .iter()
                        .map(|loser| {
                            let frames = answer(loser);
                            let frames = frames.iter().map(Vec::as_slice);
                            rig.run(Side::Outside, frames, Verdict::LoserReset)
                        })
                        .sum();
                    total += first + won + lost;
                    let reset = build(&|client| Segment::new(client, SERVER, 4, round * 2 + 1, 0));
                    rig.run(Side::Inside, reset.iter().map(Vec::as_slice), Verdict::ToReplica);
                }
                // The entries expire, so that the next sample begins as this one did.
                rig.wait(Ticks::from_secs(11));
                for _ in 0..BURST {
                    rig.run(Side::Inside, std::iter::empty(), Verdict::Tagged);
                }
                total
            });
        });
    }
    group.finish();
}

fn switch_rig() -> Rig<Switch> {
    let server = |name: &str, last| switch::Server {
        name: name.to_owned(),
        delivery: Delivery::Direct([2, 0, 0, 0, 1, last]),
        weight: 1,
    };
    let service = switch::Service {
        address: [203, 0, 113, 10].into(),
        ports: vec![80],
        replicable: true,
        source: [203, 0, 113, 10].into(),
        replicas: vec![([198, 51, 100, 10].into(), 0), ([198, 51, 100, 20].into(), 1)],
        servers: vec![server("web1", 1), server("web2", 2)],
        first_server: 0,
    };
    let unlimited = Limit { rate: 1 << 30, burst: 1 << 30, prefix_v4: 24, prefix_v6: 48 };
    let role = Switch::new(switch::Settings {
        services: vec![service],
        tag: tag::Format::default(),
        max_copies: 8,
        fan_out: unlimited,
        replicas: 2,
        servers: 2,
    });
    Rig::new(role, 8)
}

fn tagged(client: &str) -> Segment {
    let options = [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, 1, 1, 1, 1]].concat();
    Segment::syn(client, SERVER, 7).options(&options)
}

fn switch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("switch_a");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut rig = switch_rig();
    let cases = [
        ("fan_out_to_2", frames(1_000, |c| tagged(c).frame()), Verdict::FannedOut),
        ("to_server", frames(1_000, |c| Segment::ack(c, SERVER, 8, 6).frame()), Verdict::ToServer),
    ];
    for (name, frames, verdict) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|bursts| {
                (0..bursts as usize)
                    .map(|burst| rig.run(Side::Outside, scattered(&frames, burst), verdict))
                    .sum()
            });
        });
    }
    group.finish();
}

fn replica_rig() -> Rig<Replica> {
    let server = replica::Server {
        name: "web1".to_owned(),
        address: [198, 51, 100, 10].into(),
        port: None,
        mac: None,
        weight: 1,
    };
    let service = replica::Service {
        address: [203, 0, 113, 10].into(),
        ports: vec![80],
        servers: vec![server],
        first_server: 0,
    };
    let settings = replica::Settings {
        services: vec![service],
        switches: vec!["203.0.113.10/32".parse().expect("a prefix")],
        tunnel_addresses: vec![[198, 51, 100, 10].into()],
        tag: tag::Format::default(),
        busy_connections: usize::MAX,
        busy_syn_rate: 1 << 30,
        max_connections: 100_000,
        timeouts: [30, 7440, 10].map(Ticks::from_secs),
        macs: [[2; 6], [2; 6]],
        probes: false,
        hash_key: KEY,
    };
    Rig::new(Replica::new(settings, Default::default(), Default::default()), 1)
}

fn replica(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replica_a");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut rig = replica_rig();
    let copies = frames(64_000, |c| tagged(c).tunnelled("203.0.113.10", "198.51.100.10"));
    run_all(&mut rig, Side::Outside, &copies, Verdict::Cracked);
    let cases = [
        ("crack_again", copies, Verdict::CrackedAgain),
        (
            "to_web_server",
            frames(64_000, |c| Segment::ack(c, REPLICA, 8, 6).frame()),
            Verdict::ToWebServer,
        ),
    ];
    for (name, frames, verdict) in cases {
        group.bench_function(BenchmarkId::new(name, 64_000), |bencher| {
            bencher.iter_custom(|bursts| {
                (0..bursts as usize)
                    .map(|burst| rig.run(Side::Outside, scattered(&frames, burst), verdict))
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, gateway, races, switch, replica);
criterion_main!(benches);
