//! Connections go on in another process, wherever the first one was killed.

use super::*;
use crate::role::tests::killed::{Content, Killed, adopt, content};
use crate::table::failpoints::killed_in;

/// Shows an entry without what single stores change.
fn view(replica: &Replica) -> Content {
    fn shown<F: Family>(entry: &Entry<Endpoint<F>, Phase, Connection<F>>) -> String {
        let mut connection = entry.value;
        if connection.tracking.is_established() {
            connection.expected[0] = 0;
        }
        format!("{:?} {:?} {connection:?}", entry.key, entry.state())
    }
    [content(&replica.v4.connections, shown), content(&replica.v6.connections, shown)]
}

fn restart(harness: &mut Harness) -> crate::table::Imported {
    let memory = harness.replica.table_memory();
    let all = memory.each_ref().map(Vec::as_slice);
    let next = Harness::with(|settings| settings.hash_key = (5, 5)).replica;
    let (next, done) = adopt(&all, next, harness.now);
    harness.replica = next;
    done
}

fn placed(mut harness: Harness) -> Harness {
    let memory = harness.replica.table_memory();
    harness.replica = Harness::new().replica;
    harness.replica.place_tables([None, None]).unwrap();
    assert!(memory.iter().all(|bytes| Kept::new(bytes).is_err()), "it was not placed");
    harness
}

#[test]
fn connections_go_on_in_another_process() {
    let mut harness = placed(Harness::new());
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    assert_eq!(restart(&mut harness).adopted, 1);
    // It is answered in the form of its configuration, B.
    let answer = Segment::syn_ack(WEB, CLIENT, 500, 101);
    let expected = (Verdict::FromWebServer, Some(answer.tunnelled("203.0.113.10", "198.18.1.10")));
    let seen = harness.pass(Side::Inside, &answer.frame());
    assert_eq!(seen.0, expected.0);
    restart(&mut harness);
    let ack = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
    harness.now = Ticks::from_secs(3000);
    restart(&mut harness);
    let data = Segment::ack(WEB, CLIENT, 501, 101).payload(b"body").frame();
    let as_server = Segment::ack(SERVER, CLIENT, 501, 101).payload(b"body").frame();
    assert_eq!(harness.pass(Side::Inside, &data), (Verdict::FromWebServer, Some(as_server)));
    assert_eq!(restart(&mut harness).adopted, 1);
    assert!(harness.replica.v4.translates && !harness.replica.v6.translates);
}

#[test]
fn connections_that_were_heard_of_lately_make_the_next_process_busy() {
    let mut harness = placed(Harness::new());
    assert_eq!(harness.copy(), Verdict::CopyAccepted);
    harness.pass(Side::Inside, &Segment::syn_ack(WEB, CLIENT, 500, 101).frame());
    let ack = Segment::ack(CLIENT, WEB, 101, 501).inbound().frame();
    assert_eq!(harness.pass(Side::Outside, &ack).0, Verdict::ToWebServer);
    for (secs, expected) in [(100, 1), (1000, 0)] {
        harness.now = Ticks::from_secs(secs);
        restart(&mut harness);
        assert_eq!(harness.replica.common.heard.count(harness.now), expected);
    }
}

#[test]
fn a_replica_killed_anywhere_leaves_every_connection_whole() {
    let mut harness = placed(Harness::new());
    let syn = Segment::syn(CLIENT, SERVER, 100).options(&TAG_B);
    let reset = Flags::RST | Flags::ACK;
    let mut unfinished = 0;
    for (at, side, frame) in [
        (1, Side::Outside, syn.tunnelled("203.0.113.10", "198.51.100.10")),
        (2, Side::Outside, syn.tunnelled("203.0.113.10", "198.51.100.10")),
        (2, Side::Inside, Segment::syn_ack(WEB, CLIENT, 500, 101).frame()),
        (2, Side::Inside, Segment::new(WEB, CLIENT, reset, 0, 101).frame()),
        (3, Side::Outside, syn.tunnelled("203.0.113.10", "198.51.100.10")),
        (3, Side::Inside, Segment::syn_ack(WEB, CLIENT, 600, 101).frame()),
        (3, Side::Outside, Segment::ack(CLIENT, WEB, 101, 601).inbound().frame()),
        (4, Side::Outside, later_copy(SERVER)),
        (5, Side::Outside, Segment::new(CLIENT, WEB, reset, 101, 601).inbound().frame()),
        (6, Side::Inside, Segment::syn_ack(WEB, CLIENT, 7000, 9001).frame()),
    ] {
        harness.now = Ticks::from_secs(at);
        let before = harness.replica.table_memory();
        let seen = killed_in(|| drop(harness.pass(side, &frame)));
        let killed = Killed { before, seen, after: harness.replica.table_memory() };
        unfinished += killed.check(harness.now, || Harness::new().replica, view);
    }
    assert!(unfinished > 10, "only {unfinished} points within a change");
}
