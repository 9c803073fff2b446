//! Mistakes in the cabling and in other files show in what passes.

use super::*;
use crate::counters::{Seen, Sighting};

/// A tag of configuration A without a signature.
const TAG: [u8; 8] = [253, 5, 0x4e, 0x52, 1, 1, 1, 1];

fn seen(harness: &Harness) -> Vec<(Sighting, u64, IpAddr, u16)> {
    let sightings = &harness.switch.common.counters.common.sightings;
    let of = |what| {
        sightings.get(what).map(|Seen { count, address, detail }| (what, count, address, detail))
    };
    Sighting::ALL.into_iter().filter_map(of).collect()
}

#[test]
fn what_is_as_it_should_be_is_not_noted() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 2)));
        let syn = Segment::syn(plan.client, plan.service, 100);
        harness.pass(Side::Outside, &syn.clone().frame());
        harness.pass(Side::Outside, &syn.options(&TAG).frame());
        harness.pass(Side::Inside, &Segment::syn_ack(plan.service, plan.client, 5, 101).frame());
        assert!(seen(&harness).is_empty(), "{:?}", seen(&harness));
    }
}

#[test]
fn a_service_on_the_outside_is_noted() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 2)));
        let answer = Segment::syn_ack(plan.service, plan.client, 5, 101);
        for count in 1..3 {
            assert_eq!(harness.pass(Side::Outside, &answer.frame()), Verdict::NoService);
            let expected = (Sighting::SidesSwapped, count, ip(&host(plan.service)), 80);
            assert_eq!(seen(&harness), [expected]);
        }
        // What else it sends is not looked at.
        let data = Segment::ack(plan.service, plan.client, 6, 101);
        assert_eq!(harness.pass(Side::Outside, &data.frame()), Verdict::NoService);
        assert_eq!(seen(&harness)[0].1, 2);
    }
}

#[test]
fn a_tagged_syn_to_another_port_is_noted() {
    for plan in PLANS {
        let mut harness = Harness::new(settings(service(plan, plan, 2)));
        let mut to = crate::testing::socket(plan.service);
        to.set_port(8443);
        let syn = Segment::syn(plan.client, &to.to_string(), 100);
        assert_eq!(harness.pass(Side::Outside, &syn.clone().frame()), Verdict::NoService);
        assert!(seen(&harness).is_empty(), "it is not tagged");
        assert_eq!(harness.pass(Side::Outside, &syn.options(&TAG).frame()), Verdict::NoService);
        assert_eq!(seen(&harness), [(Sighting::OtherPort, 1, to.ip(), 8443)]);
    }
}

#[test]
fn a_tag_of_another_identifier_or_kind_is_noted() {
    let plan = V4_PLAN;
    let mut harness = Harness::new(settings(service(plan, plan, 2)));
    let client = ip(&host(plan.client));
    for (options, exid) in [
        ([253, 5, 0x12, 0x34, 1, 1, 1, 1], Some(0x1234)),
        ([254, 5, 0x4e, 0x52, 1, 1, 1, 1], Some(0x4e52)),
        // Fast Open's, and lengths and kinds that no tag has.
        ([254, 5, 0xf9, 0x89, 1, 1, 1, 1], None),
        ([253, 6, 0x12, 0x34, 1, 1, 1, 1], None),
        ([252, 5, 0x12, 0x34, 1, 1, 1, 1], None),
    ] {
        let count = seen(&harness).first().map_or(0, |seen| seen.1);
        let syn = Segment::syn(plan.client, plan.service, 100).options(&options);
        assert_eq!(harness.pass(Side::Outside, &syn.frame()), Verdict::ToServer);
        let expected = exid.map(|exid| (Sighting::OtherTag, count + 1, client, exid));
        match expected {
            Some(expected) => assert_eq!(seen(&harness), [expected]),
            None => assert_eq!(seen(&harness)[0].1, count, "{options:?}"),
        }
    }
}
