//! A second, plain opinion on what the roles do: the gateway once more, written from the
//! protocol's description and not from the code, and what it takes to drive the real roles
//! beside it.
//!
//! [`Packet`] is a packet as fields. The tests' packet builder writes it, `etherparse` reads it;
//! neither shares code with the pipeline. [`Model`] says what becomes of one. [`event`] makes up what
//! happens; [`Rig`] feeds it to a role and checks what must hold whatever happens.

pub mod event;
pub mod frames;
mod gateway;
mod options;
mod outcome;
mod packet;
pub mod related;
pub mod replica;
mod rig;
pub mod soup;
mod tally;
pub mod tunnel;
mod world;

pub use gateway::{Model, Record, State};
pub use options::{Area, Key, clamped, obstacle, signature, tag, tagged};
pub use outcome::{Leaving, Outcome};
pub use packet::{ACK, FIN, PSH, Packet, RST, SYN};
pub use rig::{Arrival, Carrier, Fed, Rig, partition};
pub use tally::{Tally, run};
pub use tunnel::Outer;
pub use world::{
    CLIENTS, FIRST_V6, ISNS, MACS, MTU, PEERS, PEERS_V6, format, gateway, peers, replica,
    replica_of, replica_settings, router, switch,
};
