//! Watches for mistakes in the cabling and in other appliances' files: copies that come from the inside,
//! or for a port that the replica does not list.

use std::net::IpAddr;

use super::ReplicaFor;
use crate::counters::Sighting;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, View};
use crate::stage::tag;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

impl<F: Family> ReplicaFor<'_, F> {
    /// Notes a tunnel from `peer`, which is no switch of `switches`, if it carries what a switch sends:
    /// a tagged SYN of somebody else. Any other tunnel may be of a client whose connection is lost here,
    /// and one with its sender's own SYN is a direct copy.
    #[cold]
    pub(super) fn watch_tunnel<B: Buffer>(&self, packet: &Packet<B>, inner: View, peer: IpAddr) {
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp
            || !tcp::flags(&head[usize::from(inner.l4)..]).is_syn()
            || inner.addresses(head).0 == peer
        {
            return;
        }
        let options = &head[usize::from(inner.l4) + tcp::HEADER..usize::from(inner.payload)];
        if self.common.settings.tag.find(options) != tag::Found::None {
            let sightings = &self.common.counters.common.sightings;
            sightings.note(Sighting::UnknownSwitch, peer, 0);
        }
    }

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
