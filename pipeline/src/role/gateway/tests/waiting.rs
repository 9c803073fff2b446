//! Frames that wait: SYNs for `origin_after`, SYN/ACKs for their handicap or for the replica that the
//! client had; and races that a shadow lets the origin win.

use super::direct::any;
use super::rig::{Hosts, ISN, Rig, V4_HOSTS, V6_HOSTS, copies_wanted, direct, host, ms};
use super::*;
use crate::memory::Why;
use crate::wire::copies::CopiesWanted;
use crate::wire::tunnel::Format;

fn deferring() -> Policy {
    Policy { origin_after: ms(5), ..direct() }
}

/// A gateway whose SYN to the origin waits.
fn deferred<M: Mode>(hosts: &'static Hosts) -> Rig<M> {
    let mut rig = Rig::<M>::new(hosts, deferring());
    rig.plan(&[(0, 10)], |_| {});
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::SynDeferred, 1));
    rig
}

fn spares_the_origin<M: Mode>() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let mut rig = deferred::<M>(hosts);
        assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
        rig.wait(5);
        assert!(rig.timer().outside.is_empty());
        assert_eq!(rig.scalar(Scalar::OriginSpared), 1);
        let mut rig = deferred::<M>(hosts);
        rig.wait(4);
        assert!(rig.timer().outside.is_empty());
        rig.wait(1);
        let sent = rig.timer().outside;
        assert_eq!(copies_wanted(&sent[0]), Some(CopiesWanted::at_most(1)));
        assert_eq!(sent.len(), 1);
        // The origin has been asked 5 ms after the replica.
        rig.wait(70);
        assert_eq!(rig.receive_origins().0, Verdict::OriginWon);
        assert_eq!(rig.answers(), [(host(hosts.server), true, true, Some(70))]);
    }
}

#[test]
fn the_origin_is_asked_unless_a_replica_has_won_by_then() {
    spares_the_origin::<A>();
    spares_the_origin::<B>();
    spares_the_origin::<C>();
}

#[test]
fn the_origin_gets_the_syn_that_the_replicas_got() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, deferring());
    rig.plan(&[(0, 10)], |_| {});
    let (_, copies) = rig.send_syn(ISN);
    rig.wait(5);
    let sent = rig.timer().outside;
    assert_eq!(copies, [rig.copy(&sent[0], 0, Format::Ipip)]);
}

#[test]
fn explorations_and_repetitions_do_not_wait() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, deferring());
    rig.plan(&[(0, 10)], |plan| plan.explore_every = 2);
    assert_eq!(rig.other_race(2).0, Verdict::SynDeferred);
    assert_eq!(rig.other_race(3).0, Verdict::Tagged);
    let (verdict, sent) = rig.other_race(2);
    assert_eq!((verdict, sent.len()), (Verdict::TaggedRetransmit, 2));
    rig.wait(5);
    assert!(rig.timer().outside.is_empty(), "the repetition has been sent");
    for why in [Why::OriginLately, Why::NothingRemembered] {
        rig.plan(&[(0, 10)], |plan| plan.why = why);
        assert_eq!(rig.other_race(10 + why as u16).0, Verdict::Tagged);
    }
}

#[test]
fn a_gateway_that_ends_sends_what_waits() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, deferring());
    rig.plan(&[(0, 10)], |_| {});
    for number in 0..200 {
        assert_eq!(rig.other_race(100 + number).0, Verdict::SynDeferred);
    }
    let mut sent = 0;
    loop {
        match rig.finish().outside.len() {
            0 => break,
            some => sent += some,
        }
    }
    assert_eq!(sent, 200);
}

#[test]
fn frames_are_released_a_few_at_a_time() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, deferring());
    rig.plan(&[(0, 10)], |_| {});
    (0..100).for_each(|number| drop(rig.other_race(100 + number)));
    rig.wait(5);
    let counts: Vec<_> = (0..5).map(|_| rig.timer().outside.len()).collect();
    assert_eq!(counts, [32, 32, 32, 4, 0]);
}

#[test]
fn a_syn_whose_race_was_evicted_goes_to_the_origin_and_one_that_was_replaced_nowhere() {
    let small = |settings: &mut Settings| settings.max_connections = [2, 2];
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, deferring(), Keys::default(), small);
    rig.plan(&[(0, 10)], |_| {});
    assert_eq!(rig.send_syn(ISN).0, Verdict::SynDeferred);
    let capacity = rig.gateway.counters().table.capacity.get() as u16;
    (0..capacity).for_each(|n| assert_eq!(rig.other_race(50 + n).0, Verdict::SynDeferred));
    rig.wait(5);
    assert_eq!(rig.timer().outside.len(), 1 + usize::from(capacity));

    let mut rig = deferred::<A>(&V4_HOSTS);
    rig.wait(1);
    assert_eq!(rig.send_syn(7 * ISN).0, Verdict::SynDeferred);
    rig.wait(5);
    let sent = rig.timer().outside;
    assert_eq!(sent.len(), 1, "the origin must not get the SYN of the earlier race");
    assert_eq!(sent[0][38..42], (7 * ISN).to_be_bytes());
}

#[test]
fn a_syn_that_waits_needs_a_buffer() {
    let mut rig = deferred::<A>(&V4_HOSTS);
    rig.pool = HeapPool::with_limit(0);
    rig.wait(5);
    assert!(rig.timer().outside.is_empty());
    assert_eq!(rig.scalar(Scalar::CopiesFailed), 1);
}

#[test]
fn a_full_store_makes_nobody_wait() {
    let settings = |settings: &mut Settings| settings.max_connections = [8192, 1];
    let mut rig = Rig::<A>::with_settings(&V4_HOSTS, deferring(), Keys::default(), settings);
    rig.plan(&[(0, 10)], |_| {});
    for number in 0..4096 {
        assert_eq!(rig.other_race(1000 + number).0, Verdict::SynDeferred);
    }
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::Tagged, 2));
}

/// A race in which replica 0 has answered after 10 ms, and waits for its handicap of 30 ms.
fn held<M: Mode>(hosts: &'static Hosts) -> Rig<M> {
    let prefix = format!("{}/{}", host(hosts.replicas[0]), [32, 128][hosts.version as usize]);
    let handicaps = vec![(prefix.parse().unwrap(), ms(30))];
    let mut rig = Rig::<M>::new(hosts, Policy { handicaps, ..direct() });
    rig.plan(&[(1, 20), (0, 40)], |plan| plan.origin = Some(ms(35)));
    rig.send_syn(ISN);
    rig.wait(10);
    let (verdict, seen) = rig.receive_answer(0);
    assert_eq!((verdict, seen.inside.len(), seen.outside.len()), (Verdict::SynAckHeld, 0, 0));
    assert_eq!(rig.data(), Verdict::RaceUndecided);
    rig
}

fn holds<M: Mode>() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        // Nobody else answers.
        let mut rig = held::<M>(hosts);
        rig.wait(29);
        assert!(rig.timer().inside.is_empty());
        rig.wait(1);
        let seen = rig.timer();
        let mut other = Rig::<M>::new(hosts, direct());
        other.send_syn(ISN);
        let (_, as_ever) = other.receive_answer(0);
        assert_eq!((seen.inside, seen.outside.len()), (as_ever.inside, 0));
        assert_eq!(rig.data(), Verdict::ToReplica);
        // The time of the answer, without the handicap.
        assert_eq!(rig.answers(), [(host(hosts.replicas[0]), true, true, Some(10))]);

        // The origin answers in time.
        let mut rig = held::<M>(hosts);
        rig.wait(25);
        assert_eq!(rig.receive_origins().0, Verdict::OriginWon);
        rig.wait(5);
        let reset = rig.timer();
        assert_eq!((reset.inside.len(), reset.outside.len()), (0, 1));
        let expected = [
            (host(hosts.server), true, true, Some(35)),
            (host(hosts.replicas[0]), true, false, Some(10)),
        ];
        assert_eq!(rig.answers(), expected);
        // The same reset as one that is not held gets.
        let again = rig.receive_answer(0).1.outside;
        assert_eq!(reset.outside, again);

        // Another replica does.
        let mut rig = held::<M>(hosts);
        rig.wait(10);
        assert_eq!(rig.receive_answer(1).0, Verdict::ReplicaWon);
        rig.wait(20);
        let reset = rig.timer();
        assert_eq!((reset.inside.len(), reset.outside.len()), (0, 1));
        let again = rig.receive_answer(0).1.outside;
        assert_eq!(reset.outside, again);
    }
}

#[test]
fn a_handicapped_answer_wins_when_nobody_answers_in_time() {
    holds::<A>();
    holds::<B>();
    holds::<C>();
}

#[test]
fn who_is_expected_later_than_the_handicap_is_not_waited_for() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy { handicaps: any(ms(30)), ..direct() });
    // Their ranks contain their handicaps.
    rig.plan(&[(0, 40), (1, 50)], |plan| plan.origin = Some(ms(70)));
    rig.send_syn(ISN);
    rig.wait(10);
    assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    // With the origin in reach of the handicap it is.
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy { handicaps: any(ms(30)), ..direct() });
    rig.plan(&[(0, 40), (1, 50)], |plan| plan.origin = Some(ms(39)));
    rig.send_syn(ISN);
    rig.wait(10);
    assert_eq!(rig.receive_answer(0).0, Verdict::SynAckHeld);
}

#[test]
fn a_repeated_answer_is_held_once() {
    let mut rig = held::<A>(&V4_HOSTS);
    rig.wait(15);
    assert_eq!(rig.receive_answer(0).0, Verdict::SynAckHeld);
    rig.wait(15);
    assert_eq!(rig.timer().inside.len(), 1);
    rig.wait(30);
    let seen = rig.timer();
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0), "it is sent once, and not reset");
    assert_eq!(rig.receive_answer(0).0, Verdict::SynAckRetransmit);
}

#[test]
fn the_clients_repetition_does_not_end_the_wait() {
    let mut rig = held::<A>(&V4_HOSTS);
    let (verdict, sent) = rig.send_syn(ISN);
    assert_eq!((verdict, sent.len()), (Verdict::TaggedRetransmit, 3));
    rig.wait(30);
    assert_eq!(rig.timer().inside.len(), 1);
    assert_eq!(rig.answers(), [(host(V4_HOSTS.replicas[0]), true, true, None)]);
}

#[test]
fn a_held_answer_without_a_buffer_leaves_the_race_open() {
    let mut rig = held::<A>(&V4_HOSTS);
    rig.pool = HeapPool::with_limit(0);
    rig.wait(30);
    let seen = rig.timer();
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0));
    assert_eq!(rig.scalar(Scalar::CopiesFailed), 1);
    assert_eq!(rig.data(), Verdict::RaceUndecided);
    // The next answer, to the client's repetition, is held anew.
    rig.pool = HeapPool::default();
    assert_eq!(rig.receive_answer(0).0, Verdict::SynAckHeld);
    rig.wait(30);
    assert_eq!(rig.timer().inside.len(), 1);
}

#[test]
fn a_held_answer_of_a_race_that_was_replaced_or_evicted_comes_to_nothing() {
    let mut rig = held::<A>(&V4_HOSTS);
    rig.send_syn(7 * ISN);
    rig.wait(30);
    let seen = rig.timer();
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0));
    assert_eq!(rig.answers(), []);

    let mut rig = held::<A>(&V4_HOSTS);
    rig.gateway.v4.flows = Table::new(16, &[Ticks::from_secs(40); 4], (1, 2));
    // The same SYN opens another race.
    rig.send_syn(ISN);
    rig.wait(30);
    let seen = rig.timer();
    assert_eq!((seen.inside.len(), seen.outside.len()), (0, 0));
    assert_eq!(rig.data(), Verdict::RaceUndecided);
}

#[test]
fn a_frame_that_is_too_long_does_not_wait() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy { handicaps: any(ms(30)), ..direct() });
    rig.plan(&[(0, 40), (1, 20)], |_| {});
    rig.send_syn(ISN);
    let answer = Segment::syn_ack(V4_HOSTS.replicas[0], V4_HOSTS.client, 500, ISN + 1);
    let (verdict, seen) = rig.receive(answer.payload(&[7; 400]).frame());
    assert_eq!((verdict, seen.inside.len()), (Verdict::ReplicaWon, 1));
}

fn keeping() -> Policy {
    Policy { affinity: Ticks::from_secs(60), affinity_slack: ms(20), ..direct() }
}

/// The client's race with this sequence number, answered by these after so many milliseconds since
/// the last; 9 is the origin. Returns the verdicts.
fn race(rig: &mut Rig<A>, isn: u32, answers: &[(usize, u64)]) -> Vec<Verdict> {
    let mut syn = rig.syn(isn);
    syn.from.set_port(isn as u16);
    rig.burst(Side::Inside, &[syn.frame()]);
    let client = syn.from.to_string();
    let answer = |&(who, after): &(usize, u64)| {
        rig.wait(after);
        let from = if who == 9 { V4_HOSTS.server } else { V4_HOSTS.replicas[who] };
        let answer = Segment::syn_ack(from, &client, 500, isn + 1);
        rig.receive(answer.frame()).0
    };
    answers.iter().map(answer).collect()
}

#[test]
fn a_client_keeps_its_replica_while_that_is_within_the_slack() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(0, 10), (1, 15), (2, 60)], |plan| {
        plan.best.retain(|number| *number != 2);
    });
    assert_eq!(race(&mut rig, 2, &[(1, 15)]), [Verdict::ReplicaWon]);
    // The other one answers first, and waits.
    let seen = race(&mut rig, 3, &[(0, 10), (1, 5)]);
    assert_eq!(seen, [Verdict::SynAckHeld, Verdict::ReplicaWon]);
    rig.wait(20);
    assert_eq!(rig.timer().outside.len(), 1, "the other one is reset");
    // It does not answer any more: nothing but the slack is lost.
    assert_eq!(race(&mut rig, 4, &[(0, 10)]), [Verdict::SynAckHeld]);
    rig.wait(20);
    assert_eq!(rig.timer().inside.len(), 1);
    // From now on the client has the other one.
    assert_eq!(race(&mut rig, 5, &[(0, 10)]), [Verdict::ReplicaWon]);
}

#[test]
fn a_client_leaves_a_replica_that_is_far_behind_or_dead() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(1, 60)], |_| {});
    assert_eq!(race(&mut rig, 2, &[(1, 60)]), [Verdict::ReplicaWon]);
    rig.plan(&[(0, 10), (1, 60)], |plan| plan.best.truncate(1));
    let mut syn = rig.syn(3);
    syn.from.set_port(3);
    assert_eq!(rig.burst(Side::Inside, &[syn.frame()]).outside.len(), 2, "it is not asked");
    assert_eq!(race(&mut rig, 3, &[(0, 10)]), [Verdict::ReplicaWon]);
}

#[test]
fn the_replica_that_a_client_had_is_asked_even_in_the_turn_of_a_trial() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    let maker = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(0, 10), (1, 15)], |plan| {
        plan.trial = Some(maker.push(plan, 2, None));
        plan.trial_every = 1;
    });
    assert_eq!(race(&mut rig, 2, &[(1, 15)]), [Verdict::ReplicaWon]);
    let mut syn = rig.syn(3);
    syn.from.set_port(3);
    let sent = rig.burst(Side::Inside, &[syn.frame()]).outside;
    let asked: Vec<_> = sent[..sent.len() - 1].iter().map(|copy| copy[32]).collect();
    assert_eq!(asked, [100, 101, 102]);
}

#[test]
fn a_client_that_had_the_origin_is_left_to_it_while_that_is_within_the_slack() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(0, 10)], |plan| plan.origin = Some(ms(25)));
    assert_eq!(race(&mut rig, 2, &[(9, 25)]), [Verdict::OriginWon]);
    assert_eq!(rig.other_race(3).0, Verdict::LeftToOrigin);
    rig.plan(&[(0, 10)], |plan| plan.origin = Some(ms(31)));
    assert_eq!(rig.other_race(4).0, Verdict::Tagged, "the origin has got worse");
}

/// The origin waits for the replica that the client had, too, and wins untranslated.
#[test]
fn the_origins_answer_is_held_and_wins() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(0, 30)], |plan| plan.origin = Some(ms(25)));
    assert_eq!(race(&mut rig, 2, &[(0, 30)]), [Verdict::ReplicaWon]);
    rig.send_syn(ISN);
    rig.reported();
    rig.wait(25);
    let answer = rig.origins_answer(ISN + 1);
    assert_eq!(rig.receive(answer.clone()).0, Verdict::SynAckHeld);
    rig.wait(20);
    let seen = rig.timer();
    assert_eq!((seen.inside, seen.outside.len()), (vec![answer], 0));
    assert_eq!(rig.data(), Verdict::WithOrigin);
    assert_eq!(rig.answers(), [(host(V4_HOSTS.server), true, true, Some(25))]);

    // Or loses, and is reset.
    let mut rig = Rig::<A>::new(&V4_HOSTS, keeping());
    rig.plan(&[(0, 30)], |plan| plan.origin = Some(ms(25)));
    race(&mut rig, 2, &[(0, 30)]);
    rig.send_syn(ISN);
    rig.wait(25);
    assert_eq!(rig.receive_origins().0, Verdict::SynAckHeld);
    rig.wait(5);
    assert_eq!(rig.receive_answer(0).0, Verdict::ReplicaWon);
    rig.wait(15);
    let reset = rig.timer().outside;
    assert_eq!(reset, rig.receive_origins().1.outside);
    assert_eq!(rig.data(), Verdict::ToReplica);
}

fn in_the_shadow<M: Mode>() {
    for hosts in [&V4_HOSTS, &V6_HOSTS] {
        let policy = Policy { shadow: true, origin_after: ms(5), ..direct() };
        let mut rig = Rig::<M>::new(hosts, policy);
        rig.plan(&[(0, 10), (1, 20)], |_| {});
        assert_eq!(rig.send_syn(ISN).0, Verdict::Tagged, "a shadow does not wait");
        rig.wait(10);
        for replica in 0..2 {
            let (verdict, seen) = rig.receive_answer(replica);
            assert_eq!(
                (verdict, seen.inside.len(), seen.outside.len()),
                (Verdict::ShadowReset, 0, 1)
            );
            rig.wait(10);
        }
        assert_eq!(rig.data(), Verdict::RaceUndecided);
        rig.wait(40);
        assert_eq!(rig.receive_origins().0, Verdict::OriginWon);
        assert_eq!(rig.data(), Verdict::WithOrigin);
        let expected = [
            (host(hosts.replicas[0]), true, true, Some(10)),
            (host(hosts.replicas[1]), true, false, Some(20)),
            (host(hosts.server), true, false, Some(70)),
        ];
        assert_eq!(rig.answers(), expected);
    }
}

#[test]
fn a_shadow_lets_the_origin_win_and_resets_replicas() {
    in_the_shadow::<A>();
    in_the_shadow::<B>();
    in_the_shadow::<C>();
}

#[test]
fn a_repetition_in_the_shadow_is_answered_with_resets_again() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy { shadow: true, ..direct() });
    rig.plan(&[(0, 10)], |_| {});
    rig.send_syn(ISN);
    rig.receive_answer(0);
    rig.wait(1000);
    assert_eq!(rig.send_syn(ISN).0, Verdict::TaggedRetransmit);
    assert_eq!(rig.receive_answer(0).0, Verdict::ShadowReset);
    rig.pool = HeapPool::with_limit(0);
    assert_eq!(rig.receive_answer(0).0, Verdict::NoBuffer);
    assert_eq!(rig.receive_origins().0, Verdict::OriginWon);
    let won: Vec<_> = rig.answers().into_iter().map(|(_, _, won, after)| (won, after)).collect();
    assert_eq!(won, [(true, Some(0)), (false, None), (false, None), (false, None)]);
}
