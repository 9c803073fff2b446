//! Delivery to servers: tunnels of both families, packets that do not fit them, and MAC addresses
//! that have to be resolved.

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

/// Returns the inner MTU of the tunnel.
fn inner_mtu(outer: Plan, format: Format) -> usize {
    1500 - format.header() - if host(outer.service).contains(':') { 40 } else { 20 }
}

#[test]
fn packets_are_tunnelled_in_every_family_and_format() {
    for (plan, outer, format) in mixes() {
        let mut harness = Harness::new(tunnelled(plan, outer, format));
        let data = ack(plan).payload(b"odd").traffic_class(0x2a);
        let mut frame = data.frame();
        frame.extend([0; 3]);
        assert_eq!(harness.pass(Side::Outside, &frame), Verdict::ToServer);
        let source = host(outer.service);
        let ends = (&*source, outer.servers[0]);
        let expected = in_tunnel(format, ends, entropy(plan.client), data.macs, &data);
        assert_eq!(harness.inside, [expected]);
    }
}

#[test]
fn full_segments_fit_after_clamping_and_larger_ones_do_not() {
    for (plan, outer, format) in mixes() {
        let mut harness = Harness::new(tunnelled(plan, outer, format));
        let header = if host(plan.service).contains(':') { 60 } else { 40 };
        let mss = inner_mtu(outer, format) - header;
        let mss_clamped = |mut options: Vec<u8>| {
            options[2..4].copy_from_slice(&(mss as u16).to_be_bytes());
            options
        };
        let syn_ack = Segment::syn_ack(plan.service, plan.client, 5000, 1001);
        let mut jumbo = syn_ack.clone();
        jumbo.options[2..4].copy_from_slice(&8960u16.to_be_bytes());
        assert_eq!(harness.pass(Side::Inside, &jumbo.frame()), Verdict::FromServer);
        let expected = syn_ack.clone().options(&mss_clamped(LINUX_OPTIONS.to_vec()));
        assert_eq!(harness.outside, [expected.frame()]);
        let mut large = syn(plan);
        large.options[2..4].copy_from_slice(&8960u16.to_be_bytes());
        harness.pass(Side::Outside, &large.frame());
        let source = host(outer.service);
        let ends = (&*source, outer.servers[0]);
        let expected = syn(plan).options(&mss_clamped(LINUX_OPTIONS.to_vec()));
        let expected = in_tunnel(format, ends, entropy(plan.client), expected.macs, &expected);
        assert_eq!(harness.inside, [expected]);
        assert_eq!(harness.switch.common.counters.common.scalar(Scalar::MssClamped).get(), 2);
        // A full segment fits, and one byte more does not.
        let full = ack(plan).payload(&vec![7; mss]);
        assert_eq!(harness.pass(Side::Outside, &full.frame()), Verdict::ToServer);
        assert_eq!(harness.inside[0].len(), 14 + 1500);
        let more = ack(plan).payload(&vec![7; mss + 1]);
        assert_eq!(harness.pass(Side::Outside, &more.frame()), Verdict::TooBig);
    }
    let mut harness = Harness::new(settings(service(V4_PLAN, V4_PLAN, 1)));
    let syn_ack = Segment::syn_ack(V4_PLAN.service, V4_PLAN.client, 5000, 1001).frame();
    harness.pass(Side::Inside, &syn_ack);
    assert_eq!(harness.outside, [syn_ack], "there is no tunnel");
}

#[test]
fn a_packet_that_does_not_fit_is_answered_with_an_error_at_a_limited_rate() {
    for (plan, outer, format) in mixes() {
        let mut harness = Harness::new(tunnelled(plan, outer, format));
        let large = ack(plan).payload(&[7; 1460]);
        assert_eq!(harness.pass(Side::Outside, &large.frame()), Verdict::TooBig);
        assert_eq!((harness.inside.len(), harness.generated(Generated::TooBig)), (0, 1));
        let v6 = host(plan.client).contains(':');
        let (kind, code, quoted) = if v6 { (2, 0, 1232) } else { (3, 4, 548) };
        let (from, to) = (host(plan.service), host(plan.client));
        let mut expected = icmp_error(&from, &to, kind, code, &large.packet()[..quoted]);
        let start = if v6 { 54 } else { 34 };
        put_u16(&mut expected, start + 6, inner_mtu(outer, format) as u16);
        // The checksums differ because the MTUs do.
        let error = &harness.outside[0];
        expected[start + 2..start + 4].copy_from_slice(&error[start + 2..start + 4]);
        expected[..12].rotate_left(6);
        assert_eq!(error, &expected);
        harness.pool = HeapPool::with_limit(0);
        let verdict = harness.pass(Side::Outside, &large.frame());
        assert_eq!(verdict, Verdict::TooBigDropped);
    }
    let mut harness = Harness::new(tunnelled(V4_PLAN, V4_PLAN, Format::Ipip));
    let large = ack(V4_PLAN).payload(&[7; 1460]).frame();
    let answered = (0..1010).filter(|_| harness.pass(Side::Outside, &large) == Verdict::TooBig);
    assert_eq!(answered.count(), 100);
}

#[test]
fn a_packet_that_may_be_fragmented_is_tunnelled_in_fragments() {
    for outer in PLANS {
        let mut harness = Harness::new(tunnelled(V4_PLAN, outer, Format::Gre));
        let large = ack(V4_PLAN).payload(&[7; 1460]);
        let mut frame = large.frame();
        put_u16(&mut frame, 18, 77);
        put_u16(&mut frame, 20, 0);
        put_u16(&mut frame, 24, 0);
        let sum = crate::wire::checksum::Sum::of(&frame[14..34]).checksum();
        put_u16(&mut frame, 24, sum);
        assert_eq!(harness.pass(Side::Outside, &frame), Verdict::Fragmented);
        assert_eq!((harness.inside.len(), harness.generated(Generated::Fragment)), (2, 2));
        let mut data = Vec::new();
        for fragment in &harness.inside {
            let packet = Packet::new(HeapBuffer::new(fragment));
            assert_eq!(packet.view.kind, Kind::Tunnel);
            assert!(packet.ip_len() <= 1500);
            let inner = packet.view.inner(fragment);
            let ip = &fragment[usize::from(inner.l3)..];
            assert_eq!(ipv4::fragment_place(ip).0, data.len());
            data.extend_from_slice(&fragment[usize::from(inner.l4)..inner.end as usize]);
        }
        assert_eq!(data, frame[34..]);
        harness.pool = HeapPool::with_limit(1);
        assert_eq!(harness.pass(Side::Outside, &frame), Verdict::NoBuffer);
    }
}

#[test]
fn without_headroom_a_packet_is_dropped_and_counted() {
    let mut harness = Harness::new(tunnelled(V4_PLAN, V6_PLAN, Format::Gue));
    let mut buffer = HeapBuffer::new(&ack(V4_PLAN).frame());
    assert!(buffer.prepend(crate::packet::buffer::HEADROOM - 20));
    let shift = crate::packet::buffer::HEADROOM - 20;
    let length = buffer.frame_len();
    buffer.head_mut().copy_within(shift..length, 0);
    assert_eq!(harness.pass_buffer(Side::Outside, buffer), Verdict::NoBuffer);
    assert!(harness.inside.is_empty());
}

/// Returns an ARP reply to the switch.
pub(super) fn arp_reply(address: &str, mac: Mac) -> Vec<u8> {
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
fn packets_are_pending_until_their_servers_mac_address_is_known() {
    let server = V4_PLAN.servers[0];
    // A server with an IPv4 address is resolved by ARP, also for a service over IPv6.
    for plan in PLANS {
        let settings = with_delivery(plan, plan, Delivery::Neighbour(ip(server)));
        let mut harness = Harness::new(settings);
        harness.on_timer();
        assert_eq!((harness.inside.len(), harness.generated(Generated::NeighbourProbe)), (1, 1));
        assert_eq!(harness.pass(Side::Outside, &syn(plan).frame()), Verdict::Pending);
        assert!(harness.inside.is_empty());
        let segmented = HeapBuffer::segmented(&ack(plan).payload(&[1; 99]).frame(), 90);
        let verdict = harness.pass_buffer(Side::Outside, segmented);
        assert_eq!(verdict, Verdict::NeighbourUnresolved);
        let verdict = harness.pass(Side::Inside, &arp_reply(server, server_mac(0)));
        assert_eq!(verdict, Verdict::NeighbourLearned);
        harness.on_timer();
        let mut expected = syn(plan);
        expected.macs.0 = server_mac(0);
        assert_eq!(harness.inside, [expected.frame()]);
        assert_eq!(harness.generated(Generated::Released), 1);
        assert_eq!(harness.server_of(&ack(plan).frame()), Some(0));
        assert!(harness.shares.neighbours.is_known(ip(server)));
    }
}

#[test]
fn a_server_is_resolved_by_neighbour_discovery_too() {
    let server = V6_PLAN.servers[0];
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(server)));
    let mut harness = Harness::new(settings);
    assert_eq!(harness.pass(Side::Outside, &syn(V4_PLAN).frame()), Verdict::Pending);
    harness.on_timer();
    assert_eq!(harness.inside[0][12..14], [0x86, 0xdd]);
    let what = What::Advertisement { router: false, solicited: true, overrides: true };
    let (source, target) = (server.parse().unwrap(), server.parse().unwrap());
    let destination = nd::link_local(INSIDE_MAC);
    let message = Message { what, source, destination, target, mac: Some(server_mac(0)) };
    let mut advertisement = vec![0; message.length()];
    message.emit(&mut advertisement);
    let advertisement = ethernet_frame((INSIDE_MAC, server_mac(0)), &advertisement);
    assert_eq!(harness.pass(Side::Inside, &advertisement), Verdict::NeighbourLearned);
    harness.on_timer();
    assert_eq!(harness.inside[0][..6], server_mac(0));
    assert_eq!(harness.generated(Generated::Released), 1);
}

#[test]
fn solicitations_for_the_source_of_probes_are_answered() {
    let server = V6_PLAN.servers[0];
    let settings = with_delivery(V6_PLAN, V6_PLAN, Delivery::Neighbour(ip(server)));
    let mut harness = Harness::new(settings);
    let solicitation = |target, destination| {
        let (what, source) = (What::Solicitation, server.parse().unwrap());
        let message = Message { what, source, destination, target, mac: Some(server_mac(0)) };
        let mut packet = vec![0; message.length()];
        message.emit(&mut packet);
        let to = nd::multicast_mac(nd::solicited_node(target));
        ethernet_frame((to, server_mac(0)), &packet)
    };
    let own = nd::link_local(INSIDE_MAC);
    let verdict = harness.pass(Side::Inside, &solicitation(own, nd::solicited_node(own)));
    assert_eq!(
        (verdict, harness.generated(Generated::NeighbourReply)),
        (Verdict::NeighbourAnswered, 1)
    );
    assert!(harness.outside.is_empty() && harness.shares.neighbours.is_known(ip(server)));
    let reply = Packet::new(HeapBuffer::new(&harness.inside[0]));
    assert_eq!(harness.inside[0][..12], [server_mac(0), INSIDE_MAC].concat());
    let advertisement = Message::parse(reply.ip()).unwrap();
    assert_eq!((advertisement.target, advertisement.mac), (own, Some(INSIDE_MAC)));
    // A solicitation for the router is forwarded to it.
    let router = "2001:db8:2::1".parse().unwrap();
    let request = solicitation(router, nd::solicited_node(router));
    assert_eq!(harness.pass(Side::Inside, &request), Verdict::Icmp);
    assert_eq!(harness.outside, [request]);
}

#[test]
fn pending_frames_are_dropped_when_a_server_has_its_share_or_they_wait_too_long() {
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(V4_PLAN.servers[0])));
    let mut harness = Harness::new(settings);
    let verdicts: Vec<_> =
        (0..80).map(|_| harness.pass(Side::Outside, &ack(V4_PLAN).frame())).collect();
    let count = |verdict| verdicts.iter().filter(|v| **v == verdict).count();
    assert_eq!((count(Verdict::Pending), count(Verdict::NeighbourUnresolved)), (32, 48));
    harness.now = Ticks::from_secs(9);
    harness.on_timer();
    assert_eq!(harness.switch.common.counters.common.scalar(Scalar::PendingDropped).get(), 32);
}

#[test]
fn arp_between_other_hosts_passes() {
    let settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::Neighbour(ip(V4_PLAN.servers[0])));
    let mut harness = Harness::new(settings);
    let other = arp_reply("203.0.113.99", [2; 6]);
    assert_eq!(harness.pass(Side::Inside, &other), Verdict::NonIp);
    assert_eq!(harness.outside, [other]);
    let mut to_the_router = arp_reply(V4_PLAN.servers[0], server_mac(0));
    to_the_router[..6].copy_from_slice(&OUTSIDE_MAC);
    assert_eq!(harness.pass(Side::Inside, &to_the_router), Verdict::NonIp);
    assert_eq!(harness.outside, [to_the_router], "learned from, and forwarded");
    assert_eq!(harness.server_of(&ack(V4_PLAN).frame()), Some(0));
}

/// Returns an ARP request of the router.
fn arp_request(address: &str) -> Vec<u8> {
    let IpAddr::V4(target) = ip(address) else { panic!("{address} has no ARP") };
    let request = Arp {
        operation: arp::REQUEST,
        sender_mac: ROUTER,
        sender: [203, 0, 113, 1].into(),
        target_mac: [0; 6],
        target,
    };
    let mut frame = vec![0; arp::FRAME];
    request.emit_broadcast(&mut frame);
    frame
}

const ROUTER: Mac = [2, 0, 0, 0, 0, 0x20];

/// Returns whether the switch answers an ARP request from the outside itself.
fn answers_for(harness: &mut Harness, address: &str) -> bool {
    let request = arp_request(address);
    let verdict = harness.pass(Side::Outside, &request);
    if verdict != Verdict::NeighbourAnswered {
        assert_eq!((verdict, &harness.inside), (Verdict::NonIp, &vec![request]));
        return false;
    }
    assert!(harness.inside.is_empty());
    let reply = Packet::new(HeapBuffer::new(&harness.outside[0]));
    let reply = Arp::parse(reply.ip()).unwrap();
    assert_eq!((reply.sender_mac, reply.sender), (OUTSIDE_MAC, address.parse().unwrap()));
    true
}

#[test]
fn the_switch_answers_for_addresses_that_no_host_behind_it_answers_for() {
    let (service, own, server) = (&*host(V4_PLAN.service), "203.0.113.1", V4_PLAN.servers[0]);
    for (delivery, expected) in [
        (Delivery::None, [false, true, false]),
        (Delivery::Direct(server_mac(0)), [true, true, false]),
        (Delivery::Neighbour(ip(server)), [true, true, false]),
        (Delivery::Tunnel(ip(server)), [true, true, false]),
    ] {
        let mut settings = with_delivery(V4_PLAN, V4_PLAN, delivery);
        settings.services[0].source = ip(own);
        let mut harness = Harness::new(settings);
        let answers = [service, own, server].map(|address| answers_for(&mut harness, address));
        assert_eq!(answers, expected, "{delivery:?}");
        // On the inside it has no such address.
        assert_eq!(harness.pass(Side::Inside, &arp_request(service)), Verdict::NonIp);
    }
}

#[test]
fn an_address_that_a_host_behind_the_switch_has_is_its_own_for_every_service() {
    // The same service address, by port: behind the switch, and by tunnel.
    let mut settings = with_delivery(V4_PLAN, V4_PLAN, Delivery::None);
    let mut other = settings.services[0].clone();
    other.ports = vec![8443];
    other.servers[0].delivery = Delivery::Tunnel(ip(V4_PLAN.servers[0]));
    settings.services.push(other);
    let mut harness = Harness::new(settings);
    assert!(!answers_for(&mut harness, &host(V4_PLAN.service)));
}

#[test]
fn a_tunnelled_packet_that_was_sent_to_the_switch_waits_for_the_servers_mac_address() {
    let server = V4_PLAN.servers[0];
    let mut harness = Harness::new(tunnelled(V4_PLAN, V4_PLAN, Format::Ipip));
    harness.on_timer();
    assert_eq!(harness.generated(Generated::NeighbourProbe), 0, "nobody wants it yet");
    let to_us = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&OUTSIDE_MAC);
        frame
    };
    assert_eq!(harness.pass(Side::Outside, &ack(V4_PLAN).frame()), Verdict::ToServer);
    let syn = to_us(syn(V4_PLAN).frame());
    assert_eq!(harness.pass(Side::Outside, &syn), Verdict::Pending);
    let mut large = to_us(ack(V4_PLAN).payload(&[7; 1460]).frame());
    assert_eq!(harness.pass(Side::Outside, &large), Verdict::TooBig);
    large[20] = 0;
    large[24..26].fill(0);
    let sum = crate::wire::checksum::Sum::of(&large[14..34]).checksum();
    put_u16(&mut large, 24, sum);
    assert_eq!(harness.pass(Side::Outside, &large), Verdict::NeighbourUnresolved);
    harness.now = Ticks::from_secs(2);
    harness.on_timer();
    assert_eq!(harness.generated(Generated::NeighbourProbe), 1);
    harness.pass(Side::Inside, &arp_reply(server, server_mac(0)));
    assert_eq!(harness.pass(Side::Outside, &syn), Verdict::ToServer);
    assert_eq!(harness.inside[0][..6], server_mac(0));
    assert_eq!(harness.pass(Side::Outside, &large), Verdict::Fragmented);
    assert!(harness.inside.iter().all(|fragment| fragment[..6] == server_mac(0)));
    assert_eq!(harness.inside.len(), 2);
}
