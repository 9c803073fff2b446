//! Figure 2: SYNs from the inside.

use super::flow::{Flow, Phase};
use super::mode::Mode;
use super::{GatewayFor, Settings};
use crate::base::time::Ticks;
use crate::counters::Scalar;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::Packet;
use crate::role::{Context, insert_counted};
use crate::stage::{classify, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

/// A client waits this long before it retransmits its SYN for the first time (RFC 6298).
const FIRST_RTO: Ticks = Ticks::from_secs(1);

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
        let Some(slot) = slot else { return self.open_race(packet, client, hash, None, now) };
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        let idle = now.since(entry.seen());
        if flow.server != server {
            // A second connection of the endpoint while the first is live. One that is closing may
            // still have data or a FIN to retransmit.
            self.flows.value_mut(slot).second = server;
            return match self.common.services.find(server.address.into(), server.port) {
                Some(_) => Verdict::UntaggedEndpointInUse,
                None => Verdict::NoService,
            };
        }
        let is_retransmit = flow.isn == isn;
        match phase {
            Phase::Racing if is_retransmit => self.retransmit(packet, slot, now),
            Phase::Racing => self.open_race(packet, client, hash, Some(slot), now),
            Phase::Closing if !is_retransmit => {
                self.open_race(packet, client, hash, Some(slot), now)
            }
            Phase::Replica | Phase::Origin
                if !is_retransmit && idle > self.common.settings.timeouts.reuse_after =>
            {
                self.open_race(packet, client, hash, Some(slot), now)
            }
            Phase::Replica | Phase::Closing => {
                // A SYN with another sequence number does not restart the time-out: if the winner
                // does not answer it, a later one opens a fresh race after `reuse_after`.
                if is_retransmit {
                    self.flows.touch(slot, now);
                }
                self.flows.value_mut(slot).pending_isn = isn;
                let translation = flow.translation(client);
                self.clamp(packet, translation.format);
                self.send_to_replica(packet, &translation, Verdict::SynToWinner, context)
            }
            Phase::Origin => Verdict::WithOrigin,
        }
    }

    /// Opens a race, in place of the endpoint's earlier connection if there was one (fig 2).
    fn open_race<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        client: Endpoint<F>,
        hash: Hash,
        earlier: Option<Slot>,
        now: Ticks,
    ) -> Verdict {
        let server = packet.destination::<F>();
        let service = match self.may_race(packet, server, now) {
            Ok(service) => service,
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
        if !self.tag(packet) {
            self.flows.remove(slot);
            return Verdict::UntaggedNoHeadroom;
        }
        // op 214: forwarded to the server.
        if earlier.is_some() { Verdict::TaggedNewIsn } else { Verdict::Tagged }
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
        let inserted = insert_counted(self.flows, counters, hash, client, racing, flow, now)?;
        if let Inserted::Evicted(_, Phase::Racing, earlier) = inserted {
            self.on_race_evicted(&earlier, now);
        }
        Some(inserted.slot())
    }

    /// A race was evicted. If it was old enough to have been answered, its path may be one that
    /// drops tags: in a full table no race lives until its SYN's second retransmission.
    #[cold]
    fn on_race_evicted(&mut self, race: &Flow<F>, now: Ticks) {
        let waited = now.since(race.started) >= FIRST_RTO;
        if waited && race.retransmits < 2 {
            self.note_unanswered(race.server, now);
        }
    }

    /// Notes that the tagged SYNs of a race were not answered.
    fn note_unanswered(&mut self, server: Endpoint<F>, now: Ticks) {
        let server = server.address.into();
        if self.common.backoff.missed(server, now) {
            self.common.counters.count_backoff(server);
        }
    }

    /// Tags a SYN (op 210). Under C the MSS is clamped, too, so that full segments fit the tunnels.
    /// Returns `false`, and changes nothing, when the buffer has no headroom.
    fn tag<B: Buffer>(&self, packet: &mut Packet<B>) -> bool {
        let Settings { path, tag: option, .. } = &self.common.settings;
        let tag = tag::Tag::requesting(tag::CopiesWanted::ALL, M::CONFIGURATION);
        // op 210: the tag is added.
        let tagged = tag::insert::<F, B>(packet, *option, tag, self.common.keys.get());
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

    /// Returns the service of a SYN that may be tagged (op 208); otherwise the verdict says why it
    /// may not.
    fn may_race<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        server: Endpoint<F>,
        now: Ticks,
    ) -> Result<u16, Verdict> {
        let address = server.address.into();
        // op 208: is it for one of the services?
        let service = self.common.services.find(address, server.port).ok_or(Verdict::NoService)?;
        self.may_be_tagged(packet)?;
        if self.common.backoff.holds(address, now) {
            return Err(Verdict::UntaggedBackoff);
        }
        Ok(service)
    }

    fn may_be_tagged<B: Buffer>(&self, packet: &Packet<B>) -> Result<(), Verdict> {
        let tag_space = self.common.keys.get().tag_space();
        classify::syn::<F, B>(packet, self.common.settings.tag, tag_space)
    }

    /// Handles the retransmitted SYN of an undecided race: the first retransmission is tagged
    /// again; later ones are untagged, in case the path drops SYNs with an option it does not know.
    fn retransmit<B: Buffer>(&mut self, packet: &mut Packet<B>, slot: Slot, now: Ticks) -> Verdict {
        if let Err(verdict) = self.may_be_tagged(packet) {
            return verdict;
        }
        let flow = self.flows.value_mut(slot);
        flow.retransmits = flow.retransmits.saturating_add(1);
        let (retransmits, server) = (flow.retransmits, flow.server);
        self.flows.touch(slot, now);
        if retransmits >= 2 {
            if retransmits == 2 {
                self.note_unanswered(server, now);
            }
            return Verdict::UntaggedRetransmit;
        }
        if self.common.backoff.holds(server.address.into(), now) {
            return Verdict::UntaggedBackoff;
        }
        if self.tag(packet) { Verdict::TaggedRetransmit } else { Verdict::UntaggedNoHeadroom }
    }
}
