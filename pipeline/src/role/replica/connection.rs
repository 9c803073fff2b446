//! The replica's entry of a connection.

use std::num::NonZeroU16;

use crate::base::stored::{Stored, stored};
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::role::tracking::{TcpTracking, follows};
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};
use crate::wire::tunnel::Format;

/// The most copies of one SYN that the web server is given after the first: more than a TCP sends.
pub(super) const MAX_REPEATED_COPIES: u8 = 8;

/// A connection at the replica. Its key in the table is the client endpoint C, at whose address its
/// tunnels end.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Connection<F: Family> {
    /// The sequence number of the SYN.
    pub isn: u32,
    /// Until the connection is established: the acknowledgement numbers by which the client
    /// establishes it, of the web server's first SYN/ACK and of its last, which differ where SYN
    /// cookies or a load balancer answer. From then on, the first is the sequence number that the
    /// web server expects next.
    pub expected: [u32; 2],
    /// The sequence number of a later SYN of the same endpoints, should the web server accept it.
    pub next_isn: u32,
    /// When a copy was last given to the web server, be it of this SYN or of a later one; `None`
    /// once the web server has refused.
    pub last_copy: Option<CopyTime>,
    /// V: the server endpoint that the client connects to.
    pub server: Endpoint<F>,
    /// R: the web server.
    pub replica: Endpoint<F>,
    /// How gateway and winner exchange packets.
    pub configuration: Configuration,
    /// The format of tunnels to the client.
    pub format: Format,
    /// Whether the web server has the address V itself, and receives packets as the client sent
    /// them.
    pub has_vip: bool,
    /// The configuration of the later SYN; nothing if it was sent to the web server by no gateway.
    pub next_configuration: NextConfiguration,
    /// The connection's tracking. "Server seen" is set by the web server's SYN/ACK.
    pub tracking: TcpTracking,
    /// How many SYN/ACKs the web server may still send before the client establishes the
    /// connection.
    pub syn_acks_left: u8,
    /// How many more copies of the SYN the web server may be given.
    pub copies_left: u8,
}

stored!(Connection<F>, [F: Family] {
    isn: u32,
    expected: [u32; 2],
    next_isn: u32,
    last_copy: Option<CopyTime>,
    server: Endpoint<F>,
    replica: Endpoint<F>,
    configuration: Configuration,
    format: Format,
    has_vip: bool,
    next_configuration: NextConfiguration,
    tracking: TcpTracking,
    syn_acks_left: u8,
    copies_left: u8,
});

/// A configuration, or nothing, in a byte whose meaning no compiler chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct NextConfiguration(u8);

impl NextConfiguration {
    fn new(configuration: Option<Configuration>) -> Self {
        Self(configuration.map_or(0, |configuration| configuration as u8 + 1))
    }

    /// Returns the configuration, if there is one.
    pub fn get(self) -> Option<Configuration> {
        Configuration::try_from(self.0.checked_sub(1)?).ok()
    }
}

impl Stored for NextConfiguration {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        let read = Self(*bytes.first()?);
        (read == Self::new(read.get())).then_some(read)
    }
}

/// A point in time within a table entry: 16 bits in units of 8.4 ms, which wrap after 9.2 min.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct CopyTime(NonZeroU16);

impl Stored for Option<CopyTime> {
    #[inline(always)]
    fn read(bytes: &[u8]) -> Option<Self> {
        Some(<Option<NonZeroU16>>::read(bytes)?.map(CopyTime))
    }
}

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
    /// Returns whether a client has established the connection, and FINs have not ended it. Silence
    /// is no evidence, and a RST may have been ignored.
    pub(super) fn is_live(&self) -> bool {
        self.tracking.is_established() && !self.tracking.has_both_fins()
    }

    /// Returns whether a copy of a SYN to `server` with this sequence number repeats one that the web
    /// server was given a moment ago: the gateway's own copy and the switch's may both arrive.
    pub(super) fn is_duplicate(&self, server: Endpoint<F>, isn: u32, now: Ticks) -> bool {
        let is_given = isn == self.isn || self.is_challenged_by(isn);
        is_given
            && server == self.server
            && self.last_copy.is_some_and(|time| time.has_duplicate_at(now))
    }

    /// Returns whether the web server was given a later SYN with this sequence number.
    pub(super) fn is_challenged_by(&self, isn: u32) -> bool {
        self.tracking.is_challenged() && isn == self.next_isn
    }

    /// Notes that the web server is given a later SYN. A live connection's server does not accept it
    /// (RFC 5961, section 4).
    pub(super) fn challenge(&mut self, isn: u32, configuration: Option<Configuration>) {
        (self.next_isn, self.next_configuration) = (isn, NextConfiguration::new(configuration));
        self.tracking.note_challenge();
    }

    /// Returns the connection of the later SYN, which has this configuration.
    pub(super) fn successor(self, configuration: Configuration) -> Self {
        let (isn, copies_left) = (self.next_isn, MAX_REPEATED_COPIES);
        let tracking = TcpTracking::default();
        Self { isn, configuration, tracking, syn_acks_left: 0, copies_left, ..self }
    }

    /// Notes the web server's SYN/ACK, which has this sequence number.
    pub(super) fn note_syn_ack(&mut self, sequence: u32) {
        let number = sequence.wrapping_add(1);
        if !self.tracking.server_seen() {
            self.expected[0] = number;
        }
        self.expected[1] = number;
        self.tracking.note_server();
    }

    /// Notes that both sides have the connection.
    pub(super) fn establish(&mut self) {
        self.tracking.establish();
        self.expected[0] = self.isn.wrapping_add(1);
    }

    /// Returns whether a packet of the web server shows that its TCP has the connection: it has
    /// data or FIN, or acknowledges data. Before that, a TCP sends neither.
    pub(super) fn is_established_by_server<B: Buffer>(&self, packet: &Packet<B>) -> bool {
        let flags = tcp::flags(packet.tcp());
        let (first, number) = (self.isn.wrapping_add(1), tcp::ack_number(packet.tcp()));
        flags.0 & (Flags::SYN | Flags::RST) == 0
            && follows(number, first)
            && (number != first || flags.fin() || packet.has_data())
    }

    /// Returns whether a FIN or RST of the client may be its own: blind ones must not change the
    /// connection's state. Before the connection is established, only the exact number counts, which
    /// a gateway's reset has. Where the web server's packets take another path, what it expects is
    /// not known.
    pub(super) fn may_end<B: Buffer>(&self, packet: &Packet<B>) -> bool {
        let sequence = tcp::sequence(packet.tcp());
        let in_window = match (self.tracking.is_established(), self.tracking.server_seen()) {
            (false, _) => sequence == self.isn.wrapping_add(1),
            (true, false) => true,
            (true, true) => follows(sequence, self.expected[0]),
        };
        in_window && packet.tcp_checksum_ok::<F>()
    }

    /// Returns the source of the web server's packets: V when it got the SYN for V.
    #[inline]
    pub(super) fn sends_as(&self) -> Endpoint<F> {
        if self.has_vip { self.server } else { self.replica }
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
