//! What shows that a path drops tagged SYNs, and what does not.

use std::net::SocketAddr;

use super::rig::{ISN, Rig, V4_HOSTS, direct, ms};
use super::*;

/// A gateway whose service asks no replica directly.
fn rig() -> Rig<A> {
    Rig::new(&V4_HOSTS, Policy { direct: 0, ..Policy::default() })
}

/// Sends a SYN of a client at each of these times, in milliseconds since the first; returns the
/// verdicts.
fn syns<M: Mode>(rig: &mut Rig<M>, client: [u8; 4], times: &[u64]) -> Vec<Verdict> {
    let start = rig.now;
    let syn = Segment { from: (client, 40_000).into(), ..rig.syn(ISN) }.frame();
    let verdicts = times.iter().map(|&millis| {
        rig.now = start + ms(millis);
        rig.burst(Side::Inside, std::slice::from_ref(&syn)).verdicts[0]
    });
    verdicts.collect()
}

/// An answer to this client from the origin, or from a replica.
fn answer<M: Mode>(rig: &mut Rig<M>, from: &str, client: [u8; 4]) -> Verdict {
    let answer = Segment { to: (client, 40_000).into(), ..Segment::syn_ack(from, CLIENT, 5, 101) };
    rig.receive(answer.frame()).0
}

/// Whether another client's SYN that is no probe is raced.
fn is_raced(rig: &mut Rig<A>) -> bool {
    let client = |port| SocketAddr::from(([198, 18, 99, 3], port));
    let probes = Backoff::new(ms(1), (0, 0), 0);
    let mut ports = (1000..1999).filter(|port| !probes.is_probe(client(*port), ISN));
    // A port for each call.
    let port = ports.nth(rig.now.micros() as usize / 1000 % 900).unwrap();
    let syn = Segment { from: client(port), ..rig.syn(ISN) };
    match rig.burst(Side::Inside, &[syn.frame()]).verdicts[0] {
        Verdict::Tagged | Verdict::TaggedRetransmit => true,
        Verdict::UntaggedBackoff => false,
        verdict => panic!("{verdict:?}"),
    }
}

const PREFIXES: [[u8; 4]; 3] = [[198, 19, 1, 1], [198, 19, 2, 1], [198, 19, 3, 1]];

#[test]
fn only_the_origins_answer_to_an_untagged_syn_alone_is_a_miss() {
    use Verdict::{Tagged, TaggedRetransmit, UntaggedRetransmit};
    let mut rig = rig();
    for client in PREFIXES {
        let verdicts = syns(&mut rig, client, &[0, 1000, 3000]);
        assert_eq!(verdicts, [Tagged, TaggedRetransmit, UntaggedRetransmit]);
    }
    rig.wait(50);
    assert!(is_raced(&mut rig), "silence says nothing");
    for (n, client) in PREFIXES.into_iter().enumerate() {
        assert_eq!(rig.scalar(Scalar::TagBackoffs), 0, "after {n}");
        assert_eq!(answer(&mut rig, SERVER, client), Verdict::OriginWon);
    }
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 1);
    rig.wait(1);
    assert!(!is_raced(&mut rig));
}

#[test]
fn a_replicas_answer_by_way_of_the_switch_proves_the_path_whenever_it_comes() {
    let mut rig = rig();
    rig.miss(&[1, 2]);
    syns(&mut rig, [198, 19, 9, 1], &[0, 1000, 3000, 3500]);
    assert_eq!(answer(&mut rig, REPLICA, [198, 19, 9, 1]), Verdict::ReplicaWon);
    rig.miss(&[3]);
    assert!(is_raced(&mut rig));
    // One that comes after the origin's proves it, too.
    rig.miss(&[4]);
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 0);
    assert_eq!(answer(&mut rig, REPLICA, [198, 19, 4, 10]), Verdict::LoserReset);
    rig.miss(&[5, 6]);
    assert!(is_raced(&mut rig));
}

#[test]
fn copies_of_one_syn_are_one_syn() {
    use Verdict::{Tagged, TaggedRetransmit, UntaggedRetransmit};
    let mut rig = rig();
    // A timer of 30 ms, doubled each time.
    let verdicts = syns(&mut rig, PREFIXES[0], &[0, 30, 90, 210, 450, 930, 1890]);
    assert_eq!(verdicts[..6], [[Tagged; 1].as_slice(), &[TaggedRetransmit; 5]].concat());
    assert_eq!(verdicts[6], UntaggedRetransmit);
    // A network that shows each frame twice.
    let verdicts = syns(&mut rig, PREFIXES[1], &[0, 0, 1000, 1000, 3000, 3000]);
    let [once, again, late] = [Tagged, TaggedRetransmit, UntaggedRetransmit];
    assert_eq!(verdicts, [once, again, again, again, late, late]);
    // Jitter does not make a retransmission a copy.
    let verdicts = syns(&mut rig, PREFIXES[2], &[0, 950, 2950]);
    assert_eq!(verdicts, [Tagged, TaggedRetransmit, UntaggedRetransmit]);
}

#[test]
fn an_untagged_syn_that_comes_soon_after_a_tagged_one_shows_nothing() {
    let mut rig = rig();
    for client in PREFIXES {
        syns(&mut rig, client, &[0, 950, 1900]);
        assert_eq!(answer(&mut rig, SERVER, client), Verdict::OriginWon);
    }
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 0);
}

#[test]
fn a_path_that_is_only_long_is_not_given_up() {
    let mut rig = rig();
    for client in PREFIXES {
        syns(&mut rig, client, &[0, 1000, 3000]);
        // The answers to all three, of which the first seems to be the third's.
        rig.wait(500);
        assert_eq!(answer(&mut rig, SERVER, client), Verdict::OriginWon);
        rig.wait(1000);
        assert_eq!(answer(&mut rig, SERVER, client), Verdict::SynAckRetransmit);
    }
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 0);
    // But a frame that the network has doubled is no second answer.
    for client in PREFIXES {
        syns(&mut rig, client, &[20_000, 21_000, 23_000]);
        answer(&mut rig, SERVER, client);
        answer(&mut rig, SERVER, client);
    }
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 1);
}

#[test]
fn in_the_back_off_probes_are_tagged_once_and_an_answered_one_ends_it() {
    let mut rig = rig();
    rig.back_off();
    let mut verdicts = [0; 2];
    let mut probe = None;
    for host in 1..=250 {
        match syns(&mut rig, [198, 18, 50, host], &[0])[0] {
            Verdict::Tagged => {
                verdicts[0] += 1;
                probe = Some([198, 18, 50, host]);
            }
            Verdict::UntaggedBackoff => verdicts[1] += 1,
            verdict => panic!("{verdict:?}"),
        }
    }
    assert!((5..30).contains(&verdicts[0]), "{verdicts:?}");
    assert!(!is_raced(&mut rig));
    let probe = probe.unwrap();
    // The first retransmission is untagged already: it waits a second, not three.
    assert_eq!(syns(&mut rig, probe, &[1000]), [Verdict::UntaggedBackoff]);
    let start = rig.now;
    assert_eq!(answer(&mut rig, REPLICA, probe), Verdict::ReplicaWon);
    assert!(rig.now == start && is_raced(&mut rig));
}

#[test]
fn probes_that_miss_confirm_the_back_off() {
    let mut rig = rig();
    rig.back_off();
    let start = rig.now;
    let probes: Vec<_> = (0..=255)
        .map(|prefix| [198, 18, prefix, 9])
        .filter(|client| syns(&mut rig, *client, &[0])[0] == Verdict::Tagged)
        .take(3)
        .collect();
    rig.wait(1000);
    for probe in probes {
        assert_eq!(syns(&mut rig, probe, &[0]), [Verdict::UntaggedBackoff]);
        assert_eq!(answer(&mut rig, SERVER, probe), Verdict::OriginWon);
    }
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 2);
    rig.now = start + ms(20_999);
    assert!(!is_raced(&mut rig), "twenty seconds");
    rig.now = start + ms(21_000);
    assert!(is_raced(&mut rig));
}

#[test]
fn answers_to_direct_copies_neither_prove_nor_accuse_the_path() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, direct());
    rig.plan(&[(0, 10)], |_| {});
    rig.miss(&[1, 2]);
    // The replica that was asked directly answers the first SYN, and nobody else any.
    rig.send_syn(ISN);
    assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    rig.miss(&[3]);
    assert_eq!(rig.scalar(Scalar::TagBackoffs), 1);
}

#[test]
fn a_copy_of_a_syn_that_waits_does_not_overtake_it() {
    let policy = Policy { origin_after: ms(5), ..direct() };
    let mut rig = Rig::<A>::new(&V4_HOSTS, policy);
    rig.plan(&[(0, 10)], |_| {});
    assert_eq!(rig.send_syn(ISN).0, Verdict::SynDeferred);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::SynDeferred, 0));
    rig.wait(5);
    assert_eq!(rig.timer().outside.len(), 1);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::TaggedRetransmit, 1), "no copy of its own");
}
