//! ICMP errors and fragments of connections, and races while buffers run out; direct copies with
//! plans made by hand, and frames that wait. Everything else is tested by scenarios and against a
//! model.

mod backoff;
mod direct;
mod kept;
mod rig;
mod segments;
mod shares;
mod waiting;

use super::*;
use crate::base::published::Published;
use crate::counters::Scalar;
use crate::memory::Policy;
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

/// A gateway, and the buffers and the time that it runs with.
struct Harness<M> {
    gateway: Gateway<M>,
    pool: HeapPool,
    now: Ticks,
}

impl<M: Mode> Harness<M> {
    fn empty() -> Self {
        let scope = Scope::Prefix("203.0.113.10/32".parse().unwrap());
        let service = Service {
            scope,
            ports: vec![80],
            allowed_replicas: AllowList::Any,
            policy: Policy::default(),
        };
        let keys = Published::new(Keys::default());
        let settings = Settings { max_connections: [16, 16], ..Settings::new(vec![service]) };
        let gateway = Gateway::new(settings, keys.reader());
        Self { gateway, pool: HeapPool::default(), now: Ticks::from_secs(1) }
    }

    /// A gateway with a connection that a replica has won by this SYN/ACK.
    fn won_by(syn_ack: &[u8]) -> Self {
        let mut harness = Self::empty();
        harness.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100).frame());
        assert_eq!(harness.pass(Side::Outside, syn_ack).0, Verdict::ReplicaWon);
        let opens = Segment::ack(CLIENT, SERVER, 101, 501).frame();
        assert_eq!(harness.pass(Side::Inside, &opens).0, Verdict::ToReplica);
        harness
    }

    /// Processes a frame; returns the verdict, and the frame that is sent, if any.
    fn pass(&mut self, side: Side, frame: &[u8]) -> (Verdict, Option<Vec<u8>>) {
        let (mut burst, mut out) = (Burst::default(), Output::new(1));
        burst.fill(std::iter::once(HeapBuffer::new(frame)));
        let mut context = Context { now: self.now, pool: &mut self.pool, out: &mut out };
        self.gateway.process(side, &mut burst, &mut context);
        let sent = Side::ALL.iter().find_map(|&side| out.side(side).pop());
        (burst.verdicts()[0], sent.map(|buffer| buffer.frame().to_vec()))
    }
}

impl Harness<A> {
    fn new() -> Self {
        Self::empty()
    }

    /// A gateway with a connection that the replica has won.
    fn won() -> Self {
        Self::won_by(&Segment::syn_ack(REPLICA, CLIENT, 500, 101).frame())
    }
}

#[test]
fn an_icmp_error_to_the_client_quotes_a_packet_to_the_server() {
    let mut harness = Harness::won();
    let quote = |to| Segment::ack(CLIENT, to, 101, 501).packet();
    let error = |from, to| icmp_error(from, "198.18.1.10", 3, 4, &quote(to));
    let seen = harness.pass(Side::Outside, &error("192.0.2.1", REPLICA));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error("192.0.2.1", SERVER))));
    // An error from the replica itself must have the server's source address.
    let seen = harness.pass(Side::Outside, &error("198.51.100.10", REPLICA));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error("203.0.113.10", SERVER))));
    let other_error = error("192.0.2.1", "198.51.100.99:80");
    assert_eq!(harness.pass(Side::Outside, &other_error), (Verdict::Icmp, Some(other_error)));
}

#[test]
fn an_icmp_error_from_the_client_quotes_a_packet_of_the_replica() {
    let mut harness = Harness::won();
    let quote = |from| Segment::ack(from, CLIENT, 501, 101).packet();
    let error = |from, to| icmp_error("198.18.1.1", to, 3, 4, &quote(from));
    let seen = harness.pass(Side::Inside, &error(SERVER, "203.0.113.10"));
    assert_eq!(seen, (Verdict::IcmpTranslated, Some(error(REPLICA, "198.51.100.10"))));
}

/// Turns a frame into a fragment at `offset` bytes; `more` says whether others follow.
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
fn fragments_are_translated_like_their_first_in_both_directions() {
    let mut harness = Harness::won();
    let data = |from, to| Segment::ack(from, to, 501, 101).payload(&[7; 36]).frame();
    for (side, (from, to), (new_from, new_to)) in [
        (Side::Outside, (REPLICA, CLIENT), (SERVER, CLIENT)),
        (Side::Inside, (CLIENT, SERVER), (CLIENT, REPLICA)),
    ] {
        let first = fragment(data(from, to), 0, true);
        let (verdict, sent) = harness.pass(side, &first);
        assert_eq!(verdict, Verdict::FragmentTranslated);
        assert_eq!(sent.unwrap(), fragment(data(new_from, new_to), 0, true));
        let (verdict, sent) = harness.pass(side, &fragment(data(from, to), 56, false));
        let sent = Packet::new(HeapBuffer::new(&sent.unwrap()));
        assert_eq!(verdict, Verdict::FragmentTranslated);
        let ip = sent.ip();
        assert_eq!(V4::source(ip), endpoint::<V4>(new_from).address);
        assert_eq!(V4::destination(ip), endpoint::<V4>(new_to).address);
        assert!(sent.ip_checksum_ok());
        let mut other = fragment(data(from, to), 56, false);
        other[19] ^= 1;
        assert_eq!(harness.pass(side, &other), (Verdict::FragmentUnknown, None));
    }
}

/// Each protocol has its own identifications (RFC 791).
#[test]
fn a_fragment_of_another_protocol_with_the_same_identification_changes_nothing() {
    let mut harness = Harness::won();
    let data = || Segment::ack(CLIENT, SERVER, 101, 501).payload(&[7; 80]).frame();
    let first = harness.pass(Side::Inside, &fragment(data(), 0, true));
    assert_eq!(first.0, Verdict::FragmentTranslated);
    let mut other = data();
    other[23] = 17;
    let seen = harness.pass(Side::Inside, &fragment(other, 0, true));
    assert_eq!(seen.0, Verdict::Fragment);
    let later = harness.pass(Side::Inside, &fragment(data(), 56, false));
    assert_eq!(later.0, Verdict::FragmentTranslated);
}

#[test]
fn fragments_of_untranslated_connections_pass() {
    let mut harness = Harness::new();
    for offset in [0, 56] {
        let other = fragment(Segment::ack(CLIENT, SERVER, 1, 1).frame(), offset, true);
        assert_eq!(harness.pass(Side::Inside, &other), (Verdict::Fragment, Some(other)));
    }
}

/// What is not of a translated connection passes byte for byte, in whatever order.
#[test]
fn later_fragments_of_clients_without_a_translated_connection_pass_unseen() {
    let mut harness = Harness::won();
    let of = |client: &str, offset| {
        let data = Segment::ack(SERVER, client, 501, 101).payload(&[7; 80]).inbound().frame();
        fragment(data, offset, offset == 0)
    };
    let stranger = of("198.18.1.11:40000", 56);
    let seen = harness.pass(Side::Outside, &stranger);
    assert_eq!(seen, (Verdict::Fragment, Some(stranger)), "another address");
    assert_eq!(harness.pass(Side::Outside, &of(CLIENT, 56)), (Verdict::FragmentUnknown, None));
    // Once the connection is over, the client's pass, too.
    let reset = Segment::new(REPLICA, CLIENT, tcp::Flags::RST, 501, 0).inbound();
    harness.verdict(Side::Outside, &reset);
    harness.wait(300);
    let data = Segment::ack(CLIENT, SERVER, 101, 501);
    assert_eq!(harness.verdict(Side::Inside, &data), Verdict::NoEntry);
    assert_eq!(harness.pass(Side::Outside, &of(CLIENT, 56)).0, Verdict::Fragment);
}

#[test]
fn strangers_first_fragments_do_not_push_out_a_connections() {
    let mut harness = Harness::won();
    let data = |from, to| Segment::ack(from, to, 501, 101).payload(&[7; 80]).frame();
    let first = fragment(data(CLIENT, SERVER), 0, true);
    assert_eq!(harness.pass(Side::Inside, &first).0, Verdict::FragmentTranslated);
    for n in 0..4000u16 {
        let mut stranger = fragment(data("198.18.1.11:40000", SERVER), 0, true);
        put_u16(&mut stranger, 18, n);
        assert_eq!(harness.pass(Side::Inside, &stranger).0, Verdict::Fragment);
        // Others of the same host, to where nothing is translated.
        let mut other = fragment(data(CLIENT, "192.0.2.9:80"), 0, true);
        put_u16(&mut other, 18, n);
        assert_eq!(harness.pass(Side::Inside, &other).0, Verdict::Fragment);
    }
    let later = fragment(data(CLIENT, SERVER), 56, false);
    assert_eq!(harness.pass(Side::Inside, &later).0, Verdict::FragmentTranslated);
}

#[test]
fn without_a_buffer_a_loser_is_not_reset_and_the_winner_stays() {
    let mut harness = Harness::won();
    harness.pool = HeapPool::with_limit(0);
    let loser = Segment::syn_ack("198.51.100.20:80", CLIENT, 900, 101).frame();
    assert_eq!(harness.pass(Side::Outside, &loser), (Verdict::NoBuffer, None));
    let data = Segment::ack(CLIENT, SERVER, 101, 501).frame();
    let expected = Segment::ack(CLIENT, REPLICA, 101, 501).frame();
    assert_eq!(harness.pass(Side::Inside, &data), (Verdict::ToReplica, Some(expected)));
}

impl Harness<A> {
    fn verdict(&mut self, side: Side, segment: &Segment) -> Verdict {
        self.pass(side, &segment.frame()).0
    }

    fn wait(&mut self, secs: u64) {
        self.now = self.now + Ticks::from_secs(secs);
    }
}

#[test]
fn the_winners_syn_ack_for_a_new_syn_restarts_the_connection() {
    let mut harness = Harness::won();
    let fin = tcp::Flags::FIN | tcp::Flags::ACK;
    harness.verdict(Side::Inside, &Segment::new(CLIENT, SERVER, fin, 101, 501));
    let again = Segment::syn(CLIENT, SERVER, 9000);
    assert_eq!(harness.verdict(Side::Inside, &again), Verdict::SynToWinner);
    let answer = Segment::syn_ack(REPLICA, CLIENT, 700, 9001);
    assert_eq!(harness.verdict(Side::Outside, &answer), Verdict::SynAckRetransmit);
    // The FIN of the earlier connection is none of the new one's.
    let data = Segment::ack(CLIENT, SERVER, 9001, 701);
    assert_eq!(harness.verdict(Side::Inside, &data), Verdict::ToReplica);
    harness.wait(600);
    assert_eq!(harness.verdict(Side::Inside, &data), Verdict::ToReplica);
}

#[test]
fn the_endpoint_of_a_closing_connection_is_not_used_for_another_server() {
    let mut harness = Harness::won();
    let fin = tcp::Flags::FIN | tcp::Flags::ACK;
    harness.verdict(Side::Inside, &Segment::new(CLIENT, SERVER, fin, 101, 501));
    harness.verdict(Side::Outside, &Segment::new(REPLICA, CLIENT, fin, 501, 102).inbound());
    let other = Segment::syn(CLIENT, "203.0.113.10:8080", 5);
    assert_eq!(harness.verdict(Side::Inside, &other), Verdict::NoService);
    let repeated = Segment::new(REPLICA, CLIENT, fin, 501, 102).inbound();
    assert_eq!(harness.verdict(Side::Outside, &repeated), Verdict::FromReplica);
    assert_eq!(
        harness.verdict(Side::Inside, &Segment::syn(CLIENT, SERVER, 5)),
        Verdict::TaggedNewIsn
    );
}

/// Under B only a replica's SYN/ACK and refusal come in a tunnel. Decapsulating anything else would
/// let any host that spoofs the winner's address send packets in the server's name.
#[test]
fn under_b_tunnelled_fragments_and_errors_are_not_decapsulated() {
    let answer = Segment::syn_ack(REPLICA, CLIENT, 500, 101);
    let mut harness = Harness::<B>::won_by(&answer.tunnelled("203.0.113.10", "198.18.1.10"));
    let macs = answer.macs;
    let data = Segment::ack(SERVER, CLIENT, 501, 101).payload(&[7; 80]).frame();
    let quote = Segment::ack(CLIENT, SERVER, 101, 501).packet();
    let error = icmp_error("203.0.113.10", "198.18.1.10", 3, 4, &quote);
    let first = fragment(data.clone(), 0, true);
    for inner in [&first[14..], &fragment(data, 56, false)[14..], &error[14..]] {
        let packet = tunnel("198.51.100.10", "198.18.1.10", 0, inner);
        let frame = ethernet_frame(macs, &packet);
        let seen = harness.pass(Side::Outside, &frame);
        assert_eq!(seen, (Verdict::ForeignTunnel, Some(frame)));
    }
}

#[test]
fn every_lowered_mss_is_counted() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let mut harness = Harness::<C>::won_by(&answer.tunnelled("198.51.100.10", "198.18.1.10"));
    // The MSS of the SYN and of the SYN/ACK.
    assert_eq!(harness.gateway.counters().scalar(Scalar::MssClamped).get(), 2);
    let repeated = Segment::syn(CLIENT, SERVER, 100).frame();
    assert_eq!(harness.pass(Side::Inside, &repeated).0, Verdict::SynToWinner);
    assert_eq!(harness.gateway.counters().scalar(Scalar::MssClamped).get(), 3);
}

#[test]
fn a_damaged_syn_does_not_end_the_earlier_connection() {
    let mut harness = Harness::<A>::won();
    harness.now = Ticks::from_secs(100);
    let mut damaged = Segment::syn(CLIENT, SERVER, 4242).frame();
    damaged[50] ^= 1;
    assert_eq!(harness.pass(Side::Inside, &damaged).0, Verdict::UntaggedTcpChecksum);
    let data = Segment::ack(CLIENT, SERVER, 101, 501).payload(b"data");
    assert_eq!(harness.verdict(Side::Inside, &data), Verdict::ToReplica);
}

#[test]
fn under_c_other_hosts_cannot_separate_fragments_from_their_first() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let mut harness = Harness::<C>::won_by(&answer.tunnelled("198.51.100.10", "198.18.1.10"));
    let data = |to| Segment::ack(SERVER, to, 501, 101).payload(&[7; 80]).frame();
    let mut pass = |outer: &str, inner: Vec<u8>| {
        let packet = tunnel(outer, "198.18.1.10", 0, &inner[14..]);
        harness.pass(Side::Outside, &ethernet_frame(answer.macs, &packet)).0
    };
    let (winner, other) = ("198.51.100.10", "192.0.2.66");
    assert_eq!(pass(winner, fragment(data(CLIENT), 0, true)), Verdict::FragmentTranslated);
    let elsewhere = fragment(data("198.18.1.10:1"), 0, true);
    assert_eq!(pass(other, elsewhere), Verdict::ForeignTunnel);
    assert_eq!(pass(other, fragment(data(CLIENT), 0, true)), Verdict::TunnelSpoofed);
    assert_eq!(pass(winner, fragment(data(CLIENT), 56, false)), Verdict::FragmentTranslated);
}

#[test]
fn a_race_is_ended_by_the_origins_refusal_and_by_no_other_reset_from_its_address() {
    let refusal = |flags, acknowledged| {
        Segment::new(SERVER, CLIENT, flags, 0, acknowledged).inbound().frame()
    };
    let rst_ack = tcp::Flags::RST | tcp::Flags::ACK;
    let mut harness = Harness::<A>::new();
    harness.pass(Side::Inside, &Segment::syn(CLIENT, SERVER, 100).frame());
    for blind in [refusal(rst_ack, 77), refusal(tcp::Flags::RST, 101)] {
        assert_eq!(harness.pass(Side::Outside, &blind).0, Verdict::RaceUndecided);
    }
    let mut damaged = refusal(rst_ack, 101);
    damaged[50] ^= 1;
    assert_eq!(harness.pass(Side::Outside, &damaged).0, Verdict::RaceUndecided);
    let seen = harness.pass(Side::Outside, &refusal(rst_ack, 101)).0;
    assert_eq!(seen, Verdict::ResetByOrigin);
}

#[test]
fn a_stale_syn_ack_of_the_winner_does_not_restart_the_connection() {
    let mut harness = Harness::<A>::won();
    let stale = Segment::syn_ack(REPLICA, CLIENT, 700, 4711);
    assert_eq!(harness.verdict(Side::Outside, &stale), Verdict::FromOther);
    let loser = Segment::syn_ack("198.51.100.20:80", CLIENT, 900, 101);
    assert_eq!(harness.verdict(Side::Outside, &loser), Verdict::LoserReset);
}

#[test]
fn under_c_plain_fragments_cannot_separate_the_winners_from_their_first() {
    let answer = Segment::syn_ack(SERVER, CLIENT, 500, 101);
    let winners = answer.tunnelled("198.51.100.10", "198.18.1.10");
    let data = |to| Segment::ack(SERVER, to, 501, 101).payload(&[7; 80]).inbound().frame();
    let other = || data("198.18.1.10:1");
    // A fragment of another connection, and one without the whole TCP header.
    let mut short = other()[..42].to_vec();
    put_u16(&mut short, 16, 28);
    for plain in [fragment(other(), 0, true), fragment(short, 0, true)] {
        let mut harness = Harness::<C>::won_by(&winners);
        let mut tunnelled = |inner: Vec<u8>, plain: Option<&[u8]>| {
            let packet = tunnel("198.51.100.10", "198.18.1.10", 0, &inner[14..]);
            let frame = plain.map_or(ethernet_frame(answer.macs, &packet), <[u8]>::to_vec);
            harness.pass(Side::Outside, &frame).0
        };
        let first = fragment(data(CLIENT), 0, true);
        assert_eq!(tunnelled(first.clone(), None), Verdict::FragmentTranslated);
        assert_eq!(tunnelled(first, Some(&plain)), Verdict::Fragment);
        let later = fragment(data(CLIENT), 56, false);
        assert_eq!(tunnelled(later.clone(), None), Verdict::FragmentTranslated);
        // A later fragment of the plain one passes as its first did.
        assert_eq!(tunnelled(later.clone(), Some(&later)), Verdict::Fragment);
    }
}

mod held;
