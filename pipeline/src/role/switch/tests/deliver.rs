//! The ways to a server: tunnels of both families and what does not fit them, MAC addresses that
//! have to be asked for.

use super::*;
use crate::testing::icmp_error;
use crate::wire::arp::{self, Arp};
use crate::wire::nd::{self, Message, What};
use crate::wire::{ipv4, put_u16};

fn with_delivery(plan: Plan, outer: Plan, delivery: Delivery) -> Settings {
    let mut service = service(plan, outer, 1);
    service.servers[0].delivery = delivery;
    settings(service)
}

fn tunnelled(plan: Plan, outer: Plan, format: Format) -> Settings {
    let delivery = Delivery::Tunnel(ip(outer.servers[0]));
    let path = TunnelPath::new(1500, format, []);
    Settings { path, ..with_delivery(plan, outer, delivery) }
}

fn mixes() -> impl Iterator<Item = (Plan, Plan, Format)> {
    let pairs = PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer)));
    pairs.flat_map(|(plan, outer)| Format::ALL.map(|format| (plan, outer, format)))
}

/// The largest packet that fits.
fn room(outer: Plan, format: Format) -> usize {
    1500 - format.header() - if host(outer.service).contains(':') { 40 } else { 20 }
}

#[test]
fn tunnels_of_all_mixes_and_formats() {
    for (plan, outer, format) in mixes() {
        let mut bench = Bench::new(tunnelled(plan, outer, format));
        let data = ack(plan).payload(b"odd").traffic_class(0x2a);
        let mut frame = data.frame();
        frame.extend([0; 3]);
        assert_eq!(bench.pass(Side::Outside, &frame), Verdict::ToServer);
        let source = host(outer.service);
        let ends = (&*source, outer.servers[0]);
        let expected = in_tunnel(format, ends, entropy(plan.client), data.macs, &data);
        assert_eq!(bench.inside, [expected]);
    }
}

#[test]
fn full_segments_fit_after_clamping_and_no_others_are_touched() {
    for (plan, outer, format) in mixes() {
        let mut bench = Bench::new(tunnelled(plan, outer, format));
        let header = if host(plan.service).contains(':') { 60 } else { 40 };
        let mss = room(outer, format) - header;
        let mss_clamped = |mut options: Vec<u8>| {
            options[2..4].copy_from_slice(&(mss as u16).to_be_bytes());
            options
        };
        let answer = Segment::syn_ack(plan.service, plan.client, 5000, 1001);
        let mut jumbo = answer.clone();
        jumbo.options[2..4].copy_from_slice(&8960u16.to_be_bytes());
        assert_eq!(bench.pass(Side::Inside, &jumbo.frame()), Verdict::FromServer);
        let expected = answer.clone().options(&mss_clamped(LINUX_OPTIONS.to_vec()));
        assert_eq!(bench.outside, [expected.frame()]);
        let mut large = syn(plan);
        large.options[2..4].copy_from_slice(&8960u16.to_be_bytes());
        bench.pass(Side::Outside, &large.frame());
        let source = host(outer.service);
        let ends = (&*source, outer.servers[0]);
        let expected = syn(plan).options(&mss_clamped(LINUX_OPTIONS.to_vec()));
        let expected = in_tunnel(format, ends, entropy(plan.client), expected.macs, &expected);
        assert_eq!(bench.inside, [expected]);
        assert_eq!(bench.switch.common.counters.common.scalar(Scalar::MssClamped).get(), 2);
        // A full segment fits, and one byte more does not.
        let full = ack(plan).payload(&vec![7; mss]);
        assert_eq!(bench.pass(Side::Outside, &full.frame()), Verdict::ToServer);
        assert_eq!(bench.inside[0].len(), 14 + 1500);
        let more = ack(plan).payload(&vec![7; mss + 1]);
        assert_eq!(bench.pass(Side::Outside, &more.frame()), Verdict::TooBig);
    }
    let mut bench = Bench::new(settings(service(V4_PLAN, V4_PLAN, 1)));
    let answer = Segment::syn_ack(V4_PLAN.service, V4_PLAN.client, 5000, 1001).frame();
    bench.pass(Side::Inside, &answer);
    assert_eq!(bench.outside, [answer], "there is no tunnel");
}

#[test]
fn what_does_not_fit_is_answered_to_its_sender_at_a_limited_rate() {
    for (plan, outer, format) in mixes() {
        let mut bench = Bench::new(tunnelled(plan, outer, format));
        let large = ack(plan).payload(&[7; 1460]);
        assert_eq!(bench.pass(Side::Outside, &large.frame()), Verdict::TooBig);
        assert_eq!((bench.inside.len(), bench.made(Generated::TooBig)), (0, 1));
        let v6 = host(plan.client).contains(':');
        let (kind, code, quoted) = if v6 { (2, 0, 1232) } else { (3, 4, 548) };
        let (from, to) = (host(plan.service), host(plan.client));
        let mut expected = icmp_error(&from, &to, kind, code, &large.packet()[..quoted]);
        let start = if v6 { 54 } else { 34 };
        put_u16(&mut expected, start + 6, room(outer, format) as u16);
        // Sums differ by what the two MTUs do.
        let error = &bench.outside[0];
        expected[start + 2..start + 4].copy_from_slice(&error[start + 2..start + 4]);
        expected[..12].rotate_left(6);
        assert_eq!(error, &expected);
        bench.pool = HeapPool::with_limit(0);
        let verdict = bench.pass(Side::Outside, &large.frame());
        assert_eq!(verdict, Verdict::TooBigDropped);
    }
    let mut bench = Bench::new(tunnelled(V4_PLAN, V4_PLAN, Format::Ipip));
    let large = ack(V4_PLAN).payload(&[7; 1460]).frame();
    let answered = (0..1010).filter(|_| bench.pass(Side::Outside, &large) == Verdict::TooBig);
    assert_eq!(answered.count(), 1000);
}

#[test]
fn what_may_be_fragmented_is_and_each_piece_tunnelled() {
    for outer in PLANS {
        let mut bench = Bench::new(tunnelled(V4_PLAN, outer, Format::Gre));
        let large = ack(V4_PLAN).payload(&[7; 1460]);
        let mut frame = large.frame();
        put_u16(&mut frame, 18, 77);
        put_u16(&mut frame, 20, 0);
        put_u16(&mut frame, 24, 0);
        let sum = crate::wire::checksum::Sum::of(&frame[14..34]).checksum();
        put_u16(&mut frame, 24, sum);
        assert_eq!(bench.pass(Side::Outside, &frame), Verdict::Fragmented);
        assert_eq!((bench.inside.len(), bench.made(Generated::Fragment)), (2, 2));
        let mut data = Vec::new();
        for piece in &bench.inside {
            let packet = Packet::new(HeapBuffer::new(piece));
            assert_eq!(packet.view.kind, Kind::Tunnel);
            assert!(packet.ip_len() <= 1500);
            let inner = packet.view.inner(piece);
            let ip = &piece[usize::from(inner.l3)..];
            assert_eq!(ipv4::fragment_place(ip).0, data.len());
            data.extend_from_slice(&piece[usize::from(inner.l4)..inner.end as usize]);
        }
        assert_eq!(data, frame[34..]);
        bench.pool = HeapPool::with_limit(1);
        assert_eq!(bench.pass(Side::Outside, &frame), Verdict::NoBuffer);
    }
}

#[test]
fn without_headroom_a_packet_is_dropped_and_counted() {
    let mut bench = Bench::new(tunnelled(V4_PLAN, V6_PLAN, Format::Gue));
    let mut buffer = HeapBuffer::new(&ack(V4_PLAN).frame());
    assert!(buffer.prepend(crate::packet::buffer::HEADROOM - 20));
    let shift = crate::packet::buffer::HEADROOM - 20;
    let length = buffer.frame_len();
    buffer.head_mut().copy_within(shift..length, 0);
    assert_eq!(bench.pass_buffer(Side::Outside, buffer), Verdict::NoBuffer);
    assert!(bench.inside.is_empty());
}

/// An ARP answer of the first server to the switch.
fn answer(address: &str, mac: Mac) -> Vec<u8> {
    let IpAddr::V4(sender) = ip(address) else { panic!("{address} has no ARP") };
    let unspecified = std::net::Ipv4Addr::UNSPECIFIED;
    let reply = Arp {
        operation: arp::REPLY,
        sender_mac: mac,
        sender,
        target_mac: INSIDE_MAC,
        target: unspecified,
    };
    let mut frame = vec![0; arp::FRAME];
    reply.emit_broadcast(&mut frame);
    frame[..6].copy_from_slice(&INSIDE_MAC);
    frame
}

#[test]
fn packets_wait_for_a_mac_address_and_are_sent_when_it_is_known() {
    let server = V4_PLAN.servers[0];
    // The server is asked for by ARP whatever the service's family.
    for plan in PLANS {
        let settings = with_delivery(plan, plan, Delivery::Neighbour(ip(server)));
        let mut bench = Bench::new(settings);
        bench.on_timer();
        assert_eq!((bench.inside.len(), bench.made(Generated::NeighbourProbe)), (1, 1));
        assert_eq!(bench.pass(Side::Outside, &syn(plan).frame()), Verdict::Pending);
        assert!(bench.inside.is_empty());
        let segmented = HeapBuffer::segmented(&ack(plan).payload(&[1; 99]).frame(), 90);
        let verdict = bench.pass_buffer(Side::Outside, segmented);
        assert_eq!(verdict, Verdict::NeighbourUnresolved);
        let told = bench.pass(Side::Inside, &answer(server, server_mac(0)));
        assert_eq!(told, Verdict::NeighbourLearned);
        bench.on_timer();
        let mut expected = syn(plan);
        expected.macs.0 = server_mac(0);
        assert_eq!(bench.inside, [expected.frame()]);
        assert_eq!(bench.made(Generated::Released), 1);
        assert_eq!(bench.server_of(&ack(plan).frame()), Some(0));
        assert!(bench.shares.neighbours.is_known(ip(server)));
    }
}

#[test]
fn a_server_is_asked_for_by_neighbour_discovery_too() {
    let server = V6_PLAN.servers[0];
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(server)));
    let mut bench = Bench::new(settings);
    assert_eq!(bench.pass(Side::Outside, &syn(V4_PLAN).frame()), Verdict::Pending);
    bench.on_timer();
    assert_eq!(bench.inside[0][12..14], [0x86, 0xdd]);
    let what = What::Advertisement { router: false, solicited: true, overrides: true };
    let (source, target) = (server.parse().unwrap(), server.parse().unwrap());
    let destination = nd::link_local(INSIDE_MAC);
    let message = Message { what, source, destination, target, mac: Some(server_mac(0)) };
    let mut told = vec![0; message.length()];
    message.emit(&mut told);
    let told = ethernet_frame((INSIDE_MAC, server_mac(0)), &told);
    assert_eq!(bench.pass(Side::Inside, &told), Verdict::NeighbourLearned);
    bench.on_timer();
    assert_eq!(bench.inside[0][..6], server_mac(0));
    assert_eq!(bench.made(Generated::Released), 1);
}

#[test]
fn a_server_that_asks_where_probes_come_from_is_told() {
    let server = V6_PLAN.servers[0];
    let settings = with_delivery(V6_PLAN, V6_PLAN, Delivery::Neighbour(ip(server)));
    let mut bench = Bench::new(settings);
    let asks = |target, destination| {
        let (what, source) = (What::Solicitation, server.parse().unwrap());
        let message = Message { what, source, destination, target, mac: Some(server_mac(0)) };
        let mut asked = vec![0; message.length()];
        message.emit(&mut asked);
        let to = nd::multicast_mac(nd::solicited_node(target));
        ethernet_frame((to, server_mac(0)), &asked)
    };
    let own = nd::link_local(INSIDE_MAC);
    let verdict = bench.pass(Side::Inside, &asks(own, nd::solicited_node(own)));
    assert_eq!((verdict, bench.made(Generated::NeighbourReply)), (Verdict::NeighbourAnswered, 1));
    assert!(bench.outside.is_empty() && bench.shares.neighbours.is_known(ip(server)));
    let reply = Packet::new(HeapBuffer::new(&bench.inside[0]));
    assert_eq!(bench.inside[0][..12], [server_mac(0), INSIDE_MAC].concat());
    let told = Message::parse(reply.ip()).unwrap();
    assert_eq!((told.target, told.mac), (own, Some(INSIDE_MAC)));
    // For the router: its own affair.
    let router = "2001:db8:2::1".parse().unwrap();
    let question = asks(router, nd::solicited_node(router));
    assert_eq!(bench.pass(Side::Inside, &question), Verdict::Icmp);
    assert_eq!(bench.outside, [question]);
}

#[test]
fn a_full_queue_drops_and_so_does_waiting_in_vain() {
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(V4_PLAN.servers[0])));
    let mut bench = Bench::new(settings);
    let verdicts: Vec<_> =
        (0..80).map(|_| bench.pass(Side::Outside, &ack(V4_PLAN).frame())).collect();
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    assert_eq!((count(Verdict::Pending), count(Verdict::NeighbourUnresolved)), (64, 16));
    bench.now = Ticks::from_secs(9);
    bench.on_timer();
    assert_eq!(bench.switch.common.counters.common.scalar(Scalar::PendingDropped).get(), 64);
}

#[test]
fn arp_of_others_passes() {
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(V4_PLAN.servers[0])));
    let mut bench = Bench::new(settings);
    let other = answer("203.0.113.99", [2; 6]);
    assert_eq!(bench.pass(Side::Inside, &other), Verdict::NonIp);
    assert_eq!(bench.outside, [other]);
    let mut to_the_router = answer(V4_PLAN.servers[0], server_mac(0));
    to_the_router[..6].copy_from_slice(&OUTSIDE_MAC);
    assert_eq!(bench.pass(Side::Inside, &to_the_router), Verdict::NonIp);
    assert_eq!(bench.outside, [to_the_router], "seen, learned from, and passed on");
    assert_eq!(bench.server_of(&ack(V4_PLAN).frame()), Some(0));
}
