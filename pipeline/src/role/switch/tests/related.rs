//! ICMP errors in both directions, and fragments.

use super::*;
use crate::policy::allow_list::AllowList;
use crate::testing::icmp_error;
use crate::wire::{icmp, put_u16};

fn is_v6(plan: Plan) -> bool {
    host(plan.service).contains(':')
}

/// Returns type and code of a "too big" of the plan's family, and the router that sends it.
fn too_big(plan: Plan) -> (u8, u8, &'static str) {
    if is_v6(plan) { (2, 0, "2001:db8:9::1") } else { (3, 4, "192.0.2.1") }
}

/// Returns a router's "too big" about a packet of the service to this client.
fn service_error(plan: Plan, client: &str) -> Vec<u8> {
    let (kind, code, router) = too_big(plan);
    let quoted = Segment::ack(plan.service, client, 5001, 1001).payload(&[5; 60]);
    icmp_error(router, &host(plan.service), kind, code, &quoted.packet())
}

/// Flags of a tag: copies are permitted, under this configuration.
const UNDER_A: u8 = 0x01;
const UNDER_B: u8 = 0x03;
const UNDER_C: u8 = 0x05;

/// Lets the plan's client race.
fn race(harness: &mut Harness, plan: Plan, flags: u8) {
    let syn = syn(plan).options(&tagged_options(flags)).frame();
    assert_eq!(harness.pass(Side::Outside, &syn), Verdict::FannedOut);
}

#[test]
fn an_error_goes_to_the_server_of_its_connection_or_the_selected_one() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 3)));
        harness.replicas(&[false, false]);
        let port = (1000..)
            .find(|port| {
                let syn = Segment::syn(&client(plan, *port), plan.service, 7).inbound();
                harness.server_of(&syn.frame()) == Some(1)
            })
            .unwrap();
        let error = service_error(plan, &client(plan, port));
        assert_eq!(harness.pass(Side::Outside, &error), Verdict::IcmpToServer);
        let mut expected = error.clone();
        expected[..6].copy_from_slice(&server_mac(1));
        assert_eq!(harness.inside, [expected.clone()]);
        harness.servers(&[true, false, true]);
        harness.pass(Side::Outside, &error);
        assert_eq!(harness.inside, [expected], "the connection has an entry");
        let unknown = service_error(plan, &client(plan, 999));
        assert_eq!(harness.pass(Side::Outside, &unknown), Verdict::IcmpToServer);
        assert_ne!(harness.inside[0][5], 0x32, "selected among the live servers");
    }
}

/// Returns the same error as [`service_error`], with the least quotation.
fn shortest_error(plan: Plan, client: &str) -> Vec<u8> {
    let (kind, code, router) = too_big(plan);
    let quoted = Segment::ack(plan.service, client, 5001, 1001).payload(&[5; 60]).packet();
    let least = if is_v6(plan) { 48 } else { 28 };
    icmp_error(router, &host(plan.service), kind, code, &quoted[..least])
}

#[test]
fn a_too_big_is_copied_to_all_replicas() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut harness = Harness::new(settings(service(plan, outer, 1)));
        race(&mut harness, plan, UNDER_B);
        let error = service_error(plan, plan.client);
        let short = shortest_error(plan, plan.client);
        assert_eq!(harness.pass(Side::Outside, &error), Verdict::IcmpToServer);
        let source = host(outer.service);
        let copy = |replica: &str| {
            let class_and_entropy = (0, entropy(plan.client));
            let ends = (&*source, replica);
            let packet = tunnel_in(Format::Ipip, ends, class_and_entropy, &short[14..]);
            ethernet_frame((OUTSIDE_MAC, INSIDE_MAC), &packet)
        };
        assert_eq!(harness.outside, outer.replicas.map(copy));
        assert_eq!((harness.inside.len(), harness.generated(Generated::IcmpCopy)), (1, 2));
        harness.replicas(&[false, true]);
        harness.pass(Side::Outside, &error);
        assert_eq!(
            harness.outside,
            outer.replicas.map(copy),
            "a drained replica keeps its connections"
        );
    }
}

#[test]
fn few_errors_are_copied_about_what_has_not_raced_under_b_lately() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        harness.switch.common.icmp_copy_limiter =
            Limiter::new(Limit { prefix_v4: 32, prefix_v6: 128, ..Limit::default() }, (1, 2));
        let copies = |harness: &mut Harness, port: u16| {
            let error = service_error(plan, &client(plan, port));
            assert_eq!(harness.pass(Side::Outside, &error), Verdict::IcmpToServer);
            harness.outside.len()
        };
        // Not known here: the gateway may have asked replicas alone. Nobody has many copied.
        let all: usize = (0..150).map(|port| copies(&mut harness, 1000 + port)).sum();
        assert_eq!(all, 2 * 100);
        for flags in [UNDER_A, UNDER_C, 0x00] {
            let syn = syn(plan).options(&tagged_options(flags)).frame();
            harness.pass(Side::Outside, &syn);
            assert_eq!(copies(&mut harness, 40_000), 0, "not under B: {flags}");
        }
        race(&mut harness, plan, UNDER_B);
        assert_eq!((copies(&mut harness, 40_000), copies(&mut harness, 40_001)), (2, 0));
        // Its gateway made the copies itself.
        let mut own = Segment::syn(&client(plan, 40_002), plan.service, 7).inbound();
        own = own.options(&tagged_options(UNDER_B | 15 << 3));
        assert_eq!(harness.pass(Side::Outside, &own.frame()), Verdict::NoCopiesWanted);
        assert_eq!(copies(&mut harness, 40_002), 2);
        for (minutes, expected) in [(11, 2), (12, 2), (21, 0)] {
            harness.now = Ticks::from_secs(60 * minutes);
            harness.on_timer();
            for _ in 0..100 {
                copies(&mut harness, 999);
            }
            assert_eq!(copies(&mut harness, 40_000), expected, "after {minutes} minutes");
        }
        let own = ipnet::IpNet::new(ip(&host(plan.client)), 16).unwrap();
        let others = AllowList::only_or_any(vec!["192.0.2.0/24".parse().unwrap()]);
        harness.switch.common.settings.allowed_clients = AllowList::only_or_any(vec![own]);
        race(&mut harness, plan, UNDER_B);
        assert_eq!(copies(&mut harness, 40_000), 2);
        harness.switch.common.settings.allowed_clients = others;
        assert_eq!(copies(&mut harness, 40_000), 0, "not an allowed client");
    }
}

#[test]
fn a_copy_of_an_error_has_no_more_than_every_error_must_quote() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut harness = Harness::new(settings(service(plan, outer, 1)));
        race(&mut harness, plan, UNDER_B);
        let (kind, code, router) = too_big(plan);
        let quoted = Segment::ack(plan.service, plan.client, 5001, 1001).payload(&[5; 1400]);
        let mut error =
            icmp_error(router, &host(plan.service), kind, code, &quoted.packet()[..1180]);
        let mut least = shortest_error(plan, plan.client);
        // The quoted length is that of the whole packet.
        let at = if is_v6(plan) { 14 + 48 + 4 } else { 14 + 28 + 2 };
        least[at..at + 2].copy_from_slice(&error[at..at + 2]);
        if !is_v6(plan) {
            // The quoted header's checksum; the length that extensions need (RFC 4884).
            least[14 + 28 + 10..14 + 28 + 12].copy_from_slice(&error[14 + 28 + 10..14 + 28 + 12]);
            error[39] = 32;
            error[36..38].fill(0);
            let sum = crate::wire::checksum::Sum::of(&error[34..]).checksum();
            put_u16(&mut error, 36, sum);
            least[36..38].fill(0);
            let sum = crate::wire::checksum::Sum::of(&least[34..]).checksum();
            put_u16(&mut least, 36, sum);
        }
        assert_eq!(harness.pass(Side::Outside, &error), Verdict::IcmpToServer);
        assert_eq!(harness.inside[0][14..], error[14..], "the server gets the whole error");
        let ends = (&*host(outer.service), outer.replicas[0]);
        let packet = tunnel_in(Format::Ipip, ends, (0, entropy(plan.client)), &least[14..]);
        let mut copy = harness.outside[0].clone();
        let mut expected = ethernet_frame((OUTSIDE_MAC, INSIDE_MAC), &packet);
        if is_v6(plan) {
            // Its checksum covers the length of the quoted packet, too.
            let start = expected.len() - least.len() + 14 + 40 + 2;
            let inner = Packet::new(HeapBuffer::new(
                &[&copy[..12], &0x86dd_u16.to_be_bytes(), &copy[start - 42..]].concat(),
            ));
            assert!(crate::stage::quote::checksum_ok::<V6, _>(&inner));
            copy[start..start + 2].fill(0);
            expected[start..start + 2].fill(0);
        }
        assert_eq!(copy, expected);
    }
}

#[test]
fn copies_of_errors_are_limited_and_errors_with_a_wrong_checksum_are_not_copied() {
    let plan = V4_PLAN;
    let mut settings = settings(service(plan, plan, 1));
    settings.fan_out = Limit { rate: 1, burst: 2, ..Limit::default() };
    let mut harness = Harness::new(settings);
    race(&mut harness, plan, UNDER_B);
    let error = service_error(plan, plan.client);
    let mut wrong = error.clone();
    wrong[40] ^= 1;
    assert_eq!(harness.pass(Side::Outside, &wrong), Verdict::IcmpToServer);
    assert_eq!(harness.generated(Generated::IcmpCopy), 0);
    for _ in 0..4 {
        assert_eq!(harness.pass(Side::Outside, &error), Verdict::IcmpToServer);
        assert_eq!(harness.inside.len(), 1);
    }
    assert_eq!(harness.generated(Generated::IcmpCopy), 4);
    // Copies of errors do not use up the tokens for copies of SYNs.
    let syn = syn(plan).options(&tagged_options(1)).frame();
    assert_eq!(harness.pass(Side::Outside, &syn), Verdict::FannedOut);
}

#[test]
fn other_errors_are_not_copied_and_errors_about_no_service_pass() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 1)));
        let quoted = |from: &str| Segment::ack(from, plan.client, 5001, 1001).packet();
        let (_, _, router) = too_big(plan);
        let (kind, code) = if is_v6(plan) { (1, 4) } else { (3, 1) };
        let error = |from: &str| icmp_error(router, &host(plan.service), kind, code, &quoted(from));
        let own = error(plan.service);
        assert_eq!(harness.pass(Side::Outside, &own), Verdict::IcmpToServer);
        assert!(harness.outside.is_empty());
        let mut other = crate::testing::socket(plan.service);
        other.set_port(22);
        let other = error(&other.to_string());
        assert_eq!(harness.pass(Side::Outside, &other), Verdict::Icmp);
        assert_eq!(harness.inside, [other]);
        let elsewhere = icmp_error(router, router, kind, code, &quoted(plan.service));
        assert_eq!(harness.pass(Side::Outside, &elsewhere), Verdict::Icmp);
    }
}

fn tunnelled(plan: Plan, outer: Plan, format: Format) -> Harness {
    let mut service = service(plan, outer, 1);
    service.servers[0].delivery = Delivery::Tunnel(ip(outer.servers[0]));
    Harness::new(Settings { path: TunnelPath::new(1500, format, []), ..settings(service) })
}

/// Returns a router's "too big" with an MTU of 1400 about the tunnel to the first server.
fn tunnel_error(plan: Plan, outer: Plan, format: Format) -> Vec<u8> {
    let (kind, code, router) = too_big(outer);
    let packet = ack(plan).payload(&[6; 200]).packet();
    let source = host(outer.service);
    let quoted = tunnel_in(format, (&source, outer.servers[0]), (0, 9), &packet);
    let mut frame = icmp_error(router, &source, kind, code, &quoted);
    frame[..12].rotate_left(6);
    frame
}

#[test]
fn an_error_about_a_tunnel_is_relayed_as_one_about_the_packet_inside() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        for format in Format::ALL {
            let mut harness = tunnelled(plan, outer, format);
            let mut frame = tunnel_error(plan, outer, format);
            frame.splice(12..12, [0x81, 0, 0, 7]);
            assert_eq!(harness.pass(Side::Inside, &frame), Verdict::IcmpTranslated);
            let mut sent = harness.outside[0].clone();
            assert_eq!(sent.splice(12..16, []).collect::<Vec<_>>(), [0x81, 0, 0, 7]);
            let (kind, code, router) = too_big(plan);
            let same = is_v6(plan) == is_v6(outer);
            let from = if same { router.to_owned() } else { host(plan.service) };
            let quoted = ack(plan).payload(&[6; 200]).packet();
            let mut expected = icmp_error(&from, &host(plan.client), kind, code, &quoted);
            expected[..12].rotate_left(6);
            let start = if is_v6(plan) { 54 } else { 34 };
            let overhead = format.header() + if is_v6(outer) { 40 } else { 20 };
            put_u16(&mut expected, start + 6, 1400 - overhead as u16);
            let (version, pseudo) = match is_v6(plan) {
                false => (Version::V4, Default::default()),
                true => {
                    let (from, to) =
                        (V6::source(&expected[14..]), V6::destination(&expected[14..]));
                    let length = expected.len() - start;
                    (Version::V6, V6::pseudo_header(from, to, V6::ICMP, length))
                }
            };
            icmp::set_checksum(&mut expected[start..], pseudo);
            if !same && version.is_v6() {
                // The flow label is not checked.
                expected[15..18].copy_from_slice(&sent[15..18]);
            }
            assert_eq!(sent, expected, "{format:?}");
        }
    }
}

#[test]
fn errors_about_other_tunnels_pass() {
    for plan in PLANS {
        let mut harness = tunnelled(plan, plan, Format::Ipip);
        let mut other = plan;
        other.servers.rotate_left(1);
        let frame = tunnel_error(plan, other, Format::Ipip);
        assert_eq!(harness.pass(Side::Inside, &frame), Verdict::Icmp);
        assert_eq!(harness.outside, [frame], "to another server");
        let mut elsewhere = ack(plan);
        elsewhere.to.set_port(22);
        let (kind, code, router) = too_big(plan);
        let ends = (&*host(plan.service), plan.servers[0]);
        let quoted = tunnel_in(Format::Ipip, ends, (0, 0), &elsewhere.packet());
        let frame = icmp_error(router, ends.0, kind, code, &quoted);
        assert_eq!(harness.pass(Side::Inside, &frame), Verdict::Icmp);
        assert_eq!(harness.outside, [frame], "to no service");
        let mut wrong = tunnel_error(plan, plan, Format::Ipip);
        wrong[60] ^= 1;
        assert_eq!(harness.pass(Side::Inside, &wrong), Verdict::Icmp);
        assert_eq!(harness.outside, [wrong], "a wrong checksum");
        // A plain error of the server itself passes to the client.
        let plain = icmp_error(ends.0, &host(plan.client), kind, code, &ack(plan).packet());
        assert_eq!(harness.pass(Side::Inside, &plain), Verdict::Icmp);
        assert_eq!(harness.outside, [plain]);
    }
}

#[test]
fn only_a_too_big_crosses_families() {
    for (plan, outer) in [(V4_PLAN, V6_PLAN), (V6_PLAN, V4_PLAN)] {
        let mut harness = tunnelled(plan, outer, Format::Gre);
        let (_, _, router) = too_big(outer);
        let ends = (&*host(outer.service), outer.servers[0]);
        let quoted = tunnel_in(Format::Gre, ends, (0, 0), &ack(plan).packet());
        let (kind, code) = if is_v6(outer) { (1, 3) } else { (3, 1) };
        let unreachable = icmp_error(router, ends.0, kind, code, &quoted);
        assert_eq!(harness.pass(Side::Inside, &unreachable), Verdict::Icmp);
        assert_eq!(harness.outside, [unreachable]);
        let mut harness = tunnelled(outer, outer, Format::Gre);
        let quoted = tunnel_in(Format::Gre, ends, (0, 0), &ack(outer).packet());
        let unreachable = icmp_error(outer.servers[0], ends.0, kind, code, &quoted);
        assert_eq!(harness.pass(Side::Inside, &unreachable), Verdict::IcmpTranslated);
        let expected =
            icmp_error(&host(outer.service), &host(outer.client), kind, code, &ack(outer).packet());
        assert_eq!(harness.outside, [expected], "the source is not the end of the tunnel");
    }
}

/// Returns a fragment with 56 bytes of payload at `offset`; `more` says whether others follow.
fn fragment(plan: Plan, port: u16, identification: u16, offset: usize, more: bool) -> Vec<u8> {
    let mut segment = ack(plan).payload(&[7; 36]);
    segment.from.set_port(port);
    let mut frame = segment.frame();
    if is_v6(plan) {
        let payload = frame.split_off(54);
        frame[20] = 44;
        put_u16(&mut frame, 18, payload.len() as u16 + 8);
        let place = offset as u16 | u16::from(more);
        let mut header = [6, 0, 0, 0, 0, 0, 0, 0];
        put_u16(&mut header, 2, place);
        put_u16(&mut header, 6, identification);
        return [&frame[..], &header, &payload].concat();
    }
    put_u16(&mut frame, 18, identification);
    put_u16(&mut frame, 20, (offset / 8) as u16 | if more { 0x2000 } else { 0 });
    put_u16(&mut frame, 24, 0);
    let checksum = crate::wire::checksum::Sum::of(&frame[14..34]).checksum();
    put_u16(&mut frame, 24, checksum);
    frame
}

#[test]
fn fragments_go_to_the_server_of_their_first_fragment() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 3)));
        let port = (1000..)
            .find(|port| {
                let syn = Segment::syn(&client(plan, *port), plan.service, 7).inbound();
                harness.server_of(&syn.frame()) == Some(1)
            })
            .unwrap();
        harness.servers(&[true, false, true]);
        let first = fragment(plan, port, 5, 0, true);
        assert_eq!(harness.server_of(&first), Some(1));
        assert_eq!(harness.pass(Side::Outside, &first), Verdict::FragmentToServer);
        let later = fragment(plan, 1, 5, 56, false);
        assert_eq!(harness.pass(Side::Outside, &later), Verdict::FragmentToServer);
        let mut expected = later.clone();
        expected[..6].copy_from_slice(&server_mac(1));
        assert_eq!(harness.inside, [expected]);
        let unknown = fragment(plan, 1, 6, 56, false);
        assert_eq!(harness.pass(Side::Outside, &unknown), Verdict::Fragment);
        assert_eq!(harness.inside, [unknown]);
        assert_eq!(harness.pass(Side::Inside, &first), Verdict::Fragment);
    }
}

#[test]
fn each_fragment_is_tunnelled_by_itself() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut harness = tunnelled(plan, outer, Format::Gue);
        let ends = (&*host(outer.service), outer.servers[0]);
        let class_and_entropy = (0, entropy(plan.client));
        for frame in [fragment(plan, 40000, 5, 0, true), fragment(plan, 1, 5, 56, false)] {
            assert_eq!(harness.pass(Side::Outside, &frame), Verdict::FragmentToServer);
            let packet = tunnel_in(Format::Gue, ends, class_and_entropy, &frame[14..]);
            assert_eq!(harness.inside, [ethernet_frame((INSIDE_MAC, OUTSIDE_MAC), &packet)]);
        }
    }
}
