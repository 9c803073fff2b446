//! The states of a connection at switch and replica.

use crate::table::State;

/// The state of a connection at a switch or a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The SYN was sent to its server.
    Opening,
    /// The client has established the connection.
    Established,
    /// Both FINs or a RST were seen.
    Closing,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] = &["opening", "established", "closing"];
}

impl State for Phase {
    const ALL: &'static [Self] = &[Phase::Opening, Phase::Established, Phase::Closing];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    /// Connections that have closed except for a lost FIN may be evicted, and those that the client
    /// has not established.
    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::Closing => Some(0),
            Phase::Opening => Some(1),
            Phase::Established => None,
        }
    }
}
