//! Reaching hosts on the inside, for switch and replica: MAC addresses by ARP and neighbour
//! discovery, and the frames that are pending until one is known.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Context, send_generated};
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, Generated, Scalar};
use crate::neighbours::{self, Answer, Neighbours};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::pending::PendingFrames;
use crate::packet::view::{Packet, Side};
use crate::verdict::Verdict;
use crate::wire::ethernet::{self, Mac};

/// One worker's view of the neighbours.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) neighbours: Arc<Neighbours>,
    pending: PendingFrames,
}

impl Resolver {
    /// A resolver without pending frames.
    pub(super) fn new(neighbours: Arc<Neighbours>) -> Self {
        Self { neighbours, pending: PendingFrames::default() }
    }

    /// Goes on with the neighbours of `next`, who inherit what is known of the present ones. Pending
    /// frames stay.
    pub(super) fn reload(&mut self, next: &mut Self) {
        next.neighbours.inherit(&self.neighbours);
        std::mem::swap(&mut self.neighbours, &mut next.neighbours);
        self.pending.recheck(&self.neighbours);
    }

    /// Addresses a packet to a host whose MAC address has to be resolved, and returns `verdict`.
    /// While the MAC address is unknown the frame is pending.
    #[inline]
    pub(super) fn address<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        host: IpAddr,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        match self.neighbours.find(host) {
            Some(mac) => {
                ethernet::set_destination(packet.buffer.head_mut(), mac);
                verdict
            }
            None => self.hold_back(packet, host, now),
        }
    }

    /// Returns the MAC address of a host; while it is unknown, it is resolved from now on.
    pub(super) fn find_or_want(&self, host: IpAddr) -> Option<Mac> {
        let mac = self.neighbours.find(host);
        if mac.is_none() {
            self.neighbours.want(host);
        }
        mac
    }

    fn hold_back<B: Buffer>(&mut self, packet: &Packet<B>, host: IpAddr, now: Ticks) -> Verdict {
        self.neighbours.want(host);
        let is_pending =
            packet.buffer.is_contiguous() && self.pending.push(host, packet.buffer.head(), now);
        if is_pending { Verdict::Pending } else { Verdict::NeighbourUnresolved }
    }

    /// Handles ARP and neighbour discovery: learns hosts on the inside, and answers for the
    /// addresses that the appliance has on this side (`has_address`). `own` is the MAC address of
    /// this side's port. `None` when the packet does not concern the appliance.
    pub(super) fn on_neighbour_packet<P: Pool>(
        &self,
        from: Side,
        own: Mac,
        packet: &Packet<P::Buffer>,
        has_address: impl Fn(IpAddr) -> bool,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        // A request contains the sender's own addresses, too.
        let learned = from == Side::Inside && self.neighbours.learn(packet, context.now);
        let addressed_to_us = ethernet::destination(packet.buffer.head()) == own;
        match neighbours::answer(packet, own, has_address, context.pool) {
            Answer::NotForUs => (learned && addressed_to_us).then_some(Verdict::NeighbourLearned),
            Answer::NoBuffer => Some(Verdict::NoBuffer),
            Answer::Made(reply) => {
                send_generated(counters, from, reply, Generated::NeighbourReply, context);
                Some(Verdict::NeighbourAnswered)
            }
        }
    }

    /// Sends pending frames whose MAC address has become known, and drops those that have waited
    /// too long.
    pub(super) fn release_pending<P: Pool>(
        &mut self,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
    ) {
        let out = &mut *context.out;
        let send = |frame| {
            counters.count_generated(Generated::Released);
            out.send(Side::Inside, frame);
        };
        let dropped = self.pending.release(&self.neighbours, context.pool, context.now, send);
        counters.scalar(Scalar::PendingDropped).add(dropped as u64);
    }

    /// Sends the probes for MAC addresses that are due. Called by one worker only.
    pub(super) fn send_probes<P: Pool>(
        &self,
        own: Mac,
        counters: &CommonCounters,
        context: &mut Context<'_, P>,
    ) {
        for probe in self.neighbours.due_probes(own, context.now) {
            let Some(mut frame) = context.pool.alloc(probe.len()) else { return };
            probe.emit(frame.head_mut());
            send_generated(counters, Side::Inside, frame, Generated::NeighbourProbe, context);
        }
    }
}
