//! The control thread: the socket for operators, health checks, the key file, and
//! the counters that are shown.

pub mod health;
pub mod keys;
mod members;
pub mod memory;
pub mod socket;
pub mod stats;
pub mod supervisor;
