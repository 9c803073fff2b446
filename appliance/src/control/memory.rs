//! The memory of replicas, as the control thread keeps it: it takes the workers' reports, and
//! answers operators.

use std::net::IpAddr;

use pipeline::base::published::Reader;
use pipeline::base::time::Ticks;
use pipeline::memory::{
    Memory, Plans, Race, Remembered, Reports, ReportsReader, ServiceSettings, Shown, reports,
};
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::wire::family::Version;

use super::stats::{AnswerStats, MemoryStats, RaceStats, SiteStats, quantile};

/// The most reports of one worker between two turns of the control thread. More races than that are
/// a sample that is large enough.
const REPORTS: usize = 4096;
/// The most races of a client that are shown.
const RACES: usize = 16;

/// The memory, and the ends of the queues that workers report to.
#[derive(Debug)]
pub struct Remembering {
    memory: Memory,
    readers: Vec<ReportsReader>,
    /// Whether any service asks directly; if not, nothing is reported.
    is_used: bool,
    /// Which services are shadows.
    shadows: Vec<bool>,
}

impl Remembering {
    /// Returns the memory of these services.
    pub fn new(services: Vec<ServiceSettings>, path: TunnelPath) -> Self {
        let is_used = services.iter().any(|service| service.policy.is_direct());
        let shadows = services.iter().map(|service| service.policy.shadow).collect();
        Self { memory: Memory::new(services, path), readers: Vec::new(), is_used, shadows }
    }

    /// Goes on with the services of `next`, the memory of a changed configuration. Called before the
    /// workers reload: none that has reloaded asks a replica that was removed. A worker goes on with
    /// the queue of reports that it has, if it has one; otherwise with that of `next`.
    pub fn reload(&mut self, next: Self, now: Ticks) {
        let Self { memory, readers, is_used, shadows } = next;
        self.memory.reload(memory, now);
        if self.readers.is_empty() {
            self.readers = readers;
        }
        self.is_used |= is_used;
        self.shadows = shadows;
    }

    /// Returns a reader of the plans for one more worker.
    pub fn plans(&self) -> Reader<Plans> {
        self.memory.reader()
    }

    /// Returns the queue for the reports of one more worker.
    pub fn reports(&mut self) -> Reports {
        if !self.is_used {
            return Reports::ignored();
        }
        let (reports, reader) = reports(REPORTS);
        self.readers.push(reader);
        reports
    }

    /// Takes all reports and publishes whom to ask from now on.
    pub fn step(&mut self, now: Ticks) {
        for reader in &mut self.readers {
            // At most what fits the queue: a busy worker does not keep the control thread here.
            for _ in 0..REPORTS {
                let Some(report) = reader.take() else { break };
                self.memory.note(&report);
            }
        }
        if self.is_used {
            self.memory.step(now);
        }
    }

    /// Returns the memory itself, to share what it has learned.
    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// Returns what is remembered; `services` are the names of the services.
    pub fn shown(&self, services: &[String], now: Ticks) -> Vec<MemoryStats> {
        self.memory.shown(now).iter().map(|shown| service_stats(shown, services)).collect()
    }

    /// Forgets what was learned of a service, or of all.
    pub fn clear(&mut self, service: Option<u16>, now: Ticks) {
        self.memory.clear(service, now);
    }

    /// Returns the last races of a client, of one port or all.
    pub fn races_of(
        &self,
        (client, port): (IpAddr, Option<u16>),
        services: &[String],
        now: Ticks,
    ) -> Vec<RaceStats> {
        let races = self.memory.races_of(client, port).take(RACES);
        let is_shadow = |race: &Race| self.shadows.get(usize::from(race.service)) == Some(&true);
        races.map(|race| race_stats(race, is_shadow(race), services, now)).collect()
    }
}

fn name(services: &[String], number: u16) -> String {
    services.get(usize::from(number)).cloned().unwrap_or_default()
}

fn service_stats(shown: &Shown, services: &[String]) -> MemoryStats {
    let won: u64 = shown.sites.iter().map(|site| site.won).sum::<u64>() + shown.origin_won;
    let state = match shown.origin_is_nearest {
        true => "the origin is nearest, only explorations are raced".to_owned(),
        false => shown.why.text().to_owned(),
    };
    MemoryStats {
        service: name(services, shown.service),
        family: if shown.version == Version::V4 { "IPv4" } else { "IPv6" }.to_owned(),
        races: shown.races,
        state,
        origin_us: shown.origin.map(Ticks::micros),
        origin_won: shown.origin_won,
        shadow_gain_us: (!shown.gained.is_empty()).then(|| quantile(&shown.gained, 0.5)),
        shadow_races: shown.gained.iter().map(|(_, count)| count).sum(),
        sites: shown.sites.iter().map(|site| site_stats(site, won)).collect(),
    }
}

fn site_stats(site: &Remembered, won: u64) -> SiteStats {
    let state = match site {
        _ if site.is_dead => "dead",
        _ if site.is_distrusted => "distrusted",
        _ if site.asked > 0 && site.answered == 0 => "never answered",
        _ if site.rank.is_some() && site.direct.is_some() => "asked",
        _ if site.rank.is_some() => "first copy",
        _ if site.is_trial => "next trial",
        _ => "known",
    };
    SiteStats {
        address: Some(site.address),
        rank: site.rank.map(|rank| rank as u64),
        state: state.to_owned(),
        warm: site.is_warm,
        direct_us: site.direct.map(Ticks::micros),
        by_switch_us: site.by_switch.map(Ticks::micros),
        asked: site.asked,
        answered: site.answered,
        won: site.won,
        share_per_mille: (site.won * 1000).checked_div(won).unwrap_or(0),
        heard_ms: site.heard.map(|heard| heard.micros() / 1000),
    }
}

fn race_stats(race: &Race, is_shadow: bool, services: &[String], now: Ticks) -> RaceStats {
    let answers = race.answers.iter().map(|answer| AnswerStats {
        responder: Some(answer.responder),
        origin: answer.is_origin,
        direct: answer.is_direct,
        won: answer.has_won,
        after_us: answer.after.micros(),
    });
    RaceStats {
        service: name(services, race.service),
        client: race.client.to_string(),
        ago_ms: now.since(race.at).micros() / 1000,
        asked: race.asked.iter().map(|address| address.to_string()).collect(),
        copies: race.copies.to_string(),
        shadow: is_shadow,
        why: race.why.text().to_owned(),
        answers: answers.collect(),
    }
}
