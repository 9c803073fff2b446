//! The states of a connection at a replica.

use crate::base::stored::Stored;
use crate::base::time::Ticks;
use crate::table::State;

/// The state of a connection at a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The SYN was given to its web server.
    Opening,
    /// The client has established the connection.
    Established,
    /// One side has sent a FIN.
    HalfClosed,
    /// Both sides have sent a FIN.
    Closed,
    /// An established connection was reset. The RST may have been ignored.
    Reset,
    /// Reset before it was established: the race was lost, or the web server has refused.
    Lost,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] =
        &["opening", "established", "half_closed", "closed", "reset", "lost"];

    /// Time for which a lost connection is remembered, unless `closing` is shorter: its endpoint is
    /// soon free for a connection that no gateway has tagged.
    const LOST: Ticks = Ticks::from_secs(10);

    /// Returns the time-outs of all states, from those of opening, established and closing
    /// connections.
    pub(super) fn timeouts([opening, established, closing]: [Ticks; 3]) -> [Ticks; 6] {
        [opening, established, closing, closing, closing, closing.min(Self::LOST)]
    }

    /// Returns whether data flows: the client has established the connection, and at most one side
    /// has ended it.
    #[inline(always)]
    pub(super) fn is_open(self) -> bool {
        matches!(self, Phase::Established | Phase::HalfClosed)
    }
}

impl Stored for Phase {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(*bytes.first()?)).copied()
    }
}

impl State for Phase {
    const ALL: &'static [Self] = &[
        Phase::Opening,
        Phase::Established,
        Phase::HalfClosed,
        Phase::Closed,
        Phase::Reset,
        Phase::Lost,
    ];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    /// Connections that are over may be evicted first, then those that the client has not
    /// established, then those that a RST may have ended.
    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::Closed | Phase::Lost => Some(0),
            Phase::Opening => Some(1),
            Phase::Reset => Some(2),
            Phase::Established | Phase::HalfClosed => None,
        }
    }
}
