//! Where the gateway is known not to keep a connection alive: what is found here is counted, and
//! is no failure. Each case goes when the gateway learns better.

use std::net::SocketAddr;

use super::address::{CLIENTS, ORIGIN, REPLICAS};
use super::client::{Call, Outcome};
use super::world::World;

/// Start packets that a client sends within the time-out of a race.
const STARTS_OF_A_RACE: u32 = 6;

/// The limitation that a connection has met, if it has met one.
#[must_use]
pub fn limitation(world: &World, call: &Call, client: SocketAddr) -> Option<&'static str> {
    let tags_dropped = world.plan.paths[CLIENTS][ORIGIN].drops_options;
    let crowded = world.plan.table < world.plan.connections.len();
    let by_replica = || {
        let servers = world.servers().filter(|server| server.site >= REPLICAS);
        servers.flat_map(|server| &server.records).any(|record| {
            record.client == client && Some(record.isn) == call.isn && record.established.is_some()
        })
    };
    match call.outcome.as_ref()? {
        // Where tags are dropped, start packets that come more than `racing` apart are each the
        // first of a race, and are tagged.
        Outcome::Unanswered if tags_dropped && call.starts > STARTS_OF_A_RACE => {
            Some("tagged ever again on a path that drops tags: race timed out")
        }
        // A connection that has seen both FINs, or a RST, makes room in a full table, though a FIN
        // may have been lost.
        Outcome::Broken(_) | Outcome::GaveUp if crowded && by_replica() => {
            Some("cut off: closing, it had to make room in a full table")
        }
        _ => None,
    }
}
