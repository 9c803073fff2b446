//! Pass 1 at the replica: the key by which each packet is looked up.

use super::Replica;
use crate::packet::buffer::Buffer;
use crate::packet::burst::{BURST, Burst, Parsed};
use crate::packet::view::{Kind, Side, View};
use crate::role::PathClass;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};

/// Returns the client endpoint of a TCP packet: its key in the table.
#[inline]
fn client<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    match from {
        Side::Inside => view.destination(head),
        Side::Outside => view.source(head),
    }
}

impl Replica {
    #[inline(always)]
    pub(super) fn classify<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        for number in 0..burst.len().min(BURST) {
            let Parsed { head, view, plain, plain_v6 } = burst.parse(number);
            match (plain, plain_v6) {
                (Some(headers), _) => {
                    let client = match from {
                        Side::Inside => headers.destination(),
                        Side::Outside => headers.source(),
                    };
                    let table = &self.v4.connections;
                    self.lookup.prefetch_bucket(number, PathClass::FastV4, table, client);
                }
                (None, Some(headers)) => {
                    let client = match from {
                        Side::Inside => headers.destination(),
                        Side::Outside => headers.source(),
                    };
                    let table = &self.v6.connections;
                    self.lookup.prefetch_bucket(number, PathClass::FastV6, table, client);
                }
                _ if view.kind == Kind::Tunnel && from == Side::Outside => {
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
            let client = headers.source();
            return lookup.prefetch_bucket(number, PathClass::TunnelV4, &v4.connections, client);
        }
        if let Some(headers) = lookup.inner[number].parse_plain_inner::<V6>(view, head) {
            let client = headers.source();
            return lookup.prefetch_bucket(number, PathClass::TunnelV6, &v6.connections, client);
        }
        lookup.inner[number].parse_inner(view, head);
        let inner = &lookup.inner[number];
        let class = PathClass::slow(inner.version);
        match (inner.kind, inner.version) {
            (Kind::Tcp, Version::V4) => {
                let client = inner.source(head);
                lookup.prefetch_bucket(number, class, &v4.connections, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = inner.source(head);
                lookup.prefetch_bucket(number, class, &v6.connections, client);
            }
            _ => lookup.without_key(number, PathClass::Slow),
        }
    }

    /// Classifies any other packet. Outside the loop over a burst.
    #[inline(never)]
    fn classify_other(&mut self, from: Side, number: usize, head: &[u8], view: &View) {
        let Self { v4, v6, lookup, .. } = self;
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, PathClass::SlowV4, &v4.connections, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, PathClass::SlowV6, &v6.connections, client);
            }
            _ => lookup.without_key(number, PathClass::of_other(view)),
        }
    }
}
