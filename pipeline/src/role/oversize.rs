//! Packets that exceed a tunnel's inner MTU: sent in fragments where their sender allows that,
//! otherwise answered with an ICMP error.

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

/// A worker's handling of packets that exceed a tunnel's inner MTU.
pub(super) struct Oversize {
    /// Limits ICMP errors.
    errors: Bucket,
}

impl Default for Oversize {
    fn default() -> Self {
        Self { errors: Bucket::full(ERRORS_PER_SECOND, Ticks(0)) }
    }
}

impl Oversize {
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
