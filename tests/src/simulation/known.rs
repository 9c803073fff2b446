//! Where the gateway is known not to keep a connection alive: what is found here is counted, and
//! is no failure. Each case goes when the gateway learns better.

use std::net::SocketAddr;

use super::address::{CLIENTS, ORIGIN};
use super::client::{Call, Outcome};
use super::plan::{Closer, PATIENT, Start};
use super::world::World;

/// Start packets that a client sends within the time-out of a race.
const STARTS_OF_A_RACE: u32 = 6;

/// The limitation that a connection has met, if it has met one.
#[must_use]
pub fn limitation(world: &World, call: &Call, client: SocketAddr) -> Option<&'static str> {
    let plan = &world.plan;
    let own = &plan.connections[call.id];
    let tags_dropped = plan.paths[CLIENTS][ORIGIN].drops_options;
    let by_replica = world
        .servers()
        .filter(|server| server.number >= 10)
        .flat_map(|server| &server.records)
        .any(|r| r.client == client && Some(r.isn) == call.isn && r.established.is_some());
    let moved_on = world.clients().flat_map(|client| &client.calls).any(|other| {
        let taken = plan.connections[other.id];
        (taken.client, taken.port) == (own.client, own.port)
            && taken.service != own.service
            && other.begun > call.begun
    });
    match call.outcome.as_ref()? {
        // Where tags are dropped, start packets that come more than `racing` apart, or whose race
        // was pushed out of a full table, are each the first of a race, and are tagged.
        Outcome::Unanswered if tags_dropped && plan.table < plan.connections.len() => {
            Some("tagged ever again on a path that drops tags: table full")
        }
        Outcome::Unanswered if tags_dropped && call.starts > STARTS_OF_A_RACE => {
            Some("tagged ever again on a path that drops tags: race timed out")
        }
        // Any RST, whatever its number, moves an entry to `closing`.
        Outcome::Broken(_) | Outcome::GaveUp if by_replica && own.spoofed.is_some() => {
            Some("cut off: a reset that its client did not believe")
        }
        // An entry that has seen both FINs gives way to a connection to another service.
        Outcome::Broken(_) | Outcome::GaveUp if by_replica && moved_on => {
            Some("cut off: its endpoint has gone on to another service")
        }
        // An entry that has seen both FINs goes after `closing`, though they may not have arrived.
        Outcome::Broken(_) | Outcome::GaveUp
            if by_replica && own.closer == Closer::Half && !plan.is_calm() =>
        {
            (own.patience == PATIENT).then_some("cut off: both FINs were seen, and one was lost")
        }
        // A start packet that the winner of the endpoint's earlier connection accepts goes on with
        // that connection's entry: with its FINs, and in `closing` when it was reset.
        Outcome::Broken(_) | Outcome::GaveUp
            if by_replica && matches!(own.start, Start::After(_)) =>
        {
            Some("cut off: it goes on with the entry of its endpoint's earlier connection")
        }
        _ => None,
    }
}
