//! Direct copies: a gateway's own tunnels to a replica, with copies of SYNs in them
//! (docs/protocol.md, 8.1).

use super::ReplicaFor;
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet, View};
use crate::stage::{decap, tag};
use crate::verdict::Verdict;
use crate::wire::family::Family;
use crate::wire::tcp;

impl<F: Family> ReplicaFor<'_, F> {
    /// Returns whether a tunnel is a gateway's own copy of a SYN: from the client's address to a
    /// tunnel address or a web server, with a tagged SYN inside. Most packets differ in the first
    /// fields that are compared.
    pub(super) fn is_direct_copy<B: Buffer>(&self, packet: &Packet<B>, inner: View) -> bool {
        let head = packet.buffer.head();
        let (settings, hosts) = (&self.common.settings, &self.common.hosts);
        if inner.kind != Kind::Tcp
            || !tcp::flags(&head[usize::from(inner.l4)..]).is_syn()
            || packet.view.version != F::VERSION
            || F::source(packet.ip()) != F::source(&head[usize::from(inner.l3)..])
            || !settings.direct
        {
            return false;
        }
        // A tag that is malformed was meant to be one, too.
        let options = &head[usize::from(inner.l4) + tcp::HEADER..usize::from(inner.payload)];
        let to = F::destination(packet.ip()).into();
        settings.tag.find(options) != tag::Found::None
            && (hosts.is_tunnel_address(to) || hosts.is_server(to))
    }

    /// Handles a gateway's own copy of a SYN, as if a switch had sent it (op 402).
    pub(super) fn direct_copy<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        inner: View,
        now: Ticks,
    ) -> Verdict {
        let outer_destination = F::destination(packet.ip()).into();
        // op 410
        match decap::open(packet, inner) {
            Ok(()) => self.copy(packet, outer_destination, true, now),
            Err(verdict) => verdict,
        }
    }
}
