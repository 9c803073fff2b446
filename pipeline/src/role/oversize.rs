//! Packets that exceed a tunnel's inner MTU: sent in fragments where their sender allows that,
//! otherwise answered with an ICMP error.

use std::net::IpAddr;

use super::{Context, send_generated};
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, Generated};
use crate::packet::buffer::Pool;
use crate::packet::view::{Packet, Side};
use crate::policy::clients::ClientHash;
use crate::policy::limiter::Bucket;
use crate::stage::{fragment, too_big};
use crate::verdict::Verdict;
use crate::wire::family::Family;

/// ICMP errors that a worker sends per second (RFC 1812, section 4.3.2.8).
const ERRORS_PER_SECOND: u64 = 10_000;
/// ICMP errors per second of packets from or to one client.
const CLIENTS_SHARE: u64 = 100;
/// The number of buckets that clients share under a keyed hash.
const CLIENTS: usize = 1 << 10;

/// Which address of a packet that exceeds an inner MTU is the client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientIs {
    Source,
    Destination,
}

/// A worker's handling of packets that exceed a tunnel's inner MTU.
pub(super) struct Oversize {
    /// Limits all ICMP errors.
    errors: Bucket,
    /// Limits those of each client.
    clients: Box<[Bucket]>,
    hash: ClientHash,
    client_is: ClientIs,
}

impl Oversize {
    /// Returns a handling that has sent no errors. The hash key must be secret.
    pub(super) fn new(hash_key: (u64, u64), client_is: ClientIs) -> Self {
        Self {
            errors: Bucket::full(ERRORS_PER_SECOND, Ticks(0)),
            clients: vec![Bucket::full(CLIENTS_SHARE, Ticks(0)); CLIENTS].into_boxed_slice(),
            hash: ClientHash::new(hash_key),
            client_is,
        }
    }

    /// Returns whether an error about a packet of this client may be sent: no client takes the
    /// errors of others.
    fn may_answer(&mut self, client: IpAddr, now: Ticks) -> bool {
        let share = &mut self.clients[self.hash.host(client) as usize % CLIENTS];
        share.take(1, CLIENTS_SHARE, CLIENTS_SHARE, now)
            && self.errors.take(1, ERRORS_PER_SECOND, ERRORS_PER_SECOND, now)
    }

    /// Fragments a packet that exceeds `inner_mtu` bytes, or answers it with an ICMP error. `put`
    /// encapsulates a fragment, given by its number, and returns whether it did.
    #[cold]
    pub(super) fn fragment_or_reject<F: Family, P: Pool>(
        &mut self,
        from: Side,
        packet: &Packet<P::Buffer>,
        inner_mtu: usize,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
        put: impl FnMut(usize, &mut Packet<P::Buffer>) -> bool,
    ) -> Verdict {
        if F::may_be_fragmented(packet.ip()) {
            return send_fragments(from, packet, inner_mtu, counters, context, put);
        }
        let client = match self.client_is {
            ClientIs::Source => F::source(packet.ip()),
            ClientIs::Destination => F::destination(packet.ip()),
        };
        if !context.out.has_room(from) || !self.may_answer(client.into(), context.now) {
            return Verdict::TooBigDropped;
        }
        match too_big::answer::<F, P>(packet, inner_mtu as u16, context.pool) {
            Some(error) => {
                send_generated(counters, from, error, Generated::TooBig, context);
                Verdict::TooBig
            }
            None => Verdict::TooBigDropped,
        }
    }
}

/// Sends a packet in fragments of at most `inner_mtu` bytes, each in the tunnel.
fn send_fragments<P: Pool>(
    from: Side,
    packet: &Packet<P::Buffer>,
    inner_mtu: usize,
    counters: &CommonCounters,
    context: &mut Context<'_, P>,
    mut put: impl FnMut(usize, &mut Packet<P::Buffer>) -> bool,
) -> Verdict {
    let Some(fragments) = fragment::split(packet, inner_mtu, context.pool) else {
        return Verdict::NoBuffer;
    };
    if context.out.room(from.other()) < fragments.len() {
        return Verdict::NoBuffer;
    }
    for (number, fragment) in fragments.into_iter().enumerate() {
        let mut fragment = Packet::new(fragment);
        // Buffers from the pool have headroom, so no fragment is left out.
        if put(number, &mut fragment) {
            send_generated(counters, from.other(), fragment.buffer, Generated::Fragment, context);
        }
    }
    Verdict::Fragmented
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_the_errors_of_others_alone() {
        let mut oversize = Oversize::new((1, 2), ClientIs::Source);
        let client = |n: u8| IpAddr::from([198, 18, 1, n]);
        let now = Ticks::from_secs(1);
        let answered = (0..3000).filter(|_| oversize.may_answer(client(1), now)).count();
        assert_eq!(answered as u64, CLIENTS_SHARE);
        assert!((0..50).all(|_| oversize.may_answer(client(2), now)));
        assert!(oversize.may_answer(client(1), now + Ticks::from_millis(10)), "100 a second");
        let all = (0..100_000u32)
            .filter(|n| oversize.may_answer(n.to_be_bytes().into(), Ticks::from_secs(2)))
            .count();
        assert_eq!(all as u64, ERRORS_PER_SECOND);
    }
}
