//! Figure 2: start packets from the inside.

use super::Gateway;
use crate::buffer::Buffer;
use crate::configuration::Configuration;
use crate::family::{Endpoint, V4};
use crate::flow::{Flow, Phase};
use crate::stage::{classify, tag};
use crate::table::{Hash, Inserted, Slot};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::Packet;
use crate::wire::tcp;

impl<C: Configuration> Gateway<C> {
    /// A start packet from the inside (fig 2).
    pub(super) fn start<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        client: Endpoint<V4>,
        hash: Hash,
        slot: Option<Slot>,
        now: Ticks,
    ) -> Verdict {
        let server = packet.destination::<V4>();
        let isn = tcp::sequence(packet.tcp());
        let Some(slot) = slot else { return self.race(packet, client, hash, None, now) };
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        let idle = now.since(entry.seen());
        if flow.server != server && phase != Phase::Closing {
            // A second connection of the endpoint while the first is live.
            self.flows.value_mut(slot).second = server;
            return match self.services.find(server.address.into(), server.port) {
                Some(_) => Verdict::UntaggedEndpointBusy,
                None => Verdict::NoService,
            };
        }
        let repeated = flow.server == server && flow.isn == isn;
        match phase {
            Phase::Racing if repeated => self.repeat(packet, slot, now),
            Phase::Racing => self.race(packet, client, hash, Some(slot), now),
            Phase::Closing if !repeated => self.race(packet, client, hash, Some(slot), now),
            Phase::Replica | Phase::Origin
                if !repeated && idle > self.settings.timeouts.reuse_after =>
            {
                self.race(packet, client, hash, Some(slot), now)
            }
            Phase::Replica | Phase::Closing => {
                // One with another sequence number keeps nothing alive: when the winner does not
                // answer it, it opens a fresh race after `reuse_after`.
                if repeated {
                    self.flows.touch(slot, now);
                }
                C::to_replica(packet, flow.replica);
                Verdict::StartToWinner
            }
            Phase::Origin => Verdict::WithOrigin,
        }
    }

    /// Opens a race (ops 204-214), in place of the endpoint's earlier connection if it had one.
    fn race<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        client: Endpoint<V4>,
        hash: Hash,
        earlier: Option<Slot>,
        now: Ticks,
    ) -> Verdict {
        let server = packet.destination::<V4>();
        let service = match self.may_race(packet, server, now) {
            Ok(service) => service,
            Err(verdict) => {
                if let Some(slot) = earlier {
                    self.make_way(slot, server);
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
        client: Endpoint<V4>,
        flow: Flow<V4>,
        now: Ticks,
    ) -> Option<Slot> {
        let inserted = self.flows.insert(hash, client, Phase::Racing, now, flow)?;
        self.counters.table.inserted.add(1);
        if let Inserted::Evicted(_) = inserted {
            self.counters.table.evicted.add(1);
        }
        Some(inserted.slot())
    }

    /// op 210.
    fn tag<B: Buffer>(&self, packet: &mut Packet<B>) -> bool {
        let tag = tag::Tag { permitted: true, configuration: Some(C::CODE) };
        tag::insert::<V4, B>(packet, self.settings.tag, tag)
    }

    /// A new connection of the endpoint goes untranslated. Its packets are told from those of the
    /// earlier one by the server; to the same server they cannot be, so the entry goes.
    fn make_way(&mut self, earlier: Slot, server: Endpoint<V4>) {
        let flow = self.flows.value_mut(earlier);
        if flow.server == server {
            self.flows.remove(earlier);
        } else {
            flow.second = server;
        }
    }

    /// The service of a start packet that may be tagged; otherwise why it may not.
    fn may_race<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        server: Endpoint<V4>,
        now: Ticks,
    ) -> Result<u16, Verdict> {
        let service =
            self.services.find(server.address.into(), server.port).ok_or(Verdict::NoService)?;
        classify::start::<V4, B>(packet, self.settings.tag)?;
        if self.backoff.holds(server.address.into(), now) {
            return Err(Verdict::UntaggedBackoff);
        }
        Ok(service)
    }

    /// The start packet of an undecided race once more: tagged again the first time; from then
    /// on untagged, for the path may drop what bears an option it does not know.
    fn repeat<B: Buffer>(&mut self, packet: &mut Packet<B>, slot: Slot, now: Ticks) -> Verdict {
        if let Err(verdict) = classify::start::<V4, B>(packet, self.settings.tag) {
            return verdict;
        }
        let flow = self.flows.value_mut(slot);
        flow.repeats = flow.repeats.saturating_add(1);
        let (repeats, server) = (flow.repeats, flow.server);
        self.flows.touch(slot, now);
        if repeats >= 2 {
            if repeats == 2 && self.backoff.missed(server.address.into(), now) {
                self.counters.given_up.set_last(server.address.into());
            }
            return Verdict::UntaggedRepeat;
        }
        if self.backoff.holds(server.address.into(), now) {
            return Verdict::UntaggedBackoff;
        }
        if self.tag(packet) { Verdict::TaggedAgain } else { Verdict::UntaggedNoHeadroom }
    }
}
