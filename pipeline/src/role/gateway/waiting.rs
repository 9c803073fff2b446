//! Frames that wait: SYNs to an origin that is asked later than the replicas, and SYN/ACKs of
//! replicas that have to beat others by some time.

use std::net::SocketAddr;

use super::flow::{Flow, Phase, RaceId};
use super::mode::Mode;
use super::race::{Contender, Place};
use super::{Gateway, GatewayFor, Settings};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::delayed::Frame;
use crate::packet::view::{Packet, Side};
use crate::role::{Context, send_generated};
use crate::table::Slot;
use crate::wire::family::{Endpoint, Family, Version};

/// The most frames of one worker that wait.
const FRAMES: usize = 4096;
/// The most frames released at once. They must fit into the output in addition to those of a burst.
const RELEASED: usize = 32;

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) client: SocketAddr,
    pub(super) race: RaceId,
    pub(super) kind: Kind,
}

/// The kind of a frame that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A SYN to the origin.
    Syn,
    /// A SYN/ACK, decapsulated.
    SynAck {
        /// Its sender.
        from: SocketAddr,
        /// Whether that is the origin.
        is_origin: bool,
        /// When it came.
        at: Ticks,
    },
}

/// Returns how many frames may wait: none if no service asks directly or makes answers wait.
pub(super) fn capacity(settings: &Settings) -> usize {
    let mut policies = settings.services.iter().map(|service| &service.policy);
    let waits = policies.any(|policy| policy.is_direct() || policy.may_wait());
    if waits { FRAMES } else { 0 }
}

impl<M: Mode> Gateway<M> {
    /// Releases frames whose time has come.
    pub(super) fn release_due<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        for _ in 0..RELEASED {
            let Some((waiting, frame)) = self.common.waiting.take_due(context.now) else { return };
            self.release(waiting, &frame, context);
        }
    }

    /// Releases all frames, as far as the output has room for them.
    pub(super) fn release_all<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        while context.out.has_room(Side::Outside) && context.out.has_room(Side::Inside) {
            let Some((waiting, frame)) = self.common.waiting.take() else { return };
            self.release(waiting, &frame, context);
        }
    }

    fn release<P: Pool>(&mut self, waiting: Waiting, frame: &Frame, context: &mut Context<'_, P>) {
        match Version::of(waiting.client.ip()) {
            Version::V4 => self.for_v4().release(waiting, frame, context),
            Version::V6 => self.for_v6().release(waiting, frame, context),
        }
    }
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Makes a frame of a race wait. Returns whether there was room for it.
    pub(super) fn wait<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        slot: Slot,
        (kind, due): (Kind, Ticks),
    ) -> bool {
        let entry = self.flows.get(slot);
        let waiting = Waiting { client: entry.key.into(), race: entry.value.race_id(), kind };
        let end = packet.view.end as usize;
        let frame = packet.buffer.head().get(..end);
        frame.is_some_and(|frame| self.common.waiting.push(due, frame, waiting))
    }

    fn release<P: Pool>(&mut self, waiting: Waiting, frame: &Frame, context: &mut Context<'_, P>) {
        let Some(client) = endpoint::<F>(waiting.client) else { return };
        let hash = self.flows.hash(client);
        let slot = self.flows.find(hash, client, context.now);
        let entry = slot.map(|slot| (slot, self.flows.get(slot)));
        let race =
            entry.map(|(slot, entry)| (slot, entry.value, entry.state())).filter(|(_, flow, _)| {
                // Another race of the endpoint has nothing to do with the frame.
                flow.race_id() == waiting.race
            });
        match (waiting.kind, race) {
            // The entry was evicted: the connection is the origin's.
            (Kind::Syn, None) if slot.is_none() => self.send_syn(frame, context),
            (Kind::Syn, Some((_, flow, phase))) => self.release_syn((flow, phase), frame, context),
            (Kind::SynAck { from, is_origin, at }, Some((slot, flow, phase))) => {
                let Some(from) = endpoint::<F>(from) else { return };
                let contender = Contender { endpoint: from, is_origin };
                self.release_syn_ack(frame, (slot, flow, phase), (contender, at), context);
            }
            (Kind::Syn | Kind::SynAck { .. }, None) => {}
        }
    }

    /// Sends a SYN to the origin, unless a replica has won or the client has repeated it meanwhile.
    fn release_syn<P: Pool>(
        &self,
        (flow, phase): (Flow<F>, Phase),
        frame: &Frame,
        context: &mut Context<'_, P>,
    ) {
        match phase {
            _ if phase.is_translated() => {
                self.common.counters.common.scalar(Scalar::OriginSpared).add(1);
            }
            _ if flow.retransmits > 0 => {}
            _ => self.send_syn(frame, context),
        }
    }

    fn send_syn<P: Pool>(&self, frame: &Frame, context: &mut Context<'_, P>) {
        if let Some(buffer) = self.copy_of(frame, Side::Outside, context) {
            let counters = &self.common.counters.common;
            send_generated(counters, Side::Outside, buffer, Generated::DeferredSyn, context);
        }
    }

    /// Decides about a SYN/ACK whose time has come: it wins if nobody else has.
    fn release_syn_ack<P: Pool>(
        &mut self,
        frame: &Frame,
        (slot, flow, phase): (Slot, Flow<F>, Phase),
        (contender, at): (Contender<F>, Ticks),
        context: &mut Context<'_, P>,
    ) {
        let has_won = match phase {
            Phase::Racing => {
                // Whatever comes of it, it is not held any more.
                self.flows.value_mut(slot).replica = Endpoint::NONE;
                false
            }
            Phase::Origin => contender.is_origin,
            _ => contender.endpoint == flow.replica,
        };
        if has_won {
            return;
        }
        let side = if phase == Phase::Racing { Side::Inside } else { Side::Outside };
        let Some(buffer) = self.copy_of(frame, side, context) else { return };
        let mut packet = Packet::new(buffer);
        if phase == Phase::Racing {
            self.wins(&mut packet, slot, contender, (at, context.now));
            let counters = &self.common.counters.common;
            let what = Generated::HeldSynAck;
            return send_generated(counters, Side::Inside, packet.buffer, what, context);
        }
        self.measure(slot, contender, Place::Lost, at);
        self.reset_loser(&packet, slot, contender, context);
    }

    /// Returns a frame in a buffer, if there is one and room for it among those that leave by this
    /// side.
    fn copy_of<P: Pool>(
        &self,
        frame: &Frame,
        side: Side,
        context: &mut Context<'_, P>,
    ) -> Option<P::Buffer> {
        let buffer = match context.out.has_room(side) {
            true => context.pool.alloc(frame.len()),
            false => None,
        };
        let Some(mut buffer) = buffer else {
            self.common.counters.common.scalar(Scalar::CopiesFailed).add(1);
            return None;
        };
        buffer.head_mut()[..frame.len()].copy_from_slice(frame);
        Some(buffer)
    }
}

fn endpoint<F: Family>(address: SocketAddr) -> Option<Endpoint<F>> {
    Some(Endpoint::new(F::from_ip(address.ip())?, address.port()))
}
