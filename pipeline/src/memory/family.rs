//! What is remembered of a service's replicas of one family, and the plan that follows from it.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::rejected::RejectedSites;
use super::site::{Site, State};
use super::smoothed::Smoothed;
use super::{Candidate, Plan, Policy, SITES, Why};
use crate::base::time::Ticks;
use crate::policy::allow_list::AllowList;
use crate::policy::tunnel_path::TunnelPath;
use crate::wire::copies::CopiesWanted;

/// While fewer races than this were run, sites are tried faster, in a copy that is sent anyway.
const YOUNG: u64 = 128;
/// One race in so many has a trial.
const TRIAL_EVERY: u32 = 16;
/// One race in so many explores: it asks the switch for all copies.
const EXPLORE_EVERY: u32 = 64;
/// The same while young.
const EXPLORE_EVERY_YOUNG: u32 = 8;
/// So many SYNs without an answer make the origin's time unknown.
const ORIGIN_UNANSWERED: usize = 3;
/// The origin has won so many races in a row, against what the memory promised.
const BROKEN_PROMISES: u32 = 3;
/// The origin has won so many races in a row, as the memory said it would.
const ORIGIN_IS_NEAREST: u32 = 4;
/// An answer of a site that is distrusted waits so long for others.
const DISTRUST: Ticks = Ticks::from_secs(1);
/// The plan is made anew so often even if nothing is reported, since sites expire.
const INTERVAL: Ticks = Ticks::from_millis(100);

/// The replicas of one family of a service.
#[derive(Debug)]
pub(super) struct FamilyMemory {
    pub(super) sites: [Option<Site>; SITES],
    rejected: RejectedSites,
    /// The time to the origin's answers.
    pub(super) origin: Option<Smoothed>,
    pub(super) races: u64,
    pub(super) origin_won: u64,
    /// Races in a row with direct copies that the origin won.
    origin_streak: u32,
    /// The first SYNs to it since its last answer.
    origin_unanswered: ArrayVec<Ticks, ORIGIN_UNANSWERED>,
    dirty: bool,
    due: Ticks,
}

impl FamilyMemory {
    pub(super) fn new() -> Self {
        Self {
            sites: [const { None }; SITES],
            rejected: RejectedSites::default(),
            origin: None,
            races: 0,
            origin_won: 0,
            origin_streak: 0,
            origin_unanswered: ArrayVec::new(),
            dirty: true,
            due: Ticks(0),
        }
    }

    pub(super) fn is_due(&self, now: Ticks) -> bool {
        self.dirty || now >= self.due
    }

    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Notes direct copies to the sites of these numbers, and returns their addresses.
    pub(super) fn note_asked<const N: usize>(
        &mut self,
        numbers: u32,
        is_repetition: bool,
        now: Ticks,
    ) -> ArrayVec<IpAddr, N> {
        self.dirty = true;
        self.races += u64::from(!is_repetition);
        let mut addresses = ArrayVec::new();
        for (number, site) in self.sites.iter_mut().enumerate() {
            if let Some(site) = site.as_mut().filter(|_| numbers >> number & 1 != 0) {
                site.note_asked(now);
                let _ = addresses.try_push(site.address);
            }
        }
        addresses
    }

    /// Notes a SYN to the origin that did not wait.
    pub(super) fn note_origin_asked(&mut self, now: Ticks) {
        let _ = self.origin_unanswered.try_push(now);
    }

    /// Notes the origin's answer. `was_direct` says whether replicas were asked directly.
    pub(super) fn note_origin(
        &mut self,
        has_won: bool,
        was_direct: bool,
        after: Option<Ticks>,
        now: Ticks,
    ) {
        self.dirty = true;
        self.origin_won += u64::from(has_won);
        self.origin_unanswered.clear();
        if has_won && was_direct {
            self.origin_streak += 1;
        }
        if let Some(after) = after {
            Smoothed::add(&mut self.origin, after, now);
        }
    }

    /// Notes a replica's answer.
    pub(super) fn note_replica(
        &mut self,
        policy: &Policy,
        replica: IpAddr,
        (has_won, is_direct, after): (bool, bool, Option<Ticks>),
        now: Ticks,
    ) {
        self.dirty = true;
        if has_won {
            self.origin_streak = 0;
        }
        let expected = after.filter(|_| !is_direct);
        let Some(number) = self.place(policy, replica, expected, now) else { return };
        if let Some(site) = &mut self.sites[number] {
            site.note_answer(replica, is_direct, after, now);
            site.won += u64::from(has_won);
        }
    }

    /// Adds a site that the configuration names.
    pub(super) fn add_warm(&mut self, policy: &Policy, replica: IpAddr, now: Ticks) {
        self.dirty = true;
        let Some(number) = self.place(policy, replica, None, now) else { return };
        if let Some(site) = &mut self.sites[number] {
            site.is_warm = true;
        }
    }

    /// Adds a site that another gateway heard at `heard`, if there is a free place: hearsay takes
    /// none from a site that is known here. Returns whether it is new.
    pub(super) fn learn(
        &mut self,
        policy: &Policy,
        replica: IpAddr,
        hint: Option<Ticks>,
        heard: Ticks,
    ) -> bool {
        let key = policy.site(replica);
        let most = usize::from(policy.max_sites).min(SITES);
        let known = self.number_of(key);
        let Some(number) = known.or_else(|| self.sites[..most].iter().position(Option::is_none))
        else {
            return false;
        };
        self.dirty = true;
        let site = self.sites[number].get_or_insert_with(|| Site::new(key, replica, heard));
        site.hint = hint;
        if site.is_hearsay() {
            // Kept as long as others hear it, so that trials which failed are remembered.
            site.heard = Ticks(site.heard.0.max(heard.0));
        }
        known.is_none()
    }

    /// Notes who has ended a connection with a replica.
    pub(super) fn note_end(&mut self, policy: &Policy, replica: IpAddr, by_site: bool, now: Ticks) {
        let key = policy.site(replica);
        if let Some(site) = self.sites.iter_mut().flatten().find(|site| site.key == key) {
            self.dirty = true;
            site.note_end(by_site, now);
        }
    }

    fn number_of(&self, key: u128) -> Option<usize> {
        self.sites.iter().position(|site| site.as_ref().is_some_and(|site| site.key == key))
    }

    /// Returns the number of a replica's site, which gets one if it is new and there is room, or
    /// another site that is worth less.
    fn place(
        &mut self,
        policy: &Policy,
        replica: IpAddr,
        expected: Option<Ticks>,
        now: Ticks,
    ) -> Option<usize> {
        let key = policy.site(replica);
        if let Some(number) = self.number_of(key) {
            return Some(number);
        }
        let most = usize::from(policy.max_sites).min(SITES);
        let free = self.sites[..most].iter().position(Option::is_none);
        let best = self.sites.iter().flatten().filter_map(Site::direct_time).min();
        if free.is_none() && self.rejected.has(key, (expected, best), now) {
            return None;
        }
        let number = free.or_else(|| self.least_worth(&self.sites[..most], policy, expected))?;
        if let Some(site) = &self.sites[number] {
            self.rejected.note(site, now);
        }
        self.sites[number] = Some(Site::new(key, replica, now));
        Some(number)
    }

    /// Returns the site to forget for a new one: a dead one, else one that only other gateways have
    /// heard of, else the slowest of those that were tried and are not asked anyway, else an
    /// untried one that is probably farther than the new one.
    fn least_worth(
        &self,
        sites: &[Option<Site>],
        policy: &Policy,
        expected: Option<Ticks>,
    ) -> Option<usize> {
        let all = || {
            sites
                .iter()
                .enumerate()
                .filter_map(|(number, site)| Some((number, site.as_ref()?)))
                .filter(|(_, site)| !site.is_warm)
        };
        let dead = all().filter(|(_, site)| site.state == State::Dead).min_by_key(|(_, s)| s.heard);
        if let Some((number, _)) = dead {
            return Some(number);
        }
        let hearsay = all().filter(|(_, site)| site.is_hearsay());
        if let Some((number, _)) = hearsay.max_by_key(|(_, site)| site.expected()) {
            return Some(number);
        }
        let tried = || all().filter_map(|(number, site)| Some((site.direct_time()?, number)));
        if tried().count() > usize::from(policy.direct).max(1) * 2 {
            return tried().max().map(|(_, number)| number);
        }
        let untried = all().filter(|(_, site)| site.state == State::Untried);
        let farthest = untried.max_by_key(|(_, site)| site.expected());
        farthest
            .filter(|(_, site)| expected.is_some_and(|new| new < site.expected()))
            .map(|(n, _)| n)
    }

    /// Forgets the sites that are not allowed, and those for which there is no place any more. Sites
    /// that the configuration does not name any more are kept as long as they answer.
    pub(super) fn keep_allowed(&mut self, policy: &Policy, allowed: &AllowList) {
        self.dirty = true;
        let most = usize::from(policy.max_sites);
        for (number, place) in self.sites.iter_mut().enumerate() {
            if let Some(site) = place {
                site.is_warm = false;
                if number >= most || !allowed.allows(site.address) {
                    *place = None;
                }
            }
        }
    }

    /// Forgets every site, except that the configuration's are tried anew.
    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Makes the plan for the races from now on.
    pub(super) fn plan(&mut self, policy: &Policy, path: &TunnelPath, now: Ticks) -> Plan {
        // Where nothing is remembered and no SYN is unanswered, time changes nothing.
        let is_idle = self.sites.iter().all(Option::is_none) && self.origin_unanswered.is_empty();
        let due = if is_idle { Ticks(u64::MAX) } else { now + INTERVAL };
        (self.dirty, self.due) = (false, due);
        self.pass_time(policy, now);
        let mut plan = Plan::empty();
        if !policy.is_direct() {
            return plan;
        }
        let mut ranked: ArrayVec<(Ticks, u8), SITES> = ArrayVec::new();
        for (number, site) in self.sites.iter().enumerate() {
            let candidate = site.as_ref().map(|site| {
                let handicap = policy.handicap(site.address);
                let distrust = site.state == State::Distrusted;
                plan.has_distrusted |= distrust;
                let handicap = if distrust { handicap + DISTRUST } else { handicap };
                let rank = site.direct_time().map(|time| time + handicap);
                ranked.extend(rank.map(|rank| (rank, number as u8)));
                plan.keys[number] = site.key;
                plan.used |= 1 << number;
                let format = path.format(site.address);
                Candidate { address: site.address, format, rank, handicap }
            });
            plan.candidates.push(candidate);
        }
        ranked.sort_unstable();
        let most = usize::from(policy.direct).min(super::DIRECT);
        plan.best = ranked.iter().take(most).map(|(_, number)| *number).collect();
        self.fill_with_untried(&mut plan, most, now);
        let is_young = self.races < YOUNG;
        let (trial, is_first) = self.trial(&plan, ranked.first().map(|(rank, _)| *rank), now);
        plan.trial = trial;
        plan.trial_every = if is_young && is_first { 1 } else { TRIAL_EVERY };
        plan.explore_every = if is_young { EXPLORE_EVERY_YOUNG } else { EXPLORE_EVERY };
        plan.origin = self.origin.map(Smoothed::time);
        let best = ranked.first().map(|(rank, _)| *rank);
        let replica_is_nearest = match (best, plan.origin) {
            (Some(best), Some(origin)) => best < origin,
            _ => true,
        };
        let explore = CopiesWanted::at_most(policy.explore);
        (plan.copies, plan.why) = match best {
            None => (CopiesWanted::ALL, Why::NothingRemembered),
            Some(_) if replica_is_nearest && self.origin_streak >= BROKEN_PROMISES => {
                (CopiesWanted::ALL, Why::OriginLately)
            }
            Some(_) => (explore, Why::Fresh),
        };
        // A site that was never asked may be nearer.
        let asks_untried = plan.best.len() > ranked.len().min(most);
        plan.origin_is_nearest = !replica_is_nearest
            && !is_young
            && !is_first
            && !asks_untried
            && self.origin_streak >= ORIGIN_IS_NEAREST;
        plan
    }

    /// Drops sites that have expired, and notes direct copies that are overdue.
    fn pass_time(&mut self, policy: &Policy, now: Ticks) {
        // An origin that is down has no time, so that nobody is left to it.
        let overdue_after = self.origin.map_or(Ticks(0), Smoothed::overdue_after);
        let last = self.origin_unanswered.get(ORIGIN_UNANSWERED - 1);
        if last.is_some_and(|at| now.since(*at) > overdue_after) {
            (self.origin, self.origin_streak) = (None, 0);
            self.origin_unanswered.clear();
        }
        for place in &mut self.sites {
            if let Some(site) = place {
                if !site.is_warm && now.since(site.heard) > policy.memory {
                    *place = None;
                    continue;
                }
                site.note_time(now);
                if let Some(due) = site.due() {
                    self.due = self.due.min(due.max(now + Ticks::from_millis(10)));
                }
            }
        }
    }

    /// Asks untried sites where too few have been tried: nothing better is known.
    fn fill_with_untried(&self, plan: &mut Plan, most: usize, now: Ticks) {
        while plan.best.len() < most {
            let Some(number) = self.next_untried(plan, now) else { break };
            plan.best.push(number);
        }
    }

    fn next_untried(&self, plan: &Plan, now: Ticks) -> Option<u8> {
        self.others(plan)
            .filter(|(_, site)| site.may_be_tried(now))
            .min_by_key(|(_, site)| site.expected())
            .map(|(number, _)| number)
    }

    /// Returns the sites that the plan does not ask.
    fn others<'a>(&'a self, plan: &'a Plan) -> impl Iterator<Item = (u8, &'a Site)> {
        let numbered = self.sites.iter().enumerate();
        let sites = numbered.filter_map(|(number, site)| Some((number as u8, site.as_ref()?)));
        sites.filter(|(number, _)| !plan.best.contains(number))
    }

    /// Returns the site to try next, and whether it is its first time: an untried one; else one
    /// that has probably become better than the best; else the one with the oldest time.
    fn trial(&self, plan: &Plan, best: Option<Ticks>, now: Ticks) -> (Option<u8>, bool) {
        if let Some(number) = self.next_untried(plan, now) {
            return (Some(number), true);
        }
        let promising = self
            .others(plan)
            .filter_map(|(number, site)| Some((site.estimate()?, number)))
            .filter(|(estimate, number)| {
                let handicap = plan.candidate(*number).map_or(Ticks(0), |site| site.handicap);
                best.is_some_and(|best| *estimate + handicap < best)
            })
            .min();
        let stale = || {
            let stale = self.others(plan).filter(|(_, site)| site.is_stale(now));
            stale.min_by_key(|(_, site)| site.direct.map(|direct| direct.at)).map(|(n, _)| n)
        };
        (promising.map(|(_, number)| number).or_else(stale), false)
    }
}
