//! What gateways tell each other, and what operators ask and do.

use super::*;

fn learned(address: IpAddr, direct: Option<Ticks>, age: Ticks) -> Learned {
    Learned { service: 0, address, direct, age }
}

#[test]
fn sites_that_another_gateway_has_learned_of_are_tried_in_the_order_of_their_times_there() {
    let mut kept = Kept::direct(1);
    let now = kept.now;
    kept.memory.learn(&learned(r(1), Some(MS(40)), S(5)), now);
    kept.memory.learn(&learned(r(2), Some(MS(10)), S(5)), now);
    kept.memory.learn(&learned(r(3), None, S(5)), now);
    kept.memory.learn(&learned(r(4), Some(MS(1)), S(600)), now);
    assert_eq!((kept.best(), kept.trial()), (vec![r(2)], Some(r(1))));
    assert!(kept.shown(r(4)).is_none(), "too old");
    assert_eq!(kept.plan().why, Why::NothingRemembered, "nobody has answered here");
    // What others say does not count against what is measured here, nor is it passed on.
    kept.directly(r(1), 20);
    let now = kept.now;
    kept.memory.learn(&learned(r(1), Some(MS(500)), S(1)), now);
    assert_eq!((kept.best(), kept.trial()), (vec![r(1)], Some(r(2))));
    kept.wait(S(2));
    let own = [learned(r(1), Some(MS(20)), S(2))];
    assert_eq!(kept.memory.learned(kept.now), own);
    kept.memory.learn(&Learned { service: 9, ..own[0] }, now);
    // Unless it answers here, it is forgotten as any other.
    kept.wait(S(599));
    assert!(kept.shown(r(2)).is_some());
    kept.plan();
    assert!(kept.shown(r(2)).is_none());
}

#[test]
fn the_dead_are_not_passed_on() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 20);
    kept.unanswered(r(1), 3);
    kept.plan();
    assert_eq!(kept.memory.learned(kept.now), []);
}

#[test]
fn a_memory_is_cleared_of_all_but_the_configurations_replicas() {
    let policy = || Policy { direct: 2, warm: vec![r(9)], ..Policy::default() };
    let services = vec![ServiceSettings::from(policy()), ServiceSettings::from(policy())];
    let mut memory = Memory::new(services, TunnelPath::default());
    let client = "198.18.1.10:1".parse().unwrap();
    for service in 0..2 {
        let event = Event::Answered {
            responder: r(1),
            is_origin: false,
            is_direct: true,
            has_won: true,
            after: Some(MS(10)),
        };
        memory.note(&Report { at: S(1), service, client, event });
    }
    memory.step(S(1));
    let sites = |memory: &Memory| -> Vec<Vec<IpAddr>> {
        let shown = memory.shown(S(1));
        shown.iter().map(|shown| shown.sites.iter().map(|site| site.address).collect()).collect()
    };
    assert_eq!(sites(&memory), [[r(1), r(9)], [r(1), r(9)]]);
    memory.clear(Some(1), S(1));
    assert_eq!(sites(&memory), [vec![r(1), r(9)], vec![r(9)]]);
    memory.clear(None, S(1));
    assert_eq!(sites(&memory), [vec![r(9)], vec![r(9)]]);
}

#[test]
fn a_shadow_tells_how_much_would_have_been_gained() {
    let mut kept = Kept::new(Policy { direct: 2, shadow: true, ..Policy::default() });
    kept.ask(0, Why::Fresh);
    kept.wait(MS(10));
    kept.answered(r(1), true, true, Some(MS(10)));
    kept.wait(MS(60));
    kept.answered(ORIGIN, true, false, Some(MS(70)));
    // The origin answers first: nothing.
    kept.ask(0, Why::Fresh);
    kept.wait(MS(70));
    kept.answered(ORIGIN, true, true, Some(MS(70)));
    kept.wait(MS(70));
    kept.answered(r(1), true, false, Some(MS(140)));
    let shown = kept.memory.shown(kept.now);
    let [(from, 1)] = shown[0].gained[..] else { panic!("{:?}", shown[0].gained) };
    assert!((50_000..=60_000).contains(&from), "{from} us");
    assert_eq!(kept.best(), [r(1)], "it learns who would have won");
    assert_eq!((shown[0].races, shown[0].origin_won), (2, 1));
}

#[test]
fn why_a_connection_went_where_it_did_can_be_asked_for() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    let number = kept.number(r(1));
    kept.ask(1 << number, Why::Exploration);
    kept.wait(MS(10));
    kept.directly(r(1), 10);
    kept.wait(MS(60));
    kept.answered(ORIGIN, true, false, Some(MS(70)));
    let client = [198, 18, 1, 10].into();
    let races: Vec<_> = kept.memory.races_of(client, Some(kept.client)).collect();
    let [race] = races[..] else { panic!("{races:?}") };
    assert_eq!((&race.asked[..], race.why), (&[r(1)][..], Why::Exploration));
    let answers: Vec<_> =
        race.answers.iter().map(|a| (a.responder, a.is_direct, a.has_won, a.after)).collect();
    assert_eq!(answers, [(r(1), true, true, MS(10)), (ORIGIN, false, false, MS(70))]);
}

#[test]
fn reports_of_unknown_services_and_numbers_change_nothing() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    let before = kept.plan();
    let client = "198.18.1.10:1".parse().unwrap();
    let event = Event::Asked { sites: 0, copies: CopiesWanted::ALL, why: Why::Fresh };
    kept.memory.note(&Report { at: kept.now, service: 7, client, event });
    kept.ask(!1, Why::Fresh);
    assert_eq!(kept.plan(), before);
}

#[test]
fn a_replica_that_is_new_is_asked_although_the_origin_is_nearest() {
    let mut kept = Kept::direct(2);
    kept.grow_old();
    kept.directly(r(2), 80);
    (0..4).for_each(|_| kept.origin(50));
    assert!(kept.plan().origin_is_nearest);
    kept.by_switch(r(3), 60);
    assert!(!kept.plan().origin_is_nearest);
    assert_eq!(kept.best(), [r(2), r(3)]);
    kept.directly(r(3), 90);
    (0..4).for_each(|_| kept.origin(50));
    assert!(kept.plan().origin_is_nearest);
}
