//! The replica's entry of a connection.

use std::num::NonZeroU16;

use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::role::phase::Phase;
use crate::role::tracking::{TcpTracking, Tracked};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tunnel::Format;

/// A connection at the replica. Its key in the table is the client endpoint C, at whose address its
/// tunnels end.
#[derive(Clone, Copy, Debug)]
pub struct Connection<F: Family> {
    /// V: the server endpoint that the client connects to.
    pub server: Endpoint<F>,
    /// R: the web server.
    pub replica: Endpoint<F>,
    /// The sequence number of the SYN.
    pub isn: u32,
    /// How gateway and winner exchange packets.
    pub configuration: Configuration,
    /// The format of tunnels to the client.
    pub format: Format,
    /// Whether the web server has the address V itself, and receives packets as the client sent
    /// them.
    pub has_vip: bool,
    /// The acknowledgement number by which the client establishes the connection; known once the
    /// web server has answered.
    pub expected_ack: u32,
    /// The sequence number and configuration of a later SYN of the same endpoints, should the web
    /// server accept it.
    pub next: (u32, Configuration),
    /// The connection's tracking. "Server seen" is set by the web server's SYN/ACK.
    pub tracking: TcpTracking,
    /// How many SYN/ACKs the web server may still send before the client establishes the
    /// connection.
    pub syn_acks_left: u8,
    /// When a copy was last given to the web server, be it of this SYN or of a later one; `None`
    /// once the web server has refused.
    pub last_copy: Option<CopyTime>,
}

/// A point in time within a table entry: 16 bits in units of 8.4 ms, which wrap after 9.2 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyTime(NonZeroU16);

impl CopyTime {
    /// The binary logarithm of the unit in nanoseconds.
    const UNIT: u32 = 23;
    /// A copy of the same SYN within this time is a duplicate, and not the client's retransmission:
    /// 0.5 s, to within two units. No TCP retransmits a SYN as early as that (RFC 6298, section 2).
    const DUPLICATE_WITHIN: u16 = (Ticks::from_millis(500).0 >> Self::UNIT) as u16 + 1;

    /// Returns this point in time. The value that is used for none is taken for the next one.
    pub(super) fn at(now: Ticks) -> Self {
        Self(NonZeroU16::new((now.0 >> Self::UNIT) as u16).unwrap_or(NonZeroU16::MIN))
    }

    /// Returns whether a copy that arrives now is a duplicate of one that arrived then.
    pub(super) fn has_duplicate_at(self, now: Ticks) -> bool {
        Self::at(now).0.get().wrapping_sub(self.0.get()) < Self::DUPLICATE_WITHIN
    }
}

impl<F: Family> Connection<F> {
    /// Returns whether a client has established the connection, and FINs have not ended it. A RST
    /// is no evidence, since any host can send one; nor is silence.
    pub(super) fn is_live(&self) -> bool {
        self.tracking.is_established() && !self.tracking.has_both_fins()
    }

    /// Returns whether a copy of a SYN to `server` with this sequence number repeats one that the web
    /// server was given a moment ago: the gateway's own copy and the switch's may both arrive.
    pub(super) fn is_duplicate(&self, server: Endpoint<F>, isn: u32, now: Ticks) -> bool {
        let is_given = isn == self.isn || self.tracking.is_challenged() && isn == self.next.0;
        is_given
            && server == self.server
            && self.last_copy.is_some_and(|time| time.has_duplicate_at(now))
    }

    /// Returns whether a SYN/ACK with this acknowledgement number accepts the later SYN: a live
    /// connection's server would not send it (RFC 5961, section 4).
    pub(super) fn is_succeeded_by(&self, ack_number: u32) -> bool {
        self.tracking.is_challenged() && ack_number == self.next.0.wrapping_add(1)
    }

    /// Returns the connection of the later SYN.
    pub(super) fn successor(self) -> Self {
        let (isn, configuration) = self.next;
        let tracking = TcpTracking::default();
        Self { isn, configuration, tracking, syn_acks_left: 0, ..self }
    }

    /// Returns whether an acknowledgement number of the client establishes the connection. Under A
    /// the web server's packets need not pass here.
    pub(super) fn is_established_by(&self, ack_number: u32) -> bool {
        self.tracking.is_established_by(self.expected_ack == ack_number)
    }

    /// Returns the source of the web server's packets: V when it got the SYN for V.
    #[inline]
    pub(super) fn sends_as(&self) -> Endpoint<F> {
        if self.has_vip { self.server } else { self.replica }
    }
}

impl<F: Family> Tracked for Connection<F> {
    type Phase = Phase;
    const CLOSING: Phase = Phase::Closing;

    fn tracking_mut(&mut self) -> &mut TcpTracking {
        &mut self.tracking
    }

    fn is_finished(&self) -> bool {
        self.tracking.has_both_fins()
    }

    /// The connection returns to what it was: a blind RST with a segment after it must not make an
    /// entry that stays, just as a blind ACK makes none.
    fn resumed(&self) -> Option<Phase> {
        match (self.tracking.has_both_fins(), self.tracking.is_established()) {
            (true, _) => None,
            (false, true) => Some(Phase::Established),
            (false, false) => Some(Phase::Opening),
        }
    }
}

/// A connection and its client, as its later fragments need them.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClientConnection<F: Family> {
    pub(super) client: Endpoint<F>,
    pub(super) connection: Connection<F>,
}

impl<F: Family> ClientConnection<F> {
    /// Returns whether a packet's outer header is that of this connection's gateway, C to R: only
    /// hosts that have seen the connection know both. An open decapsulator would relay spoofed
    /// packets (docs/protocol.md, 8.1).
    #[inline]
    pub(super) fn has_tunnel<B: Buffer>(&self, packet: &Packet<B>) -> bool {
        let ip = packet.ip();
        self.connection.configuration.data_in_tunnels()
            && packet.view.version == F::VERSION
            && F::source(ip) == self.client.address
            && F::destination(ip) == self.connection.replica.address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_a_duplicate_for_half_a_second() {
        let unit = 1u64 << CopyTime::UNIT;
        // From where the units wrap, and from where the value for none is skipped.
        for start in [Ticks(0), Ticks::from_secs(1), Ticks(unit * 65_535), Ticks(unit * 65_536)] {
            let time = CopyTime::at(start);
            for (millis, expected) in [(0, true), (490, true), (515, false), (1000, false)] {
                let now = start + Ticks::from_millis(millis);
                assert_eq!(time.has_duplicate_at(now), expected, "{millis} ms after {start:?}");
            }
            assert!(!time.has_duplicate_at(start + Ticks::from_secs(540)));
        }
    }
}
