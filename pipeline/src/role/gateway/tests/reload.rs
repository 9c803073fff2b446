//! What a reload keeps, and what it changes at once.

use super::rig::{Rig, V4_HOSTS, direct, ms};
use super::*;
use crate::memory::Why;

const OTHER_CLIENT: &str = "198.18.2.10:40000";

impl<M: Mode> Harness<M> {
    /// Reloads with changed settings.
    fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.gateway.common.settings.clone();
        change(&mut settings);
        settings.max_connections = [1; 2];
        let next = Gateway::new(settings, Published::new(Keys::default()).reader());
        drop(self.gateway.reload(next, self.now));
    }

    /// Both ends of the connection send data, which is translated.
    fn goes_on(&mut self) {
        let (data, sent) =
            (Segment::ack(CLIENT, SERVER, 101, 501), Segment::ack(CLIENT, REPLICA, 101, 501));
        assert_eq!(
            self.pass(Side::Inside, &data.frame()),
            (Verdict::ToReplica, Some(sent.frame()))
        );
        let (data, sent) =
            (Segment::ack(REPLICA, CLIENT, 501, 101), Segment::ack(SERVER, CLIENT, 501, 101));
        assert_eq!(
            self.pass(Side::Outside, &data.frame()),
            (Verdict::FromReplica, Some(sent.frame()))
        );
    }

    fn answer_to_other(&mut self, from: &str) -> Verdict {
        self.pass(Side::Outside, &Segment::syn_ack(from, OTHER_CLIENT, 500, 8).frame()).0
    }
}

#[test]
fn a_service_that_has_left_begins_no_race_and_keeps_its_connections() {
    let mut harness = Harness::won();
    // A race under way.
    let syn = Segment::syn(OTHER_CLIENT, SERVER, 7).frame();
    assert_eq!(harness.pass(Side::Inside, &syn).0, Verdict::Tagged);
    harness.reload(|settings| settings.services[0].retired = true);
    harness.goes_on();
    assert_eq!(harness.answer_to_other(REPLICA), Verdict::ReplicaWon, "as it would have");
    let new = Segment::syn("198.18.3.10:40000", SERVER, 7).frame();
    assert_eq!(harness.pass(Side::Inside, &new), (Verdict::NoService, Some(new)));
    let data = |from, to| Segment::ack(from, to, 501, 101).payload(&[7; 36]).frame();
    let first = fragment(data(CLIENT, SERVER), 0, true);
    assert_eq!(harness.pass(Side::Inside, &first).0, Verdict::FragmentTranslated);
    let later = fragment(data(CLIENT, SERVER), 24, false);
    assert_eq!(harness.pass(Side::Inside, &later).0, Verdict::FragmentTranslated);
    // One whose first fragment is still to come.
    let mut unknown = fragment(data(CLIENT, SERVER), 24, false);
    put_u16(&mut unknown, 18, 0x4321);
    put_u16(&mut unknown, 24, 0);
    let sum = crate::wire::checksum::Sum::of(&unknown[14..34]).checksum();
    put_u16(&mut unknown, 24, sum);
    assert_eq!(harness.pass(Side::Inside, &unknown).0, Verdict::FragmentUnknown);
    // It comes back, under its number.
    harness.reload(|settings| settings.services[0].retired = false);
    harness.goes_on();
    let again = Segment::syn("198.18.3.10:40000", SERVER, 8).frame();
    assert_eq!(harness.pass(Side::Inside, &again).0, Verdict::Tagged);
}

#[test]
fn a_successor_that_has_forgotten_a_service_keeps_its_connections() {
    let mut harness = Harness::won();
    harness.reload(|settings| settings.services.clear());
    harness.goes_on();
    let end = Segment::new(REPLICA, CLIENT, crate::wire::tcp::Flags::FIN | 16, 501, 101).frame();
    assert_eq!(harness.pass(Side::Outside, &end).0, Verdict::FromReplica);
}

#[test]
fn a_replica_that_is_not_allowed_any_more_keeps_its_connections_and_wins_no_race() {
    let mut harness = Harness::won();
    let only = |text: &str| AllowList::only([text.parse().unwrap()]);
    harness.reload(|settings| {
        settings.services[0].allowed_replicas = only("198.51.101.0/24");
    });
    harness.goes_on();
    let syn = Segment::syn(OTHER_CLIENT, SERVER, 7).frame();
    assert_eq!(harness.pass(Side::Inside, &syn).0, Verdict::Tagged);
    assert_eq!(harness.answer_to_other(REPLICA), Verdict::UnlistedReplica);
    // A later fragment that overtakes the first one of its connection.
    let data = Segment::ack(REPLICA, CLIENT, 501, 101).payload(&[7; 36]).frame();
    let later = fragment(data, 24, false);
    assert_eq!(harness.pass(Side::Outside, &later).0, Verdict::FragmentUnknown);
    // However often the lists change.
    for number in 0..20 {
        let list = only(&format!("198.51.{}.0/24", 102 + number));
        harness.reload(|settings| settings.services[0].allowed_replicas = list);
    }
    assert!(harness.gateway.common.allowed_earlier.len() <= 5);
    assert_eq!(harness.pass(Side::Outside, &later).0, Verdict::FragmentUnknown);
    assert_eq!(harness.answer_to_other("198.51.121.10:80"), Verdict::ReplicaWon);
}

#[test]
fn time_outs_change_for_the_connections_that_are_there() {
    let mut harness = Harness::won();
    harness.now = Ticks::from_secs(100);
    harness.reload(|settings| settings.timeouts.established = Ticks::from_secs(200));
    harness.now = Ticks::from_secs(200);
    harness.goes_on();
    harness.reload(|settings| settings.timeouts.established = Ticks::from_secs(60));
    harness.now = Ticks::from_secs(260);
    let data = Segment::ack(CLIENT, SERVER, 101, 501).frame();
    assert_eq!(harness.pass(Side::Inside, &data).0, Verdict::NoEntry);
}

#[test]
fn counters_go_on_and_so_does_the_index_of_responders() {
    let mut harness = Harness::won();
    let before = format!("{:?}", harness.gateway.counters());
    let (received, capacity) = {
        let counters = harness.gateway.counters();
        (counters.side(Side::Inside).received.get(), counters.table.capacity.get())
    };
    harness.reload(|_| {});
    let counters = harness.gateway.counters();
    assert_eq!(format!("{counters:?}"), before);
    let syn = Segment::syn(OTHER_CLIENT, SERVER, 7).frame();
    harness.pass(Side::Inside, &syn);
    assert_eq!(harness.answer_to_other(REPLICA), Verdict::ReplicaWon);
    assert_eq!(counters.side(Side::Inside).received.get(), received + 1);
    assert_eq!(counters.table.capacity.get(), capacity);
    let responders = counters.responders().unwrap();
    let won: Vec<_> = responders.iter().map(|responder| responder.won.get()).collect();
    assert_eq!(won, [2], "one responder has won both");
}

impl<M: Mode> Rig<M> {
    fn reload(&mut self, change: impl FnOnce(&mut Settings)) {
        let mut settings = self.gateway.common.settings.clone();
        change(&mut settings);
        let next = Gateway::new(settings, Published::new(Keys::default()).reader());
        drop(self.gateway.reload(next, self.now));
    }
}

#[test]
fn frames_that_wait_and_plans_and_reports_outlast_a_reload() {
    let policy = Policy { origin_after: ms(30), ..direct() };
    let mut rig = Rig::<A>::new(&V4_HOSTS, policy);
    rig.plan(&[(0, 20)], |plan| (plan.why, plan.explore_every) = (Why::Fresh, 1 << 20));
    // The first race explores.
    rig.send_syn(1);
    assert_eq!(rig.other_race(2).0, Verdict::SynDeferred);
    rig.reported();
    // The settings say that nothing waits any more; what waits does.
    rig.reload(|settings| settings.services[0].policy.origin_after = Ticks(0));
    rig.wait(29);
    assert!(rig.timer().outside.is_empty());
    rig.wait(1);
    assert_eq!(rig.timer().outside.len(), 1);
    let (verdict, sent) = rig.other_race(3);
    assert_eq!((verdict, sent.len()), (Verdict::Tagged, 2), "one of them a direct copy");
    assert_eq!(rig.reported().len(), 1);
}

#[test]
fn a_policy_that_needs_memory_gets_it_by_a_reload() {
    let mut rig = Rig::<A>::new(&V4_HOSTS, Policy::default());
    assert_eq!(rig.gateway.common.waiting.capacity(), 0);
    assert!(!rig.gateway.v4.preferences.is_kept());
    rig.reload(|settings| {
        let affinity = Ticks::from_secs(60);
        settings.services[0].policy = Policy { origin_after: ms(30), affinity, ..direct() };
    });
    assert!(rig.gateway.common.waiting.capacity() > 0);
    assert!(rig.gateway.v4.preferences.is_kept());
    rig.reload(|settings| settings.services[0].policy = Policy::default());
    assert!(rig.gateway.common.waiting.capacity() > 0, "frames may still wait");
}
