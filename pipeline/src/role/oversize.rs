//! Packets that a tunnel has no inner_mtu for: answered by an ICMP error, or sent in fragments where
//! their sender allows that.

use super::{Context, send_generated};
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, Generated};
use crate::packet::buffer::Pool;
use crate::packet::view::{Packet, Side};
use crate::policy::limiter::Bucket;
use crate::stage::{fragment, too_big};
use crate::verdict::Verdict;
use crate::wire::family::Family;

/// ICMP errors that a worker sends per second (RFC 1812, section 4.3.2.8).
const ERRORS_PER_SECOND: u64 = 1000;

/// What a role needs to deal with them.
pub(super) struct Oversize {
    /// ICMP errors that may still be sent.
    errors: Bucket,
}

impl Default for Oversize {
    fn default() -> Self {
        Self { errors: Bucket::full(ERRORS_PER_SECOND, Ticks(0)) }
    }
}

impl Oversize {
    /// Deals with a packet from one side whose tunnel to the other has inner_mtu for `inner_mtu` bytes.
    /// `put` puts a fragment, given by its number, into the tunnel.
    #[cold]
    pub(super) fn fragment_or_reject<F: Family, P: Pool>(
        &mut self,
        (from, packet): (Side, &Packet<P::Buffer>),
        inner_mtu: usize,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
        put: impl FnMut(usize, &mut Packet<P::Buffer>) -> bool,
    ) -> Verdict {
        if F::may_be_fragmented(packet.ip()) {
            return send_fragments((from, packet), inner_mtu, counters, context, put);
        }
        let rate = ERRORS_PER_SECOND;
        if !context.out.has_room(from) || !self.errors.take(1, rate, rate, context.now) {
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

fn send_fragments<P: Pool>(
    (from, packet): (Side, &Packet<P::Buffer>),
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
        // There is headinner_mtu in what the pool gives: none is left behind.
        if put(number, &mut fragment) {
            send_generated(counters, from.other(), fragment.buffer, Generated::Fragment, context);
        }
    }
    Verdict::Fragmented
}
