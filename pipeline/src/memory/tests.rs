//! The memory's rules, from the reports of workers to the plans that they read.

use std::net::IpAddr;

use super::*;
use crate::base::published::Reader;
use crate::base::time::Ticks;
use crate::policy::prefixes::PrefixMap;
use crate::policy::tunnel_path::TunnelPath;
use crate::wire::copies::CopiesWanted;
use crate::wire::family::Version;
use crate::wire::tunnel::Format;

const MS: fn(u64) -> Ticks = Ticks::from_millis;
const S: fn(u64) -> Ticks = Ticks::from_secs;

/// The web server `host` at the site `site`.
fn at(site: u8, host: u8) -> IpAddr {
    [198, 51, site, host].into()
}

/// The first web server at a site.
fn r(site: u8) -> IpAddr {
    at(site, 10)
}

const ORIGIN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10));

/// A memory of one service, its plan, and the time.
struct Kept {
    memory: Memory,
    plans: Reader<Plans>,
    now: Ticks,
    client: u16,
}

impl Kept {
    fn new(policy: Policy) -> Self {
        let formats = [("198.51.2.0/24".parse().unwrap(), Format::Gre)];
        let path = TunnelPath::new(1500, Format::Ipip, formats);
        let memory = Memory::new(vec![ServiceSettings { policy }], path);
        let plans = memory.reader();
        Self { memory, plans, now: S(1000), client: 1 }
    }

    fn direct(direct: u8) -> Self {
        Self::new(Policy { direct, ..Policy::default() })
    }

    fn wait(&mut self, time: Ticks) {
        self.now = self.now + time;
    }

    fn note(&mut self, event: Event) {
        let client = std::net::SocketAddr::new([198, 18, 1, 10].into(), self.client);
        self.memory.note(&Report { at: self.now, service: 0, client, event });
    }

    /// A race begins that asks the sites of these numbers.
    fn ask(&mut self, sites: u32, why: Why) {
        self.client = self.client.wrapping_add(1);
        self.note(Event::Asked { sites, copies: CopiesWanted::ALL, why });
    }

    fn answered(
        &mut self,
        responder: IpAddr,
        is_direct: bool,
        has_won: bool,
        after: Option<Ticks>,
    ) {
        let is_origin = responder == ORIGIN;
        self.note(Event::Answered { responder, is_origin, is_direct, has_won, after });
    }

    /// A replica answers the switch's copy.
    fn by_switch(&mut self, replica: IpAddr, millis: u64) {
        self.answered(replica, false, false, Some(MS(millis)));
    }

    /// A replica answers a direct copy, and wins.
    fn directly(&mut self, replica: IpAddr, millis: u64) {
        self.answered(replica, true, true, Some(MS(millis)));
    }

    /// The origin wins a race in which replicas were asked directly.
    fn origin(&mut self, millis: u64) {
        self.answered(ORIGIN, true, true, Some(MS(millis)));
    }

    fn plan(&mut self) -> Plan {
        self.memory.step(self.now);
        self.plans.refresh();
        self.plans.get().of(0, Version::V4).unwrap().clone()
    }

    /// Whom the plan asks, in its order.
    fn best(&mut self) -> Vec<IpAddr> {
        let plan = self.plan();
        plan.best.iter().map(|number| plan.candidate(*number).unwrap().address).collect()
    }

    fn trial(&mut self) -> Option<IpAddr> {
        let plan = self.plan();
        plan.trial.map(|number| plan.candidate(number).unwrap().address)
    }

    fn number(&mut self, replica: IpAddr) -> u8 {
        let site = Policy::default().site(replica);
        self.plan().number_of(site).unwrap()
    }

    fn shown(&self, replica: IpAddr) -> Option<Remembered> {
        let all = self.memory.shown(self.now);
        all.into_iter().flat_map(|shown| shown.sites).find(|site| site.address == replica)
    }

    /// So many races are run that the memory is not young any more.
    fn grow_old(&mut self) {
        (0..128).for_each(|_| self.ask(0, Why::Fresh));
    }

    /// Makes so many direct copies to a replica, none of which is answered.
    fn unanswered(&mut self, replica: IpAddr, copies: usize) {
        let number = self.number(replica);
        (0..copies).for_each(|_| self.ask(1 << number, Why::Fresh));
        self.wait(S(4));
    }
}

#[test]
fn a_replica_heard_by_the_switch_is_asked_and_then_an_explorer_is_enough() {
    let mut kept = Kept::direct(2);
    let plan = kept.plan();
    assert_eq!((plan.best.len(), plan.copies), (0, CopiesWanted::ALL));
    kept.by_switch(r(2), 150);
    let plan = kept.plan();
    assert_eq!(kept.best(), [r(2)]);
    assert_eq!((plan.copies, plan.why), (CopiesWanted::ALL, Why::NothingRemembered));
    let candidate = plan.candidate(plan.best[0]).unwrap();
    assert_eq!((candidate.format, candidate.rank), (Format::Gre, None));
    kept.directly(r(2), 10);
    let plan = kept.plan();
    assert_eq!((plan.copies, plan.why), (CopiesWanted::at_most(1), Why::Fresh));
    assert_eq!(plan.candidate(plan.best[0]).unwrap().rank, Some(MS(10)));
    let site = kept.shown(r(2)).unwrap();
    assert_eq!((site.direct, site.by_switch), (Some(MS(10)), Some(MS(150))));
    assert_eq!((site.answered, site.won, site.rank), (2, 1, Some(1)));
}

#[test]
fn explorers_are_as_many_as_configured() {
    for (explore, copies) in [(0, CopiesWanted::NONE), (1, CopiesWanted::at_most(1))] {
        let mut kept = Kept::new(Policy { direct: 2, explore, ..Policy::default() });
        kept.directly(r(1), 10);
        assert_eq!(kept.plan().copies, copies);
    }
}

#[test]
fn without_direct_copies_nothing_is_planned() {
    let mut kept = Kept::direct(0);
    kept.by_switch(r(1), 150);
    kept.directly(r(1), 10);
    assert_eq!(kept.plan(), Plan::empty());
}

#[test]
fn the_best_are_ranked_by_direct_time_and_handicap() {
    let handicaps = PrefixMap::new([("198.51.1.0/24".parse().unwrap(), MS(30))]);
    let mut kept = Kept::new(Policy { direct: 2, handicaps, ..Policy::default() });
    for (site, millis) in [(1, 10), (2, 50), (3, 35), (4, 60)] {
        kept.directly(r(site), millis);
    }
    // Times by the switch do not count.
    kept.by_switch(r(4), 1);
    assert_eq!(kept.best(), [r(3), r(1)]);
    let plan = kept.plan();
    let second = plan.candidate(plan.best[1]).unwrap();
    assert_eq!((second.rank, second.handicap), (Some(MS(40)), MS(30)));
}

#[test]
fn no_plan_asks_more_than_eight_sites() {
    let mut kept = Kept::direct(200);
    (1..=20).for_each(|site| kept.directly(r(site), site.into()));
    assert_eq!(kept.best().len(), DIRECT);
}

#[test]
fn once_not_young_a_new_site_is_tried_in_one_race_of_sixteen_beside_the_best() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    kept.directly(r(3), 20);
    kept.by_switch(r(4), 100);
    let young = kept.plan();
    assert_eq!((young.trial_every, young.explore_every), (1, 8));
    kept.grow_old();
    let plan = kept.plan();
    assert_eq!((plan.trial_every, plan.explore_every), (16, 64));
    assert_eq!((kept.best(), kept.trial()), (vec![r(1), r(3)], Some(r(4))));
    // It turns out to be the best.
    kept.directly(r(4), 5);
    assert_eq!((kept.best(), kept.trial()), (vec![r(4), r(1)], None));
}

#[test]
fn sites_are_tried_in_the_order_of_their_times_by_the_switch() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 10);
    kept.by_switch(r(2), 200);
    kept.by_switch(r(3), 100);
    assert_eq!(kept.trial(), Some(r(3)));
    kept.directly(r(3), 50);
    assert_eq!(kept.trial(), Some(r(2)));
}

#[test]
fn a_site_whose_time_by_the_switch_falls_is_tried_again() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 30);
    kept.by_switch(r(2), 150);
    kept.directly(r(2), 60);
    assert_eq!((kept.best(), kept.trial()), (vec![r(1)], None));
    kept.wait(S(3));
    kept.by_switch(r(2), 60);
    assert_eq!(kept.trial(), Some(r(2)), "probably 15 ms now");
    assert_eq!(kept.plan().trial_every, 16, "it is not its first time");
}

#[test]
fn a_time_that_is_old_is_taken_again() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 30);
    kept.directly(r(2), 60);
    kept.wait(S(1));
    kept.directly(r(3), 60);
    kept.wait(MS(9500));
    kept.directly(r(1), 30);
    assert_eq!(kept.trial(), Some(r(2)));
}

#[test]
fn a_replica_that_got_worse_is_left() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 10);
    kept.directly(r(2), 30);
    assert_eq!(kept.best(), [r(1)]);
    let mut races = 0;
    while kept.best() == [r(1)] {
        kept.directly(r(1), 100);
        races += 1;
    }
    assert!(races < 5, "{races} races");
}

#[test]
fn three_unanswered_copies_end_it_until_the_switch_hears_of_it() {
    let mut kept = Kept::direct(2);
    kept.directly(r(1), 10);
    kept.directly(r(2), 20);
    kept.unanswered(r(1), 2);
    assert_eq!(kept.best(), [r(1), r(2)]);
    let number = kept.number(r(1));
    kept.ask(1 << number, Why::Fresh);
    assert_eq!(kept.best(), [r(1), r(2)], "the third may still be answered");
    kept.wait(S(1));
    assert_eq!(kept.best(), [r(2)]);
    assert!(kept.shown(r(1)).unwrap().is_dead);
    kept.wait(S(60));
    assert_eq!((kept.best(), kept.trial()), (vec![r(2)], None));
    kept.by_switch(r(1), 140);
    assert_eq!(kept.best(), [r(2), r(1)]);
    kept.directly(r(1), 15);
    assert_eq!(kept.best(), [r(1), r(2)], "what it needed before it was dead is forgotten");
    assert_eq!(kept.plan().candidate(kept.plan().best[0]).unwrap().rank, Some(MS(15)));
}

#[test]
fn an_answer_starts_the_count_of_the_unanswered_anew() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 10);
    for _ in 0..5 {
        kept.unanswered(r(1), 2);
        // Of a race whose SYN was repeated: it has no time.
        kept.answered(r(1), true, true, None);
    }
    assert_eq!(kept.best(), [r(1)]);
}

#[test]
fn when_all_are_dead_it_is_the_race_of_the_patent() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 10);
    kept.unanswered(r(1), 3);
    let plan = kept.plan();
    assert_eq!((plan.best.len(), plan.copies), (0, CopiesWanted::ALL));
    assert_eq!(plan.why, Why::NothingRemembered);
}

#[test]
fn a_trial_that_is_not_answered_is_put_off() {
    let mut kept = Kept::direct(1);
    kept.directly(r(1), 10);
    kept.by_switch(r(2), 100);
    kept.unanswered(r(2), 1);
    assert_eq!(kept.trial(), None);
    kept.wait(S(11));
    assert_eq!(kept.trial(), Some(r(2)));
}

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
    let services = vec![ServiceSettings { policy: policy() }, ServiceSettings { policy: policy() }];
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
