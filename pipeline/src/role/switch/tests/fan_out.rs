//! Copies of SYNs: their receivers, their form, and the reasons against copying.

use super::*;
use crate::policy::allow_list::AllowList;
use crate::stage::tag::{Configuration, CopiesWanted, Tag};

const TAG: Tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);

/// Returns a tagged SYN, signed if there is a key to sign with.
fn signed(plan: Plan, keys: &Keys) -> Vec<u8> {
    let mut packet = Packet::new(HeapBuffer::new(&syn(plan).frame()));
    let option_id = tag::OptionId::default();
    let done = match packet.view.version {
        Version::V4 => tag::insert::<V4, _>(&mut packet, option_id, TAG, keys),
        Version::V6 => tag::insert::<V6, _>(&mut packet, option_id, TAG, keys),
    };
    assert!(done);
    packet.buffer.frame().to_vec()
}

fn keys(id: u8, key: u8) -> Keys {
    Keys::new([(id, [key; 16])], Some(id))
}

#[test]
fn copies_are_tunnelled_in_either_family_and_each_peers_format() {
    let formats = [Format::Gue, Format::Gre];
    for (plan, outer) in PLANS.into_iter().flat_map(|plan| PLANS.map(|outer| (plan, outer))) {
        let mut settings = settings(service(plan, outer, 1));
        let peer = |number: usize| (IpAddr::into(ip(outer.replicas[number])), formats[number]);
        settings.path = TunnelPath::new(1500, Format::Ipip, [peer(0), peer(1)]);
        let mut harness = Harness::new(settings);
        let tagged = syn(plan).options(&tagged_options(1));
        assert_eq!(harness.pass(Side::Outside, &tagged.frame()), Verdict::FannedOut);
        let mut plain = syn(plan);
        plain.macs.0 = server_mac(0);
        assert_eq!(harness.inside, [plain.frame()]);
        let source = host(outer.service);
        let copy = |number: usize| {
            let ends = (&*source, outer.replicas[number]);
            let macs = (OUTSIDE_MAC, INSIDE_MAC);
            in_tunnel(formats[number], ends, entropy(plan.client), macs, &tagged)
        };
        assert_eq!(harness.outside, [copy(0), copy(1)]);
        let counters = &harness.switch.common.counters;
        assert_eq!((counters.copies[0].get(), counters.copies[1].get()), (1, 1));
        assert_eq!(harness.generated(Generated::Copy), 2);
    }
}

#[test]
fn copies_have_the_vlan_tags_of_the_syn() {
    let mut harness = Harness::new(settings(service(V6_PLAN, V4_PLAN, 1)));
    let mut frame = syn(V6_PLAN).options(&tagged_options(1)).frame();
    frame.splice(12..12, [0x81, 0, 0, 7]);
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::FannedOut);
    assert_eq!(harness.inside[0][12..18], [0x81, 0, 0, 7, 0x86, 0xdd]);
    for copy in &harness.outside {
        assert_eq!(copy[12..18], [0x81, 0, 0, 7, 8, 0]);
    }
}

#[test]
fn a_wrong_signature_prevents_copies_but_the_syn_is_delivered() {
    for plan in PLANS {
        let unsigned = signed(plan, &Keys::default());
        let wrong = signed(plan, &keys(3, 9));
        let unknown = signed(plan, &keys(4, 7));
        let valid = signed(plan, &keys(3, 7));
        let cases = [
            (false, &unsigned, Verdict::FannedOut),
            (false, &wrong, Verdict::BadSignature),
            (false, &unknown, Verdict::BadSignature),
            (false, &valid, Verdict::FannedOut),
            (true, &unsigned, Verdict::NotSigned),
            (true, &wrong, Verdict::BadSignature),
            (true, &valid, Verdict::FannedOut),
        ];
        for (require_signature, frame, expected) in cases {
            let settings = Settings { require_signature, ..settings(service(plan, plan, 1)) };
            let mut harness = Harness::with_keys(settings, keys(3, 7));
            assert_eq!(harness.pass(Side::Outside, frame), expected);
            let mut plain = syn(plan);
            plain.macs.0 = server_mac(0);
            assert_eq!(
                harness.inside,
                [plain.frame()],
                "the SYN goes to the server without its tag"
            );
            let copies = if expected == Verdict::FannedOut { 2 } else { 0 };
            assert_eq!(harness.outside.len(), copies);
        }
    }
}

#[test]
fn without_keys_a_signature_is_not_verified() {
    let valid = signed(V4_PLAN, &keys(3, 7));
    let mut harness = Harness::new(settings(service(V4_PLAN, V4_PLAN, 1)));
    assert_eq!(harness.pass(Side::Outside, &valid), Verdict::FannedOut);
}

#[test]
fn a_wrong_signature_takes_no_token() {
    let mut settings = settings(service(V4_PLAN, V4_PLAN, 1));
    settings.fan_out = Limit { rate: 1, burst: 2, prefix_v4: 24, prefix_v6: 48 };
    let mut harness = Harness::with_keys(settings, keys(3, 7));
    for _ in 0..5 {
        let verdict = harness.pass(Side::Outside, &signed(V4_PLAN, &keys(3, 9)));
        assert_eq!(verdict, Verdict::BadSignature);
    }
    let valid = signed(V4_PLAN, &keys(3, 7));
    assert_eq!(harness.pass(Side::Outside, &valid), Verdict::FannedOut);
    assert_eq!(harness.pass(Side::Outside, &valid), Verdict::FanOutLimited);
    assert_eq!(harness.inside.len(), 1);
}

#[test]
fn syns_of_clients_that_are_not_allowed_are_not_copied() {
    for (plan, other) in [(V4_PLAN, "198.18.2.0/24"), (V6_PLAN, "2001:db8:9::/48")] {
        let own = ipnet::IpNet::new(ip(&host(plan.client)), 16).unwrap();
        let frame = syn(plan).options(&tagged_options(1)).frame();
        for (prefixes, expected) in [
            (vec![other.parse().unwrap()], Verdict::ClientNotAllowed),
            (vec![other.parse().unwrap(), own], Verdict::FannedOut),
        ] {
            let settings = Settings {
                allowed_clients: AllowList::Only(prefixes),
                ..settings(service(plan, plan, 1))
            };
            let mut harness = Harness::new(settings);
            assert_eq!(harness.pass(Side::Outside, &frame), expected);
            assert_eq!(harness.inside.len(), 1);
        }
    }
}

#[test]
fn only_live_replicas_get_copies() {
    let mut harness = Harness::new(settings(service(V6_PLAN, V6_PLAN, 1)));
    let frame = syn(V6_PLAN).options(&tagged_options(1)).frame();
    harness.replicas(&[false, true]);
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::FannedOut);
    assert_eq!(harness.outside.len(), 1);
    assert_eq!(harness.switch.common.counters.copies[1].get(), 1);
    harness.replicas(&[false, false]);
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::NoReplica);
    assert_eq!((harness.outside.len(), harness.inside.len()), (0, 1));
    harness.replicas(&[true, true]);
    harness.pool = HeapPool::with_limit(1);
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::FannedOut);
    assert_eq!(harness.switch.common.counters.common.scalar(Scalar::CopiesFailed).get(), 1);
}

#[test]
fn copies_are_made_when_no_server_is_available() {
    let mut harness = Harness::new(settings(service(V4_PLAN, V4_PLAN, 2)));
    harness.servers(&[false, false]);
    let frame = syn(V4_PLAN).options(&tagged_options(1)).frame();
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::NoServer);
    assert_eq!((harness.outside.len(), harness.inside.len()), (2, 0));
}
