//! Watches for mistakes in the cabling and in other appliances' files: copies that come from the inside,
//! or for a port that the replica does not list.

use super::ReplicaFor;
use crate::counters::Sighting;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::wire::family::{Endpoint, Family};

impl<F: Family> ReplicaFor<'_, F> {
    /// Notes a tunnel to the replica that comes from the inside.
    #[cold]
    pub(super) fn watch_inside<B: Buffer>(&self, packet: &Packet<B>) {
        let (_, to) = packet.view.addresses(packet.buffer.head());
        if self.common.hosts.is_tunnel_address(to) {
            self.common.counters.common.sightings.note(Sighting::SidesSwapped, to, 0);
        }
    }

    /// Notes a copy for an address of a service and a port that it does not have.
    #[cold]
    pub(super) fn watch_port(&self, to: Endpoint<F>) {
        if self.common.services.covers(to.address.into()) {
            let sightings = &self.common.counters.common.sightings;
            sightings.note(Sighting::OtherPort, to.address.into(), to.port);
        }
    }
}
