//! What came of a long run: who won each race, how fast, and what it cost.

use std::net::SocketAddr;

use super::address::{ORIGIN, REPLICAS, Site};
use super::check;
use super::client::Outcome;
use super::metric::Metric;
use super::mutants::Mutant;
use super::plan::{Nanos, Plan, SECOND};
use super::server::Record;
use super::traffic::Traffic;
use super::variety::Change;
use super::world::World;

/// No connection of a long run lasts longer, without a loss.
const LASTS: Nanos = 2 * SECOND;

/// One connection of a long run.
#[derive(Clone, Debug)]
pub struct Race {
    /// The client.
    pub client: SocketAddr,
    /// When the client sent its first SYN.
    pub at: Nanos,
    /// The time until the connection stood; `None` if it never did.
    pub connect: Option<Nanos>,
    /// The site that had it; `None` if it never stood.
    pub winner: Option<Site>,
    /// Whether the winner was a liar.
    pub was_lost: bool,
    /// Whether the whole response came.
    pub is_complete: bool,
    /// SYNs that the client sent.
    pub syns: u32,
}

/// A connection that was half open at a server that did not win it.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// The server's site.
    pub site: Site,
    /// The arrival of its SYN.
    pub since: Nanos,
    /// For how long it was half open.
    pub lasted: Nanos,
}

/// What came of a long run.
#[derive(Debug)]
pub struct Course {
    /// The plan.
    pub plan: Plan,
    /// Connections in the order of their start.
    pub races: Vec<Race>,
    /// Copies and SYN/ACKs.
    pub traffic: Traffic,
    /// Half-open connections at servers that did not win.
    pub half_open: Vec<HalfOpen>,
    /// Violations of what holds in every run.
    pub wrong: Vec<String>,
}

impl Course {
    /// Runs a plan on a map, perhaps with a gateway that is broken.
    #[must_use]
    pub fn run(metric: &Metric, mutant: Option<Mutant>) -> Self {
        let mut world = World::new(metric.plan(), false, mutant);
        let done = world.run();
        let mut races: Vec<_> = world
            .clients()
            .flat_map(|client| client.calls.iter().map(move |call| (client.endpoint(call), call)))
            .map(|(client, call)| {
                let liar = check::liar_of(&world, client, call);
                let number = match call.outcome {
                    Some(Outcome::Completed(number)) => Some(number),
                    _ => liar,
                };
                let server = world.servers().find(|server| Some(server.number) == number);
                Race {
                    client,
                    at: call.begun,
                    connect: call.opened_at.map(|at| at - call.begun),
                    winner: server.map(|server| server.site),
                    was_lost: liar.is_some(),
                    is_complete: matches!(call.outcome, Some(Outcome::Completed(_))),
                    syns: call.starts,
                }
            })
            .collect();
        races.sort_by_key(|race| race.at);
        let half_open = half_open(&world);
        let wrong = check::check(&mut world, done);
        Self { plan: world.plan, races, traffic: world.traffic, half_open, wrong }
    }

    /// Returns the replica that died while it had this connection, or was about to have it.
    #[must_use]
    pub fn died(&self, race: &Race) -> Option<Site> {
        self.plan.changes.iter().find_map(|(at, change)| match change {
            Change::Dies(replica) if *at >= race.at && *at < race.at + LASTS => {
                Some(REPLICAS + replica)
            }
            _ => None,
        })
    }

    /// Returns the copies to replicas for each race from a time until another, directly and by the
    /// switch.
    #[must_use]
    pub fn copies(&self, from: Nanos, until: Nanos) -> [f64; 2] {
        let within = |at: Nanos| (from..until).contains(&at);
        let races = self.races.iter().filter(|race| within(race.at)).count().max(1);
        [true, false].map(|is_direct| {
            let copies = self.traffic.copies.iter();
            let copies = copies.filter(|copy| copy.is_direct == is_direct && within(copy.at));
            copies.count() as f64 / races as f64
        })
    }

    /// Returns the mean number of half-open connections that a race leaves at the origin, or at all
    /// replicas, and how long each lasts on average.
    #[must_use]
    pub fn half_open_at(&self, is_origin: bool, from: Nanos) -> (f64, Nanos) {
        let races = self.races.iter().filter(|race| race.at >= from).count().max(1);
        let own = |one: &&HalfOpen| (one.site == ORIGIN) == is_origin && one.since >= from;
        let all: Vec<_> = self.half_open.iter().filter(own).map(|one| one.lasted).collect();
        let mean = all.iter().sum::<Nanos>() / all.len().max(1) as Nanos;
        (all.len() as f64 / races as f64, mean)
    }
}

fn half_open(world: &World) -> Vec<HalfOpen> {
    let lost = |record: &&Record| record.established.is_none();
    let servers = world.servers();
    let records = servers.flat_map(|server| {
        server.records.iter().filter(lost).map(move |record| (server.site, record))
    });
    records
        .filter_map(|(site, record)| {
            let (end, _) = record.end?;
            Some(HalfOpen { site, since: record.since, lasted: end - record.since })
        })
        .collect()
}
