//! The states of a connection at a switch.

use crate::base::stored::Stored;
use crate::table::State;

/// The state of a connection at a switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The SYN was sent to its server.
    Opening,
    /// The client goes on as if it had established the connection. Its server has not been seen: its
    /// packets take another path.
    Unheard,
    /// The client has established the connection.
    Established,
    /// One side has sent a FIN.
    HalfClosed,
    /// All FINs that can be seen have been.
    Closed,
    /// A side has sent a RST, which the other one may have ignored.
    Reset,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] =
        &["opening", "unheard", "established", "half_closed", "closed", "reset"];

    /// Returns whether the connection has ended: a SYN opens a new one.
    pub fn has_ended(self) -> bool {
        matches!(self, Phase::Closed | Phase::Reset)
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
        Phase::Unheard,
        Phase::Established,
        Phase::HalfClosed,
        Phase::Closed,
        Phase::Reset,
    ];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Established
    }

    /// Connections that have closed except for a lost FIN are evicted first, then those that are not
    /// established. A RST may be forged and its connection live; without the server's word whole
    /// connections may be forged.
    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::Closed => Some(0),
            Phase::Opening => Some(1),
            Phase::Reset => Some(2),
            Phase::Unheard => Some(3),
            Phase::Established | Phase::HalfClosed => None,
        }
    }
}
