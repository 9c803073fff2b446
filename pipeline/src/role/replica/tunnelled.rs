//! Tunnels from the outside: those of gateways of configuration C here, those of switches in
//! [`super::copy`], direct copies of gateways in [`super::direct`].

use std::net::IpAddr;

use super::ReplicaFor;
use super::connection::ClientConnection;
use super::mode::{self, Segment};
use crate::base::time::Ticks;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Kind, Packet, View};
use crate::role::{Context, LookupHint};
use crate::stage::{decap, quote};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

impl<F: Family> ReplicaFor<'_, F> {
    /// Handles a tunnel from the WAN; the packet inside stands in `hint`.
    #[inline]
    pub(super) fn tunnelled<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        // Even of a connection that is known: its gateway sends a SYN to the winner without a tag.
        if self.is_direct_copy(packet, hint.inner) {
            return self.direct_copy(packet, hint.inner, context.now);
        }
        // A gateway's outer source is the client's address, as the inner source is; an ICMP error
        // that it tunnels is about a packet to the client.
        match self.gateway_tunnel(packet, hint, context) {
            Some(verdict) => verdict,
            None => match self.lost_tunnel(packet, hint, context) {
                Some(verdict) => verdict,
                None => self.switch_tunnel(packet, hint.inner, context),
            },
        }
    }

    /// Handles a tunnel whose header firstack does not implement.
    pub(super) fn bad_tunnel<B: Buffer>(&self, packet: &Packet<B>) -> Verdict {
        let (peer, destination) = packet.view.addresses(packet.buffer.head());
        let settings = &self.common.settings;
        if !self.common.hosts.is_tunnel_address(destination) {
            Verdict::ForeignTunnel
        } else if !settings.switches.allows(peer) {
            Verdict::PeerNotAllowed
        } else {
            Verdict::TunnelMalformed
        }
    }

    /// Handles a packet of a connection of configuration C; `None` when it belongs to none.
    #[inline]
    fn gateway_tunnel<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        if packet.view.version != F::VERSION {
            return None;
        }
        let inner = hint.inner;
        let head = packet.buffer.head();
        let ip = head.get(usize::from(inner.l3)..)?;
        match inner.kind {
            Kind::Tcp => self.gateway_tcp(packet, hint, context.now),
            Kind::Icmp => {
                let quoted = quote::read_at::<F>(head, inner)?;
                let found = self.connection_of(quoted.destination, context.now)?;
                if !found.has_tunnel(packet)
                    || quoted.source != found.connection.server
                    || quoted.outer.is_some()
                {
                    return None;
                }
                Some(Self::open_error(packet, inner, &found))
            }
            Kind::FirstFragment => {
                let id = PacketId::of(ip);
                let found = self.connection_of(inner.source(head), context.now)?;
                let to = inner.destination::<F>(head);
                if !found.has_tunnel(packet) || to != found.connection.server {
                    return None;
                }
                self.fragments.learn(id, Some(found), context.now);
                Some(Self::open_fragment(packet, inner, Segment::Data, &found))
            }
            Kind::Fragment if F::fragment(ip).is_later_tcp() => {
                match self.fragments.find(PacketId::of(ip), context.now) {
                    FirstFragment::Handled(found) if found.has_tunnel(packet) => {
                        Some(Self::open_fragment(packet, inner, Segment::LaterFragment, &found))
                    }
                    // Its first fragment may still come, but its connection is not known now.
                    FirstFragment::Unseen if self.is_gateway_fragment(packet, ip) => {
                        Some(Verdict::FragmentUnknown)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    #[inline]
    fn gateway_tcp<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        hint: &LookupHint,
        now: Ticks,
    ) -> Option<Verdict> {
        let LookupHint { hash, entry, inner } = *hint;
        let head = packet.buffer.head();
        let client = inner.source::<F>(head);
        let slot = self.connections.find_hinted(hash, entry, client, now)?;
        let connection = self.connections.get(slot).value;
        let found = ClientConnection { client, connection };
        if !found.has_tunnel(packet) || inner.destination::<F>(head) != connection.server {
            return None;
        }
        if let Err(verdict) = decap::open(packet, inner) {
            return Some(verdict);
        }
        if tcp::flags(packet.tcp()).is_syn() {
            self.clamp(packet, &connection);
        }
        self.on_client_segment(slot, packet, now);
        mode::to_web_server(packet, Segment::Data, &connection);
        Some(Verdict::ToWebServer)
    }

    /// Returns the connection of a client endpoint.
    pub(super) fn connection_of(
        &mut self,
        client: Endpoint<F>,
        now: Ticks,
    ) -> Option<ClientConnection<F>> {
        let slot = self.connections.find(self.connections.hash(client), client, now)?;
        Some(ClientConnection { client, connection: self.connections.get(slot).value })
    }

    fn open_fragment<B: Buffer>(
        packet: &mut Packet<B>,
        inner: View,
        segment: Segment,
        found: &ClientConnection<F>,
    ) -> Verdict {
        if let Err(verdict) = decap::open(packet, inner) {
            return verdict;
        }
        mode::to_web_server(packet, segment, &found.connection);
        Verdict::FragmentTranslated
    }

    fn open_error<B: Buffer>(
        packet: &mut Packet<B>,
        inner: View,
        found: &ClientConnection<F>,
    ) -> Verdict {
        if let Err(verdict) = decap::open(packet, inner) {
            return verdict;
        }
        let Some(quoted) = quote::read::<F, B>(packet) else { return Verdict::TunnelIcmp };
        mode::error_to_web_server(packet, quoted, &found.connection);
        Verdict::IcmpTranslated
    }

    /// Returns whether a tunnelled later fragment looks like one of a connection of configuration
    /// C.
    fn is_gateway_fragment<B: Buffer>(&self, packet: &Packet<B>, inner: &[u8]) -> bool {
        let (source, destination) = packet.view.addresses(packet.buffer.head());
        let to: IpAddr = F::destination(inner).into();
        source == F::source(inner).into()
            && self.common.hosts.is_server(destination)
            && self.common.services.covers(to)
    }
}
