//! The gateway's entry of a connection.

use super::mode::Translation;
use crate::base::time::Ticks;
use crate::role::tracking::{TcpTracking, Tracked};
use crate::table::State;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tunnel::Format;

/// The state of a connection at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// The tagged SYN was sent; no valid SYN/ACK has come yet.
    Racing,
    /// A replica won: packets are translated by configuration.
    Replica,
    /// The origin won: nothing is translated; the entry remains so that losers are reset.
    Origin,
    /// Both FINs or a RST were seen: still translated, expires soon.
    Closing,
}

impl Phase {
    /// The names of the gauges.
    pub const NAMES: &'static [&'static str] = &["racing", "replica", "origin", "closing"];
}

impl State for Phase {
    const ALL: &'static [Self] = &[Phase::Racing, Phase::Replica, Phase::Origin, Phase::Closing];

    fn queue(self) -> usize {
        self as usize
    }

    fn is_lazy(self) -> bool {
        self == Phase::Replica
    }

    /// Connections that have closed except for a lost FIN may be evicted, and races.
    fn eviction_rank(self) -> Option<u8> {
        match self {
            Phase::Closing => Some(0),
            Phase::Racing => Some(1),
            Phase::Replica | Phase::Origin => None,
        }
    }
}

/// A connection at the gateway. Its key in the table is the client endpoint C.
#[derive(Clone, Copy, Debug)]
pub struct Flow<F: Family> {
    /// V: the server endpoint that the client connects to (op 212).
    pub server: Endpoint<F>,
    /// R: the winner (op 510). In a race without a winner, the sender of the last SYN/ACK that
    /// waits. Otherwise [`Endpoint::NONE`].
    pub replica: Endpoint<F>,
    /// Another server to which the client endpoint has opened a connection meanwhile. Its packets
    /// do not belong to this connection.
    pub second: Endpoint<F>,
    /// The sequence number of the SYN.
    pub isn: u32,
    /// The sequence number of the last SYN that was sent to the winner alone.
    pub pending_isn: u32,
    /// The time at which the first SYN of the race was sent, in microseconds; wraps after 71 min.
    started: u32,
    /// The sites that got a direct copy of a SYN of the race: one bit for each number in the plan.
    pub asked: u32,
    /// The number of the service.
    pub service: u16,
    /// The number of retransmissions of the SYN.
    pub retransmits: u8,
    /// Which FINs have been seen.
    pub tracking: TcpTracking,
    /// The format of tunnels to the winner, chosen once for the connection.
    pub format: Format,
    /// What else is known of the race.
    pub race: RaceFlags,
}

/// What is known of a race beside its state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RaceFlags(u8);

impl RaceFlags {
    const UNTAGGED: u8 = 1;
    const DEFERRED: u8 = 1 << 1;
    const ANSWERED: u8 = 1 << 2;

    /// Notes that a SYN of the race was sent to the server without a tag.
    pub fn note_untagged(&mut self) {
        self.0 |= Self::UNTAGGED;
    }

    /// Returns whether a SYN of the race was sent to the server without a tag.
    pub fn is_untagged(self) -> bool {
        self.0 & Self::UNTAGGED != 0
    }

    /// Notes that the SYN to the server waits.
    pub fn note_deferred(&mut self) {
        self.0 |= Self::DEFERRED;
    }

    /// Returns whether the SYN to the server waits, or has waited.
    pub fn is_deferred(self) -> bool {
        self.0 & Self::DEFERRED != 0
    }

    /// Returns whether a replica's answer would have won.
    pub fn has_shadow_answer(self) -> bool {
        self.0 & Self::ANSWERED != 0
    }

    /// Notes an answer that would have won if the origin did not win all races of the service.
    /// Returns whether it is the first.
    pub fn note_shadow_answer(&mut self) -> bool {
        let is_first = self.0 & Self::ANSWERED == 0;
        self.0 |= Self::ANSWERED;
        is_first
    }
}

/// What tells a race from other races of the same client endpoint: the sequence number of its SYN,
/// and when that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaceId(u32, u32);

impl<F: Family> Flow<F> {
    /// Returns a race that starts now.
    pub fn new(server: Endpoint<F>, isn: u32, service: u16, now: Ticks) -> Self {
        Self {
            server,
            replica: Endpoint::NONE,
            second: Endpoint::NONE,
            isn,
            pending_isn: isn,
            started: now.micros() as u32,
            asked: 0,
            service,
            retransmits: 0,
            tracking: TcpTracking::default(),
            format: Format::default(),
            race: RaceFlags::default(),
        }
    }

    /// Returns the time since the first SYN of the race, up to 71 min.
    pub fn elapsed(&self, now: Ticks) -> Ticks {
        Ticks::from_micros((now.micros() as u32).wrapping_sub(self.started).into())
    }

    /// Returns the identity of the race.
    pub fn race_id(&self) -> RaceId {
        RaceId(self.isn, self.started)
    }

    /// Notes that the winner has accepted a new connection of the same endpoints, whose SYN has
    /// this sequence number.
    pub fn restart(&mut self, isn: u32) {
        self.isn = isn;
        self.tracking.forget_fins();
    }

    /// Notes that a replica has won; `format` is the format of tunnels to it, should there be any.
    pub fn won_by(&mut self, replica: Endpoint<F>, format: Format) {
        self.replica = replica;
        self.format = format;
    }

    /// Returns the addresses between which packets of this connection are translated, once a
    /// replica has won.
    #[inline]
    pub fn translation(&self, client: Endpoint<F>) -> Translation<F> {
        Translation { client, server: self.server, replica: self.replica, format: self.format }
    }
}

impl<F: Family> Tracked for Flow<F> {
    type Phase = Phase;
    const CLOSING: Phase = Phase::Closing;

    fn tracking_mut(&mut self) -> &mut TcpTracking {
        &mut self.tracking
    }

    fn is_finished(&self) -> bool {
        self.tracking.has_both_fins()
    }

    fn resumed(&self) -> Option<Phase> {
        (!self.tracking.has_both_fins()).then_some(Phase::Replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::view::Side;
    use crate::table::Entry;
    use crate::wire::family::V4;

    #[test]
    fn an_ipv4_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<Endpoint<V4>, Phase, Flow<V4>>>(), 64);
    }

    #[test]
    fn a_restart_forgets_the_fins_and_keeps_the_winner() {
        let mut flow = Flow::<V4>::new(Endpoint::NONE, 7, 0, Ticks(0));
        flow.won_by(Endpoint::NONE, Format::Gue);
        flow.tracking.note_fin(Side::Inside);
        flow.tracking.note_fin(Side::Outside);
        flow.restart(9);
        assert_eq!((flow.isn, flow.format), (9, Format::Gue));
        assert!(!flow.tracking.has_both_fins());
    }
}
