//! Reference models of the gateway and the replica, written from docs/protocol.md and not from
//! the code, and a harness that feeds the real roles the same packets.
//!
//! [`Packet`] is a packet as fields. The tests' packet builder writes it, `etherparse` reads it;
//! neither shares code with the pipeline. [`Model`] predicts the fate of one. [`event`] generates
//! traces of events; [`Harness`] feeds them to a role and checks its invariants. [`corpus`] has
//! frames for fuzzing.

pub mod changing;
pub mod corpus;
pub mod event;
pub mod frames;
mod gateway;
mod harness;
mod options;
mod outcome;
mod packet;
pub mod plan;
pub mod related;
pub mod replica;
mod tally;
pub mod tunnel;
mod world;

pub use gateway::{Model, Record, State};
pub use harness::{Arrival, Carrier, Fed, Harness, partition};
pub use options::{Area, Key, clamped, obstacle, signature, tag, tagged};
pub use outcome::{Leaving, Outcome};
pub use packet::{ACK, FIN, PSH, Packet, RST, SYN};
pub use tally::{Tally, run};
pub use tunnel::Outer;
pub use world::{
    CLIENTS, FIRST_V6, ISNS, MACS, MTU, PEERS, PEERS_V6, format, gateway, peers, replica,
    replica_of, replica_settings, router, switch, switch_of, switch_selection,
};
