//! A second, plain opinion on what the roles do: the gateway of configuration A once more,
//! written from the protocol's description and not from the code, and what it takes to drive
//! the real roles beside it.
//!
//! [`Packet`] is a packet as fields, made into bytes and read back by a codec that shares
//! nothing with the pipeline. [`Model`] says what becomes of one. [`event`] makes up what
//! happens; [`Rig`] feeds it to a role and checks what must hold whatever happens.

pub mod event;
pub mod frames;
mod gateway;
mod options;
mod packet;
pub mod related;
mod rig;
pub mod soup;
mod tally;
mod world;

pub use gateway::{Model, Onward, Outcome, Record, State};
pub use options::{Area, obstacle, tagged};
pub use packet::{ACK, FIN, PSH, Packet, RST, SYN};
pub use rig::{Arrival, Carrier, Fed, Rig, partition};
pub use tally::{Tally, run};
pub use world::{CLIENTS, ISNS, PEERS, gateway, replica, switch};
