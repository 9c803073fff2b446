//! The router under a virtual clock: two or three ports, hand-made frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use firstack_packets::{self as packets, Body, Ip, Payload, ethernet_frame};

use super::config::WanConfig;
use super::emulator::Emulator;
use super::frame::{ETHERNET, Frame, IPV6, Mac, ipv4_is_sound, mac_at, u16_at};
use super::neighbour;

const MS: Duration = Duration::from_millis(1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 18, 1, 10);
const ORIGIN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const ROUTERS: [Mac; 2] = [Mac([2, 0, 0, 0, 1, 1]), Mac([2, 0, 0, 0, 2, 1])];
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 1, 10]);
const ORIGIN_MAC: Mac = Mac([2, 0, 0, 0, 2, 10]);

fn emulator(link: &str) -> Emulator {
    let config: WanConfig = format!(
        r#"
        [[port]]
        name = "client"
        interface = "c"
        ipv4 = "198.18.1.1/24"
        ipv6 = "2001:db8:1::1/64"
        [[port]]
        name = "origin"
        interface = "o"
        ipv4 = "203.0.113.1/24"
        ipv6 = "2001:db8:2::1/64"
        [[link]]
        from = "client"
        to = "origin"
        both = true
        {link}
        "#
    )
    .parse()
    .unwrap();
    Emulator::new(&config, &ROUTERS).unwrap()
}

fn packet(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, payload: &[u8]) -> Frame {
    frame_of(from, to, ttl, Payload::Other(17, payload.to_vec()))
}

fn frame_of(from: Ipv4Addr, to: Ipv4Addr, ttl: u8, payload: Payload) -> Frame {
    let ip = Ip { ttl, ..Ip::new(from.into(), to.into(), payload) };
    ethernet_frame((ROUTERS[0].0, CLIENT_MAC.0), &ip.bytes())
}

/// A frame of nothing but an Ethernet header.
fn empty(ethertype: u16) -> Frame {
    packets::Frame::new((ROUTERS[0].0, CLIENT_MAC.0), Body::Other(ethertype, Vec::new())).bytes()
}

/// Tells the router the origin's hardware address, as a gratuitous ARP would.
fn introduce_origin(emulator: &mut Emulator) {
    emulator.receive(1, neighbour::arp((ORIGIN, ORIGIN_MAC), ORIGIN, None), Duration::ZERO);
}

#[test]
fn a_packet_arrives_after_its_delay_with_macs_and_ttl_of_a_router() {
    let mut emulator = emulator("delay_ms = 40.0");
    introduce_origin(&mut emulator);
    emulator.receive(0, packet(CLIENT, ORIGIN, 64, b"hello"), MS * 3);
    assert_eq!(emulator.next_event(), Some(MS * 43));
    emulator.advance(MS * 43 - Duration::from_nanos(1));
    assert!(emulator.outbox(1).is_empty());
    emulator.advance(MS * 43);
    let frame = emulator.outbox(1).pop_front().unwrap();
    assert_eq!((mac_at(&frame, 0), mac_at(&frame, 6)), (ORIGIN_MAC, ROUTERS[1]));
    assert!(ipv4_is_sound(&frame[ETHERNET..]));
    assert_eq!(frame[ETHERNET + 8], 63);
    assert_eq!(&frame[34..], b"hello");
    assert_eq!(emulator.next_event(), None);
    emulator.report().check_conservation().unwrap();
}

#[test]
fn the_next_hop_is_asked_for_and_packets_wait_in_order() {
    let mut emulator = emulator("delay_ms = 1.0");
    for i in 0..3 {
        emulator.receive(0, packet(CLIENT, ORIGIN, 64, &[i]), Duration::ZERO);
    }
    emulator.advance(MS);
    let question = neighbour::parse_arp(&emulator.outbox(1).pop_front().unwrap()).unwrap();
    assert!(question.asks && question.target == IpAddr::from(ORIGIN));
    assert!(emulator.outbox(1).is_empty());
    assert_eq!(emulator.report().pair("client", "origin").under_way, 3);

    let answer =
        neighbour::arp((ORIGIN, ORIGIN_MAC), Ipv4Addr::new(203, 0, 113, 1), Some(ROUTERS[1]));
    emulator.receive(1, answer, MS * 2);
    let order: Vec<u8> = emulator.outbox(1).drain(..).map(|frame| frame[34]).collect();
    assert_eq!(order, [0, 1, 2]);
    emulator.report().check_conservation().unwrap();
}

#[test]
fn a_next_hop_that_stays_silent_is_counted() {
    let mut emulator = emulator("delay_ms = 1.0");
    emulator.receive(0, packet(CLIENT, ORIGIN, 64, &[]), Duration::ZERO);
    while let Some(next) = emulator.next_event() {
        emulator.advance(next);
    }
    assert_eq!(emulator.outbox(1).len(), 5);
    assert_eq!(emulator.report().pair("client", "origin").unresolved, 1);
    emulator.report().check_conservation().unwrap();
}

#[test]
fn the_gateway_address_answers_arp_discovery_and_echo() {
    let mut emulator = emulator("");
    let gateway = Ipv4Addr::new(198, 18, 1, 1);
    emulator.receive(0, neighbour::arp((CLIENT, CLIENT_MAC), gateway, None), MS);
    let answer = neighbour::parse_arp(&emulator.outbox(0).pop_front().unwrap()).unwrap();
    assert_eq!(answer.sender, Some((gateway.into(), ROUTERS[0])));

    let host: Ipv6Addr = "2001:db8:1::10".parse().unwrap();
    let us: Ipv6Addr = "2001:db8:1::1".parse().unwrap();
    emulator.receive(0, neighbour::discovery((host, CLIENT_MAC), us, None), MS);
    let answer = emulator.outbox(0).pop_front().unwrap();
    let answer = neighbour::parse_discovery(&answer[ETHERNET..]).unwrap();
    assert_eq!(answer.sender, Some((us.into(), ROUTERS[0])));

    let echo = Payload::Other(1, vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0]);
    let echo = frame_of(CLIENT, gateway, 64, echo);
    emulator.receive(0, echo, MS);
    emulator.advance(MS);
    let reply = emulator.outbox(0).pop_front().unwrap();
    assert_eq!((mac_at(&reply, 0), reply[34]), (CLIENT_MAC, 0));
    emulator.report().check_conservation().unwrap();
}

#[test]
fn what_cannot_be_forwarded_is_answered_and_counted() {
    let mut emulator = emulator("mtu = 1000");
    introduce_origin(&mut emulator);
    emulator.receive(0, neighbour::arp((CLIENT, CLIENT_MAC), CLIENT, None), MS);
    emulator.receive(0, packet(CLIENT, ORIGIN, 1, &[]), MS);
    emulator.receive(0, packet(CLIENT, Ipv4Addr::new(192, 0, 2, 1), 64, &[]), MS);
    emulator.receive(0, packet(CLIENT, ORIGIN, 64, &[0; 981]), MS);
    emulator.receive(0, packet(CLIENT, ORIGIN, 64, &[0; 980]), MS);
    emulator.advance(MS);
    let kinds: Vec<_> =
        emulator.outbox(0).drain(..).map(|f| (f[34], f[35], u16_at(&f, 40))).collect();
    assert_eq!(kinds, [(11, 0, 0), (3, 0, 0), (3, 4, 1000)]);
    let report = emulator.report();
    let port = report.port("client");
    assert_eq!((port.ttl_expired, port.no_route, port.generated), (1, 1, 3));
    let pair = report.pair("client", "origin");
    assert_eq!((pair.too_big, pair.delivered), (1, 1));
    report.check_conservation().unwrap();
}

#[test]
fn what_is_not_for_the_router_or_malformed_is_counted() {
    let mut emulator = emulator("");
    let mut other = packet(CLIENT, ORIGIN, 64, &[]);
    other[5] = 99;
    emulator.receive(0, other, MS);
    emulator.receive(0, empty(0x8100), MS);
    let mut wrong = packet(CLIENT, ORIGIN, 64, &[]);
    wrong[24] ^= 1;
    emulator.receive(0, wrong, MS);
    emulator.receive(0, empty(IPV6), MS);
    emulator.receive(0, vec![0; 5], MS);
    let port = emulator.report().port("client");
    assert_eq!((port.ignored, port.malformed, port.forwarded), (2, 3, 0));
    emulator.report().check_conservation().unwrap();
}

#[test]
fn a_lossy_jittery_narrow_link_conserves_packets_and_their_order() {
    let mut emulator = emulator("delay_ms = 20.0\njitter_ms = 5.0\nloss = 0.05\nrate_mbit = 10.0");
    introduce_origin(&mut emulator);
    let mut seen = Vec::new();
    for i in 0..5000u32 {
        let now = Duration::from_micros(u64::from(i) * 300);
        emulator.receive(0, packet(CLIENT, ORIGIN, 64, &i.to_be_bytes()), now);
        emulator.advance(now);
        seen.extend(emulator.outbox(1).drain(..).map(|frame| frame[34..38].to_vec()));
    }
    emulator.report().check_conservation().unwrap();
    while let Some(next) = emulator.next_event() {
        emulator.advance(next);
        seen.extend(emulator.outbox(1).drain(..).map(|frame| frame[34..38].to_vec()));
    }
    assert!(seen.is_sorted());
    let pair = emulator.report().pair("client", "origin");
    assert_eq!((pair.delivered, pair.under_way), (seen.len() as u64, 0));
    assert!((150..350).contains(&pair.lost), "lost {}", pair.lost);
    emulator.report().check_conservation().unwrap();
}
