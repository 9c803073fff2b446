//! The packet logic of firstack: bursts of frames in, bursts of frames out.
//!
//! No DPDK, no clock, no I/O, no threads: the caller supplies time and buffers. Start with
//! [`role`], which decides what happens to a packet; [`stage`] has the single steps, and
//! [`verdict`] lists every outcome.
//!
//! | module | subject |
//! |---|---|
//! | [`wire`] | headers as bytes: Ethernet, ARP, IPv4, IPv6, ICMP, TCP, tunnels, checksums |
//! | [`packet`] | buffers, bursts, the parsed view, fragments, frames that wait for a MAC address |
//! | [`table`] | the translation table of one core |
//! | [`neighbours`] | MAC addresses by ARP and neighbour discovery |
//! | [`policy`] | services, server selection, limits, allow lists, back-off, tunnel formats |
//! | [`stage`] | the steps: tag, sign, encapsulate, decapsulate, rewrite, reset, clamp, quote |
//! | [`role`] | gateway, switch and replica |
//! | [`memory`] | what a gateway remembers of replicas, and whom it asks directly |
//! | [`counters`], [`verdict`] | what is counted |
//! | [`base`] | time, published values |
#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod base;
pub mod counters;
pub mod memory;
pub mod neighbours;
pub mod packet;
pub mod policy;
pub mod role;
pub mod stage;
pub mod table;
#[cfg(test)]
mod testing;
pub mod verdict;
pub mod wire;
