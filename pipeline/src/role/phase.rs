//! Where a connection stands at those who see it after its race: switch and replica.

use crate::table::{QUEUES, State};

/// Where a connection stands at a switch or a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The start packet went to its server.
    Opening,
    /// The client has gone on.
    Established,
    /// FIN seen both ways, or a RST.
    Closing,
    /// No connection is ever in this state; the table has room for four.
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

    /// What the client has not gone on with, and what has closed but for a lost FIN.
    fn is_evictable(self) -> bool {
        matches!(self, Phase::Opening | Phase::Closing)
    }
}
