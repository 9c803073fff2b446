//! Mistakes in the cabling and in other files show in what passes.

use super::*;
use crate::counters::{Seen, Sighting};

fn seen(harness: &Harness) -> Vec<(Sighting, u64, IpAddr, u16)> {
    let sightings = &harness.replica.common.counters.common.sightings;
    let of = |what| {
        let Seen { count, address, detail } = sightings.get(what)?;
        Some((what, count, address, detail))
    };
    Sighting::ALL.into_iter().filter_map(of).collect()
}

/// A copy with these options to this address and port, in a tunnel from this switch.
fn copy(to: &str, options: &[u8], switch: &str) -> Vec<u8> {
    Segment::syn(CLIENT, to, 100).options(options).tunnelled(switch, "198.51.100.10")
}

#[test]
fn what_does_not_fit_is_noted_with_its_place() {
    const SWITCH: &str = "203.0.113.10";
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    assert!(seen(&harness).is_empty());
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    let other_exid = [253, 5, 0x12, 0x34, 1, 1, 1, 1];
    for (side, frame, verdict, expected) in [
        (
            Side::Outside,
            copy(SERVER, &TAG_B, "192.0.2.9"),
            Verdict::PeerNotAllowed,
            (Sighting::UnknownSwitch, 1, address("192.0.2.9"), 0),
        ),
        (
            Side::Outside,
            copy("203.0.113.10:443", &TAG_B, SWITCH),
            Verdict::CopyNoService,
            (Sighting::OtherPort, 1, address("203.0.113.10"), 443),
        ),
        (
            Side::Outside,
            copy(SERVER, &other_exid, SWITCH),
            Verdict::CopyNotTagged,
            (Sighting::OtherTag, 1, address("198.18.1.10"), 0x1234),
        ),
        (
            Side::Inside,
            copy(SERVER, &TAG_B, SWITCH),
            Kind::Tunnel.default_verdict(),
            (Sighting::SidesSwapped, 1, address("198.51.100.10"), 0),
        ),
    ] {
        assert_eq!(harness.pass(side, &frame).0, verdict);
        assert!(seen(&harness).contains(&expected), "{expected:?}: {:?}", seen(&harness));
    }
    // Another address is no service's, and a tunnel of others none of ours.
    harness.pass(Side::Outside, &copy("203.0.113.99:80", &TAG_B, SWITCH));
    let others = Segment::syn(CLIENT, SERVER, 100).tunnelled(SWITCH, "192.0.2.77");
    harness.pass(Side::Inside, &others);
    // A client's packet of a connection that is lost here, a SYN without a tag, and a direct copy
    // that is not wanted are no switch's.
    let lost = Segment::ack(CLIENT, SERVER, 100, 7).tunnelled("198.18.1.10", "198.51.100.10");
    let untagged = Segment::syn(CLIENT, SERVER, 100).tunnelled("192.0.2.9", "198.51.100.10");
    harness.replica.common.settings.direct = false;
    for frame in [lost, untagged, copy(SERVER, &TAG_B, "198.18.1.10")] {
        assert_ne!(harness.pass(Side::Outside, &frame).0, Verdict::CopyAccepted);
    }
    assert_eq!(seen(&harness).len(), 4);
    assert!(seen(&harness).iter().all(|seen| seen.1 == 1), "{:?}", seen(&harness));
}
