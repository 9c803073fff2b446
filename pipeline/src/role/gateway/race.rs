//! Figures 5A, 5B and 5C: SYN/ACKs from the outside. The first valid one wins.

use super::GatewayFor;
use super::flow::Phase;
use super::mode::{Mode, Translation};
use super::preference::Preferred;
use super::waiting::Kind;
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::memory::Event;
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
pub(super) struct Contender<F: Family> {
    pub(super) endpoint: Endpoint<F>,
    pub(super) is_origin: bool,
}

/// The place of a SYN/ACK in its race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Won,
    Lost,
    /// It lost because the origin wins every race of a shadow.
    WouldHaveWon,
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
        // op 508: is its source the original destination?
        let is_origin = tunnelled_by.is_none() && endpoint == flow.server;
        if tunnelled_by.is_none()
            && let Some(verdict) = self.others_syn_ack(packet.tcp(), slot, endpoint)
        {
            return verdict;
        }
        if !packet.ip_checksum_ok() {
            return Verdict::SynAckIpChecksum;
        }
        if !packet.tcp_checksum_ok::<F>() {
            return Verdict::SynAckTcpChecksum;
        }
        let contender = Contender { endpoint, is_origin };
        let has_right_form = is_origin || tunnelled_by.is_some() == M::SYN_ACK_IN_TUNNEL;
        // op 504: is it the first?
        match phase {
            // The winner's SYN/ACK, perhaps for a SYN with another sequence number: the client's
            // TCP decides.
            Phase::Origin if is_origin => {
                if has_right_number {
                    self.note_second_answer(slot, context.now);
                }
                Verdict::SynAckRetransmit
            }
            _ if phase.is_translated() && has_right_form && endpoint == flow.replica => {
                self.on_winners_syn_ack(packet.tcp(), slot, context.now);
                self.forward_syn_ack(packet, &flow.translation(client));
                Verdict::SynAckRetransmit
            }
            _ if !has_right_number => Verdict::SynAckWrongNumber,
            _ if !has_right_form => Verdict::ConfigurationMismatch,
            Phase::Racing => self.on_first_syn_ack(packet, slot, contender, context),
            _ => {
                if is_origin || self.may_be_replica(slot, endpoint) {
                    // The winner may have been asked directly, which says nothing of the path.
                    if is_origin {
                        self.note_origin_answers(slot, context.now);
                    } else if !self.is_direct(slot, contender) {
                        self.note_switch_answers(slot, context.now);
                    }
                    self.measure(slot, contender, Place::Lost, context.now);
                }
                self.reset_loser(packet, slot, contender, context)
            }
        }
    }

    /// Notes another SYN/ACK of the winner.
    fn on_winners_syn_ack(&mut self, tcp: &[u8], slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        let (flow, phase) = (&entry.value, entry.state());
        let iss = tcp::sequence(tcp);
        let pending = flow.pending_isn().filter(|&isn| acknowledges(tcp, isn));
        match (phase, pending) {
            (_, Some(isn)) => {
                // It has forgotten the earlier connection, whose FINs do not belong to this one.
                self.flows.value_mut(slot).restart(isn, iss);
                self.flows.move_to(slot, Phase::HalfOpen, now);
            }
            // It does not renew the entry: the client has to.
            (Phase::HalfOpen, _) => {
                if iss.wrapping_add(1) != flow.next_from_server {
                    self.flows.value_mut(slot).race.note_two_numbers();
                }
            }
            (Phase::Reset, _) => {}
            _ => self.flows.touch(slot, now),
        }
    }

    /// Resets the source of a SYN/ACK that is not the first (op 514).
    pub(super) fn reset_loser<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        slot: Slot,
        loser: Contender<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (client, server) = (entry.key, entry.value.server);
        let format = self.common.settings.path.format(loser.endpoint.address.into());
        let translation = Translation { client, server, replica: loser.endpoint, format };
        match self.reset(packet, translation, loser, context) {
            true => Verdict::LoserReset,
            false => Verdict::NoBuffer,
        }
    }

    /// Sends a reset in the form and to the address of its SYN/ACK. Returns whether there was a
    /// buffer for it.
    fn reset<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        translation: Translation<F>,
        loser: Contender<F>,
        context: &mut Context<'_, P>,
    ) -> bool {
        let reset = match loser.is_origin {
            true => reset::answer::<F, P>(packet, context.pool),
            false => M::reset::<F, P>(packet, &translation, context.pool),
        };
        let Some(reset) = reset else { return false };
        let counters = &self.common.counters.common;
        send_generated(counters, Side::Outside, reset, Generated::Reset, context);
        true
    }

    /// Decides a race by its first valid SYN/ACK (ops 510, 512, 516, 542, 564).
    fn on_first_syn_ack<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        first: Contender<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let now = context.now;
        let flow = &self.flows.get(slot).value;
        let service = flow.service;
        if !first.is_origin && !self.may_be_replica(slot, first.endpoint) {
            return Verdict::ReplicaNotAllowed;
        }
        if first.is_origin {
            self.note_first_answer_is_origins(slot, now);
        } else if !self.is_direct(slot, first) {
            self.note_switch_answers(slot, now);
        }
        let policy = &self.common.settings.services[usize::from(service)].policy;
        if policy.shadow && !first.is_origin {
            return self.on_shadow_answer(packet, slot, first, context);
        }
        if (policy.may_wait() || policy.is_direct() && self.has_distrusted(service))
            && let Some(due) = self.must_wait_until(slot, first, now)
        {
            if self.flows.get(slot).value.replica == first.endpoint {
                // Once more: the first one waits already.
                return Verdict::SynAckHeld;
            }
            let Contender { endpoint, is_origin } = first;
            let kind = Kind::SynAck { from: endpoint.into(), is_origin, at: now };
            if self.wait(packet, slot, (kind, due)) {
                self.flows.value_mut(slot).replica = endpoint;
                return Verdict::SynAckHeld;
            }
        }
        self.wins(packet, slot, first, (now, now))
    }

    /// Resets a replica in a race that the origin wins, because it wins all of the service.
    fn on_shadow_answer<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        slot: Slot,
        replica: Contender<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let is_first = self.flows.value_mut(slot).race.note_shadow_answer();
        let place = if is_first { Place::WouldHaveWon } else { Place::Lost };
        self.measure(slot, replica, place, context.now);
        match self.reset_loser(packet, slot, replica, context) {
            Verdict::LoserReset => Verdict::ShadowReset,
            verdict => verdict,
        }
    }

    /// Decides a race. A replica's SYN/ACK, which has come `at` this time, becomes one from the
    /// server.
    #[inline(always)]
    pub(super) fn wins<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        winner: Contender<F>,
        (at, now): (Ticks, Ticks),
    ) -> Verdict {
        self.measure(slot, winner, Place::Won, at);
        if winner.is_origin {
            self.prefer(slot, Preferred::Origin, now);
            // op 516: nothing is translated; the entry remains for a while to reset losers.
            self.goes_to_origin(slot, now);
            return Verdict::OriginWon;
        }
        let address = winner.endpoint.address.into();
        let entry = self.flows.get(slot);
        let client = entry.key;
        let policy = &self.common.settings.services[usize::from(entry.value.service)].policy;
        self.prefer(slot, Preferred::Site(policy.site(address)), now);
        // op 510: the entry gets the replica's address.
        let format = self.common.settings.path.format(address);
        let flow = self.flows.value_mut(slot);
        flow.won_by(winner.endpoint, format, tcp::sequence(packet.tcp()));
        let translation = flow.translation(client);
        self.flows.move_to(slot, Phase::HalfOpen, now);
        self.forward_syn_ack(packet, &translation);
        Verdict::ReplicaWon
    }

    /// Notes who has won, for services whose clients keep their server.
    fn prefer(&mut self, slot: Slot, winner: Preferred, now: Ticks) {
        let entry = self.flows.get(slot);
        let service = entry.value.service;
        let lasting = self.common.settings.services[usize::from(service)].policy.affinity;
        if lasting > Ticks(0) {
            self.preferences.note(service, entry.key.address, (winner, lasting), now);
        }
    }

    /// Returns until when a SYN/ACK has to wait for others: as long as its handicap is, unless none
    /// of the others is expected before that. A replica that the client had has no handicap; all
    /// others have the affinity's slack in addition.
    fn must_wait_until(&mut self, slot: Slot, first: Contender<F>, now: Ticks) -> Option<Ticks> {
        let entry = self.flows.get(slot);
        let (flow, client) = (&entry.value, entry.key);
        let policy = &self.common.settings.services[usize::from(flow.service)].policy;
        let plan = self.common.asking.plan(flow.service, F::VERSION)?;
        let preferred = match policy.affinity {
            Ticks(0) => None,
            lasting => self.preferences.find(flow.service, client.address, lasting, now),
        };
        // A replica that was not asked is dead, or too far behind.
        let preferred = preferred.filter(|preferred| match preferred {
            Preferred::Origin => plan.origin.is_some(),
            Preferred::Site(site) => plan.number_among(flow.asked(), *site).is_some(),
        });
        let slack = |is_preferred: bool| match preferred {
            Some(_) if !is_preferred => policy.affinity_slack,
            _ => Ticks(0),
        };
        let of_site = |site| slack(preferred == Some(Preferred::Site(site)));
        let origin_slack = slack(preferred == Some(Preferred::Origin));
        let address = first.endpoint.address.into();
        let own = policy.site(address);
        let handicap = match first.is_origin {
            true => origin_slack,
            false => {
                let known = plan.number_of(own).and_then(|number| plan.candidate(number));
                known.map_or_else(|| policy.handicap(address), |site| site.handicap) + of_site(own)
            }
        };
        let number = plan.number_of(own).filter(|_| !first.is_origin);
        let origin_after = if flow.race.is_deferred() { policy.origin_after } else { Ticks(0) };
        let origin =
            plan.origin.filter(|_| !first.is_origin).map(|time| time + origin_after + origin_slack);
        let others = plan
            .asked(flow.asked())
            .filter(|(other, _)| Some(*other) != number)
            .filter_map(|(_, candidate)| {
                Some(candidate.rank? + of_site(policy.site(candidate.address)))
            })
            .chain(origin)
            .min();
        let own = flow.elapsed(now) + handicap;
        (handicap > Ticks(0) && others.is_none_or(|other| other < own)).then(|| now + handicap)
    }

    /// Returns whether a replica of a service is distrusted: its answers wait for others.
    fn has_distrusted(&self, service: u16) -> bool {
        self.common.asking.plan(service, F::VERSION).is_some_and(|plan| plan.has_distrusted)
    }

    fn forward_syn_ack<B: Buffer>(&self, packet: &mut Packet<B>, translation: &Translation<F>) {
        if M::syn_ack_to_client(packet, translation, &self.common.settings.path) {
            self.common.counters.common.scalar(Scalar::MssClamped).add(1);
        }
    }

    /// Records the time from the first SYN to a SYN/ACK, of the winner or of a loser, and reports
    /// it to the memory.
    #[inline(always)]
    pub(super) fn measure(
        &mut self,
        slot: Slot,
        contender: Contender<F>,
        place: Place,
        now: Ticks,
    ) {
        let flow = &self.flows.get(slot).value;
        let all = &self.common.counters.responders;
        let address = contender.endpoint.address.into();
        let responder = self.common.responders.of(all, flow.service, address, contender.is_origin);
        let elapsed = flow.elapsed(now);
        match place {
            Place::Won => responder.won.add(1),
            Place::Lost | Place::WouldHaveWon => {
                responder.lost.add(1);
                responder.half_open.add(elapsed.micros());
            }
        }
        responder.time_to_syn_ack.record(elapsed);
        if self.policy(flow.service).is_direct() {
            self.report_answer(slot, contender, (place, elapsed), now);
        }
    }

    /// Reports a SYN/ACK that has come so long after the first SYN to the memory.
    fn report_answer(
        &mut self,
        slot: Slot,
        contender: Contender<F>,
        (place, elapsed): (Place, Ticks),
        now: Ticks,
    ) {
        let entry = self.flows.get(slot);
        let (flow, client) = (&entry.value, entry.key);
        let service = flow.service;
        let policy = self.policy(service);
        // The origin's SYN has waited: that is not the origin's time.
        let waited = contender.is_origin && flow.race.is_deferred();
        let waited = if waited { policy.origin_after } else { Ticks(0) };
        let event = Event::Answered {
            responder: contender.endpoint.address.into(),
            is_origin: contender.is_origin,
            is_direct: match contender.is_origin {
                true => flow.asked() != 0,
                false => self.is_direct(slot, contender),
            },
            // In a shadow the memory learns who would have won.
            has_won: place != Place::Lost
                && !(contender.is_origin && flow.race.has_shadow_answer()),
            // Karn's algorithm (RFC 6298, section 3).
            after: (flow.retransmits == 0 && !flow.race.is_repeated())
                .then(|| elapsed.since(waited)),
        };
        self.report(service, client, event, now);
    }

    /// Returns whether a contender was asked directly in this race: its site was.
    #[inline]
    fn is_direct(&self, slot: Slot, contender: Contender<F>) -> bool {
        let flow = &self.flows.get(slot).value;
        if contender.is_origin || flow.asked() == 0 {
            return false;
        }
        let site = self.policy(flow.service).site(contender.endpoint.address.into());
        let plan = self.common.asking.plan(flow.service, F::VERSION);
        plan.is_some_and(|plan| plan.number_among(flow.asked(), site).is_some())
    }
}
