//! Figures 6A, 6B and 6C: packets that are neither SYN nor SYN/ACK.

use super::flow::{Flow, Phase};
use super::mode::{EncapError, Mode, Translation};
use super::segments::has_right_checksums;
use super::{Common, GatewayFor};
use crate::base::time::Ticks;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::role::tracking::{acknowledges, follows, refuses};
use crate::stage::rewrite;
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
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        if packet.destination::<F>() != entry.value.server {
            return self.packet_to_other_server(packet, slot, context);
        }
        match entry.state() {
            Phase::Racing if continues_race::<F, P::Buffer>(packet, entry.value.isn) => {
                self.answered_elsewhere(slot, context.now)
            }
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin => {
                self.flows.value_mut(slot).note_heard(context.now);
                Verdict::WithOrigin
            }
            _ => {
                let translation = entry.value.translation(entry.key);
                self.track(packet, slot, Side::Inside, context.now);
                self.send_to_replica(packet, &translation, Verdict::ToReplica, context)
            }
        }
    }

    /// Ends a race whose client acknowledges a SYN/ACK that the gateway has not seen: the origin's,
    /// by another way. A replica must not take over what already works.
    #[cold]
    fn answered_elsewhere(&mut self, slot: Slot, now: Ticks) -> Verdict {
        self.goes_to_origin(slot, now);
        Verdict::AnsweredElsewhere
    }

    /// Ends a race by what the origin has sent. A SYN/ACK that waits has lost.
    pub(super) fn goes_to_origin(&mut self, slot: Slot, now: Ticks) {
        let flow = self.flows.value_mut(slot);
        flow.replica = Endpoint::NONE;
        flow.note_heard(now);
        self.flows.move_to(slot, Phase::Origin, now);
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
    pub(super) fn server_packet<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let now = context.now;
        let entry = self.flows.get(slot);
        let (flow, client) = (&entry.value, entry.key);
        let (server, from) = (flow.server, packet.source::<F>());
        match entry.state() {
            Phase::Racing if from == server && refuses_race::<F, P::Buffer>(packet, flow.isn) => {
                self.note_origin_answers(slot, now);
                self.goes_to_origin(slot, now);
                Verdict::ResetByOrigin
            }
            // Under B and C a replica's refusal comes in a tunnel. Any other RST is of another
            // connection of the client endpoint.
            Phase::Racing
                if !M::SYN_ACK_IN_TUNNEL
                    && from != server
                    && is_refusal(packet.tcp(), flow.isn)
                    && self.may_be_replica(slot, from) =>
            {
                Verdict::ResetByReplica
            }
            // op 616: forwarded to its destination.
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin if from == server => Verdict::WithOrigin,
            Phase::Origin => Verdict::FromOther,
            _ => {
                let translation = flow.translation(client);
                let is_winner = M::plain_winner(&translation) == Some(from);
                if is_winner && !is_late_refusal(packet, flow, from) {
                    self.track(packet, slot, Side::Outside, now);
                    M::to_client(packet, &translation);
                    Verdict::FromReplica
                } else if from == server {
                    Verdict::FromLoser
                } else if self.is_winners_plain_reset(packet, flow, from) {
                    self.track(packet, slot, Side::Outside, now);
                    rewrite::source(packet, server);
                    Verdict::FromReplica
                } else {
                    self.packet_from_other(packet, slot, context)
                }
            }
        }
    }
}

/// Returns whether a client's packet belongs to a connection that its SYN has opened: it has an
/// acknowledgement, follows the SYN in its numbers, and is undamaged. Segments of an earlier
/// connection of the endpoints have other numbers.
fn continues_race<F: Family, B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    let flags = tcp::flags(packet.tcp());
    flags.0 & (Flags::ACK | Flags::SYN | Flags::RST) == Flags::ACK
        && follows(tcp::sequence(packet.tcp()), isn.wrapping_add(1))
        && has_right_checksums::<F, B>(packet)
}

/// Returns whether a packet is a RST that acknowledges the SYN of a race (RFC 9293,
/// section 3.10.7.1). The client's TCP ignores every other RST.
fn is_refusal(tcp: &[u8], isn: u32) -> bool {
    let flags = tcp::flags(tcp);
    flags.rst() && flags.0 & Flags::ACK != 0 && acknowledges(tcp, isn)
}

/// Returns whether a packet is a refusal of the SYN of a race that the client's TCP accepts.
fn refuses_race<F: Family, B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    is_refusal(packet.tcp(), isn) && has_right_checksums::<F, B>(packet)
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
