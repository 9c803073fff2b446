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
        // Where tags are dropped, start packets that come more than `racing` apart are each the
        // first of a race, and are tagged.
        Outcome::Unanswered if tags_dropped && call.starts > STARTS_OF_A_RACE => {
            Some("tagged ever again on a path that drops tags: race timed out")
        }
        _ => None,
    }
}
