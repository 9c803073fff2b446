//! Watches for mistakes in the cabling: a service that is on the inside of its gateway.

use super::GatewayFor;
use super::mode::Mode;
use crate::counters::Sighting;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, Side};
use crate::policy::services::Scope;
use crate::wire::family::Family;
use crate::wire::tcp;

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Notes a SYN to a service that comes from the outside, or a SYN/ACK of one from the inside: inside
    /// and outside are swapped. A service of any address is on both.
    #[cold]
    pub(super) fn watch_sides<B: Buffer>(&self, from: Side, packet: &Packet<B>) {
        let flags = tcp::flags(packet.tcp());
        let service = match from {
            Side::Outside if flags.is_syn() => packet.destination::<F>(),
            Side::Inside if flags.is_syn_ack() => packet.source::<F>(),
            _ => return,
        };
        let common = &self.common;
        let number = common.services.find(service.address.into(), service.port);
        let settings = number.and_then(|number| common.settings.services.get(usize::from(number)));
        if settings.is_some_and(|settings| settings.scope != Scope::Any) {
            let sightings = &common.counters.common.sightings;
            sightings.note(Sighting::SidesSwapped, service.address.into(), service.port);
        }
    }
}
