//! The states of a connection at switch and replica.

use crate::table::{QUEUES, State};

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
    /// Not used: a table has four states.
    Unused,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] = &["opening", "established", "closing"];
}

impl State for Phase {
    const ALL: [Self; QUEUES] = [Phase::Opening, Phase::Established, Phase::Closing, Phase::Unused];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    /// Connections that the client has not established may be evicted, and those that have closed
    /// except for a lost FIN.
    fn is_evictable(self) -> bool {
        matches!(self, Phase::Opening | Phase::Closing)
    }
}
