//! The control thread: the socket for operators, health checks, the key file, what
//! is remembered of replicas and shared with other gateways, the counters that are shown, and the
//! watchdog over the workers.

pub mod health;
pub mod keys;
mod members;
pub mod memory;
pub mod notices;
pub mod operator;
pub mod protected;
pub mod share;
pub mod socket;
pub mod stats;
pub mod supervisor;
pub mod watchdog;
