//! Pass 1 at the replica: the key by which each packet is looked up.

use super::Replica;
use crate::packet::buffer::Buffer;
use crate::packet::burst::{BURST, Burst, Parsed};
use crate::packet::view::{Kind, Side, View};
use crate::role::PathClass;
use crate::wire::family::{Endpoint, Family, Version};

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
            let Parsed { head, view, plain } = burst.parse(number);
            match plain {
                Some(headers) => {
                    let client = match from {
                        Side::Inside => headers.destination(),
                        Side::Outside => headers.source(),
                    };
                    let table = &self.v4.connections;
                    self.lookup.prefetch_bucket(number, PathClass::FastV4, table, client);
                }
                None if view.kind == Kind::Tunnel && from == Side::Outside => {
                    match self.lookup.inner[number].parse_plain_inner(view, head) {
                        Some(headers) => {
                            let (table, client) = (&self.v4.connections, headers.source());
                            self.lookup.prefetch_bucket(number, PathClass::TunnelV4, table, client);
                        }
                        None => {
                            self.lookup.inner[number].parse_inner(view, head);
                            self.classify_inner(from, number, head);
                        }
                    }
                }
                None => {
                    self.lookup.inner[number].assign(*view);
                    self.classify_other(from, number, head);
                }
            }
        }
    }

    /// Classifies a packet whose view, or the view of the packet inside, is in `lookup.inner`.
    #[inline(always)]
    fn classify_inner(&mut self, from: Side, number: usize, head: &[u8]) {
        let Self { v4, v6, lookup, .. } = self;
        let view = &lookup.inner[number];
        let class = PathClass::slow(view.version);
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, class, &v4.connections, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = client(from, head, view);
                lookup.prefetch_bucket(number, class, &v6.connections, client);
            }
            _ => lookup.without_key(number, PathClass::Slow),
        }
    }

    fn classify_other(&mut self, from: Side, number: usize, head: &[u8]) {
        self.classify_inner(from, number, head);
        let view = self.lookup.inner[number];
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {}
            (Kind::Tcp, Version::V6) => {
                self.lookup.without_key(number, PathClass::of_v6(&view));
            }
            _ => self.lookup.without_key(number, PathClass::of_other(&view)),
        }
    }
}
