//! Handing the ports over to a new process, so that an upgrade stops the wire for a moment only.
//!
//! The old process starts the new one, with its own arguments and `--take-over`. The two talk over
//! the new one's stdin, a socket, one line of JSON per message:
//!
//! ```text
//! old: start        what the new one must know
//! new: ready        all is done that can be done beside the old one
//! old: stopped      its workers have ended; what arrives from now on is the new one's
//! old: handed over  its ports, tables and control socket are free
//! new: forwarding   the end of the gap
//! ```
//!
//! Until `stopped` the old process forwards, and goes on if the new one fails, ends or is late.
//! After that it starts itself again. Either one knows by the end of the connection that the other
//! has died.

mod channel;
mod successor;
mod take_over;

use pipeline::wire::ethernet::Mac;
use serde::{Deserialize, Serialize};

pub(super) use successor::{Event, Successor, Upgrades, again};
pub use take_over::{Error as TakeOverError, TakeOver};

/// The number of this protocol. A process takes over only from one with the same number.
const PROTOCOL: u32 = 1;

/// A message of the old process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromOld {
    /// Begins.
    Start(Start),
    /// The workers have ended. What arrives from now on is the new process's.
    Stopped,
    /// Everything that only one process can have is free.
    HandedOver(HandedOver),
}

/// What the new process must know of the old one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Start {
    /// The old process's [`PROTOCOL`].
    protocol: u32,
    /// Its role.
    pub(super) role: String,
    /// Its prefix of DPDK's files.
    pub(super) file_prefix: String,
    /// The MAC addresses of its ports.
    #[serde(default)]
    pub(super) macs: [Mac; 2],
}

/// What the new process gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HandedOver {
    /// The monotonic time at which the workers had ended, in nanoseconds.
    pub(super) stopped: u64,
    /// Whether the old process made the inside and the outside port promiscuous, so that the new one
    /// has to end that.
    pub(super) promiscuous: [bool; 2],
}

/// A message of the new process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum FromNew {
    /// Asks for the hand-over.
    Ready {
        /// Its version.
        version: String,
        /// Whether it has opened its ports beside those of the old process.
        beside: bool,
    },
    /// Gives up.
    Failed {
        /// The reason, for an operator.
        reason: String,
    },
    /// Forwards packets.
    Forwarding {
        /// The time for which no packet was forwarded, in microseconds.
        gap: u64,
    },
}
