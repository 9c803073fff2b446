//! Figure 2: start packets from the inside.

use super::{Gate, Settings};
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::Configuration;
use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::{Flow, Phase};
use crate::role::Context;
use crate::stage::{classify, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::Packet;
use crate::wire::tcp;

/// Until then a client waits before it repeats its start packet (RFC 6298).
const ANSWERED_WITHIN: Ticks = Ticks::from_secs(1);

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    /// A start packet from the inside (fig 2).
    pub(super) fn start<P: Pool>(
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
        let Some(slot) = slot else { return self.race(packet, client, hash, None, now) };
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        let idle = now.since(entry.seen());
        if flow.server != server {
            // A second connection of the endpoint while the first is live; one that is closing may
            // still have data or a FIN to repeat.
            self.flows.value_mut(slot).second = server;
            return match self.common.services.find(server.address.into(), server.port) {
                Some(_) => Verdict::UntaggedEndpointBusy,
                None => Verdict::NoService,
            };
        }
        let repeated = flow.isn == isn;
        match phase {
            Phase::Racing if repeated => self.repeat(packet, slot, now),
            Phase::Racing => self.race(packet, client, hash, Some(slot), now),
            Phase::Closing if !repeated => self.race(packet, client, hash, Some(slot), now),
            Phase::Replica | Phase::Origin
                if !repeated && idle > self.common.settings.timeouts.reuse_after =>
            {
                self.race(packet, client, hash, Some(slot), now)
            }
            Phase::Replica | Phase::Closing => {
                // One with another sequence number keeps nothing alive: when the winner does not
                // answer it, it opens a fresh race after `reuse_after`.
                if repeated {
                    self.flows.touch(slot, now);
                }
                self.flows.value_mut(slot).asked = isn;
                let way = flow.way(client);
                if C::start::<F, _>(packet, &self.common.settings.path, way.format) {
                    self.common.counters.clamped.add(1);
                }
                self.send_to_replica(packet, &way, Verdict::StartToWinner, context)
            }
            Phase::Origin => Verdict::WithOrigin,
        }
    }

    /// Opens a race (ops 204-214), in place of the endpoint's earlier connection if it had one.
    fn race<B: Buffer>(
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
                // The new connection's packets could not be told from the earlier one's. A start
                // packet that arrived damaged opens none.
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
            None => match self.enter(hash, client, flow, now) {
                Some(slot) => slot,
                None => return Verdict::UntaggedTableFull,
            },
        };
        if !self.tag(packet) {
            self.flows.remove(slot);
            return Verdict::UntaggedNoHeadroom;
        }
        if earlier.is_some() { Verdict::TaggedAnew } else { Verdict::Tagged }
    }

    fn enter(
        &mut self,
        hash: Hash,
        client: Endpoint<F>,
        flow: Flow<F>,
        now: Ticks,
    ) -> Option<Slot> {
        let inserted = self.flows.insert(hash, client, Phase::Racing, now, flow)?;
        self.common.counters.table_of(F::VERSION).inserted.add(1);
        if let Inserted::Evicted(_, phase, earlier) = inserted {
            self.common.counters.table_of(F::VERSION).evicted.add(1);
            if phase == Phase::Racing {
                self.gave_up_waiting(&earlier, now);
            }
        }
        Some(inserted.slot())
    }

    /// A race had to make room. When it was old enough to have been answered, its path may be one
    /// that drops tags: in a full table no race may live until its SYN's second repetition.
    #[cold]
    fn gave_up_waiting(&mut self, race: &Flow<F>, now: Ticks) {
        let server = race.server.address.into();
        let waited = now.since(race.started) >= ANSWERED_WITHIN;
        if waited && race.repeats < 2 && self.common.backoff.missed(server, now) {
            self.common.counters.given_up.set_last(server);
        }
    }

    /// op 210. Under C the MSS is clamped first: full segments are to fit the tunnels.
    fn tag<B: Buffer>(&self, packet: &mut Packet<B>) -> bool {
        let Settings { path, tag: format, .. } = &self.common.settings;
        let tag = tag::Tag { permitted: true, configuration: Some(C::CODE), signature: None };
        let tagged = tag::insert::<F, B>(packet, *format, tag, self.common.keys.get());
        if tagged && C::start::<F, B>(packet, path, path.format) {
            self.common.counters.clamped.add(1);
        }
        tagged
    }

    /// The service of a start packet that may be tagged; otherwise why it may not.
    fn may_race<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        server: Endpoint<F>,
        now: Ticks,
    ) -> Result<u16, Verdict> {
        let service = self
            .common
            .services
            .find(server.address.into(), server.port)
            .ok_or(Verdict::NoService)?;
        classify::start::<F, B>(packet, self.common.settings.tag, self.common.keys.get().room())?;
        if self.common.backoff.holds(server.address.into(), now) {
            return Err(Verdict::UntaggedBackoff);
        }
        Ok(service)
    }

    /// The start packet of an undecided race once more: tagged again the first time; from then
    /// on untagged, for the path may drop what bears an option it does not know.
    fn repeat<B: Buffer>(&mut self, packet: &mut Packet<B>, slot: Slot, now: Ticks) -> Verdict {
        if let Err(verdict) =
            classify::start::<F, B>(packet, self.common.settings.tag, self.common.keys.get().room())
        {
            return verdict;
        }
        let flow = self.flows.value_mut(slot);
        flow.repeats = flow.repeats.saturating_add(1);
        let (repeats, server) = (flow.repeats, flow.server);
        self.flows.touch(slot, now);
        if repeats >= 2 {
            if repeats == 2 && self.common.backoff.missed(server.address.into(), now) {
                self.common.counters.given_up.set_last(server.address.into());
            }
            return Verdict::UntaggedRepeat;
        }
        if self.common.backoff.holds(server.address.into(), now) {
            return Verdict::UntaggedBackoff;
        }
        if self.tag(packet) { Verdict::TaggedAgain } else { Verdict::UntaggedNoHeadroom }
    }
}
