//! Probes of tunnels: sent, answered, and what follows when they are not.

use super::*;
use crate::stage::{decap, probe};

const ID: u16 = 0x4321;

fn bench(plan: Plan, outer: Plan) -> Bench {
    let probing = Probing { interval: Ticks::from_secs(2), fall: 3, rise: 2, id: ID };
    let mut settings = settings(service(plan, outer, 1));
    settings.path = TunnelPath::new(1500, Format::Gre, []);
    Bench::new(Settings { probing: Some(probing), ..settings })
}

/// A bench that has seen a tagged start packet, with a VLAN tag.
fn ready(plan: Plan, outer: Plan) -> Bench {
    let mut bench = bench(plan, outer);
    bench.now = Ticks::from_secs(10);
    let mut frame = syn(plan).options(&tagged_options(1)).frame();
    frame.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(bench.pass(Side::Outside, &frame), Verdict::FannedOut);
    bench
}

/// The reply of a replica's appliance to a probe.
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

/// A round of probes of both replicas, of which those that `answers` says are answered.
fn round(bench: &mut Bench, answers: [bool; 2]) {
    for _ in 0..2 {
        bench.on_timer();
        for probe in bench.outside.clone() {
            let packet = Packet::new(HeapBuffer::new(&probe));
            let (_, to) = packet.view.addresses(&probe);
            let place = bench.services[0].replicas.iter().position(|replica| *replica == to);
            if answers[place.unwrap()] {
                assert_eq!(bench.pass(Side::Outside, &reply(&probe)), Verdict::ProbeReturned);
                assert!(bench.inside.is_empty() && bench.outside.is_empty());
            }
        }
        bench.now = bench.now + Ticks::from_secs(1);
    }
}

fn alive(bench: &Bench) -> [bool; 2] {
    [0, 1].map(|replica| bench.shares.tunnels.is_alive(replica))
}

#[test]
fn probes_go_through_the_tunnel_back_where_start_packets_come_from() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut bench = ready(plan, outer);
        bench.on_timer();
        let [probe] = &bench.outside[..] else { panic!("{} probes", bench.outside.len()) };
        assert_eq!(probe[..12], [OUTSIDE_MAC, INSIDE_MAC].concat());
        assert_eq!(probe[12..16], [0x81, 0, 0, 7]);
        let packet = Packet::new(HeapBuffer::new(probe));
        assert_eq!(packet.view.kind, Kind::Tunnel);
        let ends = (ip(&host(outer.service)), ip(outer.replicas[0]));
        assert_eq!(packet.view.addresses(probe), ends);
        let inner = packet.view.inner(probe);
        assert_eq!((inner.kind, inner.addresses(probe)), (Kind::Icmp, ends));
        assert_eq!(bench.made(Generated::TunnelProbe), 1);
        bench.on_timer();
        assert!(bench.outside.is_empty(), "the other one's turn comes half an interval later");
    }
}

#[test]
fn nothing_is_probed_before_a_start_packet_shows_the_way_nor_by_other_workers() {
    let mut unshown = bench(V4_PLAN, V4_PLAN);
    for _ in 0..10 {
        round(&mut unshown, [true, true]);
    }
    assert_eq!((unshown.made(Generated::TunnelProbe), alive(&unshown)), (0, [true, true]));
    let mut other = ready(V4_PLAN, V4_PLAN);
    other.switch.common.settings.probes = false;
    round(&mut other, [true, true]);
    assert_eq!(other.made(Generated::TunnelProbe), 0);
}

#[test]
fn a_tunnel_falls_after_so_many_and_rises_again() {
    for outer in PLANS {
        let mut bench = ready(V4_PLAN, outer);
        round(&mut bench, [true, true]);
        for _ in 0..3 {
            round(&mut bench, [true, false]);
            assert_eq!(alive(&bench), [true, true], "the third has still time");
        }
        round(&mut bench, [true, false]);
        assert_eq!(alive(&bench), [true, false]);
        round(&mut bench, [true, true]);
        round(&mut bench, [true, false]);
        round(&mut bench, [true, true]);
        round(&mut bench, [true, true]);
        assert_eq!(alive(&bench), [true, false], "not two in a row that have been judged");
        round(&mut bench, [true, true]);
        assert_eq!(alive(&bench), [true, true]);
        round(&mut bench, [false, true]);
        round(&mut bench, [false, true]);
        round(&mut bench, [true, true]);
        round(&mut bench, [false, true]);
        round(&mut bench, [false, true]);
        assert_eq!(alive(&bench), [true, true], "never three in a row");
    }
}

#[test]
fn probes_that_could_not_be_sent_count_for_nothing() {
    let mut bench = ready(V4_PLAN, V4_PLAN);
    bench.pool = HeapPool::with_limit(0);
    for _ in 0..10 {
        round(&mut bench, [false, false]);
    }
    assert_eq!(alive(&bench), [true, true]);
}

#[test]
fn replies_that_are_not_to_a_probe_pass_and_count_for_nothing() {
    for outer in PLANS {
        let mut bench = ready(V4_PLAN, outer);
        bench.on_timer();
        let good = reply(&bench.outside[0].clone());
        let start = if host(outer.service).contains(':') { 58 } else { 38 };
        // Identifier, sequence number, count, what follows it; each with a right checksum.
        for at in [4, 6, 7, 9, 11, 14, 15] {
            let mut forged = good.clone();
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
            assert_eq!(bench.pass(Side::Outside, &forged), Verdict::Icmp, "byte {at}");
            assert_eq!(bench.inside, [forged]);
        }
        let mut wrong = good.clone();
        wrong[start + 9] ^= 1;
        assert_eq!(bench.pass(Side::Outside, &wrong), Verdict::Icmp, "a wrong checksum");
        assert_eq!(bench.pass(Side::Inside, &good), Verdict::Icmp, "from the inside");
        assert_eq!(bench.pass(Side::Outside, &good), Verdict::ProbeReturned);
    }
}

#[test]
fn a_late_answer_is_none() {
    let mut bench = ready(V4_PLAN, V4_PLAN);
    let mut late = Vec::new();
    for _ in 0..5 {
        for _ in 0..2 {
            bench.on_timer();
            let probes = bench.outside.clone();
            for old in std::mem::replace(&mut late, probes) {
                assert_eq!(bench.pass(Side::Outside, &reply(&old)), Verdict::ProbeReturned);
            }
            bench.now = bench.now + Ticks::from_secs(1);
        }
    }
    // Each answer came half an interval late and was in time; now they take two.
    assert_eq!(alive(&bench), [true, true]);
    let mut queue = std::collections::VecDeque::new();
    for _ in 0..12 {
        bench.on_timer();
        queue.extend(bench.outside.clone());
        if queue.len() > 3 {
            let old = queue.pop_front().unwrap();
            bench.pass(Side::Outside, &reply(&old));
        }
        bench.now = bench.now + Ticks::from_secs(1);
    }
    assert_eq!(alive(&bench), [false, false]);
}
