//! ICMP errors and fragments of connections, and races while buffers run out. Everything else is
//! tested by scenarios and against a model.

use super::*;
use crate::base::published::Published;
use crate::counters::Scalar;
use crate::packet::buffer::{HeapBuffer, HeapPool};
use crate::packet::burst::Output;
use crate::policy::allow_list::AllowList;
use crate::policy::services::Scope;
use crate::role::gateway::mode::{A, B, C};
use crate::testing::{Segment, endpoint, ethernet_frame, icmp_error, tunnel};
use crate::wire::put_u16;

const CLIENT: &str = "198.18.1.10:40000";
const SERVER: &str = "203.0.113.10:80";
const REPLICA: &str = "198.51.100.10:8080";

struct Bench<M> {
    gateway: Gateway<M>,
    pool: HeapPool,
    now: Ticks,
}

impl<M: Mode> Bench<M> {
    fn empty() -> Self {
        let scope = Scope::Prefix("203.0.113.10/32".parse().unwrap());
        let service = Service { scope, ports: vec![80], allowed_replicas: AllowList::Any };
        let keys = Published::new(Keys::default());
        let settings = Settings { max_connections: [16, 16], ..Settings::new(vec![service]) };
        let gateway = Gateway::new(settings, keys.reader());
        Self { gateway, pool: HeapPool::default(), now: Ticks::from_secs(1) }
    }

    /// A bench with a connection that the replica won by this answer.
    fn won_by(answer: &[u8]) -> Self {
        let mut bench = Self::empty();
        bench.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100).frame());
        assert_eq!(bench.pass(Side::Outside, answer).0, Verdict::ReplicaWon);
        bench
    }

    fn pass(&mut self, side: Side, frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
        let (mut burst, mut out) = (Burst::default(), Output::new(1));
        burst.fill(std::iter::once(HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.gateway.process(side, &mut burst, &mut context);
        let left = Side::ALL.iter().find_map(|&side| out.side(side).pop());
        (burst.verdicts()[0], left.map(|buffer| buffer.frame().to_vec()))
    }
}

impl Bench<A> {
    fn new() -> Self {
        Self::empty()
    }

    /// A bench with a connection that the replica won.
    fn won() -> Self {
        Self::won_by(&Segment::syn_ack(REPLICA, CLIENT, 500, 101).frame())
    }
}

#[test]
fn an_icmp_error_to_the_client_quotes_the_server() {
    let mut bench = Bench::won();
    let quote = |to| Segment::ack(CLIENT, to, 101, 501).packet();
    let error = |from, to| icmp_error(from, "198.18.1.10", 3, 4, &quote(to));
    let seen = bench.pass(Side::Outside, &error("192.0.2.1", REPLICA));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error("192.0.2.1", SERVER))));
    // From the replica's own host: it, too, must look like the server.
    let seen = bench.pass(Side::Outside, &error("198.51.100.10", REPLICA));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error("203.0.113.10", SERVER))));
    let about_another = error("192.0.2.1", "198.51.100.99:80");
    assert_eq!(bench.pass(Side::Outside, &about_another), (Verdict::Icmp, Some(about_another)));
}

#[test]
fn an_icmp_error_from_the_client_reaches_the_replica_about_itself() {
    let mut bench = Bench::won();
    let quote = |from| Segment::ack(from, CLIENT, 501, 101).packet();
    let error = |from, to| icmp_error("198.18.1.1", to, 3, 4, &quote(from));
    let seen = bench.pass(Side::Inside, &error(SERVER, "203.0.113.10"));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error(REPLICA, "198.51.100.10"))));
}

/// The frame as a fragment at `offset` bytes, more to come, or the last one.
fn fragment(mut frame: Vec<u8>, offset: usize, more: bool) -> Vec<u8> {
    let word = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
    put_u16(&mut frame, 18, 0x1234);
    put_u16(&mut frame, 20, word);
    put_u16(&mut frame, 24, 0);
    let checksum = crate::wire::checksum::Sum::of(&frame[14..34]).checksum();
    put_u16(&mut frame, 24, checksum);
    frame
}

#[test]
fn fragments_follow_their_first_both_ways() {
    let mut bench = Bench::won();
    let data = |from, to| Segment::ack(from, to, 501, 101).payload(&[7; 36]).frame();
    for (side, (from, to), (new_from, new_to)) in [
        (Side::Outside, (REPLICA, CLIENT), (SERVER, CLIENT)),
        (Side::Inside, (CLIENT, SERVER), (CLIENT, REPLICA)),
    ] {
        let first = fragment(data(from, to), 0, true);
        let (verdict, left) = bench.pass(side, &first);
        assert_eq!(verdict, Verdict::FragmentTranslated);
        assert_eq!(left.unwrap(), fragment(data(new_from, new_to), 0, true));
        let (verdict, left) = bench.pass(side, &fragment(data(from, to), 56, false));
        let left = Packet::new(HeapBuffer::new(&left.unwrap()));
        assert_eq!(verdict, Verdict::FragmentTranslated);
        let ip = left.ip();
        assert_eq!(V4::source(ip), endpoint::<V4>(new_from).address);
        assert_eq!(V4::destination(ip), endpoint::<V4>(new_to).address);
        assert!(left.ip_checksum_ok());
        let mut other = fragment(data(from, to), 56, false);
        other[19] ^= 1;
        assert_eq!(bench.pass(side, &other), (Verdict::FragmentUnknown, None));
    }
}

/// Identifications are per protocol (RFC 791).
#[test]
fn a_fragment_of_another_protocol_with_the_same_identification_changes_nothing() {
    let mut bench = Bench::won();
    let data = || Segment::ack(CLIENT, SERVER, 101, 501).payload(&[7; 80]).frame();
    let first = bench.pass(Side::Inside, &fragment(data(), 0, true));
    assert_eq!(first.0, Verdict::FragmentTranslated);
    let mut other = data();
    other[23] = 17;
    let seen = bench.pass(Side::Inside, &fragment(other, 0, true));
    assert_eq!(seen.0, Verdict::Fragment);
    let later = bench.pass(Side::Inside, &fragment(data(), 56, false));
    assert_eq!(later.0, Verdict::FragmentTranslated);
}

#[test]
fn fragments_of_others_pass() {
    let mut bench = Bench::new();
    for offset in [0, 56] {
        let other = fragment(Segment::ack(CLIENT, SERVER, 1, 1).frame(), offset, true);
        assert_eq!(bench.pass(Side::Inside, &other), (Verdict::Fragment, Some(other)));
    }
}

#[test]
fn without_a_buffer_a_loser_is_counted_and_the_race_stands() {
    let mut bench = Bench::won();
    bench.pool = HeapPool::with_limit(0);
    let loser = Segment::syn_ack("198.51.100.20:80", CLIENT, 900, 101).frame();
    assert_eq!(bench.pass(Side::Outside, &loser), (Verdict::NoBuffer, None));
    let data = Segment::ack(CLIENT, SERVER, 101, 501).frame();
    let expected = Segment::ack(CLIENT, REPLICA, 101, 501).frame();
    assert_eq!(bench.pass(Side::Inside, &data), (Verdict::ToReplica, Some(expected)));
}

impl Bench<A> {
    fn verdict(&mut self, side: Side, segment: &Segment) -> Verdict {
        self.pass(side, &segment.frame()).0
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now + Ticks::from_secs(secs);
    }
}

#[test]
fn a_reset_that_nobody_took_notice_of_closes_nothing() {
    let mut bench = Bench::won();
    let forged = Segment::new(REPLICA, CLIENT, tcp::Flags::RST, 77, 0).inbound();
    assert_eq!(bench.verdict(Side::Outside, &forged), Verdict::FromReplica);
    bench.wait(10);
    let data = Segment::ack(CLIENT, SERVER, 101, 501);
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::ToReplica);
    // Established again: it outlives the time of a closing one.
    bench.wait(600);
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::ToReplica);
    // What was on its way when it was sent takes nothing back.
    assert_eq!(bench.verdict(Side::Outside, &forged), Verdict::FromReplica);
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::ToReplica);
    bench.wait(600);
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::NoEntry);
}

#[test]
fn the_winners_answer_to_a_new_start_packet_begins_anew() {
    let mut bench = Bench::won();
    let fin = tcp::Flags::FIN | tcp::Flags::ACK;
    bench.verdict(Side::Inside, &Segment::new(CLIENT, SERVER, fin, 101, 501));
    let again = Segment::syn(CLIENT, SERVER, 9000);
    assert_eq!(bench.verdict(Side::Inside, &again), Verdict::SynToWinner);
    let answer = Segment::syn_ack(REPLICA, CLIENT, 700, 9001);
    assert_eq!(bench.verdict(Side::Outside, &answer), Verdict::SynAckRetransmit);
    // The earlier connection's FIN, late: with the one before it, both would have been seen.
    bench.verdict(Side::Outside, &Segment::new(REPLICA, CLIENT, fin, 501, 102).inbound());
    bench.wait(600);
    let data = Segment::ack(CLIENT, SERVER, 9001, 701);
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::ToReplica);
}

#[test]
fn a_closing_connection_keeps_its_endpoint_from_another_server() {
    let mut bench = Bench::won();
    let fin = tcp::Flags::FIN | tcp::Flags::ACK;
    bench.verdict(Side::Inside, &Segment::new(CLIENT, SERVER, fin, 101, 501));
    bench.verdict(Side::Outside, &Segment::new(REPLICA, CLIENT, fin, 501, 102).inbound());
    let other = Segment::syn(CLIENT, "203.0.113.10:8080", 5);
    assert_eq!(bench.verdict(Side::Inside, &other), Verdict::NoService);
    let repeated = Segment::new(REPLICA, CLIENT, fin, 501, 102).inbound();
    assert_eq!(bench.verdict(Side::Outside, &repeated), Verdict::FromReplica);
    assert_eq!(
        bench.verdict(Side::Inside, &Segment::syn(CLIENT, SERVER, 5)),
        Verdict::TaggedNewIsn
    );
}

#[test]
fn races_that_had_to_make_room_unanswered_speak_against_their_path() {
    let mut bench = Bench::new();
    let syn = |number: u16| Segment::syn(&format!("198.18.1.10:{number}"), SERVER, 7);
    for number in 0..16 {
        assert_eq!(bench.verdict(Side::Inside, &syn(1000 + number)), Verdict::Tagged);
    }
    // Not so those that have had no time to be answered.
    for number in 16..32 {
        assert_eq!(bench.verdict(Side::Inside, &syn(1000 + number)), Verdict::Tagged);
    }
    bench.wait(2);
    let verdicts: Vec<_> =
        (32..36).map(|number| bench.verdict(Side::Inside, &syn(1000 + number))).collect();
    assert_eq!(verdicts[..3], [Verdict::Tagged; 3]);
    assert_eq!(verdicts[3], Verdict::UntaggedBackoff);
}

/// Under B the replica's packets come plain, but for its acknowledgement: to open anything else
/// would let the winner, or who writes its address, say what it likes in the server's name.
#[test]
fn under_b_tunnelled_fragments_and_errors_pass_as_they_are() {
    let answer = Segment::syn_ack(REPLICA, CLIENT, 500, 101);
    let mut bench = Bench::<B>::won_by(&answer.tunnelled("203.0.113.10", "198.18.1.10"));
    let macs = answer.macs;
    let data = Segment::ack(SERVER, CLIENT, 501, 101).payload(&[7; 80]).frame();
    let quote = Segment::ack(CLIENT, SERVER, 101, 501).packet();
    let error = icmp_error("203.0.113.10", "198.18.1.10", 3, 4, &quote);
    let first = fragment(data.clone(), 0, true);
    for inner in [&first[14..], &fragment(data, 56, false)[14..], &error[14..]] {
        let packet = tunnel("198.51.100.10", "198.18.1.10", 0, inner);
        let frame = ethernet_frame(macs, &packet);
        let seen = bench.pass(Side::Outside, &frame);
        assert_eq!(seen, (Verdict::ForeignTunnel, Some(frame)));
    }
}

#[test]
fn every_mss_that_is_lowered_is_counted() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let mut bench = Bench::<C>::won_by(&answer.tunnelled("198.51.100.10", "198.18.1.10"));
    // The start packet's and its answer's.
    assert_eq!(bench.gateway.counters().scalar(Scalar::MssClamped).get(), 2);
    let repeated = Segment::syn(CLIENT, SERVER, 100).frame();
    assert_eq!(bench.pass(Side::Inside, &repeated).0, Verdict::SynToWinner);
    assert_eq!(bench.gateway.counters().scalar(Scalar::MssClamped).get(), 3);
}

#[test]
fn a_damaged_start_packet_does_not_end_the_earlier_connection() {
    let mut bench = Bench::<A>::won();
    bench.now = Ticks::from_secs(100);
    let mut damaged = Segment::syn(CLIENT, SERVER, 4242).frame();
    damaged[50] ^= 1;
    assert_eq!(bench.pass(Side::Inside, &damaged).0, Verdict::UntaggedTcpChecksum);
    let data = Segment::ack(CLIENT, SERVER, 101, 501).payload(b"goes on");
    assert_eq!(bench.verdict(Side::Inside, &data), Verdict::ToReplica);
}

#[test]
fn under_c_strangers_cannot_part_fragments_from_their_first() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let mut bench = Bench::<C>::won_by(&answer.tunnelled("198.51.100.10", "198.18.1.10"));
    let data = |to| Segment::ack(SERVER, to, 501, 101).payload(&[7; 80]).frame();
    let mut pass = |outer: &str, inner: Vec<u8>| {
        let packet = tunnel(outer, "198.18.1.10", 0, &inner[14..]);
        bench.pass(Side::Outside, &ethernet_frame(answer.macs, &packet)).0
    };
    let (winner, stranger) = ("198.51.100.10", "192.0.2.66");
    assert_eq!(pass(winner, fragment(data(CLIENT), 0, true)), Verdict::FragmentTranslated);
    let elsewhere = fragment(data("198.18.1.10:1"), 0, true);
    assert_eq!(pass(stranger, elsewhere), Verdict::ForeignTunnel);
    assert_eq!(pass(stranger, fragment(data(CLIENT), 0, true)), Verdict::TunnelSpoofed);
    assert_eq!(pass(winner, fragment(data(CLIENT), 56, false)), Verdict::FragmentTranslated);
}

#[test]
fn a_race_is_ended_by_the_origins_refusal_and_by_no_other_reset_of_its_name() {
    let refusal = |flags, acknowledged| {
        Segment::new(SERVER, CLIENT, flags, 0, acknowledged).inbound().frame()
    };
    let answers = tcp::Flags::RST | tcp::Flags::ACK;
    let mut bench = Bench::<A>::new();
    bench.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100).frame());
    for blind in [refusal(answers, 77), refusal(tcp::Flags::RST, 101)] {
        assert_eq!(bench.pass(Side::Outside, &blind).0, Verdict::RaceUndecided);
    }
    let mut damaged = refusal(answers, 101);
    damaged[50] ^= 1;
    assert_eq!(bench.pass(Side::Outside, &damaged).0, Verdict::RaceUndecided);
    let seen = bench.pass(Side::Outside, &refusal(answers, 101)).0;
    assert_eq!(seen, Verdict::ResetByOrigin);
}

#[test]
fn another_number_of_the_winner_than_the_one_asked_for_changes_nothing() {
    let mut bench = Bench::<A>::won();
    let stale = Segment::syn_ack(REPLICA, CLIENT, 700, 4711);
    assert_eq!(bench.verdict(Side::Outside, &stale), Verdict::SynAckRetransmit);
    let loser = Segment::syn_ack("198.51.100.20:80", CLIENT, 900, 101);
    assert_eq!(bench.verdict(Side::Outside, &loser), Verdict::LoserReset);
}

#[test]
fn under_c_plain_fragments_cannot_part_the_winners_from_their_first() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let winners = answer.tunnelled("198.51.100.10", "198.18.1.10");
    let data = |to| Segment::ack(SERVER, to, 501, 101).payload(&[7; 80]).inbound().frame();
    let other = || data("198.18.1.10:1");
    // One of another connection, and one without the whole TCP header.
    let mut short = other()[..42].to_vec();
    put_u16(&mut short, 16, 28);
    for plain in [fragment(other(), 0, true), fragment(short, 0, true)] {
        let mut bench = Bench::<C>::won_by(&winners);
        let mut tunnelled = |inner: Vec<u8>, plain: Option<&[u8]>| {
            let packet = tunnel("198.51.100.10", "198.18.1.10", 0, &inner[14..]);
            let frame = plain.map_or(ethernet_frame(answer.macs, &packet), <[u8]>::to_vec);
            bench.pass(Side::Outside, &frame).0
        };
        let first = fragment(data(CLIENT), 0, true);
        assert_eq!(tunnelled(first.clone(), None), Verdict::FragmentTranslated);
        assert_eq!(tunnelled(first, Some(&plain)), Verdict::Fragment);
        let later = fragment(data(CLIENT), 56, false);
        assert_eq!(tunnelled(later.clone(), None), Verdict::FragmentTranslated);
        // What follows the plain one passes as it did.
        assert_eq!(tunnelled(later.clone(), Some(&later)), Verdict::Fragment);
    }
}
