//! Connections that a copy has opened: packets of their web servers, and plain packets of their
//! gateways.

use super::connection::Connection;
use super::mode::{self, Segment};
use super::{Common, Phase, ReplicaFor, heard};
use crate::base::time::Ticks;
use crate::counters::Scalar;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::gateway::mode::EncapError;
use crate::role::tracking::{RST_GRACE, acknowledges, refuses};
use crate::role::{Context, LookupHint};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::configuration::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

/// Within this time of a connection's last packet, a plain SYN with a new number may be its
/// gateway's. The gateway starts a race for it unless the client was heard a few seconds ago.
const GATEWAY_SENDS_WITHIN: Ticks = Ticks::from_secs(10);

impl<F: Family> ReplicaFor<'_, F> {
    /// Handles a TCP packet from the inside: a web server's packet gets the form of its connection
    /// (ops 412, 442, 462).
    #[inline]
    pub(super) fn web_server_packet<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = packet.destination::<F>();
        let LookupHint { hash, entry, .. } = *hint;
        let Some(slot) = self.connections.find_hinted(hash, entry, client, context.now) else {
            return Verdict::NoEntry;
        };
        if packet.source::<F>() != self.connections.get(slot).value.sends_as() {
            return Verdict::NoEntry;
        }
        if self.answers_untagged_syn(slot, packet, context.now) {
            // op 616
            return Verdict::NoEntry;
        }
        let flags = tcp::flags(packet.tcp());
        let entry = self.connections.get(slot);
        let (connection, phase) = (entry.value, entry.state());
        let is_answer = flags.is_syn_ack()
            || flags.rst() && (phase == Phase::Opening || refuses(packet.tcp(), connection.isn));
        if flags.is_syn_ack()
            && !connection.tracking.is_established()
            && !self.take_syn_ack(slot, packet, context.now)
        {
            // A web server that still retransmits must not outlive its entry: without one its
            // packets would pass.
            self.touch(slot, context.now);
            return Verdict::SynAckUnsolicited;
        }
        if phase == Phase::Opening && connection.is_established_by_server(packet) {
            self.establish(slot, context.now);
        }
        self.on_segment(slot, Side::Inside, packet, context.now);
        let value = self.connections.value_mut(slot);
        if flags.rst() {
            // The next copy is another attempt.
            value.last_copy = None;
        } else if flags.0 & Flags::SYN == 0 && value.tracking.is_established() {
            value.expected[0] = tcp::ack_number(packet.tcp());
        }
        if flags.is_syn_ack() {
            self.clamp(packet, &connection);
        }
        let segment = if is_answer { Segment::SynAck } else { Segment::Data };
        let verdict = Verdict::FromWebServer;
        self.send_to_client(packet, segment, client, &connection, verdict, context)
    }

    /// Handles the web server's answer to a later SYN of the same endpoints: by its SYN/ACK it ends
    /// the connection of the entry. Returns whether no gateway has sent that SYN.
    fn answers_untagged_syn<B: Buffer>(
        &mut self,
        slot: Slot,
        packet: &Packet<B>,
        now: Ticks,
    ) -> bool {
        let connection = &self.connections.get(slot).value;
        let (tcp, isn) = (packet.tcp(), connection.next_isn);
        let is_syn_ack = tcp::flags(tcp).is_syn_ack();
        let accepts = is_syn_ack && acknowledges(tcp, isn);
        if !connection.tracking.is_challenged() || !accepts && !refuses(tcp, isn) {
            return false;
        }
        let Some(configuration) = connection.next_configuration.get() else {
            if accepts {
                heard::remove(self.connections, &mut self.common.heard, slot, now);
            }
            return true;
        };
        if accepts {
            *self.connections.value_mut(slot) = connection.successor(configuration);
            self.allow_syn_acks(slot);
            self.move_to(slot, Phase::Opening, now);
        }
        false
    }

    /// Takes what a SYN/ACK needs to pass before the client has established the connection: an
    /// unsolicited one would reach a spoofed client, too. Returns `false` when there is none.
    fn take_syn_ack<B: Buffer>(&mut self, slot: Slot, packet: &Packet<B>, now: Ticks) -> bool {
        let entry = self.connections.get(slot);
        let (connection, is_opening) = (entry.value, entry.state() == Phase::Opening);
        let client = entry.key.address.into();
        if let Some(left) = connection.syn_acks_left.checked_sub(1) {
            self.connections.value_mut(slot).syn_acks_left = left;
        } else if is_opening && self.common.repairs.take(client, now) {
            self.common.counters.common.scalar(Scalar::SynAckRepairs).add(1);
        } else {
            return false;
        }
        self.common.hosts.note_syn_ack(connection.replica.address.into());
        self.connections.value_mut(slot).note_syn_ack(tcp::sequence(packet.tcp()));
        true
    }

    /// Sends a packet to the client. Returns `verdict`, unless the packet was not put into its
    /// tunnel.
    #[inline]
    pub(super) fn send_to_client<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        segment: Segment,
        client: Endpoint<F>,
        connection: &Connection<F>,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match mode::to_client(packet, segment, client, connection, &self.common.settings.path) {
            Ok(()) => verdict,
            Err(EncapError::NoHeadroom) => Verdict::NoBuffer,
            Err(EncapError::TooBig(inner_mtu)) => {
                let Common { oversize, settings, counters, .. } = &mut *self.common;
                let (counters, path) = (&counters.common, &settings.path);
                let put = |number, fragment: &mut _| {
                    let segment = if number == 0 { segment } else { Segment::LaterFragment };
                    mode::to_client(fragment, segment, client, connection, path).is_ok()
                };
                let from = Side::Inside;
                oversize.fragment_or_reject::<F, P>(from, packet, inner_mtu, counters, context, put)
            }
        }
    }

    /// Handles a plain TCP packet from the outside: gateways of configurations A and B send these.
    #[inline]
    pub(super) fn gateway_packet<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        hint: &LookupHint,
        now: Ticks,
    ) -> Verdict {
        let (LookupHint { hash, entry, .. }, client) = (*hint, packet.source::<F>());
        let Some(slot) = self.connections.find_hinted(hash, entry, client, now) else {
            return Verdict::NoEntry;
        };
        let connection = &self.connections.get(slot).value;
        if connection.replica != packet.destination() {
            return Verdict::NoEntry;
        }
        if tcp::flags(packet.tcp()).is_syn() && self.is_untagged(slot, packet, now) {
            let isn = tcp::sequence(packet.tcp());
            self.connections.value_mut(slot).challenge(isn, None);
            return Verdict::NoEntry;
        }
        if self.connections.get(slot).value.configuration.data_in_tunnels() {
            return Verdict::NoEntry;
        }
        self.on_client_segment(slot, packet, now);
        Verdict::ToWebServer
    }

    /// Returns whether a plain SYN to a web server is no gateway's: its client connects to the web
    /// server by its own address. Such a connection is untouched (op 616), and ends that of the entry
    /// once the web server accepts it. The gateway sends a SYN with a new number plain only to a
    /// winner that the client has just talked to, and only under A and B.
    fn is_untagged<B: Buffer>(&self, slot: Slot, packet: &Packet<B>, now: Ticks) -> bool {
        let entry = self.connections.get(slot);
        let (connection, isn) = (&entry.value, tcp::sequence(packet.tcp()));
        if connection.configuration.data_in_tunnels() {
            return true;
        }
        if isn == connection.isn {
            return false;
        }
        if connection.is_challenged_by(isn) {
            return connection.next_configuration.get().is_none();
        }
        let is_over = entry.state() != Phase::Opening && !entry.state().is_open();
        is_over || now.since(entry.seen()) >= GATEWAY_SENDS_WITHIN
    }

    /// Tracks a packet of the client, plain or decapsulated.
    #[inline]
    pub(super) fn on_client_segment<B: Buffer>(
        &mut self,
        slot: Slot,
        packet: &Packet<B>,
        now: Ticks,
    ) {
        let (flags, connection) = (tcp::flags(packet.tcp()), &self.connections.get(slot).value);
        if flags.is_syn() {
            // The gateway sends a SYN of a decided race to the winner alone: another SYN/ACK is
            // solicited.
            let isn = tcp::sequence(packet.tcp());
            if isn == connection.isn {
                self.allow_syn_acks(slot);
            } else if !connection.is_challenged_by(isn) {
                let configuration = connection.configuration;
                self.connections.value_mut(slot).challenge(isn, Some(configuration));
            }
        } else if flags.0 & (Flags::SYN | Flags::ACK | Flags::RST) == Flags::ACK
            && self.is_established_by(slot, packet)
        {
            self.establish(slot, now);
        }
        self.on_segment(slot, Side::Outside, packet, now);
    }

    /// Returns whether a packet of the client establishes its connection: its acknowledgement number
    /// is that of the web server's SYN/ACK, and its checksum is right. Blind packets must not. Under A
    /// the web server's packets may take another path; where none of them has ever passed, any number
    /// is taken for the right one.
    fn is_established_by<B: Buffer>(&self, slot: Slot, packet: &Packet<B>) -> bool {
        let entry = self.connections.get(slot);
        let connection = &entry.value;
        if entry.state() != Phase::Opening {
            return false;
        }
        let fits = match connection.tracking.server_seen() {
            true => connection.expected.contains(&tcp::ack_number(packet.tcp())),
            false => {
                connection.configuration == Configuration::A
                    && !self.common.hosts.answers(connection.replica.address.into())
            }
        };
        fits && packet.tcp_checksum_ok::<F>()
    }

    /// Establishes a connection. Its client's prefix may have a SYN/ACK repeated for that.
    fn establish(&mut self, slot: Slot, now: Ticks) {
        let client = self.connections.get(slot).key.address.into();
        self.common.repairs.earn(client);
        self.connections.value_mut(slot).establish();
        self.move_to(slot, Phase::Established, now);
    }

    /// Tracks a segment that passes: restarts the time-out, notes FIN and RST, and resumes a
    /// connection that has ignored a RST.
    #[inline]
    fn on_segment<B: Buffer>(&mut self, slot: Slot, from: Side, packet: &Packet<B>, now: Ticks) {
        let entry = self.connections.get(slot);
        if entry.state() == Phase::Reset && now.since(entry.seen()) >= RST_GRACE {
            let is_half_closed = Side::ALL.iter().any(|&side| entry.value.tracking.has_fin(side));
            let phase = if is_half_closed { Phase::HalfClosed } else { Phase::Established };
            self.move_to(slot, phase, now);
        } else {
            self.touch(slot, now);
        }
        let flags = tcp::flags(packet.tcp());
        if flags.fin() || flags.rst() {
            self.end(slot, from, packet, now);
        }
    }

    /// Notes a FIN or RST.
    #[cold]
    fn end<B: Buffer>(&mut self, slot: Slot, from: Side, packet: &Packet<B>, now: Ticks) {
        let entry = self.connections.get(slot);
        let (mut tracking, phase, flags) =
            (entry.value.tracking, entry.state(), tcp::flags(packet.tcp()));
        if from == Side::Outside && !entry.value.may_end(packet) {
            return;
        }
        if flags.fin() && tracking.is_established() {
            tracking.note_fin(from);
        }
        let next = match phase {
            Phase::Opening if flags.rst() => Phase::Lost,
            Phase::Opening | Phase::Lost => phase,
            _ if tracking.has_both_fins() => Phase::Closed,
            _ if flags.rst() => Phase::Reset,
            Phase::Established => Phase::HalfClosed,
            Phase::HalfClosed | Phase::Closed | Phase::Reset => phase,
        };
        self.connections.value_mut(slot).tracking = tracking;
        if next != phase {
            self.move_to(slot, next, now);
        }
    }

    /// Restarts the time-out of a connection.
    #[inline]
    pub(super) fn touch(&mut self, slot: Slot, now: Ticks) {
        heard::touch(self.connections, &mut self.common.heard, slot, now);
    }

    /// Changes the state of a connection.
    pub(super) fn move_to(&mut self, slot: Slot, phase: Phase, now: Ticks) {
        heard::move_to(self.connections, &mut self.common.heard, slot, phase, now);
    }

    /// Allows the web server another SYN/ACK, and its configured retransmissions.
    pub(super) fn allow_syn_acks(&mut self, slot: Slot) {
        let more = 1 + self.common.settings.syn_ack_retransmits;
        let connection = self.connections.value_mut(slot);
        connection.syn_acks_left = connection.syn_acks_left.saturating_add(more);
    }

    /// Lowers the MSS of a SYN or SYN/ACK where full segments would not fit the tunnels.
    pub(super) fn clamp<B: Buffer>(&self, packet: &mut Packet<B>, connection: &Connection<F>) {
        if mode::clamp(packet, connection, &self.common.settings.path) {
            self.common.counters.common.scalar(Scalar::MssClamped).add(1);
        }
    }
}
