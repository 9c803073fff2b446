//! Whom a race asks: the sites that get a direct copy, and how many copies the switch is asked for
//! (docs/protocol.md, "Direct copies").

use super::preference::Preferred;
use crate::base::published::Reader;
use crate::base::time::Ticks;
use crate::memory::{Plan, Plans, Policy, Reports};
use crate::wire::copies::CopiesWanted;
use crate::wire::family::Version;

pub use crate::memory::Why;

/// A service that has not explored for so long explores in its next race.
const EXPLORE_INTERVAL: Ticks = Ticks::from_secs(10);

/// What the workers of a gateway share with the control thread.
#[derive(Debug)]
pub struct Shares {
    /// Whom to ask.
    pub plans: Reader<Plans>,
    /// What the memory learns from.
    pub reports: Reports,
}

/// Whom a SYN is sent to besides the origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// The sites that get a direct copy, one bit for each number in the plan.
    pub(super) sites: u32,
    /// The copies that the switch is asked for.
    pub(super) copies: CopiesWanted,
    /// Why it is asked for so many.
    pub(super) why: Why,
}

impl Asked {
    /// Nobody directly, and every replica by the switch: the race of the patent.
    pub(super) const BY_SWITCH: Self =
        Self { sites: 0, copies: CopiesWanted::ALL, why: Why::NothingRemembered };
}

/// One worker's turns in the races of one service and family.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    races: u32,
    explored: Ticks,
}

/// Decides whom the races of one worker ask.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) shares: Shares,
    turns: Box<[[Turn; 2]]>,
}

impl Asking {
    pub(super) fn new(shares: Shares, services: usize) -> Self {
        Self { shares, turns: (0..services).map(|_| Default::default()).collect() }
    }

    /// Goes on after a reload, by the plans of the same memory. Services keep their turns. If the memory
    /// wants reports that it did not want before, they are sent to the receiver of `next`.
    pub(super) fn reload(&mut self, next: &mut Self) {
        if self.shares.reports.are_ignored() {
            std::mem::swap(&mut self.shares.reports, &mut next.shares.reports);
        }
        for (turns, own) in next.turns.iter_mut().zip(&self.turns) {
            *turns = *own;
        }
        std::mem::swap(&mut self.turns, &mut next.turns);
    }

    /// Returns the plan of a service and family.
    #[inline]
    pub(super) fn plan(&self, service: u16, version: Version) -> Option<&Plan> {
        self.shares.plans.get().of(service, version)
    }

    /// Decides whom a new race asks; `None`: the connection is left to the origin.
    pub(super) fn for_race(
        &mut self,
        service: u16,
        version: Version,
        (policy, preferred): (&Policy, Option<Preferred>),
        now: Ticks,
    ) -> Option<Asked> {
        let Some(plan) = self.shares.plans.get().of(service, version) else {
            return Some(Asked::BY_SWITCH);
        };
        if plan.best.is_empty() {
            return Some(Asked::BY_SWITCH);
        }
        let turn = &mut self.turns[usize::from(service)][version as usize];
        let number = turn.races;
        turn.races = number.wrapping_add(1);
        let explores = number.is_multiple_of(plan.explore_every.max(1))
            || now.since(turn.explored) >= EXPLORE_INTERVAL;
        if explores {
            turn.explored = now;
        }
        let preferred = preferred.filter(|preferred| is_near(plan, policy, *preferred));
        let is_left = plan.origin_is_nearest || preferred == Some(Preferred::Origin);
        if is_left && !explores {
            return None;
        }
        let mut sites = bits(plan);
        let trial_every = plan.trial_every.max(1);
        let is_turn = number % trial_every == trial_every / 2;
        if let Some(trial) = plan.trial.filter(|_| is_turn || is_left) {
            // Instead of the last, never of the best.
            if let [_, .., last] = plan.best[..] {
                sites &= !(1 << last);
            }
            sites |= 1 << trial;
        }
        if let Some(Preferred::Site(site)) = preferred {
            sites |= plan.number_of(site).map_or(0, |number| 1 << number);
        }
        let (copies, why) = match explores {
            true => (CopiesWanted::ALL, Why::Exploration),
            false => (plan.copies, plan.why),
        };
        Some(Asked { sites, copies, why })
    }

    /// Decides whom a repeated SYN asks: all.
    pub(super) fn for_repetition(&self, service: u16, version: Version) -> Asked {
        let sites = self.plan(service, version).map_or(0, bits);
        Asked { sites, copies: CopiesWanted::ALL, why: Why::Repetition }
    }
}

/// Returns the sites that a plan asks, as bits.
fn bits(plan: &Plan) -> u32 {
    plan.best.iter().fold(0, |sites, number| sites | 1 << number)
}

/// Returns whether the server that a client had is within the slack of the best.
fn is_near(plan: &Plan, policy: &Policy, preferred: Preferred) -> bool {
    let rank = |number: u8| plan.candidate(number).and_then(|candidate| candidate.rank);
    let replica = plan.best.first().and_then(|number| rank(*number));
    let best = replica.into_iter().chain(plan.origin).min();
    let own = match preferred {
        Preferred::Origin => plan.origin,
        Preferred::Site(site) => plan.number_of(site).and_then(rank),
    };
    match (own, best) {
        (Some(own), Some(best)) => own <= best + policy.affinity_slack,
        _ => false,
    }
}
