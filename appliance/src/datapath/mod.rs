//! What runs on a worker's core: the poll loop, what it does when idle, the handoff of packets
//! between workers, the choice of the worker that owns a packet, and how a worker gets other settings.

pub mod clock;
pub mod handoff;
#[cfg(feature = "dpdk")]
pub mod idle;
pub mod pulse;
pub mod rss;
pub mod slot;
#[cfg(feature = "dpdk")]
pub mod worker;
