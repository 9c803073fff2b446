//! The data path does not allocate: no burst of any kind does, after the first few of its kind. A
//! counting global allocator counts per thread.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firstack_benches::find::scattered;
use firstack_benches::fixtures::{LOSERS, REPLICA, SERVER, V4, V6, from_replica, ip, tagged};
use firstack_benches::roles::{direct_harness, established, replica_harness, switch_harness};
use firstack_benches::{BURST, Harness, cases, client, direct};
use firstack_packets::{Segment, icmp_error};
use pipeline::base::time::Ticks;
use pipeline::memory::Policy;
use pipeline::packet::view::Side;
use pipeline::policy::prefixes::PrefixMap;
use pipeline::role::Role;
use pipeline::role::gateway::mode::{A, B, C};
use pipeline::stage::tag::Configuration;

#[test]
fn no_burst_allocates() {
    let mut allocating = Vec::new();
    for case in cases::all() {
        let (mut calls, mut bytes) = (0, 0);
        case.run(|work| {
            let made = allocation_counter::measure(|| work.step());
            calls += made.count_total;
            bytes += made.bytes_total;
        });
        if calls > 0 {
            let steps = cases::MEASURED * case.steps;
            allocating.push(format!("{}: {calls} in {steps} bursts, {bytes} bytes", case.name));
        }
    }
    assert!(allocating.is_empty(), "allocations:\n{}", allocating.join("\n"));
}

/// The premise of the test above: an allocation in a burst is counted.
#[test]
fn an_allocation_in_a_burst_is_counted() {
    let case = cases::all().next().unwrap();
    let mut calls = 0;
    case.run(|work| {
        let made = allocation_counter::measure(|| {
            work.step();
            std::hint::black_box(&mut Vec::new()).push(1_u8);
        });
        calls += made.count_total;
    });
    assert!(calls >= (cases::MEASURED * case.steps) as u64);
}

#[test]
fn nor_does_a_burst_of_anything_in_any_order() {
    // Direct copies, SYNs and SYN/ACKs that wait, and clients that keep their replica.
    let handicap = (ip(LOSERS[0]).parse::<IpAddr>().unwrap().into(), Ticks::from_millis(30));
    let policy = Policy {
        origin_after: Ticks::from_millis(30),
        handicaps: PrefixMap::new([handicap]),
        affinity: Ticks::from_secs(60),
        ..direct::policy(2)
    };
    let plan = direct::plan(&policy, 2);
    let (asks_a, _reports_a) = direct_harness::<A>(32, &policy, &plan);
    let (asks_c, _reports_c) = direct_harness::<C>(32, &policy, &plan);
    let verdicts = [
        fuzzed(asks_a),
        fuzzed(asks_c),
        fuzzed(established::<A>(V4, 32)),
        fuzzed(established::<B>(V4, 32)),
        fuzzed(established::<C>(V4, 32)),
        fuzzed(switch_harness()),
        fuzzed(replica_harness()),
    ];
    // The mix was diverse: each role reached many verdicts.
    let ends = verdicts.map(|verdicts| verdicts.len());
    assert!(ends.iter().all(|&ends| ends >= 8), "{ends:?}");
}

/// Runs bursts of all kinds of packets, from both sides, while time passes and entries expire.
/// Panics when a later burst allocates. Returns the verdicts that occurred.
fn fuzzed<R: Role>(mut harness: Harness<R>) -> BTreeSet<u8> {
    const BURSTS: usize = 3_000;
    let ingredients: Vec<Vec<u8>> =
        (0..64).flat_map(|number| ingredients(&client(number))).collect();
    let mut order = scattered(BURSTS * BURST, ingredients.len());
    let mut seen = BTreeSet::new();
    for burst in 0..BURSTS {
        let side = Side::ALL[burst % 2];
        harness.load(order.by_ref().take(BURST).map(|number| ingredients[number].as_slice()));
        let made = allocation_counter::measure(|| harness.step(side));
        // Maps of rare states grow in the first bursts.
        assert!(made.count_total == 0 || burst < BURSTS / 2, "burst {burst}: {made:?}");
        seen.extend(harness.verdicts().iter().map(|&verdict| verdict as u8));
        harness.take_back();
        harness.wait(Ticks::from_millis(if burst % 500 == 0 { 60_000 } else { 10 }));
    }
    seen
}

/// Returns frames from, to and about one client.
fn ingredients(client: &str) -> Vec<Vec<u8>> {
    const RST: u8 = 4;
    const FIN: u8 = 0x11;
    let mut frames = Vec::new();
    for isn in [7, 107] {
        frames.push(Segment::syn(client, SERVER, isn).frame());
        for from in [REPLICA, LOSERS[0], LOSERS[1]] {
            frames.push(Segment::syn_ack(from, client, 5, isn + 1).frame());
        }
    }
    for code in [Configuration::A, Configuration::B, Configuration::C] {
        let syn = tagged(client, SERVER, code);
        frames.extend([syn.frame(), syn.tunnelled(&ip(SERVER), &ip(REPLICA))]);
        frames.extend([true, false].map(|answers| from_replica(code, V4, client, answers)));
    }
    for flags in [RST, FIN] {
        for (from, to) in [(client, SERVER), (client, REPLICA), (REPLICA, client), (SERVER, client)]
        {
            frames.push(Segment::new(from, to, flags, 8, 6).frame());
        }
    }
    for to in [SERVER, REPLICA, "192.0.2.1:22"] {
        let data = Segment::ack(client, to, 8, 6).payload(&[1; 200]);
        let mut fragment = data.frame();
        frames.extend([data.frame(), data.tunnelled(&ip(client), &ip(REPLICA))]);
        frames.push(icmp_error(
            "192.0.2.9",
            &ip(to),
            3,
            4,
            &Segment::ack(to, client, 8, 6).packet(),
        ));
        frames.push(icmp_error("192.0.2.9", &ip(client), 3, 4, &data.packet()[..40]));
        // A first and a later fragment. Their checksums do not matter.
        fragment[20] = 0x20;
        frames.push(fragment.clone());
        fragment[21] = 20;
        frames.push(fragment);
    }
    frames.push(Segment::syn("[2001:db8:1::1]:4000", V6.server, 7).frame());
    frames
}
