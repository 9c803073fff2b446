//! Copies of SYNs: their receivers, their form, and the reasons against copying.

use super::*;
use crate::policy::allow_list::AllowList;
use crate::policy::drain::Drain;
use crate::stage::tag::{Configuration, CopiesWanted, Tag};

const TAG: Tag = Tag::requesting(CopiesWanted::ALL, Configuration::A);

/// Returns a tagged SYN, signed if there is a key to sign with.
fn signed(plan: Plan, keys: &Keys) -> Vec<u8> {
    signed_with(plan, TAG, keys)
}

/// Returns a SYN with this tag, signed if there is a key to sign with.
fn signed_with(plan: Plan, tag: Tag, keys: &Keys) -> Vec<u8> {
    let mut packet = Packet::new(HeapBuffer::new(&syn(plan).frame()));
    let option_id = tag::OptionId::default();
    let done = match packet.view.version {
        Version::V4 => tag::insert::<V4, _>(&mut packet, option_id, tag, keys.at(Ticks(0))),
        Version::V6 => tag::insert::<V6, _>(&mut packet, option_id, tag, keys.at(Ticks(0))),
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
fn a_drained_service_or_switch_makes_no_copies_and_counts_what_is_left() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, V4_PLAN, 2)));
        let drain = Arc::clone(&harness.switch.common.settings.drain);
        let tagged = syn(plan).options(&tagged_options(1)).frame();
        for set in [
            |drain: &Drain, is| _ = drain.set_service(0, is),
            |drain: &Drain, is| drain.set_whole(is),
        ] {
            set(&drain, true);
            assert_eq!(harness.pass(Side::Outside, &tagged), Verdict::Drained);
            assert!(harness.outside.is_empty() && harness.inside.len() == 1);
            harness.switch.count_left();
            assert_eq!(drain.left_of(0, 1).map(|left| left.connections), Some(1));
            set(&drain, false);
            assert_eq!(harness.pass(Side::Outside, &tagged), Verdict::FannedOut);
        }
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
    settings.fan_out = Limit { rate: 1, burst: 1, ..Limit::default() };
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
                allowed_clients: AllowList::only(prefixes),
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

/// Returns the frame of a SYN whose tag asks for this number of copies.
fn asking_for(plan: Plan, copies: u8) -> Vec<u8> {
    syn(plan).options(&tagged_options(1 | copies << 3)).frame()
}

/// Returns a switch whose service has `count` replicas.
fn with_replicas(plan: Plan, count: u8, max_copies: usize) -> Harness {
    let mut service = service(plan, plan, 1);
    let replica = |number| match ip(plan.replicas[0]) {
        IpAddr::V4(_) => IpAddr::from([198, 51, 100, number]),
        IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 3, 0, 0, 0, 0, number.into()]),
    };
    service.replicas = (0..count).map(replica).collect();
    Harness::new(Settings { max_copies, ..settings(service) })
}

impl Harness {
    /// Passes a SYN that asks for this number of copies; returns the replicas that get one.
    fn explorers(&mut self, plan: Plan, copies: u8) -> Vec<usize> {
        let read = |switch: &Switch| -> Vec<u64> {
            switch.common.counters.copies.iter().map(|counter| counter.get()).collect()
        };
        let before = read(&self.switch);
        let verdict = self.pass(Side::Outside, &asking_for(plan, copies));
        assert_eq!(self.inside.len(), 1, "the SYN goes to the server");
        let after = read(&self.switch);
        let got: Vec<_> = (0..after.len()).filter(|&n| after[n] > before[n]).collect();
        let expected = if copies == 15 { Verdict::NoCopiesWanted } else { Verdict::FannedOut };
        assert_eq!((verdict, got.len()), (expected, self.outside.len()));
        got
    }
}

#[test]
fn as_many_copies_are_made_as_are_wanted() {
    for plan in PLANS {
        for wanted in 0..=15 {
            let expected = match wanted {
                0 => 5,
                15 => 0,
                count => usize::from(count).min(5),
            };
            let mut harness = with_replicas(plan, 5, 64);
            assert_eq!(harness.explorers(plan, wanted).len(), expected, "{wanted} wanted");
            let mut harness = with_replicas(plan, 5, 3);
            assert_eq!(harness.explorers(plan, wanted).len(), expected.min(3), "{wanted} wanted");
        }
    }
}

#[test]
fn every_live_replica_is_an_explorer_in_turn() {
    let mut harness = with_replicas(V4_PLAN, 5, 8);
    let mut next = |copies| harness.explorers(V4_PLAN, copies);
    assert_eq!([next(1), next(1), next(2)], [vec![0], vec![1], vec![2, 3]]);
    // What is asked of all, or of none, leaves the rotation alone.
    assert_eq!((next(0).len(), next(15).len(), next(14).len()), (5, 0, 5));
    assert_eq!([next(3), next(1)], [vec![0, 1, 4], vec![2]]);
    // A replica that is not live is skipped, and its turn is nobody's.
    harness.replicas(&[true, true, true, false, true]);
    let mut next = |copies| harness.explorers(V4_PLAN, copies);
    assert_eq!([next(1), next(1), next(1)], [vec![4], vec![0], vec![1]]);
    harness.replicas(&[false, true, false, false, false]);
    assert_eq!(harness.explorers(V4_PLAN, 1), [1]);
}

#[test]
fn explorers_advance_by_the_copies_that_are_made() {
    let mut harness = with_replicas(V6_PLAN, 5, 2);
    let mut next = |copies| harness.explorers(V6_PLAN, copies);
    assert_eq!([next(4), next(4), next(1)], [vec![0, 1], vec![2, 3], vec![4]]);
    // All are wanted: each client has its own.
    assert_eq!(next(0), next(0));
    assert_eq!(next(1), [0]);
}

#[test]
fn without_copies_wanted_no_token_is_taken_and_a_forged_tag_is_counted_as_such() {
    let mut settings = settings(service(V4_PLAN, V4_PLAN, 1));
    settings.fan_out = Limit { rate: 1, burst: 2, ..Limit::default() };
    let mut harness = Harness::with_keys(settings, keys(3, 7));
    for _ in 0..5 {
        assert_eq!(harness.explorers(V4_PLAN, 15), [0; 0]);
    }
    let mut forged = TAG;
    forged.copies = CopiesWanted::NONE;
    let frame = signed_with(V4_PLAN, forged, &keys(3, 9));
    assert_eq!(harness.pass(Side::Outside, &frame), Verdict::BadSignature);
    // One token a SYN; one that gets no copies moves no rotation.
    assert_eq!(harness.explorers(V4_PLAN, 1), [0]);
    assert_eq!(harness.explorers(V4_PLAN, 1), [1]);
    assert_eq!(harness.pass(Side::Outside, &asking_for(V4_PLAN, 1)), Verdict::FanOutLimited);
    harness.now = Ticks::from_secs(3);
    assert_eq!(harness.explorers(V4_PLAN, 1), [0]);
    harness.replicas(&[false, false]);
    assert_eq!(harness.explorers(V4_PLAN, 15), [0; 0]);
    assert_eq!(harness.pass(Side::Outside, &asking_for(V4_PLAN, 1)), Verdict::NoReplica);
}
