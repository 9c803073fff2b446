//! What belongs to a translated connection without being one of its whole packets: ICMP errors
//! about them, and fragments.

use super::Gateway;
use crate::buffer::Buffer;
use crate::configuration::Configuration;
use crate::family::{Endpoint, Family, V4};
use crate::flow::{Flow, Phase};
use crate::fragments::{Fate, PacketId};
use crate::stage::quote::{self, End};
use crate::stage::rewrite;
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Packet, Side};
use crate::wire::ipv4;

impl<C: Configuration> Gateway<C> {
    /// The connection of a client endpoint, if it is translated.
    fn translated(&mut self, client: Endpoint<V4>, now: Ticks) -> Option<Flow<V4>> {
        let slot = self.flows.find(self.flows.hash(client), client, now)?;
        let entry = self.flows.get(slot);
        matches!(entry.state(), Phase::Replica | Phase::Closing).then_some(entry.value)
    }

    /// An ICMP packet. From the outside an error quotes what went to the replica: the client
    /// must find the server in it. From the inside it quotes what the client got as from the
    /// server: the replica must find itself.
    pub(super) fn icmp<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        now: Ticks,
    ) -> Verdict {
        let Some(quoted) = quote::read(packet) else { return Verdict::Icmp };
        let (client, other) = match from {
            Side::Outside => (quoted.source, quoted.destination),
            Side::Inside => (quoted.destination, quoted.source),
        };
        let Some(flow) = self.translated(client, now) else { return Verdict::Icmp };
        match from {
            Side::Outside if other == flow.replica => {
                quote::rewrite(packet, quoted, End::Destination, flow.server);
                if V4::source(packet.ip()) == flow.replica.address {
                    V4::set_source(packet.ip_mut(), flow.server.address);
                }
            }
            Side::Inside if other == flow.server => {
                quote::rewrite(packet, quoted, End::Source, flow.replica);
                if V4::destination(packet.ip()) == flow.server.address {
                    V4::set_destination(packet.ip_mut(), flow.replica.address);
                }
            }
            _ => return Verdict::Icmp,
        }
        Verdict::IcmpTranslated
    }

    /// A first fragment that bears the whole TCP header.
    pub(super) fn first_fragment<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        now: Ticks,
    ) -> Verdict {
        let client = Self::client(from, packet.buffer.head(), &packet.view);
        let other = Self::server(from, packet);
        let id = PacketId::of(packet.ip());
        let address = match (self.translated(client, now), from) {
            // As of whole packets: from the server of a connection that a replica won.
            (Some(flow), Side::Outside) if other == flow.server => return Verdict::FromLoser,
            (Some(flow), Side::Inside) if other == flow.server => {
                rewrite::destination(packet, flow.replica);
                Some(flow.replica.address)
            }
            (Some(flow), Side::Outside) if other == flow.replica => {
                rewrite::source(packet, flow.server);
                Some(flow.server.address)
            }
            _ => None,
        };
        self.fragments.learn(id, address, now);
        if address.is_some() { Verdict::FragmentTranslated } else { Verdict::Fragment }
    }

    /// Any other fragment.
    pub(super) fn later_fragment<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        now: Ticks,
    ) -> Verdict {
        let ip = packet.ip();
        if ipv4::protocol(ip) != ipv4::TCP || !ipv4::is_later_fragment(ip) {
            return Verdict::Fragment;
        }
        match (self.fragments.find(PacketId::of(packet.ip()), now), from) {
            (Fate::Follow(address), Side::Inside) => {
                V4::set_destination(packet.ip_mut(), address);
                Verdict::FragmentTranslated
            }
            (Fate::Follow(address), Side::Outside) => {
                V4::set_source(packet.ip_mut(), address);
                Verdict::FragmentTranslated
            }
            (Fate::Unknown, _) => Verdict::FragmentUnknown,
            (Fate::Untouched, _) => Verdict::Fragment,
        }
    }
}
