//! Invariants that must hold at the end of every run.

use std::net::SocketAddr;

use super::address::{self, CLIENTS, ORIGIN, REPLICAS, Site, address};
use super::client::{Call, Outcome};
use super::expected_failures;
use super::plan::{Behaviour, Configuration, Gate, Lacks, Nanos, PATIENT, Permits, Plan, SECOND};
use super::server::{End, Record, Server};
use super::station;
use super::variety::{Signing, Strangers};
use super::world::World;

/// Without loss a loser is reset within this time, before it retransmits.
const PROMPT: Nanos = SECOND;

/// Returns all violations, one line each.
#[must_use]
pub fn check(world: &mut World, done: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !done {
        wrong.push(format!("not done: {}", undone(world)));
    }
    for client in world.clients() {
        for call in &client.calls {
            let endpoint = client.endpoint(call);
            if let Judgement::Wrong(why) = judge(world, endpoint, call) {
                wrong.push(format!("connection {} of {endpoint}: {why}", call.id));
            }
        }
    }
    wrong.append(&mut world.wrong);
    // Under B, packets to the service's address reach the origin, and every replica that has the
    // client's connection.
    let told = |site: Site| site == CLIENTS || world.plan.configuration != Configuration::B;
    let strays = world.stray_errors().filter(|(site, _)| told(*site) && *site != ORIGIN);
    wrong.extend(strays.map(|(site, what)| format!("stray at site {site}: {what}")));
    let servers = world.servers();
    wrong.extend(servers.flat_map(|server| {
        server.records.iter().filter_map(|record| {
            let why = half_open(world, server, record).err()?;
            Some(format!("server {} for {}: {why}", server.number, record.client))
        })
    }));
    world.expire();
    for (station, dead) in world.stations().iter().zip(&world.dead) {
        if dead.is_some() {
            continue;
        }
        wrong.extend(station::conserves(&**station).err());
        let live = station::live(&**station);
        if live > 0 {
            wrong.push(format!("{}: {live} entries outlive their time-outs", station.name()));
        }
    }
    wrong
}

fn undone(world: &World) -> String {
    let calls = world.clients().flat_map(|client| &client.calls);
    let open: Vec<_> = calls.filter(|call| call.outcome.is_none()).map(|call| call.id).collect();
    let records = world.servers().flat_map(|server| &server.records);
    let held = records.filter(|record| record.end.is_none()).count();
    format!("connections {open:?} without an end, {held} held by servers")
}

/// The result of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is complete, or failed for a reason outside the appliances.
    Right,
    /// It failed because of a known limitation.
    ExpectedFailure(&'static str),
    /// It failed.
    Wrong(String),
}

/// Checks a connection.
#[must_use]
pub fn judge(world: &World, client: SocketAddr, call: &Call) -> Judgement {
    let Err(why) = connection(world, client, call) else { return Judgement::Right };
    match expected_failures::limitation(world, call, client) {
        Some(limitation) => Judgement::ExpectedFailure(limitation),
        None => Judgement::Wrong(why),
    }
}

/// Checks that a connection is complete, or has a reason for failure, and that one server had it.
fn connection(world: &World, client: SocketAddr, call: &Call) -> Result<(), String> {
    let had: Vec<(&Server, &Record)> = world
        .servers()
        .flat_map(|server| server.records.iter().map(move |record| (server, record)))
        .filter(|(_, record)| record.client == client && Some(record.isn) == call.isn)
        .collect();
    let opened = had.iter().filter(|(_, record)| record.established.is_some());
    let liar = liar_of(world, client, call);
    let opened: Vec<_> = opened.map(|(server, _)| server.number).chain(liar).collect();
    if opened.len() > 1 {
        return Err(format!("it was open at servers {opened:?}"));
    }
    if let Some(wrong) = had.iter().find_map(|(_, record)| record.wrong.clone()) {
        return Err(format!("its request had {wrong}"));
    }
    let outcome = call.outcome.as_ref().ok_or("it has no end")?;
    // Its server is cut off, or timed out just when the client's packet arrived.
    let gone = |server: &Server, record: &Record| {
        world.was_dead[server.site] || matches!(record.end, Some((_, End::TimedOut)))
    };
    if had.iter().any(|(server, record)| gone(server, record))
        && matches!(outcome, Outcome::GaveUp | Outcome::Broken(_))
    {
        return Ok(());
    }
    if liar.is_some() && matches!(outcome, Outcome::GaveUp | Outcome::Broken(_)) {
        return Ok(());
    }
    if let Outcome::Completed(by) = outcome
        && let Some(why) = begun_with_removed(world, call, *by)
    {
        return Err(why);
    }
    let impatient = world.plan.connections[call.id].patience < PATIENT;
    match outcome {
        Outcome::Completed(by) if opened == [*by] => Ok(()),
        Outcome::Completed(by) => Err(format!("server {by} answered, {opened:?} had it open")),
        Outcome::Refused if world.plan.origin == Behaviour::Refuses => Ok(()),
        Outcome::Refused => Err("it was refused, though the origin refuses nobody".into()),
        Outcome::Unanswered | Outcome::GaveUp if impatient => Ok(()),
        Outcome::Unanswered => unanswered(&world.plan, call.id),
        Outcome::GaveUp => Err("it was not complete in good time".into()),
        Outcome::Broken(how) | Outcome::Wrong(how) => Err(how.clone()),
    }
}

/// Returns what is wrong with a connection that began after the gateway was reloaded, and that is at
/// a server which it must not be at.
fn begun_with_removed(world: &World, call: &Call, by: u8) -> Option<String> {
    let reloaded = world.reloaded[CLIENTS]?;
    let server = world.servers().find(|server| server.number == by)?;
    let Lacks { replica, service, .. } = world.plan.lacks;
    let is_removed = replica == Some(server.site);
    let is_retired = service.is_some_and(|number| {
        call.service.ip() == address::service(world.plan.family, number) && server.site != ORIGIN
    });
    let is_wrong = call.begun > reloaded && (is_removed || is_retired);
    is_wrong.then(|| format!("it began after the reload, and server {by} has it"))
}

/// Returns the number of the lying server that the client has a connection with.
#[must_use]
pub fn liar_of(world: &World, client: SocketAddr, call: &Call) -> Option<u8> {
    let lured =
        |server: &&Server| {
            server.liar.lured.iter().any(|lured| {
                lured.established && (lured.client, Some(lured.isn)) == (client, call.isn)
            })
        };
    world.servers().find(lured).map(|server| server.number)
}

/// Returns whether it is legitimate that no server responds.
fn unanswered(plan: &Plan, call: usize) -> Result<(), String> {
    if plan.origin != Behaviour::Silent {
        return Err(format!("nobody answered, though the origin is there: {:?}", plan.origin));
    }
    let shares_port = plan.connections.iter().enumerate().any(|(id, other)| {
        let port = (plan.connections[call].client, plan.connections[call].port);
        id != call && (other.client, other.port) == port
    });
    // A SYN/ACK that has waited needs a buffer to go on.
    let lacks_buffers = plan.buffers_left != usize::MAX && plan.racing.waits().next().is_some();
    let crowded = plan.table < plan.connections.len();
    if shares_port || crowded || plan.racing.shadow || lacks_buffers {
        return Ok(());
    }
    let copied = plan.changes.is_empty()
        && matches!(plan.signing, Signing::Not | Signing::Signed)
        && matches!(plan.strangers, Strangers::Nobody | Strangers::Others);
    let replies = |site: &Site| {
        let replica = &plan.replicas[site - REPLICAS];
        copied
            && replica.gate == Gate::Open
            && (plan.permits != Permits::First || *site == REPLICAS)
            && replica.behaviour == Behaviour::Serves
            && plan.is_lossless(CLIENTS, ORIGIN)
            && plan.is_lossless(ORIGIN, *site)
            && plan.is_lossless(*site, CLIENTS)
    };
    match (REPLICAS..plan.sites()).find(replies) {
        Some(site) => {
            Err(format!("nobody answered, though {} does", address(plan.family, site, 0)))
        }
        None => Ok(()),
    }
}

/// Checks that a server's connections end because of their client or winner.
fn half_open(world: &World, server: &Server, record: &Record) -> Result<(), String> {
    let Some((at, end)) = record.end else { return Err("it is still held".into()) };
    let seconds = (at - record.since) as f64 / 1e9;
    // The gateway has only the latest connection of an endpoint.
    let latest_and_patient = || {
        world.clients().any(|client| {
            let own = |call: &&Call| client.endpoint(call) == record.client && call.begun < at;
            let latest = client.calls.iter().rfind(own);
            latest.is_some_and(|call| {
                call.isn == Some(record.isn) && world.plan.connections[call.id].patience == PATIENT
            })
        })
    };
    // A copy of the SYN that arrives after the end opens another connection, which neither client
    // nor gateway has.
    let first = server
        .records
        .iter()
        .find(|other| (other.client, other.isn) == (record.client, record.isn))
        .is_some_and(|first| std::ptr::eq(first, record));
    let slow = record.established.is_none() && at - record.since > PROMPT;
    // Replicas that the gateway does not allow get no answer until the race is decided.
    let promised = world.plan.is_calm()
        && world.plan.permits != Permits::First
        && world.plan.lacks.replica.is_none()
        && world.plan.table >= world.plan.connections.len();
    if promised && first && slow && latest_and_patient() {
        return Err(format!("half open for {seconds:.1} s ({end:?}), though nothing is lost"));
    }
    Ok(())
}
