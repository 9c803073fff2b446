//! Mangled packets: each gets one verdict, every frame that is sent is counted, and nothing panics.

use proptest::prelude::*;

use super::*;
use crate::testing::icmp_error;
use crate::wire::checksum::Sum;
use crate::wire::icmp;

/// Returns frames of every kind that the switch handles.
fn frames(plan: Plan, outer: Plan) -> Vec<(Side, Vec<u8>)> {
    let (service, client) = (host(plan.service), host(plan.client));
    let syn_ack = Segment::syn_ack(plan.service, plan.client, 5000, 1001);
    let large = ack(plan).payload(&[7; 1460]);
    let (kind, code) = if service.contains(':') { (2, 0) } else { (3, 4) };
    let source = host(outer.service);
    let (outer_kind, outer_code) = if source.contains(':') { (2, 0) } else { (3, 4) };
    let ends = (&*source, outer.servers[2]);
    let tunnel = tunnel_in(Format::Gue, ends, (0, 5), &ack(plan).packet());
    let mut fragment = ack(plan).frame();
    fragment[20] = if service.contains(':') { 44 } else { 0x20 };
    vec![
        (Side::Outside, syn(plan).frame()),
        (Side::Outside, syn(plan).options(&tagged_options(1)).frame()),
        (Side::Outside, syn(plan).options(&tagged_options(0x81)).frame()),
        (Side::Outside, ack(plan).payload(&[1; 40]).frame()),
        (Side::Outside, large.frame()),
        (Side::Outside, fragment),
        (Side::Inside, syn_ack.frame()),
        (Side::Outside, icmp_error(&client, &service, kind, code, &syn_ack.packet())),
        (Side::Inside, icmp_error(&client, &service, kind, code, &syn(plan).packet())),
        (Side::Inside, icmp_error(ends.1, ends.0, outer_kind, outer_code, &tunnel)),
        (Side::Outside, icmp_error(outer.replicas[0], ends.0, 0, 0, &[1; 8])),
    ]
}

fn harness(plan: Plan, outer: Plan) -> Harness {
    let mut service = service(plan, outer, 3);
    service.servers[1].delivery = Delivery::Neighbour(ip(outer.servers[1]));
    service.servers[2].delivery = Delivery::Tunnel(ip(outer.servers[2]));
    let probing = Probing { interval: Ticks::from_secs(1), fall: 2, rise: 2, id: 7 };
    let mut settings = settings(service);
    settings.path = TunnelPath::new(1500, Format::Gue, []);
    Harness::new(Settings { probing: Some(probing), ..settings })
}

#[derive(Clone, Debug)]
struct Mangled {
    frame: usize,
    port: u16,
    changes: Vec<(usize, u8)>,
    /// The length that the frame is truncated to.
    length: usize,
    /// The length of the first buffer segment.
    contiguous: usize,
    /// Whether lengths and an ICMP checksum are corrected.
    repaired: bool,
}

fn mangled() -> impl Strategy<Value = Mangled> {
    let changes = proptest::collection::vec((12usize..140, any::<u8>()), 0..3);
    let length = || prop_oneof![3 => Just(usize::MAX), 1 => 0usize..200];
    (0usize..11, 0u16..8, changes, length(), length(), any::<bool>()).prop_map(
        |(frame, port, changes, length, contiguous, repaired)| Mangled {
            frame,
            port,
            changes,
            length,
            contiguous,
            repaired,
        },
    )
}

/// Corrects lengths and ICMP checksum, so that the parsers get beyond them.
fn repair(frame: &mut [u8]) {
    fn of<F: Family>(frame: &mut [u8]) {
        let Some(length) = frame.len().checked_sub(14 + F::HEADER + 8).map(|n| n + 8) else {
            return;
        };
        F::set_length(&mut frame[14..], F::HEADER + length);
        let ip = &frame[14..];
        let pseudo = match F::VERSION {
            Version::V4 => Sum::default(),
            Version::V6 => F::pseudo_header(F::source(ip), F::destination(ip), F::ICMP, length),
        };
        if matches!(ip[9], 1) || ip[6] == 58 {
            icmp::set_checksum(&mut frame[14 + F::HEADER..], pseudo);
        }
    }
    match frame.get(14).map(|byte| byte >> 4) {
        Some(4) => of::<V4>(frame),
        Some(6) => of::<V6>(frame),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn every_packet_is_counted(
        packets in proptest::collection::vec(mangled(), 1..60),
        v6 in any::<bool>(),
        outer_v6 in any::<bool>(),
        buffers in 0usize..60,
    ) {
        let plan = PLANS[usize::from(v6)];
        let outer = PLANS[usize::from(outer_v6)];
        let mut harness = harness(plan, outer);
        harness.pool = HeapPool::with_limit(buffers);
        let all = frames(plan, outer);
        let mut sent = 0;
        for packet in packets {
            let (side, mut frame) = all[packet.frame].clone();
            let ports = if v6 { 54 } else { 34 };
            if let Some(byte) = frame.get_mut(ports + 1) {
                *byte ^= packet.port as u8;
            }
            for (at, value) in packet.changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte ^= value;
                }
            }
            frame.truncate(packet.length);
            if packet.repaired {
                repair(&mut frame);
            }
            let buffer = HeapBuffer::segmented(&frame, packet.contiguous);
            harness.pass_buffer(side, buffer);
            sent += harness.inside.len() + harness.outside.len();
            harness.now = harness.now + Ticks::from_millis(300);
            harness.on_timer();
            sent += harness.inside.len() + harness.outside.len();
        }
        let counters = &harness.switch.common.counters.common;
        let mut forwarded = 0;
        for side in Side::ALL {
            let side = counters.side(side);
            let fates = Fate::ALL.map(|fate| side.fate(fate));
            prop_assert_eq!(fates.iter().sum::<u64>(), side.received.get());
            forwarded += side.fate(Fate::Forwarded);
        }
        let generated: u64 = counters.generated.iter().map(|counter| counter.get()).sum();
        prop_assert_eq!(forwarded + generated, sent as u64);
    }
}
