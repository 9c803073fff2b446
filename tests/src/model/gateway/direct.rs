//! Direct copies: whom a race asks, what waits, and which server a client keeps.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use pipeline::base::time::Ticks;
use pipeline::memory::{Candidate, Plan, Policy, Why};
use pipeline::packet::view::Side;

use super::{Model, Record, State, span};
use crate::model::outcome::Leaving;
use crate::model::{Outer, Packet};

/// A service that has not explored for so long explores in its next race.
const EXPLORE_INTERVAL: Duration = Duration::from_secs(10);
/// The longest frame that can wait.
const LONGEST: usize = 256;
/// The most frames that are released at once.
const RELEASED: usize = 32;

/// Whom a race asks besides the origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    /// The numbers of the sites that get a direct copy.
    pub(super) sites: Vec<u8>,
    /// The copies that the switch is asked for, as in the tag.
    copies: u8,
    /// Whether the SYN to the origin may wait.
    may_wait: bool,
}

/// Who has a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Preferred {
    Origin,
    Site(IpNet),
}

/// A frame that waits.
#[derive(Debug)]
struct Waiting {
    due: Duration,
    client: SocketAddr,
    race: (u32, u32),
    packet: Packet,
    /// The sender of a SYN/ACK, and whether it is the origin; `None` for a SYN.
    from: Option<(SocketAddr, bool)>,
}

/// What the model knows of direct copies.
#[derive(Debug, Default)]
pub(super) struct Direct {
    /// By service.
    plans: HashMap<usize, Plan>,
    /// By service: races that had somebody to ask, and the time of the last exploration.
    turns: HashMap<usize, (u32, Duration)>,
    /// By service and client address: the server that it had last, and when.
    preferences: HashMap<(usize, IpAddr), (Preferred, Duration)>,
    /// In the order of arrival.
    waiting: Vec<Waiting>,
}

/// Returns a time as a race notes it.
pub(super) fn micros(time: Duration) -> u32 {
    time.as_micros() as u32
}

fn race_of(record: &Record) -> (u32, u32) {
    (record.isn, micros(record.started))
}

fn site(policy: &Policy, address: IpAddr) -> IpNet {
    let length = policy.site_prefix[usize::from(address.is_ipv6())];
    IpNet::new(address, length).expect("a length of the family").trunc()
}

fn sites(plan: &Plan) -> impl Iterator<Item = (u8, &Candidate)> {
    (0..32).filter_map(|number| Some((number, plan.candidate(number)?)))
}

/// Returns the number and the entry of a site.
fn find<'a>(plan: &'a Plan, policy: &Policy, wanted: IpNet) -> Option<(u8, &'a Candidate)> {
    sites(plan).find(|(_, candidate)| site(policy, candidate.address) == wanted)
}

impl Model {
    /// Publishes plans, by service. They apply from the next packet on.
    pub fn publish(&mut self, plans: Vec<Plan>) {
        self.direct.plans = plans.into_iter().enumerate().collect();
    }

    fn plan(&self, service: usize) -> Plan {
        self.direct.plans.get(&service).cloned().unwrap_or_else(Plan::empty)
    }

    fn policy(&self, service: usize) -> Policy {
        self.settings.services[service].policy.clone()
    }

    /// Decides whom a new race asks; `None`: the connection is left to the origin.
    pub(super) fn whom(
        &mut self,
        service: usize,
        client: SocketAddr,
        now: Duration,
    ) -> Option<Asked> {
        let (plan, policy) = (self.plan(service), self.policy(service));
        if policy.direct == 0 {
            return Some(Asked::default());
        }
        let preferred = self.preferred(service, client.ip(), now);
        let Some(best) = plan.best.first() else { return Some(Asked::default()) };
        let (number, explored) = self.direct.turns.entry(service).or_default();
        let turn = *number;
        *number += 1;
        let explores =
            turn % plan.explore_every == 0 || now.saturating_sub(*explored) >= EXPLORE_INTERVAL;
        if explores {
            *explored = now;
        }
        // What the client had counts while it is within the slack of the best.
        let rank = |number: u8| plan.candidate(number).and_then(|candidate| candidate.rank);
        let nearest = rank(*best).into_iter().chain(plan.origin).min();
        let preferred = preferred.filter(|preferred| {
            let own = match *preferred {
                Preferred::Origin => plan.origin,
                Preferred::Site(wanted) => {
                    find(&plan, &policy, wanted).and_then(|(_, candidate)| candidate.rank)
                }
            };
            let near = nearest.map(|nearest| nearest + policy.affinity_slack);
            own.is_some_and(|own| near.is_some_and(|near| own <= near))
        });
        let is_origins = plan.origin_is_nearest || preferred == Some(Preferred::Origin);
        if is_origins && !explores {
            return None;
        }
        let mut asked = plan.best.to_vec();
        let is_trial = turn % plan.trial_every == plan.trial_every / 2 || is_origins;
        if let Some(trial) = plan.trial.filter(|_| is_trial) {
            // Never instead of the best.
            asked.truncate(asked.len().saturating_sub(1).max(1));
            asked.push(trial);
        }
        if let Some(Preferred::Site(wanted)) = preferred {
            asked.extend(find(&plan, &policy, wanted).map(|(number, _)| number));
        }
        asked.sort_unstable();
        asked.dedup();
        Some(Asked {
            sites: asked,
            copies: if explores { 0 } else { plan.copies.bits() },
            may_wait: !explores && plan.why == Why::Fresh,
        })
    }

    /// A repeated SYN asks all.
    pub(super) fn all_of(&self, service: usize) -> Asked {
        let mut sites = self.plan(service).best.to_vec();
        sites.sort_unstable();
        Asked { sites, ..Asked::default() }
    }

    /// Returns what leaves for a SYN that may race: the direct copies, then the SYN itself. Without
    /// a tag on its way to the server it is as it came, except for the MSS.
    pub(super) fn sent(
        &self,
        packet: &Packet,
        service: usize,
        asked: &Asked,
        untagged: bool,
    ) -> Vec<Leaving> {
        let tagged = self.tagged(packet, asked.copies);
        let leaving = |packet: &Packet| Leaving::Packet(Box::new(packet.clone()));
        let plan = self.plan(service);
        let of = |number: &u8| plan.candidate(*number).expect("a site of the plan");
        let copy = |to: &Candidate| {
            let class = packet.traffic_class;
            let outer = Outer::new(to.format, packet.from.ip(), to.address, class);
            Leaving::Tunnel(outer, Box::new(leaving(&tagged)))
        };
        let mut sent: Vec<_> = asked.sites.iter().map(of).map(copy).collect();
        sent.push(match (untagged, sent.is_empty()) {
            (false, _) => leaving(&tagged),
            (true, true) => Leaving::Untouched,
            (true, false) => leaving(&self.fitting(packet)),
        });
        sent
    }

    /// Returns whether the SYN to the origin waits, and makes it.
    pub(super) fn defers(
        &mut self,
        packet: &Packet,
        service: usize,
        asked: &Asked,
        now: Duration,
    ) -> bool {
        let policy = self.policy(service);
        let tagged = self.tagged(packet, asked.copies);
        let fits = tagged.header_len() <= LONGEST;
        let waits = policy.origin_after > Ticks(0) && !policy.shadow;
        if !waits || !asked.may_wait || asked.sites.is_empty() || !fits {
            return false;
        }
        self.change(packet.from).deferred = true;
        self.wait(packet.from, tagged, None, now + span(policy.origin_after));
        true
    }

    fn wait(
        &mut self,
        client: SocketAddr,
        packet: Packet,
        from: Option<(SocketAddr, bool)>,
        due: Duration,
    ) {
        let race = race_of(&self.records[&client]);
        self.direct.waiting.push(Waiting { due, client, race, packet, from });
    }

    /// Returns whether a contender got a direct copy in this race.
    pub(super) fn was_asked(&self, known: &Record, from: SocketAddr, is_origin: bool) -> bool {
        let (plan, policy) = (self.plan(known.service), self.policy(known.service));
        let own = find(&plan, &policy, site(&policy, from.ip()));
        !is_origin && own.is_some_and(|(number, _)| known.asked.contains(&number))
    }

    /// Returns the server that a client had, if it had one lately, and renews it.
    fn preferred(&mut self, service: usize, client: IpAddr, now: Duration) -> Option<Preferred> {
        let lasting = span(self.settings.services[service].policy.affinity);
        let (preferred, since) = self.direct.preferences.get_mut(&(service, client))?;
        if now.saturating_sub(*since) > lasting {
            return None;
        }
        *since = now;
        Some(*preferred)
    }

    /// Notes who has won a client's race.
    pub(super) fn prefer(
        &mut self,
        now: Duration,
        client: SocketAddr,
        from: SocketAddr,
        is_origin: bool,
    ) {
        let service = self.records[&client].service;
        let policy = self.policy(service);
        if policy.affinity > Ticks(0) {
            let winner = match is_origin {
                true => Preferred::Origin,
                false => Preferred::Site(site(&policy, from.ip())),
            };
            self.direct.preferences.insert((service, client.ip()), (winner, now));
        }
    }

    /// Returns whether a SYN/ACK that could win has to wait, and makes it: for as long as its
    /// handicap is, if another is expected before that.
    pub(super) fn holds(
        &mut self,
        now: Duration,
        packet: &Packet,
        from: SocketAddr,
        is_origin: bool,
        known: &Record,
    ) -> bool {
        let (plan, policy) = (self.plan(known.service), self.policy(known.service));
        if policy.handicaps.is_empty() && policy.affinity == Ticks(0) && !plan.has_distrusted {
            return false;
        }
        let preferred = self.preferred(known.service, packet.to.ip(), now);
        let preferred = preferred.filter(|preferred| match *preferred {
            Preferred::Origin => plan.origin.is_some(),
            Preferred::Site(wanted) => find(&plan, &policy, wanted)
                .is_some_and(|(number, _)| known.asked.contains(&number)),
        });
        // Who is not preferred has to be better by the slack.
        let slack = |who: Preferred| match preferred {
            Some(preferred) if preferred != who => policy.affinity_slack,
            _ => Ticks(0),
        };
        let own_site = site(&policy, from.ip());
        let own = find(&plan, &policy, own_site).filter(|_| !is_origin);
        let handicap = match (is_origin, own) {
            (true, _) => slack(Preferred::Origin),
            (false, Some((_, candidate))) => candidate.handicap + slack(Preferred::Site(own_site)),
            (false, None) => policy.handicap(from.ip()) + slack(Preferred::Site(own_site)),
        };
        let mut others: Vec<_> = sites(&plan)
            .filter(|(number, _)| known.asked.contains(number))
            .filter(|(number, _)| own.is_none_or(|(own, _)| own != *number))
            .filter_map(|(_, other)| {
                Some(other.rank? + slack(Preferred::Site(site(&policy, other.address))))
            })
            .collect();
        if let Some(origin) = plan.origin.filter(|_| !is_origin) {
            let after = if known.deferred { policy.origin_after } else { Ticks(0) };
            others.push(origin + after + slack(Preferred::Origin));
        }
        let elapsed = micros(now).wrapping_sub(micros(known.started));
        let counted = Ticks::from_micros(elapsed.into()) + handicap;
        let nobody_earlier = !others.is_empty() && others.iter().all(|other| *other >= counted);
        let waits = handicap > Ticks(0) && !nobody_earlier;
        if !waits || known.held == Some(from) {
            return waits;
        }
        if packet.header_len() + packet.payload.len() > LONGEST {
            return false;
        }
        self.change(packet.to).held = Some(from);
        let due = now + span(handicap);
        self.wait(packet.to, packet.clone(), Some((from, is_origin)), due);
        true
    }

    /// Releases what is due. Returns what leaves, by side.
    pub fn release(&mut self, now: Duration) -> [Vec<Leaving>; 2] {
        let mut left = [Vec::new(), Vec::new()];
        for _ in 0..RELEASED {
            // The first of the earliest.
            let due = self.direct.waiting.iter().map(|waiting| waiting.due).min();
            let Some(due) = due.filter(|due| *due <= now) else { break };
            let at = self.direct.waiting.iter().position(|waiting| waiting.due == due);
            let waiting = self.direct.waiting.remove(at.expect("one is due"));
            let (side, leaving) = self.released(now, waiting);
            left[side as usize].extend(leaving);
        }
        left
    }

    fn released(&mut self, now: Duration, waiting: Waiting) -> (Side, Option<Leaving>) {
        let Waiting { client, race, packet, from, .. } = waiting;
        let known = self.records.get(&client).cloned();
        let is_gone = known.is_none();
        let known = known.filter(|record| race_of(record) == race);
        let syn = |packet| (Side::Outside, Some(Leaving::Packet(Box::new(packet))));
        match (from, known) {
            (None, None) if is_gone => syn(packet),
            (None, Some(known)) => {
                let undecided = matches!(known.state, State::Racing | State::Origin);
                if undecided && known.repetitions == 0 {
                    syn(packet)
                } else {
                    (Side::Outside, None)
                }
            }
            (_, None) => (Side::Outside, None),
            (Some((from, is_origin)), Some(known)) => match known.state {
                State::Racing => {
                    self.change(client).held = None;
                    (Side::Inside, self.wins(now, &packet, from, is_origin).onward.pop())
                }
                State::Origin if is_origin => (Side::Outside, None),
                state if state.is_translated() && known.replica == Some(from) => {
                    (Side::Outside, None)
                }
                _ => (Side::Outside, Some(self.reset(&packet, from, is_origin))),
            },
        }
    }
}
