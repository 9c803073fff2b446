//! The far ends of the two ports.

mod datagrams;
mod packets;

use std::io;
use std::time::Duration;

use crate::scenario::Side;

pub use datagrams::Datagrams;
pub use packets::Packets;

/// Whole frames, without checksum, to and from the two ports.
pub trait Wire {
    /// Sends a frame that comes in by the port of a side.
    ///
    /// # Errors
    /// If the far end does not take it within some seconds.
    fn send(&mut self, side: Side, frame: &[u8]) -> io::Result<()>;
    /// Returns the next frame that left by the port of a side; `None` when none comes within a time.
    ///
    /// # Errors
    /// If the far end is gone.
    fn receive(&mut self, side: Side, wait: Duration) -> io::Result<Option<Vec<u8>>>;
}

/// Bytes of the longest frame.
const LONGEST: usize = 16 << 10;
/// The time for a far end to take a frame.
const TAKES: Duration = Duration::from_secs(30);
