//! Expected failures: known limitations of the gateway, under which a connection may break. They
//! are counted, not reported. A case is deleted once its limitation is lifted.

use std::net::SocketAddr;

use super::address::{CLIENTS, ORIGIN, REPLICAS};
use super::client::{Call, Outcome};
use super::world::World;

/// Number of SYNs that a client sends within the time-out of a race.
const STARTS_OF_A_RACE: u32 = 6;

/// Returns the known limitation that explains the connection's failure, if there is one.
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
        // On a path that drops tagged SYNs, SYNs more than `racing` apart each start a new race and
        // are tagged again.
        Outcome::Unanswered if tags_dropped && call.starts > STARTS_OF_A_RACE => {
            Some("tagged ever again on a path that drops tags: race timed out")
        }
        // A full table evicts a connection after both FINs or a RST, although a FIN may have been
        // lost.
        Outcome::Broken(_) | Outcome::GaveUp if crowded && by_replica() => {
            Some("cut off: closing, it had to make room in a full table")
        }
        _ => None,
    }
}
