//! Which sites are kept, and which web servers are one site.

use super::*;

#[test]
fn sites_are_forgotten_after_the_configured_time_without_an_answer() {
    let mut kept = Kept::new(Policy { direct: 2, memory: S(60), ..Policy::default() });
    kept.directly(r(1), 10);
    kept.by_switch(r(2), 100);
    kept.wait(S(60));
    kept.by_switch(r(2), 100);
    assert_eq!(kept.best(), [r(1), r(2)]);
    kept.wait(MS(200));
    assert_eq!(kept.best(), [r(2)]);
    kept.wait(S(61));
    assert_eq!(kept.best(), [] as [IpAddr; 0]);
    assert_eq!(kept.plan().copies, CopiesWanted::ALL, "the memory has run out");
}

#[test]
fn a_full_memory_gives_up_a_dead_site_first() {
    let mut kept = Kept::new(Policy { direct: 2, max_sites: 3, ..Policy::default() });
    (1..=3).for_each(|site| kept.directly(r(site), 10 * u64::from(site)));
    kept.unanswered(r(2), 3);
    kept.plan();
    kept.by_switch(r(4), 500);
    assert!(kept.shown(r(2)).is_none() && kept.shown(r(4)).is_some());
    // Nobody is dead, and all that were tried may be needed.
    kept.by_switch(r(5), 600);
    assert!(kept.shown(r(5)).is_none());
    // One that is probably nearer takes the place of an untried one.
    kept.by_switch(r(6), 400);
    assert!(kept.shown(r(4)).is_none() && kept.shown(r(6)).is_some());
}

#[test]
fn a_full_memory_gives_up_the_slowest_of_those_it_does_not_need() {
    let mut kept = Kept::new(Policy { direct: 1, max_sites: 4, ..Policy::default() });
    (1..=4).for_each(|site| kept.directly(r(site), 10 * u64::from(site)));
    kept.by_switch(r(5), 500);
    assert!(kept.shown(r(4)).is_none() && kept.shown(r(5)).is_some());
    assert_eq!((kept.best(), kept.trial()), (vec![r(1)], Some(r(5))));
}

#[test]
fn the_memory_is_bounded() {
    for (max_sites, most) in [(5, 5), (32, 32), (200, SITES)] {
        let mut kept = Kept::new(Policy { direct: 2, max_sites, ..Policy::default() });
        for site in 0..=255 {
            kept.by_switch(r(site), 1000 - u64::from(site));
            kept.directly(r(site), 1000 - u64::from(site));
        }
        let sites: usize = kept.memory.shown(kept.now).iter().map(|shown| shown.sites.len()).sum();
        assert_eq!(sites, most);
        assert_eq!(kept.best(), [r(255), r(254)], "the nearest are kept");
    }
}

#[test]
fn warm_replicas_are_asked_before_any_race_and_without_a_switch() {
    let warm = vec![r(1), r(2), "2001:db8:30::10".parse().unwrap()];
    let mut kept = Kept::new(Policy { direct: 2, warm, max_sites: 3, ..Policy::default() });
    assert_eq!(kept.best(), [r(1), r(2)]);
    let v6 = kept.plans.get().of(0, Version::V6).unwrap().clone();
    assert_eq!(v6.best.len(), 1);
    assert_eq!(v6.candidate(v6.best[0]).unwrap().address.to_string(), "2001:db8:30::10");
    kept.directly(r(1), 10);
    kept.unanswered(r(1), 3);
    assert_eq!(kept.best(), [r(2)]);
    kept.unanswered(r(2), 1);
    assert_eq!(kept.best(), [] as [IpAddr; 0]);
    kept.wait(S(11));
    assert_eq!(kept.best().len(), 2, "nobody else would hear of them again");
    // Who is heard of is tried at once.
    kept.directly(r(1), 10);
    kept.unanswered(r(1), 3);
    kept.plan();
    kept.by_switch(r(1), 150);
    assert!(kept.best().contains(&r(1)));
    kept.directly(r(1), 10);
    // They are neither forgotten nor given up.
    kept.wait(S(100_000));
    (3..30).for_each(|site| kept.directly(r(site), 5));
    assert!(kept.shown(r(1)).is_some_and(|site| site.is_warm && site.won == 3));
    assert!(kept.shown(r(2)).is_some_and(|site| site.is_warm && site.heard.is_none()));
}

#[test]
fn web_servers_of_one_site_are_one_contender() {
    let mut kept = Kept::direct(2);
    kept.by_switch(at(1, 10), 150);
    kept.directly(at(1, 10), 10);
    kept.directly(at(1, 20), 10);
    assert_eq!(kept.best(), [at(1, 20)], "the one that answered last is asked");
    kept.by_switch(at(1, 30), 150);
    assert_eq!(kept.best(), [at(1, 30)]);
    let site = kept.shown(at(1, 30)).unwrap();
    assert_eq!((site.direct, site.answered, site.won), (Some(MS(10)), 4, 2));
    // The one that was asked is gone, and another of them answers: no trial is needed.
    kept.unanswered(at(1, 30), 2);
    kept.directly(at(1, 10), 10);
    assert_eq!((kept.best(), kept.trial()), (vec![at(1, 10)], None));
}

#[test]
fn a_site_may_be_one_address() {
    let site_prefix = [32, 128];
    let mut kept = Kept::new(Policy { direct: 2, site_prefix, ..Policy::default() });
    kept.directly(at(1, 10), 10);
    kept.directly(at(1, 20), 20);
    assert_eq!(kept.best(), [at(1, 10), at(1, 20)]);
}

#[test]
fn an_answer_without_a_time_changes_none() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    kept.by_switch(r(1), 100);
    kept.wait(S(5));
    kept.answered(r(1), true, true, None);
    kept.answered(r(1), false, false, None);
    kept.answered(ORIGIN, false, true, None);
    let site = kept.shown(r(1)).unwrap();
    assert_eq!((site.direct, site.by_switch), (Some(MS(10)), Some(MS(100))));
    assert_eq!((site.answered, site.heard), (4, Some(MS(0))));
    assert_eq!(kept.plan().origin, None);
    // A site that has never been measured is not ranked.
    kept.answered(r(2), true, true, None);
    let number = kept.number(r(2));
    assert_eq!(kept.plan().candidate(number).unwrap().rank, None);
}
