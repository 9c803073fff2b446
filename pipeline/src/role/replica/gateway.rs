//! Tunnels from the outside: those of gateways of configuration C here, those of switches in
//! [`super::copy`].

use std::net::IpAddr;

use super::form::{self, Part};
use super::{Carried, Door};
use crate::buffer::{Buffer, Pool};
use crate::family::{Endpoint, Family};
use crate::fragments::{Fate, PacketId};
use crate::role::{Context, Foreseen};
use crate::stage::tag::Code;
use crate::stage::{crack, quote};
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, View};
use crate::wire::tcp;

impl<F: Family> Door<'_, F> {
    /// A tunnel from the WAN; `inner` is the packet in it.
    #[inline]
    pub(super) fn tunnelled<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        // A gateway's outer source is the client's address, which the inner source is, too; an
        // ICMP error that it tunnels is one about a packet to the client.
        match self.of_gateway(packet, foreseen, context) {
            Some(verdict) => verdict,
            None => self.of_switch(packet, foreseen.inner, context),
        }
    }

    /// What claims to be a tunnel and cannot be followed.
    pub(super) fn bad_tunnel<B: Buffer>(&self, packet: &Packet<B>) -> Verdict {
        let (peer, destination) = packet.view.addresses(packet.buffer.head());
        let settings = &self.common.settings;
        if !settings.tunnel_addresses.contains(&destination) {
            Verdict::ForeignTunnel
        } else if !settings.is_switch(peer) {
            Verdict::TunnelStranger
        } else {
            Verdict::TunnelMalformed
        }
    }

    /// A packet of a connection of configuration C; `None` when it is not of one.
    #[inline]
    fn of_gateway<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        if packet.view.version != F::VERSION {
            return None;
        }
        let Foreseen { hash, guess, inner } = *foreseen;
        let head = packet.buffer.head();
        let ip = head.get(usize::from(inner.l3)..)?;
        match inner.kind {
            Kind::Tcp => {
                let client = inner.source::<F>(head);
                let slot = self.held.find_ahead(hash, guess, client, context.now)?;
                let held = self.held.get(slot).value;
                let carried = Carried { client, held };
                if !carried.has_tunnel(packet) || inner.destination::<F>(head) != held.server {
                    return None;
                }
                if let Err(verdict) = crack::open(packet, inner) {
                    return Some(verdict);
                }
                let flags = tcp::flags(packet.tcp());
                if flags.is_start() && form::clamp(packet, &held, &self.common.settings.path) {
                    self.common.counters.clamped.add(1);
                }
                self.client_goes_on(slot, packet.tcp(), context.now);
                form::to_web_server(packet, Part::Data, &held);
                Some(Verdict::ToWebServer)
            }
            Kind::Icmp => {
                let quoted = quote::read_at::<F>(head, inner)?;
                let carried = self.carried(quoted.destination, context)?;
                if !carried.has_tunnel(packet)
                    || quoted.source != carried.held.server
                    || quoted.outer.is_some()
                {
                    return None;
                }
                Some(self.error_of_tunnel(packet, inner, &carried))
            }
            Kind::FirstFragment => {
                let id = PacketId::of(ip);
                let carried = self.carried(inner.source(head), context)?;
                let to = inner.destination::<F>(head);
                if !carried.has_tunnel(packet) || to != carried.held.server {
                    return None;
                }
                self.fragments.learn(id, Some(carried), context.now);
                Some(Self::crack_fragment(packet, inner, Part::Data, &carried))
            }
            Kind::Fragment if F::fragment(ip).is_later_tcp() => {
                match self.fragments.find(PacketId::of(ip), context.now) {
                    Fate::Follow(carried) if carried.has_tunnel(packet) => {
                        Some(Self::crack_fragment(packet, inner, Part::LaterFragment, &carried))
                    }
                    // Its first fragment may come yet, but what it is for is not known now.
                    Fate::Unknown if self.serves_fragment(packet, ip) => {
                        Some(Verdict::FragmentUnknown)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// The connection of a client endpoint.
    pub(super) fn carried<P: Pool>(
        &mut self,
        client: Endpoint<F>,
        context: &Context<'_, P>,
    ) -> Option<Carried<F>> {
        let slot = self.held.find(self.held.hash(client), client, context.now)?;
        Some(Carried { client, held: self.held.get(slot).value })
    }

    fn crack_fragment<B: Buffer>(
        packet: &mut Packet<B>,
        inner: View,
        part: Part,
        carried: &Carried<F>,
    ) -> Verdict {
        if let Err(verdict) = crack::open(packet, inner) {
            return verdict;
        }
        form::to_web_server(packet, part, &carried.held);
        Verdict::FragmentTranslated
    }

    fn error_of_tunnel<B: Buffer>(
        &self,
        packet: &mut Packet<B>,
        inner: View,
        carried: &Carried<F>,
    ) -> Verdict {
        if let Err(verdict) = crack::open(packet, inner) {
            return verdict;
        }
        let Some(quoted) = quote::read::<F, B>(packet) else { return Verdict::TunnelIcmp };
        form::error_to_web_server(packet, quoted, &carried.held);
        Verdict::IcmpTranslated
    }

    /// Whether a tunnelled later fragment looks like one of a connection of configuration C.
    fn serves_fragment<B: Buffer>(&self, packet: &Packet<B>, inner: &[u8]) -> bool {
        let (source, destination) = packet.view.addresses(packet.buffer.head());
        let to: IpAddr = F::destination(inner).into();
        source == F::source(inner).into()
            && self.common.settings.server(destination).is_some()
            && self.common.services.covers(to)
    }
}

impl<F: Family> Carried<F> {
    /// Whether this is the tunnel that the gateway of this connection uses: outer C to R, which
    /// nobody knows who has not seen the connection (protocol.md 8.1: a decapsulator that is
    /// open to all lets anybody send from any address).
    #[inline]
    pub(super) fn has_tunnel<B: Buffer>(&self, packet: &Packet<B>) -> bool {
        let ip = packet.ip();
        self.held.configuration == Code::C
            && packet.view.version == F::VERSION
            && F::source(ip) == self.client.address
            && F::destination(ip) == self.held.replica.address
    }
}
