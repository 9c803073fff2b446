//! The control thread: the socket for operators, health checks, the key file, what
//! is remembered of replicas and shared with other gateways, and the counters that are shown.

pub mod drains;
pub mod emptying;
pub mod health;
pub mod keys;
mod members;
pub mod memory;
pub mod protected;
pub mod share;
pub mod socket;
pub mod stats;
pub mod supervisor;
