//! What the gateway keeps of a connection.

use crate::family::{Endpoint, Family};
use crate::table::{QUEUES, State};
use crate::time::Ticks;

/// Where a connection stands at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Tagged SYN sent, no valid acknowledgement yet.
    Racing,
    /// A replica won: translate by configuration.
    Replica,
    /// The origin won: nothing is translated; kept to reset losers.
    Origin,
    /// FIN seen both ways, or a RST: translate on, expire soon.
    Closing,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] = &["racing", "replica", "origin", "closing"];
}

impl State for Phase {
    const ALL: [Self; QUEUES] = [Phase::Racing, Phase::Replica, Phase::Origin, Phase::Closing];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Replica
    }

    fn is_evictable(self) -> bool {
        self == Phase::Racing
    }
}

/// A connection at the gateway.
#[derive(Clone, Copy, Debug)]
pub struct Flow<F: Family> {
    /// V: the server endpoint that the client asked for (op 212).
    pub server: Endpoint<F>,
    /// R: the winner (op 510); [`Endpoint::NONE`] unless a replica won.
    pub replica: Endpoint<F>,
    /// Another server that the client endpoint has opened a connection to meanwhile.
    /// Its packets are not this connection's.
    pub second: Endpoint<F>,
    /// The SYN's sequence number.
    pub isn: u32,
    /// When the first SYN of the race was sent.
    pub started: Ticks,
    /// Number of the service.
    pub service: u16,
    /// How often the SYN has been repeated.
    pub repeats: u8,
    /// Which sides have sent a FIN, one bit each.
    pub fins: u8,
}

impl<F: Family> Flow<F> {
    /// A race that starts now.
    pub fn new(server: Endpoint<F>, isn: u32, service: u16, now: Ticks) -> Self {
        Self {
            server,
            replica: Endpoint::NONE,
            second: Endpoint::NONE,
            isn,
            started: now,
            service,
            repeats: 0,
            fins: 0,
        }
    }
}

/// Which side's FIN a bit of [`Flow::fins`] stands for, and when both are there.
pub const BOTH_FINS: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::V4;
    use crate::table::Entry;

    #[test]
    fn an_ipv4_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<V4, Phase, Flow<V4>>>(), 64);
    }
}
