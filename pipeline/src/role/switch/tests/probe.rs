//! Probes of tunnels, and the health that follows from their answers.

use super::*;
use crate::stage::{decap, probe};

const ID: u16 = 0x4321;

fn harness(plan: Plan, outer: Plan) -> Harness {
    let probing = Probing { interval: Ticks::from_secs(2), fall: 3, rise: 2, id: ID };
    let mut settings = settings(service(plan, outer, 1));
    settings.path = TunnelPath::new(1500, Format::Gre, []);
    Harness::new(Settings { probing: Some(probing), ..settings })
}

/// Returns a switch that has processed a tagged SYN with a VLAN tag.
pub(super) fn ready(plan: Plan, outer: Plan) -> Harness {
    let mut harness = harness(plan, outer);
    harness.now = Ticks::from_secs(10);
    let mut frame = syn(plan).options(&tagged_options(1)).frame();
    frame.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::FannedOut);
    harness
}

/// Returns the reply of a replica's appliance to a probe.
fn reply(probe: &[u8]) -> Vec<u8> {
    fn answered<F: Family>(packet: &Packet<HeapBuffer>) -> Vec<u8> {
        let ends = (F::source(packet.ip()).into(), F::destination(packet.ip()).into());
        assert!(probe::is_request::<F, _>(packet, ends));
        let reply = probe::answer::<F, _>(packet, &mut HeapPool::default()).unwrap();
        reply.frame().to_vec()
    }
    let mut packet = Packet::new(HeapBuffer::new(probe));
    let inner = packet.view.inner(probe);
    decap::open(&mut packet, inner).unwrap();
    match packet.view.version {
        Version::V4 => answered::<V4>(&packet),
        Version::V6 => answered::<V6>(&packet),
    }
}

/// Runs a round of probes of both replicas; `answers` says which of them are answered.
pub(super) fn round(harness: &mut Harness, answers: [bool; 2]) {
    for _ in 0..2 {
        harness.on_timer();
        for probe in harness.outside.clone() {
            let packet = Packet::new(HeapBuffer::new(&probe));
            let (_, to) = packet.view.addresses(&probe);
            let number = harness.services[0].replicas.iter().position(|replica| *replica == to);
            if answers[number.unwrap()] {
                assert_eq!(harness.pass(Side::Outside, &reply(&probe)), Verdict::ProbeReturned);
                assert!(harness.inside.is_empty() && harness.outside.is_empty());
            }
        }
        harness.now = harness.now + Ticks::from_secs(1);
    }
}

pub(super) fn alive(harness: &Harness) -> [bool; 2] {
    [0, 1].map(|replica| harness.shares.tunnels.is_alive(replica))
}

#[test]
fn probes_are_tunnelled_back_to_the_host_that_syns_come_from() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut harness = ready(plan, outer);
        harness.on_timer();
        let [probe] = &harness.outside[..] else { panic!("{} probes", harness.outside.len()) };
        assert_eq!(probe[..12], [OUTSIDE_MAC, INSIDE_MAC].concat());
        assert_eq!(probe[12..16], [0x81, 0, 0, 7]);
        let packet = Packet::new(HeapBuffer::new(probe));
        assert_eq!(packet.view.kind, Kind::Tunnel);
        let ends = (ip(&host(outer.service)), ip(outer.replicas[0]));
        assert_eq!(packet.view.addresses(probe), ends);
        let inner = packet.view.inner(probe);
        assert_eq!((inner.kind, inner.addresses(probe)), (Kind::Icmp, ends));
        assert_eq!(harness.generated(Generated::TunnelProbe), 1);
        harness.on_timer();
        assert!(harness.outside.is_empty(), "the other replica is probed half an interval later");
    }
}

#[test]
fn no_probe_is_sent_before_a_syn_shows_the_next_hop_or_by_other_workers() {
    let mut no_syn = harness(V4_PLAN, V4_PLAN);
    for _ in 0..10 {
        round(&mut no_syn, [true, true]);
    }
    assert_eq!((no_syn.generated(Generated::TunnelProbe), alive(&no_syn)), (0, [true, true]));
    let mut other = ready(V4_PLAN, V4_PLAN);
    other.switch.common.settings.probes = false;
    round(&mut other, [true, true]);
    assert_eq!(other.generated(Generated::TunnelProbe), 0);
}

#[test]
fn a_tunnel_dies_after_three_missing_answers_and_recovers_after_two() {
    for outer in PLANS {
        let mut harness = ready(V4_PLAN, outer);
        round(&mut harness, [true, true]);
        for _ in 0..3 {
            round(&mut harness, [true, false]);
            assert_eq!(alive(&harness), [true, true], "the third answer is not late yet");
        }
        round(&mut harness, [true, false]);
        assert_eq!(alive(&harness), [true, false]);
        round(&mut harness, [true, true]);
        round(&mut harness, [true, false]);
        round(&mut harness, [true, true]);
        round(&mut harness, [true, true]);
        assert_eq!(
            alive(&harness),
            [true, false],
            "no two answered probes in a row have been evaluated"
        );
        round(&mut harness, [true, true]);
        assert_eq!(alive(&harness), [true, true]);
        round(&mut harness, [false, true]);
        round(&mut harness, [false, true]);
        round(&mut harness, [true, true]);
        round(&mut harness, [false, true]);
        round(&mut harness, [false, true]);
        assert_eq!(alive(&harness), [true, true], "never three in a row");
    }
}

#[test]
fn probes_that_could_not_be_sent_do_not_count() {
    let mut harness = ready(V4_PLAN, V4_PLAN);
    harness.pool = HeapPool::with_limit(0);
    for _ in 0..10 {
        round(&mut harness, [false, false]);
    }
    assert_eq!(alive(&harness), [true, true]);
}

#[test]
fn replies_to_other_requests_pass_and_do_not_count() {
    for outer in PLANS {
        let mut harness = ready(V4_PLAN, outer);
        harness.on_timer();
        let valid = reply(&harness.outside[0].clone());
        let start = if host(outer.service).contains(':') { 58 } else { 38 };
        // Identifier, sequence number, count and hash, each with a right checksum.
        for at in [4, 6, 7, 9, 11, 14, 15] {
            let mut forged = valid.clone();
            forged[start + at] ^= 1;
            forged[start + 2..start + 4].fill(0);
            let pseudo = match start {
                58 => {
                    let ip = &forged[18..];
                    let (from, to) = (V6::source(ip), V6::destination(ip));
                    V6::pseudo_header(from, to, V6::ICMP, forged.len() - start)
                }
                _ => Default::default(),
            };
            crate::wire::icmp::set_checksum(&mut forged[start..], pseudo);
            assert_eq!(harness.pass(Side::Outside, &forged), Verdict::Icmp, "byte {at}");
            assert_eq!(harness.inside, [forged]);
        }
        let mut wrong = valid.clone();
        wrong[start + 9] ^= 1;
        assert_eq!(harness.pass(Side::Outside, &wrong), Verdict::Icmp, "a wrong checksum");
        assert_eq!(harness.pass(Side::Inside, &valid), Verdict::Icmp, "from the inside");
        assert_eq!(harness.pass(Side::Outside, &valid), Verdict::ProbeReturned);
    }
}

#[test]
fn a_late_answer_does_not_count() {
    let mut harness = ready(V4_PLAN, V4_PLAN);
    let mut late = Vec::new();
    for _ in 0..5 {
        for _ in 0..2 {
            harness.on_timer();
            let probes = harness.outside.clone();
            for old in std::mem::replace(&mut late, probes) {
                assert_eq!(harness.pass(Side::Outside, &reply(&old)), Verdict::ProbeReturned);
            }
            harness.now = harness.now + Ticks::from_secs(1);
        }
    }
    // Each answer took half an interval, and was in time. Now answers take two intervals.
    assert_eq!(alive(&harness), [true, true]);
    let mut queue = std::collections::VecDeque::new();
    for _ in 0..12 {
        harness.on_timer();
        queue.extend(harness.outside.clone());
        if queue.len() > 3 {
            let old = queue.pop_front().unwrap();
            harness.pass(Side::Outside, &reply(&old));
        }
        harness.now = harness.now + Ticks::from_secs(1);
    }
    assert_eq!(alive(&harness), [false, false]);
}
