//! Figure 5A: acknowledgements from the outside. The first valid one wins.

use std::net::IpAddr;

use super::Gateway;
use crate::buffer::{Buffer, Pool};
use crate::configuration::Configuration;
use crate::counters::Generated;
use crate::family::{Endpoint, V4};
use crate::flow::Phase;
use crate::role::{Context, send_made};
use crate::table::Slot;
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Packet, Side};
use crate::wire::tcp;

impl<C: Configuration> Gateway<C> {
    /// An acknowledgement from the outside, with an entry (fig 5A).
    pub(super) fn acknowledgement<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        let from = packet.source::<V4>();
        let fits = tcp::acknowledgement(packet.tcp()) == flow.isn.wrapping_add(1);
        if from == flow.second && !fits {
            return Verdict::FromOther;
        }
        if !packet.ip_checksum_ok() {
            return Verdict::AcknowledgementIpChecksum;
        }
        if !packet.tcp_checksum_ok::<V4>() {
            return Verdict::AcknowledgementTcpChecksum;
        }
        let is_origin = from == flow.server;
        match phase {
            // The winner's answer, perhaps to a start packet with another sequence number: the
            // client's TCP judges it.
            Phase::Origin if is_origin => Verdict::AcknowledgementRepeated,
            Phase::Replica | Phase::Closing if from == flow.replica => {
                self.flows.touch(slot, context.now);
                C::acknowledgement(packet, flow.server);
                Verdict::AcknowledgementRepeated
            }
            _ if !fits => Verdict::WrongAcknowledgement,
            Phase::Racing => self.first(packet, slot, from, context.now),
            _ => {
                // op 514: not the first acknowledgement, so reset its source.
                self.measure(slot, from, is_origin, false, context.now);
                let Some(reset) = C::reset::<V4, P>(packet, context.pool) else {
                    return Verdict::NoBuffer;
                };
                send_made(&self.counters, Side::Outside, reset, Generated::Reset, context);
                Verdict::LoserReset
            }
        }
    }

    /// The first valid acknowledgement of a race (ops 504-512, 516).
    fn first<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        from: Endpoint<V4>,
        now: Ticks,
    ) -> Verdict {
        let flow = self.flows.get(slot).value;
        let is_origin = from == flow.server;
        if !is_origin && !self.permits(flow.service, from) {
            return Verdict::NotPermitted;
        }
        self.path_takes_tags(slot);
        self.measure(slot, from, is_origin, true, now);
        if is_origin {
            self.flows.move_to(slot, Phase::Origin, now);
            return Verdict::OriginWon;
        }
        self.flows.value_mut(slot).replica = from;
        self.flows.move_to(slot, Phase::Replica, now);
        C::acknowledgement(packet, flow.server);
        Verdict::ReplicaWon
    }

    /// A race has been answered: if its start packets were tagged, their path takes the tag.
    pub(super) fn path_takes_tags(&mut self, slot: Slot) {
        let flow = &self.flows.get(slot).value;
        if flow.repeats < 2 {
            self.backoff.answered(flow.server.address.into());
        }
    }

    /// Every race is measured: how long each acknowledgement took, losers' too.
    fn measure(&mut self, slot: Slot, from: Endpoint<V4>, is_origin: bool, won: bool, now: Ticks) {
        let flow = &self.flows.get(slot).value;
        let all = &self.counters.answerers;
        let answerer = self.answerers.of(all, flow.service, from.address.into(), is_origin);
        if won { &answerer.won } else { &answerer.lost }.add(1);
        answerer.times.record(now.since(flow.started));
    }

    /// Whether this may be a replica of the service.
    pub(super) fn permits(&self, service: u16, from: Endpoint<V4>) -> bool {
        let prefixes = &self.settings.services[usize::from(service)].replicas;
        let address = IpAddr::from(from.address);
        prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}
