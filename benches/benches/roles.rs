//! Whole roles over bursts of 32 packets of 60 bytes, by number of connections: parse, look up,
//! decide, act. Time is per packet (criterion's throughput), or per race where it says so.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use firstack_benches::{BURST, Rig, client, client_v6};
use pipeline::configuration::{A, B, C, Configuration};
use pipeline::limiter::Limit;
use pipeline::neighbours::Neighbours;
use pipeline::path::Path;
use pipeline::role::gateway::{self, Gateway, Timeouts};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::services::Scope;
use pipeline::shared::Published;
use pipeline::stage::sign::Keys;
use pipeline::stage::tag::{self, Code};
use pipeline::testing::{LINUX_OPTIONS, Segment};
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::Side;

const SERVER: &str = "203.0.113.10:80";
const REPLICA: &str = "198.51.100.10:80";
const LOSERS: [&str; 2] = ["198.51.100.20:80", "203.0.113.10:80"];
const COUNTS: [usize; 3] = [1_000, 64_000, 1_000_000];
const KEY: (u64, u64) = (0x1234_5678, 0x9abc_def0);

/// Who takes part, of one family.
#[derive(Clone, Copy)]
struct Cast {
    server: &'static str,
    replica: &'static str,
    client: fn(usize) -> String,
}

const V4: Cast = Cast { server: SERVER, replica: REPLICA, client };
const V6: Cast =
    Cast { server: "[2001:db8:2::10]:80", replica: "[2001:db8:3::10]:80", client: client_v6 };

/// The address of an endpoint, as text.
fn ip(endpoint: &str) -> String {
    endpoint.parse::<SocketAddr>().expect("an endpoint").ip().to_string()
}

/// The frame of a replica's packet as a gateway of this configuration gets it; `answers` is an
/// acknowledgement.
fn from_replica(code: Code, cast: Cast, client: &str, answers: bool) -> Vec<u8> {
    let segment = |from: &str| match answers {
        true => Segment::syn_ack(from, client, 5, 8),
        false => Segment::ack(from, client, 6, 8).payload(&[0; 6]).inbound(),
    };
    match (code, answers) {
        (Code::A, _) => segment(cast.replica).frame(),
        (Code::B, true) => segment(cast.replica).tunnelled(&ip(cast.server), &ip(client)),
        (Code::B, false) => segment(cast.server).frame(),
        (Code::C, _) => segment(cast.server).tunnelled(&ip(cast.replica), &ip(client)),
    }
}

fn gateway_rig<Q: Configuration>(connections: usize) -> Rig<Gateway<Q>> {
    let service = |address: &str| gateway::Service {
        scope: Scope::Prefix(address.parse::<IpAddr>().expect("an address").into()),
        ports: vec![80],
        replicas: Vec::new(),
    };
    let settings = gateway::Settings {
        services: [V4, V6].iter().map(|cast| service(&ip(cast.server))).collect(),
        tag: tag::Format::default(),
        timeouts: Timeouts::default(),
        path: Path::default(),
        max_connections: [connections; 2],
        hash_key: KEY,
    };
    Rig::new(Gateway::new(settings, Published::new(Keys::default()).reader()), 2)
}

fn frames(cast: Cast, count: usize, frame: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    (0..count).map(|number| frame(&(cast.client)(number))).collect()
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
fn established<Q: Configuration>(cast: Cast, connections: usize) -> Rig<Gateway<Q>> {
    let mut rig = gateway_rig(connections);
    let syns = frames(cast, connections, |client| Segment::syn(client, cast.server, 7).frame());
    run_all(&mut rig, Side::Inside, &syns, Verdict::Tagged);
    let answers = frames(cast, connections, |client| from_replica(Q::CODE, cast, client, true));
    run_all(&mut rig, Side::Outside, &answers, Verdict::ReplicaWon);
    rig
}

/// Bursts of connections that are far from each other, so that none finds its entry in cache.
fn scattered(frames: &[Vec<u8>], burst: usize) -> impl Iterator<Item = &[u8]> {
    let stride = frames.len() / BURST;
    let first = burst.wrapping_mul(7919) % stride.max(1);
    (0..BURST).map(move |n| frames[(first + n * stride) % frames.len()].as_slice())
}

/// The packets of established connections, both ways.
fn translate<Q: Configuration>(
    criterion: &mut Criterion,
    group: &str,
    cast: Cast,
    counts: &[usize],
) {
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BURST as u64));
    for &count in counts {
        let mut rig = established::<Q>(cast, count);
        let back = if Q::FOLLOWS_PLAIN { Verdict::FromReplica } else { Verdict::Passed };
        let cases = [
            ("to_replica", Side::Inside, Verdict::ToReplica),
            ("from_replica", Side::Outside, back),
        ];
        for (name, side, verdict) in cases {
            let frames = frames(cast, count, |client| match side {
                Side::Inside => Segment::ack(client, cast.server, 8, 6).payload(&[0; 6]).frame(),
                Side::Outside => from_replica(Q::CODE, cast, client, false),
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
    group.finish();
}

fn gateways(criterion: &mut Criterion) {
    translate::<A>(criterion, "gateway_a", V4, &COUNTS);
    translate::<B>(criterion, "gateway_b", V4, &COUNTS[1..2]);
    translate::<C>(criterion, "gateway_c", V4, &COUNTS[1..2]);
    translate::<A>(criterion, "gateway_a_v6", V6, &COUNTS[1..2]);
    translate::<C>(criterion, "gateway_c_v6", V6, &COUNTS[1..2]);
}

fn strangers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gateway_a");
    group.throughput(Throughput::Elements(BURST as u64));
    let other = frames(V4, 1_000, |client| Segment::ack(client, "192.0.2.1:22", 8, 6).frame());
    let mut rig = established::<A>(V4, 64_000);
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
        let mut rig = gateway_rig::<A>(live + BURST);
        let opened = frames(V4, live, |client| Segment::syn(client, SERVER, 7).frame());
        run_all(&mut rig, Side::Inside, &opened, Verdict::Tagged);
        let opened = frames(V4, live, |client| Segment::syn_ack(REPLICA, client, 5, 8).frame());
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
                rig.wait(Timeouts::default().closing + Ticks::from_secs(1));
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
    let services = vec![switch::Service {
        address: [203, 0, 113, 10].into(),
        ports: vec![80],
        replicable: true,
        source: [203, 0, 113, 10].into(),
        replicas: vec![[198, 51, 100, 10].into(), [198, 51, 100, 20].into()],
        first_replica: 0,
        servers: vec![server("web1", 1), server("web2", 2)],
        first_server: 0,
    }];
    let unlimited = Limit { rate: 1 << 30, burst: 1 << 30, prefix_v4: 24, prefix_v6: 48 };
    let selection = switch::Selection::new(&services, &switch::Alive::default());
    let seconds = Ticks::from_secs;
    let settings = switch::Settings {
        services,
        tag: tag::Format::default(),
        require_signature: false,
        gateways: Vec::new(),
        max_copies: 8,
        fan_out: unlimited,
        path: Path::default(),
        max_connections: [100_000, 1],
        timeouts: switch::Timeouts {
            opening: seconds(30),
            established: seconds(7440),
            closing: seconds(120),
            reuse_after: seconds(60),
        },
        probing: None,
        probes: false,
        macs: [[2; 6]; 2],
        hash_key: KEY,
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(2)),
        neighbours: Arc::new(Neighbours::default()),
    };
    let (selection, keys) = (Published::new(selection), Published::new(Keys::default()));
    Rig::new(Switch::new(settings, shares, selection.reader(), keys.reader()), 8)
}

fn tagged(client: &str, server: &str, code: Code) -> Segment {
    let flags = 1 | (code as u8) << 1;
    let options = [&LINUX_OPTIONS[..], &[253, 5, 0x4e, 0x52, flags, 1, 1, 1]].concat();
    Segment::syn(client, server, 7).options(&options)
}

fn switch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("switch");
    group.throughput(Throughput::Elements(BURST as u64));
    let mut rig = switch_rig();
    let cases = [
        (
            "fan_out_to_2",
            frames(V4, 1_000, |c| tagged(c, SERVER, Code::A).frame()),
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
                    .map(|burst| rig.run(Side::Outside, scattered(&frames, burst), verdict))
                    .sum()
            });
        });
    }
    group.finish();
}

fn replica_rig() -> Rig<Replica> {
    let service = |number: usize, cast: Cast| replica::Service {
        address: ip(cast.server).parse().expect("an address"),
        ports: vec![80],
        servers: vec![replica::Server {
            name: format!("web{number}"),
            address: ip(cast.replica).parse().expect("an address"),
            port: None,
            mac: None,
            weight: 1,
            bears_service: false,
        }],
        first_server: number,
    };
    let services = vec![service(0, V4), service(1, V6)];
    let selection = Published::new(replica::Selection::new(&services, |_| true));
    let settings = replica::Settings {
        switches: [V4, V6]
            .map(|cast| ip(cast.server).parse::<IpAddr>().expect("one").into())
            .into(),
        gateways: Vec::new(),
        tunnel_addresses: services.iter().map(|service| service.servers[0].address).collect(),
        services,
        tag: tag::Format::default(),
        require_signature: false,
        path: Path::default(),
        busy_connections: usize::MAX,
        busy_syn_rate: 1 << 30,
        acknowledgement_repeats: 0,
        max_connections: [100_000; 2],
        timeouts: [30, 7440, 120].map(Ticks::from_secs),
        macs: [[2; 6], [2; 6]],
        probes: false,
        hash_key: KEY,
    };
    let shares =
        replica::Shares { gates: Arc::default(), neighbours: Arc::new(Neighbours::default()) };
    let keys = Published::new(Keys::default());
    Rig::new(Replica::new(settings, shares, selection.reader(), keys.reader()), 1)
}

fn replica_of(criterion: &mut Criterion, group: &str, cast: Cast, code: Code) {
    const COUNT: usize = 64_000;
    let mut group = criterion.benchmark_group(group);
    group.throughput(Throughput::Elements(BURST as u64));
    let mut rig = replica_rig();
    let copies = frames(cast, COUNT, |c| {
        tagged(c, cast.server, code).tunnelled(&ip(cast.server), &ip(cast.replica))
    });
    run_all(&mut rig, Side::Outside, &copies, Verdict::Cracked);
    let to_web_server = frames(cast, COUNT, |c| match code {
        Code::A | Code::B => Segment::ack(c, cast.replica, 8, 6).frame(),
        Code::C => Segment::ack(c, cast.server, 8, 6).tunnelled(&ip(c), &ip(cast.replica)),
    });
    let from_web_server = frames(cast, COUNT, |c| Segment::ack(cast.replica, c, 6, 8).frame());
    let cases = [
        ("crack_again", Side::Outside, copies, Verdict::CrackedAgain),
        ("to_web_server", Side::Outside, to_web_server, Verdict::ToWebServer),
        ("from_web_server", Side::Inside, from_web_server, Verdict::FromWebServer),
    ];
    for (name, side, frames, verdict) in cases {
        group.bench_function(BenchmarkId::new(name, COUNT), |bencher| {
            bencher.iter_custom(|bursts| {
                (0..bursts as usize)
                    .map(|burst| rig.run(side, scattered(&frames, burst), verdict))
                    .sum()
            });
        });
    }
    group.finish();
}

fn replicas(criterion: &mut Criterion) {
    replica_of(criterion, "replica_a", V4, Code::A);
    replica_of(criterion, "replica_b", V4, Code::B);
    replica_of(criterion, "replica_c", V4, Code::C);
    replica_of(criterion, "replica_c_v6", V6, Code::C);
}

criterion_group!(benches, gateways, strangers, races, switch, replicas);
criterion_main!(benches);
