//! Connections that a copy has opened: packets of their web servers, and plain packets of their
//! gateways.

use super::connection::Connection;
use super::mode::{self, Segment};
use super::{Common, Phase, ReplicaFor};
use crate::base::time::Ticks;
use crate::counters::Scalar;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::gateway::mode::EncapError;
use crate::role::tracking::{on_segment, refuses};
use crate::role::{Context, LookupHint};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

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
        let entry = self.connections.get(slot);
        if packet.source::<F>() != entry.value.sends_as() {
            return Verdict::NoEntry;
        }
        let flags = tcp::flags(packet.tcp());
        if flags.is_syn_ack() && entry.value.is_succeeded_by(tcp::ack_number(packet.tcp())) {
            let successor = entry.value.successor();
            *self.connections.value_mut(slot) = successor;
            self.allow_syn_acks(slot);
            self.connections.move_to(slot, Phase::Opening, context.now);
        }
        let entry = self.connections.get(slot);
        let (connection, phase) = (entry.value, entry.state());
        let is_answer = flags.is_syn_ack()
            || flags.rst() && (phase == Phase::Opening || refuses(packet.tcp(), connection.isn));
        if flags.is_syn_ack() && !connection.tracking.is_established() {
            // An unsolicited SYN/ACK would reach a spoofed client, too.
            let Some(left) = connection.syn_acks_left.checked_sub(1) else {
                // A web server that still retransmits must not outlive its entry: without one its
                // packets would pass.
                self.connections.touch(slot, context.now);
                return Verdict::SynAckUnsolicited;
            };
            let connection = self.connections.value_mut(slot);
            connection.syn_acks_left = left;
            connection.expected_ack = tcp::sequence(packet.tcp()).wrapping_add(1);
            connection.tracking.note_server();
        }
        on_segment(self.connections, slot, Side::Inside, flags, context.now);
        if flags.rst() {
            self.note_refusal(slot);
        }
        if flags.is_syn_ack() {
            self.clamp(packet, &connection);
        }
        let segment = if is_answer { Segment::SynAck } else { Segment::Data };
        let verdict = Verdict::FromWebServer;
        self.send_to_client(packet, segment, client, &connection, verdict, context)
    }

    /// Notes that the web server has sent a RST: the next copy is another attempt.
    #[cold]
    fn note_refusal(&mut self, slot: Slot) {
        self.connections.value_mut(slot).last_copy = None;
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
        if connection.configuration.data_in_tunnels() || connection.replica != packet.destination()
        {
            return Verdict::NoEntry;
        }
        self.on_client_segment(slot, packet.tcp(), now);
        Verdict::ToWebServer
    }

    /// Tracks a packet of the client, plain or decapsulated.
    #[inline]
    pub(super) fn on_client_segment(&mut self, slot: Slot, tcp: &[u8], now: Ticks) {
        let flags = tcp::flags(tcp);
        if flags.is_syn() {
            // The gateway sends a SYN of a decided race to the winner alone: another SYN/ACK is
            // solicited.
            self.allow_syn_acks(slot);
        }
        let is_established = self.connections.get(slot).value.tracking.is_established();
        if flags.0 & Flags::ACK != 0 && !is_established {
            self.establish_by(slot, tcp::ack_number(tcp), now);
        }
        on_segment(self.connections, slot, Side::Outside, flags, now);
    }

    /// Establishes a connection, if the client's acknowledgement number is right.
    fn establish_by(&mut self, slot: Slot, ack_number: u32, now: Ticks) {
        let entry = self.connections.get(slot);
        let (connection, phase) = (entry.value, entry.state());
        let is_closing = phase == Phase::Closing;
        // The RST may have been ignored; but a connection that was refused is not established.
        let was_refused = is_closing && !connection.tracking.server_seen();
        if !connection.is_established_by(ack_number) || was_refused {
            return;
        }
        self.connections.value_mut(slot).tracking.establish();
        if !is_closing {
            self.connections.move_to(slot, Phase::Established, now);
        }
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
