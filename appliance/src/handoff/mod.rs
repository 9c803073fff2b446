//! Queues between workers: for packets that arrived at another worker than the one that owns
//! their client, and for frames to leave by a port on which a worker has no queue of its own.

pub mod mail;
pub mod ring;

pub use mail::{Handed, Mail, What, wind_down};

/// Frames that all queues to one worker hold together, about.
const TOGETHER: usize = 4096;
/// Frames that one queue holds at least: a few bursts.
const LEAST: usize = 256;

/// Frames that each queue between two of `workers` workers holds.
pub fn capacity(workers: usize) -> usize {
    (TOGETHER / workers.max(2).saturating_sub(1)).clamp(LEAST, 2048)
}
