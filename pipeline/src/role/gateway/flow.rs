//! What the gateway keeps of a connection.

use crate::role::gateway::mode::Way;
use crate::wire::family::{Endpoint, Family};
use crate::table::{QUEUES, State};
use crate::base::time::Ticks;
use crate::packet::view::Side;
use crate::wire::tunnel::Format;

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

    /// Races, and what has closed but for a lost FIN.
    fn is_evictable(self) -> bool {
        matches!(self, Phase::Racing | Phase::Closing)
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
    /// That of the last SYN that was sent to the winner alone.
    pub asked: u32,
    /// When the first SYN of the race was sent.
    pub started: Ticks,
    /// Number of the service.
    pub service: u16,
    /// How often the SYN has been repeated.
    pub repeats: u8,
    /// Which sides have sent a FIN, one bit each; above them, how packets to the winner are put
    /// into tunnels, chosen once for the connection.
    marks: u8,
}

/// Which side's FIN a bit stands for, and when both are there.
pub const BOTH_FINS: u8 = 0b11;
const FORMAT_SHIFT: u8 = 2;

impl<F: Family> Flow<F> {
    /// A race that starts now.
    pub fn new(server: Endpoint<F>, isn: u32, service: u16, now: Ticks) -> Self {
        Self {
            server,
            replica: Endpoint::NONE,
            second: Endpoint::NONE,
            isn,
            asked: isn,
            started: now,
            service,
            repeats: 0,
            marks: 0,
        }
    }

    /// This side has sent a FIN; whether both have now.
    pub fn note_fin(&mut self, from: Side) -> bool {
        self.marks |= 1 << from as u8;
        self.has_both_fins()
    }

    /// The winner has accepted a new connection of the same endpoints, with this start packet.
    pub fn restart(&mut self, isn: u32) {
        self.isn = isn;
        self.marks &= !BOTH_FINS;
    }

    /// Whether both sides have sent a FIN.
    pub fn has_both_fins(&self) -> bool {
        self.marks & BOTH_FINS == BOTH_FINS
    }

    /// A replica has won; packets to it go into tunnels of this format, if into any.
    pub fn won_by(&mut self, replica: Endpoint<F>, format: Format) {
        self.replica = replica;
        self.marks = self.marks & BOTH_FINS | (format as u8) << FORMAT_SHIFT;
    }

    /// The way of the connection of this client, once a replica has won.
    #[inline]
    pub fn way(&self, client: Endpoint<F>) -> Way<F> {
        Way { client, server: self.server, replica: self.replica, format: self.format() }
    }

    /// The format of tunnels to the winner.
    #[inline]
    pub fn format(&self) -> Format {
        match self.marks >> FORMAT_SHIFT {
            0 => Format::Ipip,
            1 => Format::Gre,
            _ => Format::Gue,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::family::V4;
    use crate::table::Entry;

    #[test]
    fn an_ipv4_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<Endpoint<V4>, Phase, Flow<V4>>>(), 64);
    }

    #[test]
    fn fins_and_format_do_not_meet() {
        let mut flow = Flow::<V4>::new(Endpoint::NONE, 0, 0, Ticks(0));
        for format in Format::ALL {
            flow.won_by(Endpoint::NONE, format);
            assert_eq!((flow.format(), flow.has_both_fins()), (format, false));
        }
        assert!(!flow.note_fin(Side::Outside));
        assert!(flow.note_fin(Side::Inside));
        assert_eq!(flow.format(), Format::Gue);
    }
}
