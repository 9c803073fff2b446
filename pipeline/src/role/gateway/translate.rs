//! Figures 6A, 6B and 6C: packets that are neither SYN nor SYN/ACK.

use super::flow::{Flow, Phase};
use super::mode::{EncapError, Mode, Translation};
use super::{Common, GatewayFor};
use crate::base::time::Ticks;
use crate::memory::Event;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::role::tracking::{acknowledges, on_segment, refuses};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Handles a packet from the inside that is no SYN and has an entry (op 610: it comes from the
    /// client side).
    #[inline]
    pub(super) fn client_packet<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        flags: Flags,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        if packet.destination::<F>() != entry.value.server {
            return Verdict::OtherServer;
        }
        match entry.state() {
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin => Verdict::WithOrigin,
            Phase::Replica | Phase::Closing => {
                let translation = entry.value.translation(entry.key);
                self.note_end(slot, Side::Inside, flags, context.now);
                on_segment(self.flows, slot, Side::Inside, flags, context.now);
                self.send_to_replica(packet, &translation, Verdict::ToReplica, context)
            }
        }
    }

    /// Reports the first FIN of a side of a connection that a replica has won: a replica that
    /// answers SYNs and serves nothing ends no connection.
    #[inline]
    pub(super) fn note_end(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        if flags.fin() {
            self.report_end(slot, from, now);
        }
    }

    fn report_end(&mut self, slot: Slot, from: Side, now: Ticks) {
        let entry = self.flows.get(slot);
        let (flow, client) = (&entry.value, entry.key);
        if flow.tracking.has_fin(from) || flow.tracking.has_fin(Side::Outside) {
            return;
        }
        let replica = flow.replica.address.into();
        let event = Event::Ended { replica, by_replica: from == Side::Outside };
        self.report(flow.service, client, event, now);
    }

    /// Sends a packet to the winner (ops 612, 636, 656). Returns `verdict`, unless the packet was
    /// not put into its tunnel.
    #[inline]
    pub(super) fn send_to_replica<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        translation: &Translation<F>,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match M::to_replica(packet, translation, &self.common.settings.path) {
            Ok(()) => verdict,
            Err(error) => self.encap_failed(packet, translation, error, context),
        }
    }

    /// Handles a packet that was not put into its tunnel.
    #[cold]
    pub(super) fn encap_failed<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        translation: &Translation<F>,
        error: EncapError,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let inner_mtu = match error {
            EncapError::NoHeadroom => return Verdict::NoBuffer,
            EncapError::TooBig(inner_mtu) => inner_mtu,
        };
        let Common { oversize, settings, counters, .. } = &mut *self.common;
        let put =
            |_, fragment: &mut _| M::to_replica(fragment, translation, &settings.path).is_ok();
        let (from, counters) = (Side::Inside, &counters.common);
        oversize.fragment_or_reject::<F, P>(from, packet, inner_mtu, counters, context, put)
    }

    /// Handles a plain packet from the outside that is no SYN/ACK and has an entry (op 610: it does
    /// not come from the client side).
    #[inline]
    pub(super) fn server_packet<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        flags: Flags,
        now: Ticks,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let flow = &entry.value;
        let (server, from) = (flow.server, packet.source::<F>());
        match entry.state() {
            Phase::Replica | Phase::Closing => {
                let translation = flow.translation(entry.key);
                let is_winner = M::plain_winner(&translation) == Some(from);
                if is_winner && !is_late_refusal(packet, flow, from) {
                    self.note_end(slot, Side::Outside, flags, now);
                    on_segment(self.flows, slot, Side::Outside, flags, now);
                    M::to_client(packet, &translation);
                    Verdict::FromReplica
                } else if from == server {
                    Verdict::FromLoser
                } else {
                    Verdict::FromOther
                }
            }
            Phase::Racing if from == server && refuses_race::<F, B>(packet, flow.isn) => {
                self.note_origin_answers(slot, now);
                self.flows.value_mut(slot).replica = Endpoint::NONE;
                self.flows.move_to(slot, Phase::Origin, now);
                Verdict::ResetByOrigin
            }
            // Under B and C a replica's refusal comes in a tunnel.
            Phase::Racing
                if !M::SYN_ACK_IN_TUNNEL
                    && flags.rst()
                    && from != server
                    && from != flow.second
                    && self.allows_replica(flow.service, from) =>
            {
                Verdict::ResetByReplica
            }
            // op 616: forwarded to its destination.
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin if from == server => Verdict::WithOrigin,
            Phase::Origin => Verdict::FromOther,
        }
    }
}

/// Returns whether a packet refuses the SYN of a race: a RST that acknowledges it (RFC 9293,
/// section 3.10.7.1). The client's TCP ignores every other RST.
fn refuses_race<F: Family, B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    let flags = tcp::flags(packet.tcp());
    flags.rst()
        && flags.0 & Flags::ACK != 0
        && acknowledges(packet.tcp(), isn)
        && packet.ip_checksum_ok()
        && packet.tcp_checksum_ok::<F>()
}

/// Returns whether a packet is the origin's refusal that comes after a replica has won. Under B the
/// winner's packets have the same source; the refusal must not end the winner's connection.
fn is_late_refusal<F: Family, B: Buffer>(
    packet: &Packet<B>,
    flow: &Flow<F>,
    from: Endpoint<F>,
) -> bool {
    from == flow.server && refuses(packet.tcp(), flow.isn)
}
