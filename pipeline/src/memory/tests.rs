//! The memory's rules, from the reports of workers to the plans that they read.

mod kept;
mod learned;
mod origin;

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
        let memory = Memory::new(vec![ServiceSettings::from(policy)], path);
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
