//! The short way, for what nearly every packet is: data of a connection that a replica has won, in
//! a frame of the usual shape. It does what the long way does, in fewer steps; where anything is
//! out of the ordinary it gives `None`, has changed nothing, and the packet goes the long way.
//! Property tests send the same packets both ways.

use std::marker::PhantomData;

use super::{Gateway, client, server};
use crate::packet::buffer::Buffer;
use crate::packet::burst::BURST;
use crate::role::gateway::mode::{Claim, Configuration};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::role::gateway::flow::{Flow, Phase};
use crate::policy::tunnel_path::Path;
use crate::role::Shape;
use crate::stage::decap;
use crate::table::{Guess, Table};
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Headers, Kind, Packet, Side, View};
use crate::wire::tcp;

type Flows<F> = Table<Endpoint<F>, Phase, Flow<F>>;

impl<C: Configuration> Gateway<C> {
    /// The frame, and the verdict on it if it has gone the short way.
    #[inline(always)]
    pub(super) fn short<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: B,
        view: &View,
        now: Ticks,
    ) -> (B, Option<Verdict>) {
        let Self { common, v4, v6, ahead, .. } = self;
        let (path, (shape, guess)) = (&common.settings.path, ahead.shape(number));
        match shape {
            Shape::Passing => (frame, Some(Verdict::Passed)),
            Shape::Nobodys => (frame, Some(view.kind.untouched())),
            Shape::PlainV4 => {
                Short::<C, V4>::new(&mut v4.flows, path, guess, now).plain(from, frame, view)
            }
            Shape::PlainV6 => {
                Short::<C, V6>::new(&mut v6.flows, path, guess, now).plain(from, frame, view)
            }
            Shape::LongV4 if Self::may_crack(from, view, Version::V4) => {
                let inner = &ahead.inner[number % BURST];
                let mut way = Short::<C, V4>::new(&mut v4.flows, path, guess, now);
                // The same twice: once with all places known to the compiler.
                match view.as_plain_tunnel(inner) {
                    Some((view, inside)) if inner.kind == Kind::Tcp => {
                        let mut packet = Packet { buffer: frame, view };
                        let verdict = way.tunnelled(&mut packet, &inside);
                        (packet.buffer, verdict)
                    }
                    _ => {
                        let mut packet = Packet::seen(frame, view);
                        let verdict = way.tunnelled(&mut packet, inner);
                        (packet.buffer, verdict)
                    }
                }
            }
            Shape::LongV6 if Self::may_crack(from, view, Version::V6) => {
                let (mut packet, inner) = (Packet::seen(frame, view), &ahead.inner[number % BURST]);
                let mut way = Short::<C, V6>::new(&mut v6.flows, path, guess, now);
                let verdict = way.tunnelled(&mut packet, inner);
                (packet.buffer, verdict)
            }
            _ => (frame, None),
        }
    }

    #[inline(always)]
    fn may_crack(from: Side, view: &View, version: Version) -> bool {
        C::TUNNELS
            && C::FOLLOWS_PLAIN
            && from == Side::Outside
            && view.kind == Kind::Tunnel
            && view.version == version
    }
}

/// What the short way needs of the gateway, and knows of a packet.
struct Short<'a, C, F: Family> {
    flows: &'a mut Flows<F>,
    path: &'a Path,
    guess: Guess,
    now: Ticks,
    configuration: PhantomData<C>,
}

impl<'a, C: Configuration, F: Family> Short<'a, C, F> {
    #[inline(always)]
    fn new(flows: &'a mut Flows<F>, path: &'a Path, guess: Guess, now: Ticks) -> Self {
        Self { flows, path, guess, now, configuration: PhantomData }
    }

    #[inline(always)]
    fn plain<B: Buffer>(mut self, from: Side, frame: B, view: &View) -> (B, Option<Verdict>) {
        let mut packet = Packet { buffer: frame, view: view.as_plain::<F>() };
        let verdict = self.plain_packet(from, &mut packet);
        (packet.buffer, verdict)
    }

    /// ops 606-612, 632, 636, 656.
    #[inline(always)]
    fn plain_packet<B: Buffer>(&mut self, from: Side, packet: &mut Packet<B>) -> Option<Verdict> {
        let headers = Headers::<F>::of(packet.buffer.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (source, destination) = (headers.source(), headers.destination());
        let (client, other) = match from {
            Side::Inside => (source, destination),
            Side::Outside => (destination, source),
        };
        let Some(slot) = self.flows.peek(self.guess, client, self.now) else {
            return self.flows.is_absent(self.guess).then_some(Verdict::NoEntry);
        };
        let entry = self.flows.get(slot);
        if entry.state() != Phase::Replica {
            return None;
        }
        let way = entry.value.way(client);
        match from {
            Side::Inside if other == way.server => {
                C::to_replica(packet, &way, self.path).ok()?;
                self.flows.touch(slot, self.now);
                Some(Verdict::ToReplica)
            }
            Side::Outside if C::plain_winner(&way) == Some(other) => {
                C::to_client(packet, &way);
                self.flows.touch(slot, self.now);
                Some(Verdict::FromReplica)
            }
            _ => None,
        }
    }

    /// op 658: what the winner has put into a tunnel.
    #[inline(always)]
    fn tunnelled<B: Buffer>(&mut self, packet: &mut Packet<B>, inner: &View) -> Option<Verdict> {
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp {
            return None;
        }
        let client = client::<F>(Side::Outside, head, inner);
        let outer = packet.ip();
        if F::destination(outer) != client.address
            || !tcp::flags(&head[usize::from(inner.l4)..]).is_data()
        {
            return None;
        }
        let slot = self.flows.peek(self.guess, client, self.now)?;
        let entry = self.flows.get(slot);
        let way = entry.value.way(client);
        let claim = C::claim(F::source(outer), server(Side::Outside, head, inner), way.server);
        if entry.state() != Phase::Replica || claim != Claim::Replica(way.replica) {
            return None;
        }
        // What cannot be opened is dropped, whichever way it came here.
        if let Err(verdict) = decap::open(packet, *inner) {
            return Some(verdict);
        }
        self.flows.touch(slot, self.now);
        C::to_client(packet, &way);
        Some(Verdict::FromReplica)
    }
}
