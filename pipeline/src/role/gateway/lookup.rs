//! Pass 1 at the gateway: the key by which each packet is looked up.

use super::Gateway;
use super::mode::Mode;
use crate::packet::buffer::Buffer;
use crate::packet::burst::{BURST, Burst, Parsed};
use crate::packet::view::{Kind, Side, View};
use crate::role::PathClass;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tcp;

/// Returns the client endpoint of a TCP packet: its key in the table.
#[inline(always)]
pub(super) fn client<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    match from {
        Side::Inside => view.source(head),
        Side::Outside => view.destination(head),
    }
}

/// Returns the other endpoint of a TCP packet.
#[inline(always)]
pub(super) fn server<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    client(from.other(), head, view)
}

impl<M: Mode> Gateway<M> {
    /// Returns whether a plain TCP packet is looked up at all. Under B, of those from the outside,
    /// only SYN/ACKs are, and packets that end a connection (op 632).
    #[inline(always)]
    pub(super) fn needs_lookup(from: Side, tcp: &[u8]) -> bool {
        if M::REPLIES_NEED_LOOKUP || from == Side::Inside {
            return true;
        }
        let flags = tcp::flags(tcp);
        flags.is_syn_ack() || flags.fin() || flags.rst()
    }

    #[inline(always)]
    pub(super) fn classify<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        for number in 0..burst.len().min(BURST) {
            let Parsed { head, view, plain, plain_v6 } = burst.parse(number);
            match (plain, plain_v6) {
                (Some(headers), _) if !Self::needs_lookup(from, headers.tcp()) => {
                    self.lookup.without_key(number, PathClass::PassThrough);
                }
                (Some(headers), _) => {
                    let client = match from {
                        Side::Inside => headers.source(),
                        Side::Outside => headers.destination(),
                    };
                    self.lookup.prefetch_bucket(number, PathClass::FastV4, &self.v4.flows, client);
                }
                (None, Some(headers)) if !Self::needs_lookup(from, headers.tcp()) => {
                    self.lookup.without_key(number, PathClass::PassThrough);
                }
                (None, Some(headers)) => {
                    let client = match from {
                        Side::Inside => headers.source(),
                        Side::Outside => headers.destination(),
                    };
                    self.lookup.prefetch_bucket(number, PathClass::FastV6, &self.v6.flows, client);
                }
                _ if M::SYN_ACK_IN_TUNNEL && from == Side::Outside && view.kind == Kind::Tunnel => {
                    self.classify_tunnel(number, head, view);
                }
                _ if matches!(view.kind, Kind::Other(_)) => {
                    self.lookup.without_key(number, PathClass::NotHandled);
                }
                _ => self.classify_other(from, number, head, view),
            }
        }
    }

    /// Classifies a tunnel from the outside, which is looked up by the packet inside.
    #[inline(always)]
    fn classify_tunnel(&mut self, number: usize, head: &[u8], view: &View) {
        let Self { v4, v6, lookup, .. } = self;
        if let Some(headers) = lookup.inner[number].parse_plain_inner::<V4>(view, head) {
            let client = headers.destination();
            return lookup.prefetch_bucket(number, PathClass::TunnelV4, &v4.flows, client);
        }
        if let Some(headers) = lookup.inner[number].parse_plain_inner::<V6>(view, head) {
            let client = headers.destination();
            return lookup.prefetch_bucket(number, PathClass::TunnelV6, &v6.flows, client);
        }
        lookup.inner[number].parse_inner(view, head);
        let inner = &lookup.inner[number];
        let class = PathClass::slow(inner.version);
        match (inner.kind, inner.version) {
            (Kind::Tcp, Version::V4) => {
                let client = inner.destination(head);
                lookup.prefetch_bucket(number, class, &v4.flows, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = inner.destination(head);
                lookup.prefetch_bucket(number, class, &v6.flows, client);
            }
            _ => lookup.without_key(number, PathClass::Slow),
        }
    }

    /// Classifies any other packet. Outside the loop over a burst.
    #[inline(never)]
    fn classify_other(&mut self, from: Side, number: usize, head: &[u8], view: &View) {
        let Self { v4, v6, lookup, .. } = self;
        if view.kind != Kind::Tcp {
            return lookup.without_key(number, PathClass::of_other(view));
        }
        if !Self::needs_lookup(from, &head[usize::from(view.l4)..]) {
            return lookup.without_key(number, PathClass::PassThrough);
        }
        match view.version {
            Version::V4 => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, PathClass::SlowV4, &v4.flows, client);
            }
            Version::V6 => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, PathClass::SlowV6, &v6.flows, client);
            }
        }
    }
}
