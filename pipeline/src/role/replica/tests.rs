//! Web servers that retransmit or refuse, as a network of real hosts has shown them. Everything
//! else is tested by scenarios.

use super::*;
use crate::base::published::Published;
use crate::neighbours::Neighbours;
use crate::packet::buffer::{HeapBuffer, HeapPool};
use crate::packet::burst::Output;
use crate::policy::allow_list::AllowList;
use crate::table::Entry;
use crate::testing::Segment;
use crate::wire::tcp::Flags;

const CLIENT: &str = "198.18.1.10:40000";
const SERVER: &str = "203.0.113.10:80";
const WEB: &str = "198.51.100.10:80";
const TAG_B: [u8; 8] = [253, 5, 0x4e, 0x52, 3, 1, 1, 1];

struct Bench {
    replica: Replica,
    pool: HeapPool,
    now: Ticks,
}

impl Bench {
    fn new() -> Self {
        Self::busy_at(16)
    }

    /// One that is busy with so many connections, and has room for 16.
    fn busy_at(busy_connections: usize) -> Self {
        let server = Server {
            name: "web".into(),
            address: "198.51.100.10".parse().unwrap(),
            port: None,
            mac: None,
            weight: 1,
            has_vip: false,
        };
        let service = Service {
            address: "203.0.113.10".parse().unwrap(),
            ports: vec![80],
            servers: vec![server],
            first_server: 0,
        };
        let settings = Settings {
            switches: AllowList::Only(vec!["203.0.113.0/24".parse().unwrap()]),
            busy_connections,
            busy_syn_rate: 100,
            max_connections: [16, 1],
            timeouts: [30, 7440, 120].map(Ticks::from_secs),
            macs: [[2; 6], [3; 6]],
            ..Settings::new(vec![service])
        };
        let shares = Shares {
            admission: Arc::new(Admission::default()),
            neighbours: Arc::new(Neighbours::new([])),
        };
        let selection = Published::new(Selection::new(&settings.services, |_| true));
        let keys = Published::new(Keys::default());
        let replica = Replica::new(settings, shares, selection.reader(), keys.reader());
        Self { replica, pool: HeapPool::default(), now: Ticks::from_secs(1) }
    }

    fn pass(&mut self, side: Side, frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
        let (mut burst, mut out) = (Burst::default(), Output::new(1));
        burst.fill(std::iter::once(HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.replica.process(side, &mut burst, &mut context);
        let left = Side::ALL.iter().find_map(|&side| out.side(side).pop());
        (burst.verdicts()[0], left.map(|buffer| buffer.frame().to_vec()))
    }

    /// A copy of a SYN under configuration B.
    fn copy(&mut self) -> Verdict {
        let start = Segment::syn(CLIENT, SERVER, 100).options(&TAG_B);
        self.pass(Side::Outside, &start.tunnelled("203.0.113.10", "198.51.100.10")).0
    }
}

#[test]
fn a_syn_ack_that_is_retransmitted_keeps_its_entry() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    let answer = Segment::syn_ack(WEB, CLIENT, 500, 101).frame();
    assert_eq!(bench.pass(Side::Inside, &answer).0, Verdict::FromWebServer);
    // As Linux retransmits it.
    for second in [1, 3, 7, 15, 31] {
        bench.now = Ticks::from_secs(1 + second);
        assert_eq!(bench.pass(Side::Inside, &answer), (Verdict::SynAckUnsolicited, None));
    }
}

#[test]
fn a_refusal_has_its_form_however_often_it_comes() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    let refusal = Segment::new(WEB, CLIENT, Flags::RST | Flags::ACK, 0, 101);
    let form = (Verdict::FromWebServer, Some(refusal.tunnelled("203.0.113.10", "198.18.1.10")));
    assert_eq!(bench.pass(Side::Inside, &refusal.frame()), form);
    // Plain, it would be the origin's for the gateway.
    assert_eq!(bench.pass(Side::Inside, &refusal.frame()), form);
    let other = Segment::new(WEB, CLIENT, Flags::RST | Flags::ACK, 501, 101);
    let plain = Segment::new(SERVER, CLIENT, Flags::RST | Flags::ACK, 501, 101).frame();
    assert_eq!(bench.pass(Side::Inside, &other.frame()), (Verdict::FromWebServer, Some(plain)));
}

#[test]
fn an_ipv4_connection_is_one_cache_line() {
    assert_eq!(size_of::<Entry<Endpoint<V4>, Phase, Connection<V4>>>(), 64);
}

/// A bench with a connection that the client has established.
fn established() -> Bench {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    bench.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let taken = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    assert_eq!(bench.pass(Side::Outside, &taken).0, Verdict::ToWebServer);
    bench
}

/// A copy of another start packet of the same endpoints, configuration A.
fn later_copy(server: &str) -> Vec<u8> {
    let start = Segment::syn(CLIENT, server, 9000).options(&[253, 5, 0x4e, 0x52, 1, 1, 1, 1]);
    start.tunnelled("203.0.113.10", "198.51.100.10")
}

#[test]
fn nobody_takes_a_live_connection_over_by_a_copy() {
    let mut bench = established();
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let data = Segment::ack(WEB, CLIENT, 501, 101).payload(b"body").frame();
    let as_server = Segment::ack(SERVER, CLIENT, 501, 101).payload(b"body").frame();
    for (secs, packet) in [(1, None), (1, Some(&reset)), (100, None), (3700, None)] {
        bench.now = Ticks::from_secs(secs);
        if let Some(packet) = packet {
            assert_eq!(bench.pass(Side::Outside, packet).0, Verdict::ToWebServer);
        }
        // The web server decides, and its TCP challenges what is not of its connection.
        let (verdict, left) = bench.pass(Side::Outside, &later_copy(SERVER));
        let plain = Segment::syn(CLIENT, WEB, 9000).options(&[]).frame();
        assert_eq!((verdict, left), (Verdict::CopyNewIsn, Some(plain)));
        let seen = bench.pass(Side::Inside, &data);
        assert_eq!(seen, (Verdict::FromWebServer, Some(as_server.clone())), "after {secs} s");
    }
}

#[test]
fn an_endpoint_that_is_used_again_has_the_web_servers_word_for_it() {
    let mut bench = established();
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 101, 0).inbound().frame();
    bench.pass(Side::Outside, &reset);
    assert_eq!(bench.pass(Side::Outside, &later_copy(SERVER)).0, Verdict::CopyNewIsn);
    // Mode A now: plain.
    let answer = Segment::syn_ack(WEB, CLIENT, 7000, 9001).frame();
    let seen = bench.pass(Side::Inside, &answer);
    assert_eq!(seen, (Verdict::FromWebServer, Some(answer.clone())));
    assert_eq!(bench.pass(Side::Inside, &answer).0, Verdict::SynAckUnsolicited);
    let taken = Segment::ack(CLIENT, WEB, 9001, 7001).inbound().frame();
    assert_eq!(bench.pass(Side::Outside, &taken).0, Verdict::ToWebServer);
    let data = Segment::ack(WEB, CLIENT, 7001, 9001).payload(b"body").frame();
    assert_eq!(bench.pass(Side::Inside, &data), (Verdict::FromWebServer, Some(data.clone())));
}

#[test]
fn a_blind_acknowledgement_makes_no_connection_that_stays() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    bench.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let blind = Segment::ack(CLIENT, WEB, 101, 77).inbound().frame();
    assert_eq!(bench.pass(Side::Outside, &blind).0, Verdict::ToWebServer);
    bench.now = Ticks::from_secs(40);
    assert_eq!(bench.pass(Side::Outside, &blind).0, Verdict::NoEntry);
}

#[test]
fn a_blind_reset_with_more_behind_it_makes_no_connection_that_stays() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    bench.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let blind = Segment::ack(CLIENT, WEB, 101, 77).inbound().frame();
    assert_eq!(bench.pass(Side::Outside, &reset).0, Verdict::ToWebServer);
    bench.now = Ticks::from_secs(4);
    assert_eq!(bench.pass(Side::Outside, &blind).0, Verdict::ToWebServer);
    bench.now = Ticks::from_secs(44);
    assert_eq!(bench.pass(Side::Outside, &blind).0, Verdict::NoEntry);
}

#[test]
fn a_blind_reset_does_not_keep_a_connection_from_being_established() {
    let mut bench = Bench::new();
    assert_eq!(bench.copy(), Verdict::CopyAccepted);
    bench.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let taken = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    let later = Segment::ack(CLIENT, WEB, 201, 901).inbound().frame();
    assert_eq!(bench.pass(Side::Outside, &reset).0, Verdict::ToWebServer);
    assert_eq!(bench.pass(Side::Outside, &taken).0, Verdict::ToWebServer);
    bench.now = Ticks::from_secs(4);
    assert_eq!(bench.pass(Side::Outside, &later).0, Verdict::ToWebServer);
    bench.now = Ticks::from_secs(3000);
    assert_eq!(bench.pass(Side::Outside, &later).0, Verdict::ToWebServer);
}

#[test]
fn a_copy_for_which_there_was_no_room_leaves_fragments_alone() {
    let mut bench = Bench::busy_at(17);
    let later = |packet: Segment| {
        let mut frame = packet.payload(&[7; 80]).frame();
        frame[20..22].copy_from_slice(&9u16.to_be_bytes());
        frame
    };
    let copied = |port: u16, configuration: u8| {
        let tag = [253, 5, 0x4e, 0x52, 1 | configuration << 1, 1, 1, 1];
        let start = Segment::syn(&format!("198.18.1.10:{port}"), SERVER, 100).options(&tag);
        start.tunnelled("203.0.113.10", "198.51.100.10")
    };
    for port in 1..=16 {
        assert_eq!(bench.pass(Side::Outside, &copied(port, 0)).0, Verdict::CopyAccepted);
        let taken = Segment::ack(&format!("198.18.1.10:{port}"), WEB, 101, 501).inbound();
        assert_eq!(bench.pass(Side::Outside, &taken.frame()).0, Verdict::ToWebServer);
    }
    assert_eq!(bench.pass(Side::Outside, &copied(17, 1)).0, Verdict::Busy);
    let fragment = later(Segment::ack(WEB, "198.18.1.10:1", 501, 101));
    assert_eq!(bench.pass(Side::Inside, &fragment).0, Verdict::Fragment);
}
