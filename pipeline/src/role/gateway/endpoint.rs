//! One client endpoint, several connections: which packets are the entry's, and when another
//! connection takes its place. Whatever is not the entry's passes untouched (op 616).

use super::GatewayFor;
use super::flow::Phase;
use super::mode::Mode;
use super::segments::has_right_checksums;
use crate::base::time::Ticks;
use crate::counters::Sighting;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::role::tracking::acknowledges;
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Returns whether a SYN with another sequence number opens a fresh race: no connection is open
    /// at its endpoint, or the client has not been heard lately, since a client knows which
    /// connections it has. What comes from the outside does not matter: whoever had the endpoint
    /// before must not choose the server of whoever has it now.
    pub(super) fn may_race_anew(&self, slot: Slot, now: Ticks) -> bool {
        let entry = self.flows.get(slot);
        match entry.state() {
            Phase::Racing | Phase::HalfOpen | Phase::Closed | Phase::Reset => true,
            Phase::Replica | Phase::HalfClosed | Phase::Origin => {
                entry.value.unheard_for(now) > self.common.settings.timeouts.reuse_after
            }
        }
    }

    /// Returns whether a SYN opens a connection to the winner's own address, in place of the one
    /// that has ended: at the winner both have the same endpoints. Under C they do not.
    pub(super) fn takes_winners_place<B: Buffer>(&self, packet: &Packet<B>, slot: Slot) -> bool {
        let entry = self.flows.get(slot);
        !M::DATA_IN_TUNNELS
            && entry.state().has_ended()
            && entry.value.replica == packet.destination()
            && has_right_checksums::<F, B>(packet)
    }

    /// Returns the verdict on a plain SYN/ACK that belongs to another connection of the client
    /// endpoint than the entry's: the client's TCP judges it, as it would without a gateway. `None`
    /// for one that may belong to the entry's.
    pub(super) fn others_syn_ack(
        &self,
        tcp: &[u8],
        slot: Slot,
        from: Endpoint<F>,
    ) -> Option<Verdict> {
        let entry = self.flows.get(slot);
        let (flow, phase) = (&entry.value, entry.state());
        let has_right_number = acknowledges(tcp, flow.isn);
        if from == flow.server {
            // The origin has an earlier connection of the endpoint.
            let is_others = phase == Phase::Racing && !has_right_number;
            return is_others.then_some(Verdict::RaceUndecided);
        }
        let is_servers = from.address == flow.server.address;
        let is_replicas = match has_right_number {
            true if !is_servers && !self.allows_replica(flow.service, from) => {
                let sightings = &self.common.counters.common.sightings;
                sightings.note(Sighting::NotAllowed, from.address.into(), from.port);
                return Some(Verdict::UnlistedReplica);
            }
            true => self.may_be_replica(slot, from),
            // The winner was also sent the SYN of another connection.
            false => {
                !M::SYN_ACK_IN_TUNNEL
                    && phase.is_translated()
                    && from == flow.replica
                    && flow.pending_isn().is_some_and(|isn| acknowledges(tcp, isn))
            }
        };
        (!is_replicas).then_some(Verdict::FromOther)
    }

    /// Returns whether an endpoint may be a replica's in a connection: its address is allowed, and
    /// is a host's beyond the gateway. The server's own address is not, at any port: what it sends
    /// from another port is another connection's.
    pub(super) fn may_be_replica(&self, slot: Slot, endpoint: Endpoint<F>) -> bool {
        let entry = self.flows.get(slot);
        let address = endpoint.address;
        F::is_unicast(address)
            && address != entry.key.address
            && address != entry.value.server.address
            && self.allows_replica(entry.value.service, endpoint)
    }

    /// Returns whether a replica of the service may have this address.
    pub(super) fn allows_replica(&self, service: u16, replica: Endpoint<F>) -> bool {
        let service = &self.common.settings.services[usize::from(service)];
        service.allowed_replicas.allows(replica.address.into())
    }
}
