//! Figures 5A, 5B and 5C: acknowledgements from the outside. The first valid one wins.

use std::net::IpAddr;

use super::Gate;
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::{Configuration, Way};
use crate::counters::Generated;
use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::Phase;
use crate::role::{Context, send_made};
use crate::table::Slot;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};
use crate::wire::tcp;

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    /// An acknowledgement from the outside, with an entry (ops 502, 532, 552). One that came in a
    /// tunnel has been cracked, and `claimant` is the replica that it is of.
    pub(super) fn acknowledgement<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        claimant: Option<Endpoint<F>>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let from = claimant.unwrap_or_else(|| packet.source());
        let fits = tcp::acknowledgement(packet.tcp()) == flow.isn.wrapping_add(1);
        if claimant.is_none() && from == flow.second && !fits {
            return Verdict::FromOther;
        }
        if !packet.ip_checksum_ok() {
            return Verdict::AcknowledgementIpChecksum;
        }
        if !packet.tcp_checksum_ok::<F>() {
            return Verdict::AcknowledgementTcpChecksum;
        }
        // op 508
        let is_origin = claimant.is_none() && from == flow.server;
        let in_form = is_origin || claimant.is_some() == C::TUNNELS;
        match phase {
            // The winner's answer, perhaps to a start packet with another sequence number: the
            // client's TCP judges it.
            Phase::Origin if is_origin => Verdict::AcknowledgementRepeated,
            Phase::Replica | Phase::Closing if in_form && from == flow.replica => {
                let acknowledged = tcp::acknowledgement(packet.tcp()).wrapping_sub(1);
                if !fits && acknowledged == flow.asked {
                    // What the earlier connection left behind is not the new one's.
                    self.flows.value_mut(slot).restart(acknowledged);
                    self.flows.move_to(slot, Phase::Replica, context.now);
                } else {
                    self.flows.touch(slot, context.now);
                }
                self.pass_acknowledgement(packet, &flow.way(client));
                Verdict::AcknowledgementRepeated
            }
            _ if !fits => Verdict::WrongAcknowledgement,
            _ if !in_form => Verdict::WrongForm,
            Phase::Racing => self.first(packet, slot, from, is_origin, context.now),
            _ => {
                // op 514: not the first acknowledgement, so reset its source.
                if is_origin || self.permits(flow.service, from) {
                    self.measure(slot, from, is_origin, false, context.now);
                }
                self.reset(packet, (client, flow.server), from, is_origin, context)
            }
        }
    }

    /// Resets a loser, in the form and at the address of its acknowledgement.
    fn reset<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        (client, server): (Endpoint<F>, Endpoint<F>),
        loser: Endpoint<F>,
        is_origin: bool,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let format = self.common.settings.path.format(loser.address.into());
        let way = Way { client, server, replica: loser, format };
        let reset = match is_origin {
            true => crate::stage::reset::answer::<F, P>(packet, context.pool),
            false => C::reset::<F, P>(packet, &way, context.pool),
        };
        let Some(reset) = reset else { return Verdict::NoBuffer };
        send_made(&self.common.counters, Side::Outside, reset, Generated::Reset, context);
        Verdict::LoserReset
    }

    /// The first valid acknowledgement of a race (ops 504-512, 516, 542, 564).
    fn first<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        from: Endpoint<F>,
        is_origin: bool,
        now: Ticks,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (service, client) = (entry.value.service, entry.key);
        if !is_origin && !self.permits(service, from) {
            return Verdict::NotPermitted;
        }
        self.path_takes_tags(slot);
        self.measure(slot, from, is_origin, true, now);
        if is_origin {
            self.flows.move_to(slot, Phase::Origin, now);
            return Verdict::OriginWon;
        }
        let format = self.common.settings.path.format(from.address.into());
        let flow = self.flows.value_mut(slot);
        flow.won_by(from, format);
        let way = flow.way(client);
        self.flows.move_to(slot, Phase::Replica, now);
        self.pass_acknowledgement(packet, &way);
        Verdict::ReplicaWon
    }

    fn pass_acknowledgement<B: Buffer>(&self, packet: &mut Packet<B>, way: &Way<F>) {
        if C::acknowledgement(packet, way, &self.common.settings.path) {
            self.common.counters.clamped.add(1);
        }
    }

    /// A race has been answered: if its start packets were tagged, their path takes the tag.
    pub(super) fn path_takes_tags(&mut self, slot: Slot) {
        let flow = &self.flows.get(slot).value;
        if flow.repeats < 2 {
            self.common.backoff.answered(flow.server.address.into());
        }
    }

    /// Every race is measured: how long each acknowledgement took, losers' too.
    fn measure(&mut self, slot: Slot, from: Endpoint<F>, is_origin: bool, won: bool, now: Ticks) {
        let flow = &self.flows.get(slot).value;
        let all = &self.common.counters.answerers;
        let address = from.address.into();
        let answerer = self.common.answerers.of(all, flow.service, address, is_origin);
        if won { &answerer.won } else { &answerer.lost }.add(1);
        answerer.times.record(now.since(flow.started));
    }

    /// Whether this may be a replica of the service.
    pub(super) fn permits(&self, service: u16, from: Endpoint<F>) -> bool {
        let prefixes = &self.common.settings.services[usize::from(service)].replicas;
        let address: IpAddr = from.address.into();
        prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(&address))
    }
}
