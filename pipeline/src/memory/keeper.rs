//! The memory of all services, which the control thread keeps.

use std::net::IpAddr;

use super::family::FamilyMemory;
use super::history::{Answer, History, Race};
use super::site::State;
use super::smoothed::Smoothed;
use super::{Event, Plan, Plans, Policy, Report, Why};
use crate::base::published::{Published, Reader};
use crate::base::time::Ticks;
use crate::counters::Histogram;
use crate::policy::allow_list::AllowList;
use crate::policy::tunnel_path::TunnelPath;
use crate::wire::family::Version;

/// A service as the memory sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Its policy.
    pub policy: Policy,
    /// The addresses from which replicas may answer. Others are not remembered.
    pub allowed_replicas: AllowList,
    /// No race of it begins any more, so nobody is asked.
    pub retired: bool,
}

impl From<Policy> for ServiceSettings {
    /// Returns a service whose replicas may have any address.
    fn from(policy: Policy) -> Self {
        Self { policy, allowed_replicas: AllowList::Any, retired: false }
    }
}

/// The memory of all services of a gateway.
///
/// # Examples
/// A replica that has answered by way of the switch is asked directly from then on.
///
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::memory::{Event, Memory, Policy, Report, ServiceSettings};
/// use pipeline::policy::tunnel_path::TunnelPath;
/// use pipeline::wire::family::Version;
///
/// let policy = Policy { direct: 2, ..Policy::default() };
/// let mut memory = Memory::new(vec![ServiceSettings::from(policy)], TunnelPath::default());
/// let mut plans = memory.reader();
/// let event = Event::Answered {
///     responder: "198.51.100.10".parse().unwrap(),
///     is_origin: false,
///     is_direct: false,
///     has_won: false,
///     after: Some(Ticks::from_millis(150)),
/// };
/// let client = "198.18.1.10:40000".parse().unwrap();
/// memory.note(&Report { at: Ticks::from_secs(1), service: 0, client, event });
/// memory.step(Ticks::from_secs(1));
///
/// assert!(plans.refresh());
/// let plan = plans.get().of(0, Version::V4).unwrap();
/// let asked = plan.candidate(plan.best[0]).unwrap();
/// assert_eq!(asked.address.to_string(), "198.51.100.10");
/// ```
#[derive(Debug)]
pub struct Memory {
    services: Vec<ServiceMemory>,
    path: TunnelPath,
    history: History,
    plans: Plans,
    published: Published<Plans>,
}

#[derive(Debug)]
struct ServiceMemory {
    settings: ServiceSettings,
    families: [FamilyMemory; 2],
    /// How much earlier a replica answered than the origin, in races that a shadow let the origin
    /// win.
    gained: Histogram,
}

/// A site, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// The address that is asked.
    pub address: IpAddr,
    /// The smoothed time to its answers to direct copies.
    pub direct: Option<Ticks>,
    /// The smoothed time to its answers to the switch's copies.
    pub by_switch: Option<Ticks>,
    /// Its rank among the sites that are asked directly, from 1 on; `None`: not asked.
    pub rank: Option<usize>,
    /// Whether it gets the next trial.
    pub is_trial: bool,
    /// Whether it has left the direct set because it did not answer.
    pub is_dead: bool,
    /// Whether it has left the direct set because it answers SYNs and then serves nothing.
    pub is_distrusted: bool,
    /// Whether the configuration names it.
    pub is_warm: bool,
    /// Direct copies that were sent to it.
    pub asked: u64,
    /// SYN/ACKs that it sent, won or lost.
    pub answered: u64,
    /// Races that it won.
    pub won: u64,
    /// The time since its last answer; `None` if it has never answered.
    pub heard: Option<Ticks>,
}

/// What is remembered of one service and family, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The number of the service.
    pub service: u16,
    /// The family.
    pub version: Version,
    /// Races that were reported.
    pub races: u64,
    /// Races that the origin won.
    pub origin_won: u64,
    /// The smoothed time to the origin's answers.
    pub origin: Option<Ticks>,
    /// Why the switch is asked for as many copies as it is.
    pub why: Why,
    /// Whether the origin is nearest, so that only explorations are raced.
    pub origin_is_nearest: bool,
    /// The sites: those that are asked in the order of their rank, then the others.
    pub sites: Vec<Remembered>,
    /// By how much the first replica was faster than the origin: the median of races that a shadow
    /// let the origin win.
    pub gained: Vec<(u64, u64)>,
}

/// A site that one gateway has learned of and others may try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The number of the service.
    pub service: u16,
    /// The address that is asked.
    pub address: IpAddr,
    /// The smoothed direct time.
    pub direct: Option<Ticks>,
    /// The time since its last answer.
    pub age: Ticks,
}

impl Memory {
    /// Returns the memory of these services, in which nothing is remembered but warm replicas.
    pub fn new(services: Vec<ServiceSettings>, path: TunnelPath) -> Self {
        let plans = Plans::empty(services.len());
        let mut memory = Self {
            services: services.into_iter().map(ServiceMemory::new).collect(),
            path,
            history: History::default(),
            published: Published::new(plans.clone()),
            plans,
        };
        memory.services.iter_mut().for_each(|service| service.add_warm(Ticks(0)));
        memory.step(Ticks(0));
        memory
    }

    /// Goes on with the settings of `next`, a memory of the changed services in which nothing has
    /// been learned. Sites keep their numbers; those that are not allowed any more are forgotten. The
    /// readers of the plans stay with this memory.
    pub fn reload(&mut self, next: Self, now: Ticks) {
        let known = self.services.len();
        if self.path != next.path {
            self.path = next.path;
            let families = self.services.iter_mut().flat_map(|service| &mut service.families);
            families.for_each(FamilyMemory::touch);
        }
        for (number, service) in next.services.into_iter().enumerate() {
            match self.services.get_mut(number) {
                Some(own) => own.reload(service.settings, now),
                None => self.services.push(service),
            }
        }
        let new = self.services.len() - known;
        self.plans.0.extend(Plans::empty(new).0);
        self.services[known..].iter_mut().for_each(|service| service.add_warm(now));
        self.step(now);
    }

    /// Returns a reader of the plans, for one more worker.
    pub fn reader(&self) -> Reader<Plans> {
        self.published.reader()
    }

    /// Notes a worker's report.
    pub fn note(&mut self, report: &Report) {
        let Report { at, service: number, client, event } = *report;
        let Some(service) = self.services.get_mut(usize::from(number)) else { return };
        let ServiceMemory { settings, families, gained: gains } = service;
        let policy = &settings.policy;
        let family = &mut families[Version::of(client.ip()) as usize];
        match event {
            Event::Asked { sites, copies, why } => {
                let asked = family.note_asked(sites, why == Why::Repetition, at);
                let waits = why == Why::Fresh && policy.origin_after > Ticks(0);
                if !waits && why != Why::Repetition {
                    family.note_origin_asked(at);
                }
                let answers = Default::default();
                self.history.asked(Race {
                    at,
                    service: number,
                    client,
                    asked,
                    copies,
                    why,
                    answers,
                });
            }
            Event::Ended { replica, by_replica } => {
                family.note_end(policy, replica, by_replica, at);
            }
            Event::Answered { responder, is_origin, is_direct, has_won, after } => {
                let answer = |after| Answer {
                    responder,
                    is_origin,
                    is_direct: is_direct && !is_origin,
                    has_won,
                    after,
                };
                let race = self.history.answered((number, client), at, answer);
                match is_origin {
                    true => {
                        if let Some(gained) = race.and_then(gained).filter(|_| policy.shadow) {
                            gains.record(gained);
                        }
                        family.note_origin(has_won, is_direct, after, at);
                    }
                    // A worker that has not reloaded yet may report one that has been removed.
                    false if settings.allowed_replicas.allows(responder) => {
                        let how = (has_won, is_direct, after);
                        family.note_replica(policy, responder, how, at);
                    }
                    false => {}
                }
            }
        }
    }

    /// Does what is due: forgets sites that have expired, and publishes plans that have changed.
    pub fn step(&mut self, now: Ticks) {
        let mut changed = false;
        for (number, service) in self.services.iter_mut().enumerate() {
            for version in [Version::V4, Version::V6] {
                let family = &mut service.families[version as usize];
                if !family.is_due(now) {
                    continue;
                }
                let mut plan = family.plan(&service.settings.policy, &self.path, now);
                if service.settings.retired {
                    plan.ask_nobody();
                }
                if self.plans.of(number as u16, version) != Some(&plan) {
                    self.plans.set(number as u16, version, plan);
                    changed = true;
                }
            }
        }
        if changed {
            self.published.publish(self.plans.clone());
        }
    }

    /// Forgets what was learned of a service, or of all. What the configuration names is tried
    /// anew.
    pub fn clear(&mut self, service: Option<u16>, now: Ticks) {
        for (number, memory) in self.services.iter_mut().enumerate() {
            if service.is_none_or(|service| usize::from(service) == number) {
                memory.families.iter_mut().for_each(FamilyMemory::clear);
                memory.add_warm(now);
            }
        }
        self.step(now);
    }

    /// Returns what is remembered, for operators; services of which nothing is known are left out.
    pub fn shown(&self, now: Ticks) -> Vec<Shown> {
        let mut all = Vec::new();
        for (number, service) in self.services.iter().enumerate() {
            for version in [Version::V4, Version::V6] {
                let family = &service.families[version as usize];
                let number = number as u16;
                let known = family.races > 0 || family.sites.iter().any(Option::is_some);
                if let Some(plan) = self.plans.of(number, version).filter(|_| known) {
                    let gained = service.gained.counts().into_iter().enumerate();
                    let gained = gained.map(|(b, count)| (Histogram::lower_bound(b), count));
                    all.push(Shown {
                        service: number,
                        version,
                        races: family.races,
                        origin_won: family.origin_won,
                        origin: family.origin.map(Smoothed::time),
                        why: plan.why,
                        origin_is_nearest: plan.origin_is_nearest,
                        sites: sites(family, plan, now),
                        gained: gained.filter(|(_, count)| *count > 0).collect(),
                    });
                }
            }
        }
        all
    }

    /// Returns the last races of a client, the latest first, of one port or all.
    pub fn races_of(&self, client: IpAddr, port: Option<u16>) -> impl Iterator<Item = &Race> {
        self.history.of_client(client, port)
    }

    /// Returns the sites that have answered, for other gateways.
    pub fn learned(&self, now: Ticks) -> Vec<Learned> {
        let mut all = Vec::new();
        for (number, service) in self.services.iter().enumerate() {
            for family in &service.families {
                let sites = family.sites.iter().flatten();
                let heard = sites.filter(|site| {
                    site.answered > 0 && !matches!(site.state, State::Dead | State::Distrusted)
                });
                all.extend(heard.map(|site| Learned {
                    service: number as u16,
                    address: site.address,
                    direct: site.direct_time(),
                    age: now.since(site.heard),
                }));
            }
        }
        all
    }

    /// Adds a site that another gateway has learned of, to be tried here. Its direct time there
    /// says in which order. Returns whether the site is new; it is not added if all places are
    /// taken.
    pub fn learn(&mut self, learned: &Learned, now: Ticks) -> bool {
        let Some(ServiceMemory { settings, families, .. }) =
            self.services.get_mut(usize::from(learned.service))
        else {
            return false;
        };
        let policy = &settings.policy;
        if learned.age >= policy.memory
            || !policy.is_direct()
            || !settings.allowed_replicas.allows(learned.address)
        {
            return false;
        }
        let family = &mut families[Version::of(learned.address) as usize];
        family.learn(policy, learned.address, learned.direct, now.since(learned.age))
    }
}

impl ServiceMemory {
    fn new(settings: ServiceSettings) -> Self {
        let families = [FamilyMemory::new(), FamilyMemory::new()];
        Self { settings, families, gained: Histogram::default() }
    }

    /// Goes on with other settings: forgets the sites that they do not allow.
    fn reload(&mut self, settings: ServiceSettings, now: Ticks) {
        if self.settings == settings {
            return;
        }
        let earlier = std::mem::replace(&mut self.settings, settings);
        let policy = &self.settings.policy;
        for family in &mut self.families {
            if earlier.policy.site_prefix != policy.site_prefix {
                family.clear();
            }
            family.keep_allowed(policy, &self.settings.allowed_replicas);
        }
        self.add_warm(now);
    }

    fn add_warm(&mut self, now: Ticks) {
        let Self { settings: ServiceSettings { policy, .. }, families, .. } = self;
        families.iter_mut().for_each(FamilyMemory::touch);
        for &address in &policy.warm {
            families[Version::of(address) as usize].add_warm(policy, address, now);
        }
    }
}

/// Returns by how much the first replica of a race was faster than the origin, which has answered
/// last.
fn gained(race: &Race) -> Option<Ticks> {
    let origin = race.answers.iter().find(|answer| answer.is_origin)?;
    let replica = race.answers.iter().find(|answer| !answer.is_origin)?;
    (replica.after < origin.after).then(|| origin.after.since(replica.after))
}

fn sites(family: &FamilyMemory, plan: &Plan, now: Ticks) -> Vec<Remembered> {
    let mut sites: Vec<_> = family
        .sites
        .iter()
        .enumerate()
        .filter_map(|(number, site)| {
            let (number, site) = (number as u8, site.as_ref()?);
            Some(Remembered {
                address: site.address,
                direct: site.direct.map(Smoothed::time),
                by_switch: site.by_switch.map(Smoothed::time),
                rank: plan.best.iter().position(|best| *best == number).map(|at| at + 1),
                is_trial: plan.trial == Some(number),
                is_dead: site.state == State::Dead,
                is_distrusted: site.state == State::Distrusted,
                is_warm: site.is_warm,
                asked: site.asked,
                answered: site.answered,
                won: site.won,
                heard: (site.answered > 0).then(|| now.since(site.heard)),
            })
        })
        .collect();
    sites.sort_by_key(|site| (site.rank.unwrap_or(usize::MAX), site.direct, site.address));
    sites
}

#[cfg(test)]
mod tests;
