//! The origin beside the replicas.

use super::*;

#[test]
fn the_origin_is_left_alone_where_it_is_nearest() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 80);
    kept.grow_old();
    (0..3).for_each(|_| kept.origin(70));
    assert!(!kept.plan().origin_is_nearest);
    kept.origin(70);
    let plan = kept.plan();
    assert!(plan.origin_is_nearest);
    assert_eq!((plan.origin, plan.best.len()), (Some(MS(70)), 1));
    // A replica wins an exploration.
    kept.directly(r(1), 80);
    assert!(!kept.plan().origin_is_nearest);
}

#[test]
fn while_young_or_with_sites_to_try_the_origin_is_not_left_alone() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 80);
    (0..4).for_each(|_| kept.origin(70));
    assert!(!kept.plan().origin_is_nearest, "young");
    kept.grow_old();
    assert!(kept.plan().origin_is_nearest);
    kept.by_switch(r(2), 150);
    assert!(!kept.plan().origin_is_nearest, "a site that has not been tried");
}

#[test]
fn an_origin_that_does_not_answer_has_no_time() {
    let mut kept = Kept::direct(1);
    kept.origin(20);
    assert!(kept.plan().origin.is_some());
    (0..3).for_each(|_| kept.ask(0, Why::Fresh));
    kept.wait(Ticks::from_millis(100));
    assert!(kept.plan().origin.is_some(), "the answers may still come");
    kept.wait(Ticks::from_secs(1));
    assert_eq!(kept.plan().origin, None);
    kept.origin(20);
    assert!(kept.plan().origin.is_some());
}

#[test]
fn a_handicap_makes_the_origin_nearest() {
    let handicaps = PrefixMap::new([("0.0.0.0/0".parse().unwrap(), MS(60))]);
    let mut kept = Kept::new(Policy { direct: 1, handicaps, ..Policy::default() });
    kept.directly(r(1), 20);
    kept.grow_old();
    (0..4).for_each(|_| kept.origin(70));
    assert!(kept.plan().origin_is_nearest);
}

#[test]
fn when_the_origin_wins_against_the_promise_all_are_asked() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    kept.origin(70);
    kept.origin(70);
    assert_eq!(kept.plan().why, Why::Fresh);
    kept.origin(70);
    let plan = kept.plan();
    assert_eq!((plan.copies, plan.why), (CopiesWanted::ALL, Why::OriginLately));
    assert!(!plan.origin_is_nearest);
    kept.directly(r(1), 10);
    assert_eq!(kept.plan().why, Why::Fresh);
    // Races in which no replica was asked directly prove nothing.
    (0..5).for_each(|_| kept.answered(ORIGIN, false, true, Some(MS(70))));
    assert_eq!(kept.plan().why, Why::Fresh);
    // Nor do races that it lost.
    (0..5).for_each(|_| kept.answered(ORIGIN, true, false, Some(MS(70))));
    assert_eq!(kept.plan().why, Why::Fresh);
}
