//! The packet logic of firstack: bursts of frames in, bursts of frames out.
//!
//! No DPDK, no clock, no I/O, no threads: time and buffers are the caller's. Read
//! [`role`] for what happens to a packet, [`stage`] for the steps, [`verdict`] for every end
//! a packet can come to.
#![deny(unsafe_code)]

pub mod backoff;
pub mod buffer;
pub mod burst;
pub mod configuration;
pub mod counters;
pub mod family;
pub mod flow;
pub mod fragments;
pub mod limiter;
pub mod maglev;
pub mod neighbours;
pub mod path;
pub mod prefetch;
pub mod role;
pub mod services;
pub mod shared;
pub mod stage;
mod sync;
pub mod table;
#[cfg(test)]
mod testing;
pub mod time;
pub mod verdict;
pub mod view;
pub mod waiting;
pub mod wire;
