//! Figures 5A, 5B and 5C: SYN/ACKs from the outside. The first valid one wins.

use super::GatewayFor;
use super::flow::Phase;
use super::mode::{Mode, Translation};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::tracking::acknowledges;
use crate::role::{Context, send_generated};
use crate::stage::reset;
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

/// The sender of a SYN/ACK.
#[derive(Clone, Copy, Debug)]
struct Contender<F: Family> {
    endpoint: Endpoint<F>,
    is_origin: bool,
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Handles a SYN/ACK from the outside that has an entry (ops 502, 532, 552). `tunnelled_by` is
    /// the replica whose tunnel it came in, and was taken out of (ops 535, 554).
    pub(super) fn on_syn_ack<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        tunnelled_by: Option<Endpoint<F>>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        // op 506: the table's entry.
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let endpoint = tunnelled_by.unwrap_or_else(|| packet.source());
        let has_right_number = acknowledges(packet.tcp(), flow.isn);
        if tunnelled_by.is_none() && endpoint == flow.second && !has_right_number {
            return Verdict::FromOther;
        }
        if !packet.ip_checksum_ok() {
            return Verdict::SynAckIpChecksum;
        }
        if !packet.tcp_checksum_ok::<F>() {
            return Verdict::SynAckTcpChecksum;
        }
        // op 508: is its source the original destination?
        let is_origin = tunnelled_by.is_none() && endpoint == flow.server;
        let contender = Contender { endpoint, is_origin };
        let has_right_form = is_origin || tunnelled_by.is_some() == M::SYN_ACK_IN_TUNNEL;
        // op 504: is it the first?
        match phase {
            // The winner's SYN/ACK, perhaps for a SYN with another sequence number: the client's
            // TCP decides.
            Phase::Origin if is_origin => Verdict::SynAckRetransmit,
            Phase::Replica | Phase::Closing if has_right_form && endpoint == flow.replica => {
                let acknowledged = tcp::ack_number(packet.tcp()).wrapping_sub(1);
                if !has_right_number && acknowledged == flow.pending_isn {
                    // The earlier connection's FINs do not belong to the new one.
                    self.flows.value_mut(slot).restart(acknowledged);
                    self.flows.move_to(slot, Phase::Replica, context.now);
                } else {
                    self.flows.touch(slot, context.now);
                }
                self.forward_syn_ack(packet, &flow.translation(client));
                Verdict::SynAckRetransmit
            }
            _ if !has_right_number => Verdict::SynAckWrongNumber,
            _ if !has_right_form => Verdict::ConfigurationMismatch,
            Phase::Racing => self.on_first_syn_ack(packet, slot, contender, context.now),
            Phase::Replica | Phase::Origin | Phase::Closing => {
                if is_origin || self.allows_replica(flow.service, endpoint) {
                    self.measure(slot, contender, false, context.now);
                }
                self.reset(packet, client, flow.server, contender, context)
            }
        }
    }

    /// Resets the source of a SYN/ACK that is not the first (op 514), in the form and at the
    /// address of its SYN/ACK.
    fn reset<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        client: Endpoint<F>,
        server: Endpoint<F>,
        loser: Contender<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let reset = if loser.is_origin {
            reset::answer::<F, P>(packet, context.pool)
        } else {
            let format = self.common.settings.path.format(loser.endpoint.address.into());
            let translation = Translation { client, server, replica: loser.endpoint, format };
            M::reset::<F, P>(packet, &translation, context.pool)
        };
        let Some(reset) = reset else { return Verdict::NoBuffer };
        let counters = &self.common.counters.common;
        send_generated(counters, Side::Outside, reset, Generated::Reset, context);
        Verdict::LoserReset
    }

    /// Decides a race by its first valid SYN/ACK (ops 510, 512, 516, 542, 564).
    fn on_first_syn_ack<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        winner: Contender<F>,
        now: Ticks,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (service, client) = (entry.value.service, entry.key);
        if !winner.is_origin && !self.allows_replica(service, winner.endpoint) {
            return Verdict::ReplicaNotAllowed;
        }
        self.note_path_takes_tags(slot);
        self.measure(slot, winner, true, now);
        if winner.is_origin {
            // op 516: nothing is translated; the entry remains for a while to reset losers.
            self.flows.move_to(slot, Phase::Origin, now);
            return Verdict::OriginWon;
        }
        // op 510: the entry gets the replica's address.
        let format = self.common.settings.path.format(winner.endpoint.address.into());
        let flow = self.flows.value_mut(slot);
        flow.won_by(winner.endpoint, format);
        let translation = flow.translation(client);
        self.flows.move_to(slot, Phase::Replica, now);
        self.forward_syn_ack(packet, &translation);
        Verdict::ReplicaWon
    }

    fn forward_syn_ack<B: Buffer>(&self, packet: &mut Packet<B>, translation: &Translation<F>) {
        if M::syn_ack_to_client(packet, translation, &self.common.settings.path) {
            self.common.counters.common.scalar(Scalar::MssClamped).add(1);
        }
    }

    /// Notes that a race was answered: if its SYNs were tagged, their path takes the tag.
    pub(super) fn note_path_takes_tags(&mut self, slot: Slot) {
        let flow = &self.flows.get(slot).value;
        if flow.retransmits < 2 {
            self.common.backoff.answered(flow.server.address.into());
        }
    }

    /// Records the time from the first SYN to a SYN/ACK, of the winner or of a loser.
    fn measure(&mut self, slot: Slot, contender: Contender<F>, won: bool, now: Ticks) {
        let flow = &self.flows.get(slot).value;
        let all = &self.common.counters.responders;
        let address = contender.endpoint.address.into();
        let responder = self.common.responders.of(all, flow.service, address, contender.is_origin);
        if won { &responder.won } else { &responder.lost }.add(1);
        responder.time_to_syn_ack.record(now.since(flow.started));
    }

    /// Returns whether a replica of the service may have this address.
    pub(super) fn allows_replica(&self, service: u16, replica: Endpoint<F>) -> bool {
        let service = &self.common.settings.services[usize::from(service)];
        service.allowed_replicas.allows(replica.address.into())
    }
}
