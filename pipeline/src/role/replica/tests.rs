//! Web servers that retransmit or refuse, as a network of real hosts has shown them. Everything
//! else is tested by scenarios.

mod direct;
mod hostile;
mod kept;
mod repair;
mod shares;
mod untagged;

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

/// A replica, and the buffers and the time that it runs with.
struct Harness {
    replica: Replica,
    pool: HeapPool,
    now: Ticks,
}

impl Harness {
    fn new() -> Self {
        Self::busy_at(16)
    }

    /// A replica that is busy from this number of connections on, with a table of 16 entries.
    fn busy_at(busy_connections: usize) -> Self {
        Self::with(|settings| settings.busy_connections = busy_connections)
    }

    /// A replica with changed settings.
    fn with(change: impl FnOnce(&mut Settings)) -> Self {
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
        let mut settings = Settings {
            switches: AllowList::only(vec!["203.0.113.0/24".parse().unwrap()]),
            busy_connections: 16,
            busy_syn_rate: 100,
            syn_ack_repair_rate: 0,
            max_connections: [16, 1],
            timeouts: [30, 7440, 240].map(Ticks::from_secs),
            macs: [[2; 6], [3; 6]],
            ..Settings::new(vec![service])
        };
        change(&mut settings);
        let shares = Shares {
            admission: Arc::new(Admission::default()),
            neighbours: Arc::new(Neighbours::new([])),
        };
        let selection = Published::new(Selection::new(&settings.services, |_| true));
        let keys = Published::new(Keys::default());
        let replica = Replica::new(settings, shares, selection.reader(), keys.reader());
        Self { replica, pool: HeapPool::default(), now: Ticks::from_secs(1) }
    }

    /// Processes a frame; returns the verdict, and the frame that is sent, if any.
    fn pass(&mut self, side: Side, frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
        let (mut burst, mut out) = (Burst::default(), Output::new(1));
        burst.fill(std::iter::once(HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.replica.process(side, &mut burst, &mut context);
        let sent = Side::ALL.iter().find_map(|&side| out.side(side).pop());
        (burst.verdicts()[0], sent.map(|buffer| buffer.frame().to_vec()))
    }

    /// Processes a copy of a SYN with configuration B.
    fn copy(&mut self) -> Verdict {
        let syn = Segment::syn(CLIENT, SERVER, 100).options(&TAG_B);
        self.pass(Side::Outside, &syn.tunnelled("203.0.113.10", "198.51.100.10")).0
    }
}

#[test]
fn a_retransmitted_syn_ack_restarts_the_time_out_of_its_entry() {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    let answer = Segment::syn_ack(WEB, CLIENT, 500, 101).frame();
    assert_eq!(harness.pass(Side::Inside, &answer).0, Verdict::FromWebServer);
    // The retransmission times of Linux.
    for second in [1, 3, 7, 15, 31] {
        harness.now = Ticks::from_secs(1 + second);
        assert_eq!(harness.pass(Side::Inside, &answer), (Verdict::SynAckUnsolicited, None));
    }
}

#[test]
fn a_refusal_is_tunnelled_each_time_it_is_sent() {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    let refusal = Segment::new(WEB, CLIENT, Flags::RST | Flags::ACK, 0, 101);
    let expected = (Verdict::FromWebServer, Some(refusal.tunnelled("203.0.113.10", "198.18.1.10")));
    assert_eq!(harness.pass(Side::Inside, &refusal.frame()), expected);
    // The gateway would take a plain one for the origin's.
    assert_eq!(harness.pass(Side::Inside, &refusal.frame()), expected);
    let other = Segment::new(WEB, CLIENT, Flags::RST | Flags::ACK, 501, 101);
    let plain = Segment::new(SERVER, CLIENT, Flags::RST | Flags::ACK, 501, 101).frame();
    assert_eq!(harness.pass(Side::Inside, &other.frame()), (Verdict::FromWebServer, Some(plain)));
}

#[test]
fn an_ipv4_connection_is_one_cache_line() {
    assert_eq!(size_of::<Entry<Endpoint<V4>, Phase, Connection<V4>>>(), 64);
}

/// A replica with a connection that the client has established.
fn established() -> Harness {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let ack = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
    harness
}

/// A copy of another SYN of the same endpoints, with configuration A.
fn later_copy(server: &str) -> Vec<u8> {
    let syn = Segment::syn(CLIENT, server, 9000).options(&[253, 5, 0x4e, 0x52, 1, 1, 1, 1]);
    syn.tunnelled("203.0.113.10", "198.51.100.10")
}

#[test]
fn a_copy_does_not_take_over_a_live_connection() {
    let mut harness = established();
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let data = Segment::ack(WEB, CLIENT, 501, 101).payload(b"body").frame();
    let as_server = Segment::ack(SERVER, CLIENT, 501, 101).payload(b"body").frame();
    for (secs, packet) in [(1, None), (2, Some(&reset)), (100, None), (3700, None)] {
        harness.now = Ticks::from_secs(secs);
        if let Some(packet) = packet {
            assert_eq!(harness.pass(Side::Outside, packet).0, Verdict::ToWebServer);
        }
        // The web server decides: its TCP answers a SYN of a live connection with a challenge ACK.
        let (verdict, sent) = harness.pass(Side::Outside, &later_copy(SERVER));
        let plain = Segment::syn(CLIENT, WEB, 9000).options(&[]).frame();
        assert_eq!((verdict, sent), (Verdict::CopyNewIsn, Some(plain)));
        let seen = harness.pass(Side::Inside, &data);
        assert_eq!(seen, (Verdict::FromWebServer, Some(as_server.clone())), "after {secs} s");
    }
}

#[test]
fn a_reused_endpoint_is_accepted_when_the_web_server_accepts_it() {
    let mut harness = established();
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 101, 0).inbound().frame();
    harness.pass(Side::Outside, &reset);
    assert_eq!(harness.pass(Side::Outside, &later_copy(SERVER)).0, Verdict::CopyNewIsn);
    // The new connection has configuration A: the SYN/ACK is plain.
    let answer = Segment::syn_ack(WEB, CLIENT, 7000, 9001).frame();
    let seen = harness.pass(Side::Inside, &answer);
    assert_eq!(seen, (Verdict::FromWebServer, Some(answer.clone())));
    assert_eq!(harness.pass(Side::Inside, &answer).0, Verdict::SynAckUnsolicited);
    let ack = Segment::ack(CLIENT, WEB, 9001, 7001).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
    let data = Segment::ack(WEB, CLIENT, 7001, 9001).payload(b"body").frame();
    assert_eq!(harness.pass(Side::Inside, &data), (Verdict::FromWebServer, Some(data.clone())));
}

#[test]
fn a_blind_ack_does_not_establish_a_connection() {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let blind = Segment::ack(CLIENT, WEB, 101, 77).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &blind).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(40);
    assert_eq!(harness.pass(Side::Outside, &blind).0, Verdict::NoEntry);
}

#[test]
fn a_blind_reset_and_a_blind_ack_do_not_establish_a_connection() {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let blind = Segment::ack(CLIENT, WEB, 101, 77).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &reset).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(4);
    assert_eq!(harness.pass(Side::Outside, &blind).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(44);
    assert_eq!(harness.pass(Side::Outside, &blind).0, Verdict::NoEntry);
}

#[test]
fn a_blind_reset_does_not_prevent_a_connection_from_being_established() {
    let mut harness = Harness::new();
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let reset = Segment::new(CLIENT, WEB, Flags::RST, 7, 0).inbound().frame();
    let ack = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    let later = Segment::ack(CLIENT, WEB, 201, 901).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &reset).0, Verdict::ToWebServer);
    assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(4);
    assert_eq!(harness.pass(Side::Outside, &later).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(3000);
    assert_eq!(harness.pass(Side::Outside, &later).0, Verdict::ToWebServer);
}

#[test]
fn a_copy_that_does_not_fit_the_table_does_not_change_the_handling_of_fragments() {
    let mut harness = Harness::busy_at(17);
    let later_fragment = |packet: Segment| {
        let mut frame = packet.payload(&[7; 80]).frame();
        frame[20..22].copy_from_slice(&9u16.to_be_bytes());
        frame
    };
    let copied = |port: u16, configuration: u8| {
        let tag = [253, 5, 0x4e, 0x52, 1 | configuration << 1, 1, 1, 1];
        let syn = Segment::syn(&format!("198.18.1.10:{port}"), SERVER, 100).options(&tag);
        syn.tunnelled("203.0.113.10", "198.51.100.10")
    };
    for port in 1..=16 {
        assert_eq!(harness.pass(Side::Outside, &copied(port, 0)).0, Verdict::CopyAccepted);
        let ack = Segment::ack(&format!("198.18.1.10:{port}"), WEB, 101, 501).inbound();
        assert_eq!(harness.pass(Side::Outside, &ack.frame()).0, Verdict::ToWebServer);
    }
    assert_eq!(harness.pass(Side::Outside, &copied(17, 1)).0, Verdict::Busy);
    let fragment = later_fragment(Segment::ack(WEB, "198.18.1.10:1", 501, 101));
    assert_eq!(harness.pass(Side::Inside, &fragment).0, Verdict::Fragment);
}
