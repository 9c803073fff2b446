//! How a run's gateway asks replicas directly, and the memory that its control thread keeps.

use std::net::IpAddr;

use ipnet::IpNet;
use pipeline::base::time::Ticks;
use pipeline::counters::CommonCounters;
use pipeline::memory::{Memory, Policy, ReportsReader, reports};
use pipeline::packet::view::Side;
use pipeline::role::gateway::Shares;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{self, Gateway};

use super::address::{HOST, REPLICAS, address, prefix};
use super::log::Log;
use super::plan::{MS, Nanos, Plan, SECOND};
use super::rng::Rng;
use super::station::{Appliance, Frame, Leaving, Mutant, Runs};

/// The most reports between two rounds of the control thread.
const REPORTS: usize = 1 << 14;

/// The policy of all services of a run.
#[derive(Clone, Debug)]
pub struct Racing {
    /// How many replicas are asked directly; 0: the race of the patent alone.
    pub direct: u8,
    /// How many copies the switch is asked for besides.
    pub explore: u8,
    /// How long a replica is remembered.
    pub memory: Nanos,
    /// How long the SYN to the origin waits.
    pub origin_after: Nanos,
    /// By how much replicas of the first site, or of all, have to beat the others.
    pub handicap: Nanos,
    /// Whether the handicap is of all replicas.
    pub handicaps_all: bool,
    /// How long a client keeps its server.
    pub affinity: Nanos,
    /// By how much that server may be behind the best.
    pub affinity_slack: Nanos,
    /// Whether the origin wins all races.
    pub shadow: bool,
    /// Whether the configuration names the replicas.
    pub warm: bool,
    /// The lengths of the prefixes that tell sites: IPv4, IPv6.
    pub site_prefix: [u8; 2],
    /// The longest time between two rounds of the control thread.
    pub lag: Nanos,
}

impl Racing {
    /// Returns the policy of so many direct copies, everything else as in a configuration that does
    /// not mention it.
    #[must_use]
    pub fn of(direct: u8) -> Self {
        Self {
            direct,
            explore: 1,
            memory: 600 * SECOND,
            origin_after: 0,
            handicap: 0,
            handicaps_all: true,
            affinity: 0,
            affinity_slack: 20 * MS,
            shadow: false,
            warm: false,
            site_prefix: [24, 64],
            lag: 20 * MS,
        }
    }

    /// Draws a policy.
    #[must_use]
    pub fn draw(rng: &mut Rng) -> Self {
        let sometimes = |rng: &mut Rng, per_mille, least, most| {
            let value = rng.between(least, most);
            if rng.chance(per_mille) { value } else { 0 }
        };
        Self {
            direct: rng.size(0, 4) as u8,
            explore: rng.size(0, 2) as u8,
            memory: rng.pick(&[(3, 600 * SECOND), (1, 5 * SECOND)]),
            origin_after: sometimes(rng, 250, MS, 80 * MS),
            handicap: sometimes(rng, 200, MS, 40 * MS),
            handicaps_all: rng.chance(500),
            affinity: sometimes(rng, 200, SECOND, 60 * SECOND),
            affinity_slack: rng.between(0, 40 * MS),
            shadow: rng.chance(60),
            warm: rng.chance(250),
            site_prefix: rng.pick(&[(6, [24, 64]), (3, [32, 128]), (1, [16, 32])]),
            lag: rng.pick(&[(1, 0), (2, 50 * MS)]),
        }
    }

    /// Returns the spans after which a frame may leave the gateway that has waited in it.
    pub(super) fn waits(&self) -> impl Iterator<Item = Nanos> {
        let slack = if self.affinity > 0 { self.affinity_slack } else { 0 };
        let all = [self.origin_after, self.handicap, slack, self.handicap + slack];
        all.into_iter().filter(|span| *span > 0)
    }

    /// Returns whether the nearest contender has no reason to lose.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.handicap == 0 && self.affinity == 0 && !self.shadow && self.origin_after == 0
    }

    /// Returns the policy as the gateway knows it.
    #[must_use]
    pub fn policy(&self, plan: &Plan) -> Policy {
        let sites = REPLICAS..plan.sites();
        let first = |site| -> IpAddr { address(plan.family, site, HOST) };
        let handicapped = match (self.handicap, self.handicaps_all) {
            (0, _) => 0..0,
            (_, true) => sites.clone(),
            (_, false) => REPLICAS..(REPLICAS + 1).min(plan.sites()),
        };
        let handicap =
            |site| -> (IpNet, Ticks) { (prefix(plan.family, site), Ticks(self.handicap)) };
        Policy {
            direct: self.direct,
            explore: self.explore,
            memory: Ticks(self.memory),
            site_prefix: self.site_prefix,
            warm: if self.warm { sites.map(first).collect() } else { Vec::new() },
            shadow: self.shadow,
            origin_after: Ticks(self.origin_after),
            handicaps: handicapped.map(handicap).collect(),
            affinity: Ticks(self.affinity),
            affinity_slack: Ticks(self.affinity_slack),
            ..Policy::default()
        }
    }
}

/// A gateway with the control thread that keeps its memory.
pub struct Remembering<X> {
    appliance: Appliance<Gateway<X>>,
    /// What it remembers.
    pub memory: Memory,
    reports: ReportsReader,
    lag: Nanos,
    due: Nanos,
    mutant: Option<Mutant>,
}

impl<X: Mode> Remembering<X> {
    /// Returns a gateway and its memory, which is kept at intervals of up to `lag`; `appliance`
    /// makes an appliance of the role.
    pub fn new(
        mut settings: gateway::Settings,
        keys: pipeline::base::published::Reader<pipeline::stage::sign::Keys>,
        (lag, mutant): (Nanos, Option<Mutant>),
        appliance: impl FnOnce(Gateway<X>) -> Appliance<Gateway<X>>,
    ) -> Self {
        if mutant == Some(Mutant::ExploresAlways) {
            settings.services.iter_mut().for_each(|service| service.policy.explore = 14);
        }
        let services = settings.services.iter().map(gateway::Service::memory).collect();
        let memory = Memory::new(services, settings.path.clone());
        let (sender, reports) = reports(REPORTS);
        let shares = Shares { plans: memory.reader(), reports: sender };
        let role = Gateway::with_memory(settings, keys, shares);
        Self { appliance: appliance(role), memory, reports, lag, due: 0, mutant }
    }

    /// Does a round of the control thread.
    fn keep(&mut self, now: Nanos, rng: &mut Rng) {
        while let Some(report) = self.reports.take() {
            let report = self.mutant.map_or(Some(report), |mutant| mutant.report(report));
            report.iter().for_each(|report| self.memory.note(report));
        }
        self.memory.step(Ticks(now));
        self.due = now + rng.between(0, self.lag);
    }
}

impl<X: Mode> Runs for Remembering<X> {
    fn name(&self) -> &str {
        self.appliance.name()
    }

    fn receive(&mut self, side: Side, frame: Frame) -> bool {
        self.appliance.receive(side, frame)
    }

    fn turn(&mut self, now: Nanos, rng: &mut Rng, log: &mut Log) -> Leaving {
        if now >= self.due {
            self.keep(now, rng);
        }
        self.appliance.turn(now, rng, log)
    }

    fn waits(&self) -> bool {
        self.appliance.waits()
    }

    fn counters(&self) -> &CommonCounters {
        self.appliance.counters()
    }

    fn sent(&self) -> u64 {
        self.appliance.sent()
    }

    fn memory(&self) -> Option<&Memory> {
        Some(&self.memory)
    }
}
