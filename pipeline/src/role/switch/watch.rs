//! Watches for mistakes in the cabling and in other appliances' files: a service on the outside of its
//! switch, tags of another kind, ports that the switch does not list.

use super::SwitchFor;
use crate::counters::Sighting;
use crate::packet::buffer::Buffer;
use crate::packet::view::Packet;
use crate::stage::tag;
use crate::wire::family::Family;
use crate::wire::tcp;

impl<F: Family> SwitchFor<'_, F> {
    /// Looks at a packet from the outside that is to no service: the SYN/ACK of a service comes from the
    /// inside, and a tagged SYN to its address should be to a port of it.
    #[cold]
    pub(super) fn watch_outside<B: Buffer>(&self, packet: &Packet<B>) {
        let (flags, common) = (tcp::flags(packet.tcp()), &self.common);
        let sightings = &common.counters.common.sightings;
        if flags.is_syn_ack() {
            let from = packet.source::<F>();
            if self.service(from).is_some() {
                sightings.note(Sighting::SidesSwapped, from.address.into(), from.port);
            }
        } else if flags.is_syn() {
            let to = packet.destination::<F>();
            let is_tagged = || common.settings.tag.find(packet.options()) != tag::Found::None;
            if common.services.covers(to.address.into()) && is_tagged() {
                sightings.note(Sighting::OtherPort, to.address.into(), to.port);
            }
        }
    }

    /// Looks at a SYN to a service that has no tag: it may have another appliance's.
    pub(super) fn watch_tag<B: Buffer>(&self, packet: &Packet<B>) {
        if let Some(exid) = self.common.settings.tag.find_other(packet.options()) {
            let sightings = &self.common.counters.common.sightings;
            sightings.note(Sighting::OtherTag, packet.source::<F>().address.into(), exid);
        }
    }
}
