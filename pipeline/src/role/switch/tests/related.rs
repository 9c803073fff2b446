//! ICMP errors both ways, and fragments.

use super::*;
use crate::testing::icmp_error;
use crate::wire::{icmp, put_u16};

fn is_v6(plan: Plan) -> bool {
    host(plan.service).contains(':')
}

/// Type and code of a "too big" of the plan's family, and the router that sends it.
fn too_big(plan: Plan) -> (u8, u8, &'static str) {
    if is_v6(plan) { (2, 0, "2001:db8:9::1") } else { (3, 4, "192.0.2.1") }
}

/// A router's "too big" about a packet of the service to this client.
fn about_answer(plan: Plan, client: &str) -> Vec<u8> {
    let (kind, code, router) = too_big(plan);
    let quoted = Segment::ack(plan.service, client, 5001, 1001).payload(&[5; 60]);
    icmp_error(router, &host(plan.service), kind, code, &quoted.packet())
}

#[test]
fn an_error_goes_to_the_server_whose_packet_it_quotes_kept_or_selected() {
    for plan in PLANS {
        let mut bench = Bench::new(settings(service(plan, plan, 3)));
        bench.replicas(&[false, false]);
        let port = (1000..)
            .find(|port| {
                let syn = Segment::syn(&client(plan, *port), plan.service, 7).inbound();
                bench.server_of(&syn.frame()) == Some(1)
            })
            .unwrap();
        let error = about_answer(plan, &client(plan, port));
        assert_eq!(bench.pass(Side::Outside, &error), Verdict::IcmpToServer);
        let mut expected = error.clone();
        expected[..6].copy_from_slice(&server_mac(1));
        assert_eq!(bench.inside, [expected.clone()]);
        bench.servers(&[true, false, true]);
        bench.pass(Side::Outside, &error);
        assert_eq!(bench.inside, [expected], "its server is known");
        let unknown = about_answer(plan, &client(plan, 999));
        assert_eq!(bench.pass(Side::Outside, &unknown), Verdict::IcmpToServer);
        assert_ne!(bench.inside[0][5], 0x32, "selected among the live ones");
    }
}

#[test]
fn a_too_big_is_copied_to_all_replicas() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut bench = Bench::new(settings(service(plan, outer, 1)));
        let error = about_answer(plan, plan.client);
        assert_eq!(bench.pass(Side::Outside, &error), Verdict::IcmpToServer);
        let source = host(outer.service);
        let copy = |replica: &str| {
            let about = (0, entropy(plan.client));
            let packet = tunnel_in(Format::Ipip, (&source, replica), about, &error[14..]);
            ethernet_frame((OUTSIDE_MAC, INSIDE_MAC), &packet)
        };
        assert_eq!(bench.outside, outer.replicas.map(copy));
        assert_eq!((bench.inside.len(), bench.made(Generated::IcmpCopy)), (1, 2));
        bench.replicas(&[false, true]);
        bench.pass(Side::Outside, &error);
        assert_eq!(bench.outside, outer.replicas.map(copy), "drained, it goes on with what it has");
    }
}

#[test]
fn a_copy_of_a_too_big_is_none_itself() {
    let plan = PLANS.into_iter().find(|plan| is_v6(*plan)).unwrap();
    for outer in PLANS {
        let mut bench = Bench::new(settings(service(plan, outer, 1)));
        let (kind, code, router) = too_big(plan);
        let quoted = Segment::ack(plan.service, plan.client, 5001, 1001).payload(&[5; 1400]);
        let about = |bytes: usize| {
            icmp_error(router, &host(plan.service), kind, code, &quoted.packet()[..bytes])
        };
        assert_eq!(bench.pass(Side::Outside, &about(1232)), Verdict::IcmpToServer);
        assert_eq!(bench.inside[0][14..], about(1232)[14..], "the server gets all of it");
        let ends = (&*host(outer.service), outer.replicas[0]);
        let about_short = (0, entropy(plan.client));
        let packet = tunnel_in(Format::Ipip, ends, about_short, &about(1228 - 48)[14..]);
        assert_eq!(bench.outside[0], ethernet_frame((OUTSIDE_MAC, INSIDE_MAC), &packet));
    }
}

#[test]
fn copies_of_errors_are_limited_and_are_made_of_sound_ones_alone() {
    let plan = V4_PLAN;
    let mut settings = settings(service(plan, plan, 1));
    settings.fan_out = Limit { rate: 1, burst: 5, prefix_v4: 24, prefix_v6: 48 };
    let mut bench = Bench::new(settings);
    let error = about_answer(plan, plan.client);
    let mut wrong = error.clone();
    wrong[40] ^= 1;
    assert_eq!(bench.pass(Side::Outside, &wrong), Verdict::IcmpToServer);
    assert_eq!(bench.made(Generated::IcmpCopy), 0);
    for _ in 0..4 {
        assert_eq!(bench.pass(Side::Outside, &error), Verdict::IcmpToServer);
        assert_eq!(bench.inside.len(), 1);
    }
    assert_eq!(bench.made(Generated::IcmpCopy), 4);
    // What start packets may have is not touched by it.
    let syn = syn(plan).options(&tagged_options(1)).frame();
    assert_eq!(bench.pass(Side::Outside, &syn), Verdict::FannedOut);
}

#[test]
fn other_errors_are_not_copied_and_errors_of_others_pass() {
    for plan in PLANS {
        let mut bench = Bench::new(settings(service(plan, plan, 1)));
        let quoted = |from: &str| Segment::ack(from, plan.client, 5001, 1001).packet();
        let (_, _, router) = too_big(plan);
        let (kind, code) = if is_v6(plan) { (1, 4) } else { (3, 1) };
        let error = |from: &str| icmp_error(router, &host(plan.service), kind, code, &quoted(from));
        let about = error(plan.service);
        assert_eq!(bench.pass(Side::Outside, &about), Verdict::IcmpToServer);
        assert!(bench.outside.is_empty());
        let mut other = crate::testing::socket(plan.service);
        other.set_port(22);
        let about = error(&other.to_string());
        assert_eq!(bench.pass(Side::Outside, &about), Verdict::Icmp);
        assert_eq!(bench.inside, [about]);
        let elsewhere = icmp_error(router, router, kind, code, &quoted(plan.service));
        assert_eq!(bench.pass(Side::Outside, &elsewhere), Verdict::Icmp);
    }
}

fn tunnelled(plan: Plan, outer: Plan, format: Format) -> Bench {
    let mut service = service(plan, outer, 1);
    service.servers[0].delivery = Delivery::Tunnel(ip(outer.servers[0]));
    Bench::new(Settings { path: TunnelPath::new(1500, format, []), ..settings(service) })
}

/// A router's "too big", with 1400 in it, about the tunnel to the first server.
fn about_tunnel(plan: Plan, outer: Plan, format: Format) -> Vec<u8> {
    let (kind, code, router) = too_big(outer);
    let packet = ack(plan).payload(&[6; 200]).packet();
    let source = host(outer.service);
    let quoted = tunnel_in(format, (&source, outer.servers[0]), (0, 9), &packet);
    let mut frame = icmp_error(router, &source, kind, code, &quoted);
    frame[..12].rotate_left(6);
    frame
}

#[test]
fn an_error_about_a_tunnel_becomes_one_about_what_was_in_it() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        for format in Format::ALL {
            let mut bench = tunnelled(plan, outer, format);
            let mut frame = about_tunnel(plan, outer, format);
            frame.splice(12..12, [0x81, 0, 0, 7]);
            assert_eq!(bench.pass(Side::Inside, &frame), Verdict::IcmpTranslated);
            let mut left = bench.outside[0].clone();
            assert_eq!(left.splice(12..16, []).collect::<Vec<_>>(), [0x81, 0, 0, 7]);
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
                // The flow label is of no interest.
                expected[15..18].copy_from_slice(&left[15..18]);
            }
            assert_eq!(left, expected, "{format:?}");
        }
    }
}

#[test]
fn errors_about_other_tunnels_pass() {
    for plan in PLANS {
        let mut bench = tunnelled(plan, plan, Format::Ipip);
        let mut other = plan;
        other.servers.rotate_left(1);
        let frame = about_tunnel(plan, other, Format::Ipip);
        assert_eq!(bench.pass(Side::Inside, &frame), Verdict::Icmp);
        assert_eq!(bench.outside, [frame], "to another server");
        let mut elsewhere = ack(plan);
        elsewhere.to.set_port(22);
        let (kind, code, router) = too_big(plan);
        let ends = (&*host(plan.service), plan.servers[0]);
        let quoted = tunnel_in(Format::Ipip, ends, (0, 0), &elsewhere.packet());
        let frame = icmp_error(router, ends.0, kind, code, &quoted);
        assert_eq!(bench.pass(Side::Inside, &frame), Verdict::Icmp);
        assert_eq!(bench.outside, [frame], "to no service");
        let mut wrong = about_tunnel(plan, plan, Format::Ipip);
        wrong[60] ^= 1;
        assert_eq!(bench.pass(Side::Inside, &wrong), Verdict::Icmp);
        assert_eq!(bench.outside, [wrong], "a wrong checksum");
        // Plain ones, from the server itself, are the client's own business.
        let plain = icmp_error(ends.0, &host(plan.client), kind, code, &ack(plan).packet());
        assert_eq!(bench.pass(Side::Inside, &plain), Verdict::Icmp);
        assert_eq!(bench.outside, [plain]);
    }
}

#[test]
fn only_a_too_big_crosses_families() {
    for (plan, outer) in [(V4_PLAN, V6_PLAN), (V6_PLAN, V4_PLAN)] {
        let mut bench = tunnelled(plan, outer, Format::Gre);
        let (_, _, router) = too_big(outer);
        let ends = (&*host(outer.service), outer.servers[0]);
        let quoted = tunnel_in(Format::Gre, ends, (0, 0), &ack(plan).packet());
        let (kind, code) = if is_v6(outer) { (1, 3) } else { (3, 1) };
        let unreachable = icmp_error(router, ends.0, kind, code, &quoted);
        assert_eq!(bench.pass(Side::Inside, &unreachable), Verdict::Icmp);
        assert_eq!(bench.outside, [unreachable]);
        let mut bench = tunnelled(outer, outer, Format::Gre);
        let quoted = tunnel_in(Format::Gre, ends, (0, 0), &ack(outer).packet());
        let unreachable = icmp_error(outer.servers[0], ends.0, kind, code, &quoted);
        assert_eq!(bench.pass(Side::Inside, &unreachable), Verdict::IcmpTranslated);
        let expected =
            icmp_error(&host(outer.service), &host(outer.client), kind, code, &ack(outer).packet());
        assert_eq!(bench.outside, [expected], "the tunnel's end is not named");
    }
}

/// A fragment of a packet of 56 bytes of payload and more.
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
fn fragments_follow_their_first_to_the_server_of_their_connection() {
    for plan in PLANS {
        let mut bench = Bench::new(settings(service(plan, plan, 3)));
        let port = (1000..)
            .find(|port| {
                let syn = Segment::syn(&client(plan, *port), plan.service, 7).inbound();
                bench.server_of(&syn.frame()) == Some(1)
            })
            .unwrap();
        bench.servers(&[true, false, true]);
        let first = fragment(plan, port, 5, 0, true);
        assert_eq!(bench.server_of(&first), Some(1));
        assert_eq!(bench.pass(Side::Outside, &first), Verdict::FragmentToServer);
        let later = fragment(plan, 1, 5, 56, false);
        assert_eq!(bench.pass(Side::Outside, &later), Verdict::FragmentToServer);
        let mut expected = later.clone();
        expected[..6].copy_from_slice(&server_mac(1));
        assert_eq!(bench.inside, [expected]);
        let unknown = fragment(plan, 1, 6, 56, false);
        assert_eq!(bench.pass(Side::Outside, &unknown), Verdict::Fragment);
        assert_eq!(bench.inside, [unknown]);
        assert_eq!(bench.pass(Side::Inside, &first), Verdict::Fragment);
    }
}

#[test]
fn fragments_are_tunnelled_each_by_itself() {
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut bench = tunnelled(plan, outer, Format::Gue);
        let ends = (&*host(outer.service), outer.servers[0]);
        let about = (0, entropy(plan.client));
        for frame in [fragment(plan, 40000, 5, 0, true), fragment(plan, 1, 5, 56, false)] {
            assert_eq!(bench.pass(Side::Outside, &frame), Verdict::FragmentToServer);
            let packet = tunnel_in(Format::Gue, ends, about, &frame[14..]);
            assert_eq!(bench.inside, [ethernet_frame((INSIDE_MAC, OUTSIDE_MAC), &packet)]);
        }
    }
}
