//! Packets that belong to a connection without being one of its whole TCP packets: plain ICMP
//! errors about those, and a web server's fragments.

use super::ReplicaFor;
use super::connection::ClientConnection;
use super::mode::{self, Segment};
use crate::packet::buffer::Pool;
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::stage::quote;
use crate::verdict::Verdict;
use crate::wire::family::Family;

impl<F: Family> ReplicaFor<'_, F> {
    /// Handles a plain ICMP packet. An error from the inside quotes a packet that the web server
    /// received from the client; an error from the outside, where data is tunnelled, quotes a
    /// tunnel to the client.
    pub(super) fn icmp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::Icmp };
        let client = match from {
            Side::Inside => quoted.source,
            Side::Outside => quoted.destination,
        };
        let Some(found) = self.connection_of(client, context.now) else { return Verdict::Icmp };
        let connection = found.connection;
        if !connection.configuration.data_in_tunnels() {
            return Verdict::Icmp;
        }
        match (from, quoted.outer) {
            (Side::Inside, None) if quoted.destination == connection.sends_as() => {
                match mode::error_to_client(packet, quoted, client, &connection) {
                    Ok(()) => Verdict::IcmpTranslated,
                    Err(_) => Verdict::NoBuffer,
                }
            }
            (Side::Outside, Some(outer))
                if outer == (connection.replica.address, client.address)
                    && quoted.source == connection.server =>
            {
                let Some(quoted) = quote::peel(packet, quoted) else { return Verdict::Icmp };
                mode::error_to_web_server(packet, quoted, &connection);
                Verdict::IcmpTranslated
            }
            _ => Verdict::Icmp,
        }
    }

    /// Handles a web server's first fragment that contains the whole TCP header.
    pub(super) fn first_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let id = PacketId::of(packet.ip());
        let from = packet.source::<F>();
        let found = self.connection_of(packet.destination(), context.now);
        let found = found.filter(|ClientConnection { connection, .. }| {
            connection.configuration.replica_translates() && connection.sends_as() == from
        });
        self.fragments.learn(id, found, context.now);
        let Some(ClientConnection { client, connection }) = found else {
            return Verdict::Fragment;
        };
        let verdict = Verdict::FragmentTranslated;
        self.send_to_client(packet, Segment::Data, client, &connection, verdict, context)
    }

    /// Handles any other fragment of a web server.
    pub(super) fn later_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let fragment = F::fragment(packet.ip());
        if !fragment.is_later_tcp() {
            if fragment.is_first_tcp() {
                // It does not contain the whole TCP header. Later ones must not be taken for
                // fragments whose first was lost.
                self.fragments.learn(PacketId::of(packet.ip()), None, context.now);
            }
            return Verdict::Fragment;
        }
        match self.fragments.find(PacketId::of(packet.ip()), context.now) {
            FirstFragment::Handled(ClientConnection { client, connection }) => {
                let (segment, verdict) = (Segment::LaterFragment, Verdict::FragmentTranslated);
                self.send_to_client(packet, segment, client, &connection, verdict, context)
            }
            FirstFragment::Unseen if self.may_be_translated(F::source(packet.ip())) => {
                Verdict::FragmentUnknown
            }
            FirstFragment::Unseen | FirstFragment::PassedThrough => Verdict::Fragment,
        }
    }

    /// Returns whether a later fragment of this source may belong to a connection whose packets the
    /// replica changes.
    fn may_be_translated(&mut self, source: F::Address) -> bool {
        *self.translates &= !self.connections.is_empty();
        let source = source.into();
        *self.translates
            && (self.common.hosts.is_server(source) || self.common.services.covers(source))
    }
}
