use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::packet::buffer::{HeapBuffer, HeapPool};
use crate::wire::{arp, ethernet, nd};

const OWN: Mac = [2, 0, 0, 0, 0, 1];
const SERVER: Mac = [2, 0, 0, 0, 0, 0x50];
const OTHER: Mac = [2, 0, 0, 0, 0, 0x51];
const WEB: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10)),
];

type Frame = Packet<HeapBuffer>;

fn sent(probe: Probe) -> Frame {
    let mut frame = vec![0xee; probe.len()];
    probe.emit(&mut frame);
    Packet::new(HeapBuffer::new(&frame))
}

fn reply_frame(answer: Answer<HeapBuffer>) -> Frame {
    match answer {
        Answer::Made(buffer) => Packet::new(buffer),
        other => panic!("{other:?}"),
    }
}

/// The answer of a server that has this MAC address, and every IP address.
fn answered(request: &Frame, mac: Mac) -> Frame {
    reply_frame(answer(request, mac, |_| true, &mut HeapPool::default()))
}

fn reply(address: IpAddr) -> Frame {
    answered(&sent(Probe::new(OWN, address)), SERVER)
}

fn arp_from(sender: IpAddr, sender_mac: Mac, operation: u16) -> Frame {
    let IpAddr::V4(sender) = sender else { panic!("{sender} is not IPv4") };
    let target = Ipv4Addr::new(198, 51, 100, 1);
    let packet = Arp { operation, sender_mac, sender, target_mac: [0; 6], target };
    let mut frame = [0; arp::FRAME];
    packet.emit_broadcast(&mut frame);
    Packet::new(HeapBuffer::new(&frame))
}

fn message(message: Message) -> Frame {
    let mut frame = vec![0; ethernet::HEADER + message.length()];
    ethernet::set_source(&mut frame, SERVER);
    frame[12..14].copy_from_slice(&ethernet::IPV6.to_be_bytes());
    message.emit(&mut frame[ethernet::HEADER..]);
    Packet::new(HeapBuffer::new(&frame))
}

fn advertisement(target: IpAddr, mac: Option<Mac>, overrides: bool) -> Frame {
    let IpAddr::V6(target) = target else { panic!("{target} is not IPv6") };
    let what = What::Advertisement { router: false, solicited: false, overrides };
    message(Message { what, source: target, destination: nd::ALL_NODES, target, mac })
}

fn solicitation(source: Ipv6Addr, target: IpAddr, mac: Option<Mac>) -> Frame {
    let IpAddr::V6(target) = target else { panic!("{target} is not IPv6") };
    let destination = nd::solicited_node(target);
    message(Message { what: What::Solicitation, source, destination, target, mac })
}

fn due(neighbours: &Neighbours, millis: u64) -> usize {
    neighbours.due_probes(OWN, Ticks::from_millis(millis)).count()
}

#[test]
fn probes_every_second_until_answered_and_then_every_30_seconds() {
    for web in WEB {
        let neighbours = Neighbours::new([web]);
        let probes = [0, 0, 900, 1_000, 1_050, 2_000].map(|at| due(&neighbours, at));
        assert_eq!(probes, [1, 0, 0, 1, 0, 1]);
        assert_eq!((neighbours.find(web), neighbours.is_known(web)), (None, false));
        assert!(neighbours.learn(&reply(web), Ticks::from_millis(2_100)));
        assert_eq!((neighbours.find(web), neighbours.changes()), (Some(SERVER), 1));
        let probes = [3_000, 32_000, 32_100, 32_200].map(|at| due(&neighbours, at));
        assert_eq!(probes, [0, 0, 1, 0]);
        assert!(neighbours.learn(&reply(web), Ticks::from_millis(32_200)));
        assert_eq!([62_100, 62_200].map(|at| due(&neighbours, at)), [0, 1]);
        assert_eq!(neighbours.changes(), 1, "it was known all the time");
    }
}

#[test]
fn three_unanswered_probes_make_an_address_unknown() {
    for web in WEB {
        let neighbours = Neighbours::new([web]);
        neighbours.learn(&reply(web), Ticks(0));
        assert_eq!([30_000, 31_000, 32_000].map(|at| due(&neighbours, at)), [1; 3]);
        // The third probe is answered in time.
        assert!(neighbours.learn(&reply(web), Ticks::from_millis(32_900)));
        let probes = [33_000, 62_900, 63_900, 64_900, 65_800].map(|at| due(&neighbours, at));
        assert_eq!(probes, [0, 1, 1, 1, 0]);
        assert!(neighbours.is_known(web));
        assert_eq!([65_900, 66_900, 67_900, 68_900].map(|at| due(&neighbours, at)), [1; 4]);
        assert_eq!(neighbours.find(web), None);
        let lost = Resolution { address: web, mac: Some(SERVER), known: false };
        assert_eq!(neighbours.list().collect::<Vec<_>>(), [lost]);
        assert!(neighbours.learn(&reply(web), Ticks::from_secs(69)));
        assert_eq!((neighbours.find(web), neighbours.changes()), (Some(SERVER), 2));
    }
}

#[test]
fn learns_from_arp_and_neighbour_discovery_of_the_servers() {
    let neighbours = Neighbours::new(WEB.into_iter().chain(WEB));
    let [v4, v6] = WEB;
    let unknown = WEB.map(|address| Resolution { address, mac: None, known: false });
    assert_eq!(neighbours.list().collect::<Vec<_>>(), unknown);
    let learn = |packet: Frame| neighbours.learn(&packet, Ticks(0));
    assert!(learn(arp_from(v4, SERVER, arp::REQUEST)));
    assert_eq!(neighbours.find(v4), Some(SERVER));
    assert!(learn(arp_from(v4, OTHER, arp::REPLY)));
    assert_eq!(neighbours.find(v4), Some(OTHER));
    let IpAddr::V6(web) = v6 else { unreachable!() };
    let other = "2001:db8:3::1".parse().unwrap();
    assert!(learn(solicitation(web, other, Some(SERVER))));
    assert_eq!(neighbours.find(v6), Some(SERVER));
    assert!(!learn(advertisement(v6, Some(OTHER), false)), "a proxy does not override");
    assert_eq!(neighbours.find(v6), Some(SERVER));
    assert!(learn(advertisement(v6, Some(SERVER), false)));
    assert!(learn(advertisement(v6, Some(OTHER), true)));
    assert_eq!(neighbours.find(v6), Some(OTHER));
    assert_eq!(neighbours.changes(), 2);
}

#[test]
fn learns_from_no_other_packet() {
    let neighbours = Neighbours::new(WEB);
    let [v4, v6] = WEB;
    let not_learned = |packet: Frame| {
        assert!(!neighbours.learn(&packet, Ticks(0)));
        assert!(neighbours.list().all(|all| all.mac.is_none()));
    };
    not_learned(arp_from("198.51.100.11".parse().unwrap(), SERVER, arp::REPLY));
    not_learned(arp_from(v4, ethernet::BROADCAST, arp::REPLY));
    not_learned(arp_from(v4, [0; 6], arp::REPLY));
    not_learned(advertisement("2001:db8:3::11".parse().unwrap(), Some(SERVER), true));
    not_learned(advertisement(v6, Some([0x33, 0x33, 0, 0, 0, 1]), true));
    not_learned(advertisement(v6, None, true));
    // Duplicate address detection: the sender does not have the address yet.
    not_learned(solicitation(Ipv6Addr::UNSPECIFIED, v6, None));
    WEB.into_iter().for_each(|web| not_learned(sent(Probe::new(OWN, web))));
    let syn = crate::testing::Segment::syn("198.51.100.10:80", "203.0.113.10:80", 7);
    not_learned(Packet::new(HeapBuffer::new(&syn.frame())));
    assert_eq!(due(&Neighbours::default(), 0), 0);
}

#[test]
fn what_an_earlier_process_has_learned_serves_at_once_and_is_verified() {
    for web in WEB {
        for neighbours in [Neighbours::new([web]), Neighbours::with_optional([], [web])] {
            neighbours.restore(web, SERVER);
            neighbours.restore("198.51.100.99".parse().unwrap(), SERVER);
            neighbours.restore(web, ethernet::BROADCAST);
            assert_eq!(neighbours.find(web), Some(SERVER));
            let far = 1_000_000_000;
            assert_eq!(due(&neighbours, far), 1, "at once");
            let unanswered: usize =
                (1..9).map(|second| due(&neighbours, far + second * 1000)).sum();
            assert!(unanswered >= 3 && neighbours.find(web).is_none());
        }
    }
}

#[test]
fn every_address_is_probed_in_turn() {
    let all: Vec<IpAddr> = (0..1000u32).map(|n| Ipv4Addr::from(0xc633_6400 + n).into()).collect();
    let neighbours = Neighbours::new(all.iter().copied());
    let mut probed: Vec<IpAddr> = Vec::new();
    for scan in 0..32 {
        let probes = neighbours.due_probes(OWN, Ticks::from_millis(100 * scan));
        let before = probed.len();
        probed.extend(probes.map(|probe| probe.target()));
        assert_eq!(probed.len() - before, 32);
    }
    probed.truncate(1000);
    assert_eq!(probed, all);
}

#[test]
fn a_probe_over_ipv6_comes_from_the_own_link_local_address() {
    let [_, v6] = WEB;
    let probe = sent(Probe::new(OWN, v6));
    assert_eq!(ethernet::destination(probe.buffer.head()), [0x33, 0x33, 0xff, 0, 0, 0x10]);
    assert_eq!(ethernet::source(probe.buffer.head()), OWN);
    let parsed = Message::parse(probe.ip()).unwrap();
    assert_eq!((parsed.source, parsed.mac), (nd::link_local(OWN), Some(OWN)));
    assert_eq!(ethernet::destination(answered(&probe, SERVER).buffer.head()), OWN);
}

#[test]
fn the_answer_has_the_vlan_tags_of_the_request() {
    for web in WEB {
        let request = sent(Probe::new(OTHER, web));
        let plain = answered(&request, OWN);
        let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6];
        let tagged = |frame: &[u8]| [&frame[..12], &tags, &frame[12..]].concat();
        let request = Packet::new(HeapBuffer::new(&tagged(request.buffer.frame())));
        let frame = answered(&request, OWN);
        assert_eq!(frame.buffer.frame(), tagged(plain.buffer.frame()));
        assert_eq!(ethernet::source(frame.buffer.frame()), OWN);
        assert_eq!(ethernet::destination(frame.buffer.frame()), OTHER);
    }
}

#[test]
fn duplicate_address_detection_is_answered_to_all_nodes() {
    let [_, v6] = WEB;
    let IpAddr::V6(web) = v6 else { unreachable!() };
    let frame = answered(&solicitation(Ipv6Addr::UNSPECIFIED, v6, None), OWN);
    assert_eq!(ethernet::destination(frame.buffer.head()), [0x33, 0x33, 0, 0, 0, 1]);
    let expected = Message {
        what: What::Advertisement { router: false, solicited: false, overrides: true },
        source: web,
        destination: nd::ALL_NODES,
        target: web,
        mac: Some(OWN),
    };
    assert_eq!(Message::parse(frame.ip()), Some(expected));
}

#[test]
fn a_request_without_a_mac_address_is_answered_to_the_source_of_its_frame() {
    let requester = nd::link_local(OTHER);
    let frame = answered(&solicitation(requester, WEB[1], None), OWN);
    assert_eq!(ethernet::destination(frame.buffer.head()), SERVER);
    let parsed = Message::parse(frame.ip()).unwrap();
    let what = What::Advertisement { router: false, solicited: true, overrides: true };
    assert_eq!((parsed.what, parsed.destination), (what, requester));
}

#[test]
fn other_requests_are_not_answered() {
    let mut pool = HeapPool::default();
    let [v4, v6] = WEB;
    let mut ask = |request: &Frame, has_it: bool| answer(request, OWN, |_| has_it, &mut pool);
    let is_none = |answer| matches!(answer, Answer::NotForUs);
    for web in WEB {
        assert!(is_none(ask(&sent(Probe::new(OTHER, web)), false)));
        assert!(is_none(ask(&reply(web), true)), "a reply is no request");
        let request = sent(Probe::new(OTHER, web));
        let answer = answer(&request, OWN, |_| true, &mut HeapPool::with_limit(0));
        assert!(matches!(answer, Answer::NoBuffer));
    }
    assert!(is_none(ask(&arp_from(v4, ethernet::BROADCAST, arp::REQUEST), true)));
    let group = Some([0x33, 0x33, 0, 0, 0, 1]);
    assert!(is_none(ask(&solicitation(nd::link_local(OTHER), v6, group), true)));
    // A server verifies that the appliance is reachable.
    let back = solicitation(nd::link_local(SERVER), nd::link_local(OWN).into(), Some(SERVER));
    assert!(matches!(ask(&back, false), Answer::Made(_)));
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    let v4 = any::<u32>().prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
    let v6 = any::<u128>().prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
    prop_oneof![v4, v6]
        .prop_filter("unicast", |address| !address.is_multicast() && !address.is_unspecified())
}

fn any_station() -> impl Strategy<Value = Mac> {
    any::<Mac>().prop_map(|[a, rest @ ..]| {
        let [b, c, d, e, f] = rest;
        [a & 0xfe | 2, b, c, d, e, f]
    })
}

proptest! {
    #[test]
    fn the_answer_to_a_probe_is_learned(
        address in any_address(),
        own in any_station(),
        server in any_station(),
        others in proptest::collection::vec(any_address(), 0..50),
    ) {
        let neighbours = Neighbours::new(others.into_iter().chain([address]));
        let probe = neighbours.due_probes(own, Ticks(0)).find(|probe| probe.target() == address);
        let probe = probe.unwrap_or(Probe::new(own, address));
        let reply = answered(&sent(probe), server);
        prop_assert!(neighbours.learn(&reply, Ticks(0)));
        prop_assert_eq!(neighbours.find(address), Some(server));
        prop_assert_eq!(neighbours.list().filter(|entry| entry.known).count(), 1);
    }

    #[test]
    fn no_frame_causes_a_panic(
        at in 0usize..90,
        bytes in proptest::collection::vec(any::<u8>(), 0..12),
        cut in 0usize..100,
        address in any_address(),
    ) {
        let mut frame = reply(address).buffer.frame().to_vec();
        let at = at.min(frame.len());
        let end = (at + bytes.len()).min(frame.len());
        frame.splice(at..end, bytes);
        for frame in [&frame[..], &frame[..cut.min(frame.len())]] {
            let packet = Packet::new(HeapBuffer::new(frame));
            Neighbours::new([address]).learn(&packet, Ticks(0));
            answer(&packet, OWN, |_| true, &mut HeapPool::default());
        }
    }
}

#[test]
fn an_optional_address_is_resolved_once_it_is_wanted() {
    let [v4, v6] = WEB;
    let neighbours = Neighbours::with_optional([v4], [v6, v4]);
    assert_eq!(due(&neighbours, 0), 1, "the other one is not optional");
    assert!(!neighbours.learn(&reply(v6), Ticks(0)) && !neighbours.is_known(v6));
    assert_eq!(neighbours.list().map(|found| found.address).collect::<Vec<_>>(), [v4]);
    neighbours.want(v6);
    assert_eq!(due(&neighbours, 200), 1);
    assert!(neighbours.learn(&reply(v6), Ticks::from_millis(200)) && neighbours.is_known(v6));
    assert_eq!(neighbours.list().count(), 2);
    // To want it again does not bring the next probe forward.
    neighbours.want(v6);
    assert_eq!(due(&neighbours, 400), 0);
}
