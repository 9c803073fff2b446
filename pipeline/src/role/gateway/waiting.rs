//! Frames that wait: SYNs to an origin that is asked later than the replicas, and SYN/ACKs of
//! replicas that have to beat others by some time.

use std::net::SocketAddr;

use super::flow::{Flow, Phase};
use super::mode::Mode;
use super::race::Contender;
use super::{Gateway, GatewayFor, Settings};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::delayed::Frame;
use crate::packet::view::{Packet, Side};
use crate::role::{Context, send_generated};
use crate::wire::family::{Endpoint, Family, Version};

/// The most frames of one worker that wait.
const FRAMES: usize = 4096;
/// The most frames released at once. They must fit into the output in addition to those of a burst.
const RELEASED: usize = 32;

/// What a frame waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) client: SocketAddr,
    /// The sequence number of the race's SYN.
    pub(super) isn: u32,
    pub(super) kind: Kind,
}

/// The kind of a frame that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A SYN to the origin.
    Syn,
    /// The SYN/ACK of a contender, decapsulated.
    SynAck {
        /// The contender's address.
        from: SocketAddr,
        /// Whether it is the origin.
        is_origin: bool,
        /// When the SYN/ACK arrived.
        arrived: Ticks,
    },
}

/// Returns how many frames may wait: none if no service asks directly.
pub(super) fn capacity(settings: &Settings) -> usize {
    let waits = settings.services.iter().any(|service| service.policy.is_direct());
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
        while context.out.has_room(Side::Outside)
            && context.out.has_room(Side::Inside)
            && let Some((waiting, frame)) = self.common.waiting.take()
        {
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
    /// Makes a frame wait. Returns whether there was room for it.
    pub(super) fn wait<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        (client, isn): (Endpoint<F>, u32),
        (kind, due): (Kind, Ticks),
    ) -> bool {
        let waiting = Waiting { client: client.into(), isn, kind };
        let end = packet.view.end as usize;
        let frame = packet.buffer.head().get(..end);
        frame.is_some_and(|frame| self.common.waiting.push(due, frame, waiting))
    }

    fn release<P: Pool>(&mut self, waiting: Waiting, frame: &Frame, context: &mut Context<'_, P>) {
        let Some(client) = endpoint::<F>(waiting.client) else { return };
        let hash = self.flows.hash(client);
        let slot = self.flows.find(hash, client, context.now);
        let flow = slot.map(|slot| (self.flows.get(slot).value, self.flows.get(slot).state()));
        let flow = flow.filter(|(flow, _)| flow.isn == waiting.isn);
        match waiting.kind {
            Kind::Syn => self.release_syn(flow, frame, context),
            Kind::SynAck { from, is_origin, arrived } => {
                let Some(mut buffer) = copy_of(frame, context.pool) else { return };
                buffer.truncate(frame.len());
                let mut packet = Packet::new(buffer);
                let (Some(endpoint), Some(slot)) = (endpoint::<F>(from), slot) else { return };
                let Some((flow, phase)) = flow else { return };
                let contender = Contender { endpoint, is_origin };
                if phase == Phase::Racing {
                    self.wins(&mut packet, slot, contender, (arrived, context.now));
                } else if context.out.has_room(Side::Outside) && !has_won(contender, &flow, phase) {
                    self.has_lost(&packet, slot, (contender, arrived), context);
                }
                if phase == Phase::Racing && context.out.has_room(Side::Inside) {
                    let counters = &self.common.counters.common;
                    let what = Generated::HeldSynAck;
                    send_generated(counters, Side::Inside, packet.buffer, what, context);
                }
            }
        }
    }

    /// Sends a SYN to the origin, unless a replica has won or the client has repeated it meanwhile.
    fn release_syn<P: Pool>(
        &mut self,
        flow: Option<(Flow<F>, Phase)>,
        frame: &Frame,
        context: &mut Context<'_, P>,
    ) {
        let counters = &self.common.counters.common;
        match flow {
            Some((_, Phase::Replica | Phase::Closing)) => {
                return counters.scalar(Scalar::OriginSpared).add(1);
            }
            Some((flow, _)) if flow.retransmits > 0 => return,
            _ => {}
        }
        if let Some(buffer) = copy_of(frame, context.pool)
            && context.out.has_room(Side::Outside)
        {
            send_generated(counters, Side::Outside, buffer, Generated::DeferredSyn, context);
        }
    }
}

/// Returns whether a contender has won the race, by another SYN/ACK.
fn has_won<F: Family>(contender: Contender<F>, flow: &Flow<F>, phase: Phase) -> bool {
    match contender.is_origin {
        true => phase == Phase::Origin,
        false => phase != Phase::Origin && contender.endpoint == flow.replica,
    }
}

fn endpoint<F: Family>(address: SocketAddr) -> Option<Endpoint<F>> {
    Some(Endpoint::new(F::from_ip(address.ip())?, address.port()))
}

fn copy_of<P: Pool>(frame: &[u8], pool: &mut P) -> Option<P::Buffer> {
    let mut buffer = pool.alloc(frame.len())?;
    buffer.head_mut()[..frame.len()].copy_from_slice(frame);
    Some(buffer)
}
