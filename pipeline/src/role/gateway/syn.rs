//! Figure 2: SYNs from the inside.

use super::asking::{Asked, Why};
use super::flow::{Flow, Phase};
use super::mode::Mode;
use super::path::{LATE, ONE_SYN};
use super::waiting::Kind;
use super::{Common, GatewayFor, Settings};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::memory::{Event, Policy, Report};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::BURST;
use crate::packet::view::{Packet, Side};
use crate::role::{Context, insert_counted, send_generated};
use crate::stage::encap::{self, Outer};
use crate::stage::tag::{CopiesWanted, Found};
use crate::stage::{classify, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Handles a SYN from the inside (ops 204, 604). `slot` is the entry of its client endpoint.
    pub(super) fn on_syn<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        client: Endpoint<F>,
        hash: Hash,
        slot: Option<Slot>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let now = context.now;
        let server = packet.destination::<F>();
        let isn = tcp::sequence(packet.tcp());
        let Some(slot) = slot else { return self.open_race(packet, client, hash, None, context) };
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        if self.takes_winners_place(packet, slot) {
            self.flows.remove(slot);
            return self.open_race(packet, client, hash, None, context);
        }
        if flow.server != server {
            // A second connection of the endpoint while the first is live. One that has ended may
            // still have data or a FIN to retransmit.
            return match self.common.services.find(server.address.into(), server.port) {
                Some(_) => Verdict::UntaggedEndpointInUse,
                None => Verdict::NoService,
            };
        }
        let is_retransmit = flow.isn == isn;
        match phase {
            Phase::Racing if is_retransmit => self.retransmit(packet, slot, client, context),
            _ if !is_retransmit && self.may_race_anew(slot, now) => {
                self.open_race(packet, client, hash, Some(slot), context)
            }
            Phase::Origin => Verdict::WithOrigin,
            _ => {
                // A SYN with another sequence number does not count as heard: if the winner does
                // not answer it, a later one opens a fresh race after `reuse_after`.
                match is_retransmit {
                    true => self.flows.touch(slot, now),
                    false => self.flows.value_mut(slot).note_pending(isn),
                }
                let translation = flow.translation(client);
                self.clamp(packet, translation.format);
                self.send_to_replica(packet, &translation, Verdict::SynToWinner, context)
            }
        }
    }

    /// Opens a race, in place of the endpoint's earlier connection if there was one (fig 2).
    fn open_race<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        client: Endpoint<F>,
        hash: Hash,
        earlier: Option<Slot>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let now = context.now;
        let server = packet.destination::<F>();
        let (service, asked, is_tagged) = match self.may_race(packet, (client, server), now) {
            Ok(race) => race,
            Err(verdict) => {
                // Packets of the new connection would be taken for packets of the earlier one. A
                // SYN that arrived damaged opens no connection.
                let damaged =
                    matches!(verdict, Verdict::UntaggedIpChecksum | Verdict::UntaggedTcpChecksum);
                if let Some(slot) = earlier.filter(|_| !damaged) {
                    self.flows.remove(slot);
                }
                return verdict;
            }
        };
        self.common.ways.note(client.address.into(), packet);
        // op 212: the destination is entered into the table.
        let flow = Flow::new(server, tcp::sequence(packet.tcp()), service, now);
        let slot = match earlier {
            Some(slot) => {
                *self.flows.value_mut(slot) = flow;
                self.flows.move_to(slot, Phase::Racing, now);
                slot
            }
            None => match self.insert(hash, client, flow, now) {
                Some(slot) => slot,
                None => return Verdict::UntaggedTableFull,
            },
        };
        let Some(sites) = self.ask(packet, (slot, client, service), asked, is_tagged, context)
        else {
            self.flows.remove(slot);
            return Verdict::UntaggedNoHeadroom;
        };
        let is_fresh = asked.why == Why::Fresh && sites != 0;
        // op 214: forwarded to the server.
        match (is_tagged, earlier) {
            (false, _) => Verdict::UntaggedBackoff,
            (true, _) if is_fresh && self.defer(packet, slot, now) => Verdict::SynDeferred,
            (true, Some(_)) => Verdict::TaggedNewIsn,
            (true, None) => Verdict::Tagged,
        }
    }

    /// Tags a SYN, sends direct copies of it, and reports it. If the path to the server is assumed
    /// to drop the tag, only the copies have it. Returns the sites that got a copy; `None`, and
    /// changes nothing, when the buffer has no headroom for the tag.
    #[inline(always)]
    fn ask<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        (slot, client, service): (Slot, Endpoint<F>, u16),
        asked: Asked,
        is_tagged: bool,
        context: &mut Context<'_, P>,
    ) -> Option<u32> {
        if (is_tagged || asked.sites != 0) && !self.tag(packet, asked.copies, context.now) {
            return None;
        }
        let race = &mut self.flows.value_mut(slot).race;
        match is_tagged {
            true => race.note_tagged(),
            false => race.note_untagged(),
        }
        Some(match self.policy(service).is_direct() {
            true => self.ask_directly(packet, (slot, client), asked, is_tagged, context),
            false => 0,
        })
    }

    /// Sends direct copies of a SYN that is tagged for them or for the switch, and reports it.
    /// Returns the sites that got a copy.
    fn ask_directly<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        (slot, client): (Slot, Endpoint<F>),
        asked: Asked,
        is_tagged: bool,
        context: &mut Context<'_, P>,
    ) -> u32 {
        let service = self.flows.get(slot).value.service;
        let sites = match asked.sites {
            0 => 0,
            sites => self.copy_directly(packet, service, client, sites, context),
        };
        self.flows.value_mut(slot).note_asked(sites);
        if !is_tagged
            && let Found::Tag(_, at, length) = self.common.settings.tag.find(packet.options())
        {
            tag::strip::<F, _>(packet, at, length);
        }
        let (copies, why) = match (is_tagged, asked.why) {
            (true, why) => (asked.copies, why),
            (false, Why::Repetition) => (CopiesWanted::NONE, Why::Repetition),
            (false, _) => (CopiesWanted::NONE, Why::Untagged),
        };
        self.report(service, client, Event::Asked { sites, copies, why }, context.now);
        sites
    }

    /// Sends a tagged SYN in tunnels to the replicas that are asked directly. Returns the sites that
    /// got one.
    fn copy_directly<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        service: u16,
        client: Endpoint<F>,
        sites: u32,
        context: &mut Context<'_, P>,
    ) -> u32 {
        let counters = &self.common.counters.common;
        let Some(plan) = self.common.asking.plan(service, F::VERSION) else { return 0 };
        let mut sent = 0;
        for (number, candidate) in plan.asked(sites) {
            let format = candidate.format;
            let Some(destination) = F::from_ip(candidate.address) else { continue };
            let entropy = client.entropy();
            let outer = Outer::<F> { format, source: client.address, destination, entropy };
            // The packets of the burst must have room, too.
            let copy = match context.out.room(Side::Outside) > BURST {
                true => encap::copy_onward(packet, &outer, context.pool),
                false => None,
            };
            match copy {
                Some(copy) => {
                    send_generated(counters, Side::Outside, copy, Generated::DirectCopy, context);
                    sent |= 1 << number;
                }
                None => counters.scalar(Scalar::CopiesFailed).add(1),
            }
        }
        sent
    }

    /// Makes the SYN to the origin of a race that asks replicas which have answered lately wait, if
    /// the service wants that. Returns whether it waits.
    fn defer<B: Buffer>(&mut self, packet: &Packet<B>, slot: Slot, now: Ticks) -> bool {
        let policy = self.policy(self.flows.get(slot).value.service);
        if policy.origin_after == Ticks(0) || policy.shadow {
            return false;
        }
        let due = now + policy.origin_after;
        let waits = self.wait(packet, slot, (Kind::Syn, due));
        if waits {
            self.flows.value_mut(slot).race.note_deferred();
        }
        waits
    }

    /// Returns how the replicas of a service are asked directly.
    #[inline]
    pub(super) fn policy(&self, service: u16) -> &Policy {
        &self.common.settings.services[usize::from(service)].policy
    }

    /// Reports an event of a race to the memory, if the service has one.
    #[inline]
    pub(super) fn report(&mut self, service: u16, client: Endpoint<F>, event: Event, at: Ticks) {
        if !self.policy(service).is_direct() {
            return;
        }
        let report = Report { at, service, client: client.into(), event };
        if !self.common.asking.shares.reports.send(report) {
            self.common.counters.common.scalar(Scalar::ReportsLost).add(1);
        }
    }

    fn insert(
        &mut self,
        hash: Hash,
        client: Endpoint<F>,
        flow: Flow<F>,
        now: Ticks,
    ) -> Option<Slot> {
        let counters = self.common.counters.common.table_of(F::VERSION);
        let racing = Phase::Racing;
        insert_counted(self.flows, counters, hash, client, racing, flow, now).map(Inserted::slot)
    }

    /// Tags a SYN (op 210). Under C the MSS is clamped, too, so that full segments fit the tunnels.
    /// Returns `false`, and changes nothing, when the buffer has no headroom.
    fn tag<B: Buffer>(&self, packet: &mut Packet<B>, copies: CopiesWanted, now: Ticks) -> bool {
        let Settings { path, tag: option, .. } = &self.common.settings;
        let tag = tag::Tag::requesting(copies, M::CONFIGURATION);
        // op 210: the tag is added.
        let tagged = tag::insert::<F, B>(packet, *option, tag, self.common.keys.get().at(now));
        if tagged {
            self.clamp(packet, path.format);
        }
        tagged
    }

    fn clamp<B: Buffer>(&self, packet: &mut Packet<B>, format: crate::wire::tunnel::Format) {
        if M::clamp_syn::<F, B>(packet, &self.common.settings.path, format) {
            self.common.counters.common.scalar(Scalar::MssClamped).add(1);
        }
    }

    /// Returns the service of a SYN that may race (op 208), whom it asks, and whether it is tagged
    /// on its way to the server; otherwise the verdict says why it may not.
    fn may_race<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        (client, server): (Endpoint<F>, Endpoint<F>),
        now: Ticks,
    ) -> Result<(u16, Asked, bool), Verdict> {
        let address = server.address.into();
        // op 208: is it for one of the services?
        let service = self.common.services.find(address, server.port).ok_or(Verdict::NoService)?;
        if !self.common.settings.allowed_clients.allows(client.address.into()) {
            return Err(Verdict::UntaggedClientNotAllowed);
        }
        if self.common.settings.drain.holds(service.into()) {
            return Err(Verdict::UntaggedDrained);
        }
        self.may_be_tagged(packet)?;
        let Common { settings, asking, backoff, .. } = &mut *self.common;
        let policy = &settings.services[usize::from(service)].policy;
        let is_tagged = !backoff.holds(server.into(), client.into(), now)
            || backoff.is_probe(client.into(), tcp::sequence(packet.tcp()));
        if !policy.is_direct() {
            return match is_tagged {
                true => Ok((service, Asked::BY_SWITCH, true)),
                false => Err(Verdict::UntaggedBackoff),
            };
        }
        let preferred = match policy.affinity {
            Ticks(0) => None,
            lasting => self.preferences.find(service, client.address, lasting, now),
        };
        let asked = asking.for_race(service, F::VERSION, (policy, preferred), now);
        let asked = asked.ok_or(Verdict::LeftToOrigin)?;
        if !is_tagged && asked.sites == 0 {
            return Err(Verdict::UntaggedBackoff);
        }
        Ok((service, asked, is_tagged))
    }

    fn may_be_tagged<B: Buffer>(&self, packet: &Packet<B>) -> Result<(), Verdict> {
        let tag_space = self.common.keys.get().tag_space();
        classify::syn::<F, B>(packet, self.common.settings.tag, tag_space)
    }

    /// Handles the retransmitted SYN of an undecided race: the first retransmission is tagged
    /// again, unless the path is backed off from; later ones are untagged, in case the path drops
    /// SYNs with an option it does not know. The replicas that are asked directly are asked again.
    fn retransmit<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        client: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let now = context.now;
        if let Err(verdict) = self.may_be_tagged(packet) {
            return verdict;
        }
        let since_last = now.since(self.flows.get(slot).seen());
        if since_last < ONE_SYN {
            return self.same_syn(packet, slot, now);
        }
        let flow = self.flows.value_mut(slot);
        flow.retransmits = flow.retransmits.saturating_add(1);
        let Flow { retransmits, server, service, race, .. } = *flow;
        self.flows.touch(slot, now);
        let untagged = match retransmits {
            2.. => Some(Verdict::UntaggedRetransmit),
            _ if self.common.backoff.holds(server.into(), client.into(), now) => {
                Some(Verdict::UntaggedBackoff)
            }
            _ => None,
        };
        let is_late = since_last >= LATE || race.is_untagged();
        if untagged.is_some() && race.is_tagged() && is_late {
            self.flows.value_mut(slot).race.note_untagged_late();
        }
        let asked = self.common.asking.for_repetition(service, F::VERSION);
        let sent = self.ask(packet, (slot, client, service), asked, untagged.is_none(), context);
        match untagged {
            Some(verdict) => verdict,
            None if sent.is_some() => Verdict::TaggedRetransmit,
            None => Verdict::UntaggedNoHeadroom,
        }
    }

    /// Handles one more copy of the last SYN of an undecided race: networks mirror frames, and some
    /// clients have timers of milliseconds. It is sent as the one before, and no replica is asked
    /// directly once more.
    fn same_syn<B: Buffer>(&mut self, packet: &mut Packet<B>, slot: Slot, now: Ticks) -> Verdict {
        self.flows.value_mut(slot).race.note_repeated();
        let flow = &self.flows.get(slot).value;
        let waits = self.policy(flow.service).origin_after;
        if flow.race.is_deferred() && flow.retransmits == 0 && flow.elapsed(now) < waits {
            // The SYN itself has not been sent yet.
            return Verdict::SynDeferred;
        }
        if flow.race.is_untagged() {
            return match flow.retransmits {
                0 | 1 => Verdict::UntaggedBackoff,
                _ => Verdict::UntaggedRetransmit,
            };
        }
        let copies = match self.common.asking.plan(flow.service, F::VERSION) {
            Some(plan) if flow.retransmits == 0 && flow.asked() != 0 => plan.copies,
            _ => CopiesWanted::ALL,
        };
        match self.tag(packet, copies, now) {
            true => Verdict::TaggedRetransmit,
            false => Verdict::UntaggedNoHeadroom,
        }
    }
}
