//! Whole roles over bursts of 32 packets of 60 bytes, by number of connections: parse, look up,
//! decide, act. Times are per packet (criterion's throughput), or per race where noted.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::fixtures::{
    LOSERS, Peers, REPLICA, SERVER, V4, V6, frames, from_replica, ip, run_all, scattered, tagged,
};
use firstack_benches::roles::{established, gateway_harness, replica_harness, switch_harness};
use firstack_benches::{BURST, client};
use firstack_packets::Segment;
use pipeline::base::time::Ticks;
use pipeline::packet::view::Side;
use pipeline::role::gateway::Timeouts;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

const COUNTS: [usize; 3] = [1_000, 64_000, 1_000_000];

/// Packets of established connections, in both directions.
fn translate<Q: Mode>(criterion: &mut Criterion, group: &str, peers: Peers, counts: &[usize]) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BURST as u64));
    for &count in counts {
        let mut harness = established::<Q>(peers, count);
        let back = if Q::REPLIES_NEED_LOOKUP { Verdict::FromReplica } else { Verdict::Passed };
        let cases = [
            ("to_replica", Side::Inside, Verdict::ToReplica),
            ("from_replica", Side::Outside, back),
        ];
        for (name, side, verdict) in cases {
            let frames = frames(peers, count, |client| match side {
                Side::Inside => Segment::ack(client, peers.server, 8, 6).payload(&[0; 6]).frame(),
                Side::Outside => from_replica(Q::CONFIGURATION, peers, client, false),
            });
            group.bench_function(BenchmarkId::new(name, count), |bencher| {
                bencher.iter_custom(|bursts| {
                    (0..bursts as usize)
                        .map(|burst| harness.run(side, scattered(&frames, burst), verdict))
                        .sum()
                });
            });
        }
    }
    group.finish();
}

fn gateways(criterion: &mut Criterion) {
    translate::<A>(criterion, "gateway_a", V4, &COUNTS);
    translate::<B>(criterion, "gateway_b", V4, &COUNTS[1..2]);
    translate::<C>(criterion, "gateway_c", V4, &COUNTS[1..2]);
    translate::<A>(criterion, "gateway_a_v6", V6, &COUNTS[1..2]);
    translate::<C>(criterion, "gateway_c_v6", V6, &COUNTS[1..2]);
}

fn no_entry(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway_a");
    group.throughput(Throughput::Elements(BURST as u64));
    let other = frames(V4, 1_000, |client| Segment::ack(client, "192.0.2.1:22", 8, 6).frame());
    let mut harness = established::<A>(V4, 64_000);
    // Connections beyond those that were opened are not in the table.
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
                .map(|burst| harness.run(Side::Inside, scattered(&other, burst), Verdict::NoEntry))
                .sum()
        });
    });
    group.finish();
}

/// 32 races in four bursts: SYNs are tagged, SYN/ACKs decide the race, two losers are reset.
fn races(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("race_a");
    group.throughput(Throughput::Elements(BURST as u64));
    for live in [1_000, 1_000_000] {
        let mut harness = gateway_harness::<A>(live + BURST);
        let opened = frames(V4, live, |client| Segment::syn(client, SERVER, 7).frame());
        run_all(&mut harness, Side::Inside, &opened, Verdict::Tagged);
        let opened = frames(V4, live, |client| Segment::syn_ack(REPLICA, client, 5, 8).frame());
        run_all(&mut harness, Side::Outside, &opened, Verdict::ReplicaWon);
        let racers: Vec<_> = (live..live + BURST).map(client).collect();
        group.bench_function(BenchmarkId::new("whole_race", live), |bencher| {
            bencher.iter_custom(|rounds| {
                let mut total = Duration::ZERO;
                for round in 0..rounds as u32 {
                    // After a reset, a SYN with a new sequence number starts a new race.
                    let build = |frame: &dyn Fn(&str) -> Segment| -> Vec<Vec<u8>> {
                        racers.iter().map(|client| frame(client).frame()).collect()
                    };
                    let syns = build(&|client| Segment::syn(client, SERVER, round * 2));
                    let answer = |from: &'static str| {
                        build(&|client| Segment::syn_ack(from, client, 5, round * 2 + 1))
                    };
                    let first = harness.run(
                        Side::Inside,
                        syns.iter().map(Vec::as_slice),
                        if round == 0 { Verdict::Tagged } else { Verdict::TaggedNewIsn },
                    );
                    let won = answer(REPLICA);
                    let won = harness.run(
                        Side::Outside,
                        won.iter().map(Vec::as_slice),
                        Verdict::ReplicaWon,
                    );
                    let lost: Duration = LOSERS
                        .iter()
                        .map(|loser| {
                            let frames = answer(loser);
                            let frames = frames.iter().map(Vec::as_slice);
                            harness.run(Side::Outside, frames, Verdict::LoserReset)
                        })
                        .sum();
                    total += first + won + lost;
                    let reset = build(&|client| Segment::new(client, SERVER, 4, round * 2 + 1, 0));
                    harness.run(Side::Inside, reset.iter().map(Vec::as_slice), Verdict::ToReplica);
                }
                // Expire the entries, so that every sample starts alike.
                harness.wait(Timeouts::default().closing + Ticks::from_secs(1));
                for _ in 0..BURST {
                    harness.run(Side::Inside, std::iter::empty(), Verdict::Tagged);
                }
                total
            });
        });
    }
    group.finish();
}

fn switch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("switch");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut harness = switch_harness();
    let cases = [
        (
            "fan_out_to_2",
            frames(V4, 1_000, |c| tagged(c, SERVER, Configuration::A).frame()),
            Verdict::FannedOut,
        ),
        (
            "to_server",
            frames(V4, 1_000, |c| Segment::ack(c, SERVER, 8, 6).frame()),
            Verdict::ToServer,
        ),
    ];
    for (name, frames, verdict) in cases {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|bursts| {
                (0..bursts as usize)
                    .map(|burst| harness.run(Side::Outside, scattered(&frames, burst), verdict))
                    .sum()
            });
        });
    }
    group.finish();
}

fn replica_of(criterion: &mut Criterion, group: &str, peers: Peers, code: Configuration) {
    const COUNT: usize = 64_000;
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BURST as u64));
    let mut harness = replica_harness();
    let copies = frames(peers, COUNT, |c| {
        tagged(c, peers.server, code).tunnelled(&ip(peers.server), &ip(peers.replica))
    });
    run_all(&mut harness, Side::Outside, &copies, Verdict::CopyAccepted);
    // At once they would be duplicates. All come once in 2 s.
    harness.wait(Ticks::from_secs(1));
    let to_web_server = frames(peers, COUNT, |c| match code {
        Configuration::A | Configuration::B => Segment::ack(c, peers.replica, 8, 6).frame(),
        Configuration::C => {
            Segment::ack(c, peers.server, 8, 6).tunnelled(&ip(c), &ip(peers.replica))
        }
    });
    let from_web_server = frames(peers, COUNT, |c| Segment::ack(peers.replica, c, 6, 8).frame());
    let cases = [
        ("copy_duplicate", Side::Outside, copies, Verdict::CopyDuplicate),
        ("to_web_server", Side::Outside, to_web_server, Verdict::ToWebServer),
        ("from_web_server", Side::Inside, from_web_server, Verdict::FromWebServer),
    ];
    for (name, side, frames, verdict) in cases {
        group.bench_function(BenchmarkId::new(name, COUNT), |bencher| {
            bencher.iter_custom(|bursts| {
                (0..bursts as usize)
                    .map(|burst| {
                        harness.wait(Ticks::from_millis(1));
                        harness.run(side, scattered(&frames, burst), verdict)
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

fn replicas(criterion: &mut Criterion) {
    replica_of(criterion, "replica_a", V4, Configuration::A);
    replica_of(criterion, "replica_b", V4, Configuration::B);
    replica_of(criterion, "replica_c", V4, Configuration::C);
    replica_of(criterion, "replica_c_v6", V6, Configuration::C);
}

criterion_group!(benches, gateways, no_entry, races, switch, replicas);
criterion_main!(benches);
