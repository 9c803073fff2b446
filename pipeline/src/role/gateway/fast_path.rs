//! The fast path: data of a connection that a replica has won, with all headers at their usual
//! places. It does what the slow path does, in fewer steps; where anything is out of the ordinary
//! it returns `None`, has changed nothing, and the packet takes the slow path. Property tests send
//! the same packets through both (`role::equivalence`).

use std::marker::PhantomData;

use super::flow::{Flow, Phase};
use super::lookup::{client, server};
use super::lost::Lost;
use super::mode::{Mode, TunnelSource};
use super::{FamilyState, Gateway};
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::burst::BURST;
use crate::packet::view::{Headers, Kind, Packet, Side, TunnelHeaders, View};
use crate::policy::tunnel_path::TunnelPath;
use crate::role::PathClass;
use crate::stage::decap;
use crate::table::{EntryHint, Slot, Table};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tcp;

type Flows<F> = Table<Endpoint<F>, Phase, Flow<F>>;

impl<M: Mode> Gateway<M> {
    /// Takes the fast path, if the packet may: returns the verdict if it did.
    #[inline(always)]
    pub(super) fn take_fast_path<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: &mut B,
        view: &View,
        now: Ticks,
    ) -> Option<Verdict> {
        let (class, entry) = self.lookup.class(number);
        let path = &self.common.settings.path;
        // The classes of nearly all packets first: a jump through a table takes longer.
        if class == PathClass::FastV4 {
            let FamilyState { flows, lost, .. } = &mut self.v4;
            return FastPath::<M, V4>::new(flows, lost, path, entry, now).plain(from, frame, view);
        }
        if class == PathClass::FastV6 {
            let FamilyState { flows, lost, .. } = &mut self.v6;
            return FastPath::<M, V6>::new(flows, lost, path, entry, now).plain(from, frame, view);
        }
        if M::DATA_IN_TUNNELS && class == PathClass::TunnelV4 {
            let FamilyState { flows, lost, .. } = &mut self.v4;
            let inner = &self.lookup.inner[number % BURST];
            return FastPath::<M, V4>::new(flows, lost, path, entry, now)
                .plain_tunnel(frame, inner);
        }
        match class {
            PathClass::PassThrough => Some(Verdict::Passed),
            PathClass::NotHandled => Some(view.kind.default_verdict()),
            _ => self.take_other_fast_path(from, number, frame, view, now),
        }
    }

    /// Takes the fast path of a packet of any other class. Outside the loop over a burst.
    #[inline(never)]
    fn take_other_fast_path<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: &mut B,
        view: &View,
        now: Ticks,
    ) -> Option<Verdict> {
        let (class, entry) = self.lookup.class(number);
        let path = &self.common.settings.path;
        match class {
            PathClass::TunnelV6 if M::DATA_IN_TUNNELS => {
                let inner = &self.lookup.inner[number % BURST];
                let FamilyState { flows, lost, .. } = &mut self.v6;
                FastPath::<M, V6>::new(flows, lost, path, entry, now).plain_tunnel(frame, inner)
            }
            PathClass::SlowV4 if Self::is_data_tunnel(from, view, Version::V4) => {
                let inner = &self.lookup.inner[number % BURST];
                let FamilyState { flows, lost, .. } = &mut self.v4;
                let mut fast = FastPath::<M, V4>::new(flows, lost, path, entry, now);
                fast.tunnelled(&mut Packet::parsed(frame, view), inner)
            }
            PathClass::SlowV6 if Self::is_data_tunnel(from, view, Version::V6) => {
                let inner = &self.lookup.inner[number % BURST];
                let FamilyState { flows, lost, .. } = &mut self.v6;
                let mut fast = FastPath::<M, V6>::new(flows, lost, path, entry, now);
                fast.tunnelled(&mut Packet::parsed(frame, view), inner)
            }
            _ => None,
        }
    }

    /// Returns whether a packet may be a winner's data in a tunnel of this family.
    #[inline(always)]
    fn is_data_tunnel(from: Side, view: &View, version: Version) -> bool {
        M::DATA_IN_TUNNELS
            && from == Side::Outside
            && view.kind == Kind::Tunnel
            && view.version == version
    }
}

/// The state of the gateway that the fast path uses for one packet.
struct FastPath<'a, M, F: Family> {
    flows: &'a mut Flows<F>,
    lost: &'a Lost<F>,
    path: &'a TunnelPath,
    entry: EntryHint,
    now: Ticks,
    mode: PhantomData<M>,
}

impl<'a, M: Mode, F: Family> FastPath<'a, M, F> {
    #[inline(always)]
    fn new(
        flows: &'a mut Flows<F>,
        lost: &'a Lost<F>,
        path: &'a TunnelPath,
        entry: EntryHint,
        now: Ticks,
    ) -> Self {
        Self { flows, lost, path, entry, now, mode: PhantomData }
    }

    /// Handles a plain packet (ops 606, 608, 610, 612, 632, 636, 656).
    #[inline(always)]
    fn plain<B: Buffer>(&mut self, from: Side, frame: &mut B, view: &View) -> Option<Verdict> {
        let packet = &mut Packet { buffer: frame, view: view.as_plain::<F>() };
        let headers = Headers::<F>::of(packet.buffer.head())?;
        let tcp = headers.tcp();
        if !tcp::flags(tcp).is_acknowledged_data() {
            return None;
        }
        let numbers = (tcp::sequence(tcp), tcp::ack_number(tcp));
        let (source, destination) = (headers.source(), headers.destination());
        let (client, other) = match from {
            Side::Inside => (source, destination),
            Side::Outside => (destination, source),
        };
        let Some(slot) = self.flows.peek(self.entry, client, self.now) else {
            let passes = self.flows.is_absent(self.entry)
                && !self.lost.concerns::<M>(from, source, self.now);
            return passes.then_some(Verdict::NoEntry);
        };
        let entry = self.flows.get(slot);
        if entry.state() != Phase::Replica {
            return None;
        }
        let translation = entry.value.translation(client);
        match from {
            Side::Inside if other == translation.server => {
                M::to_replica(packet, &translation, self.path).ok()?;
                self.note_segment(slot, Side::Inside, numbers);
                Some(Verdict::ToReplica)
            }
            Side::Outside if M::plain_winner(&translation) == Some(other) => {
                M::to_client(packet, &translation);
                self.note_segment(slot, Side::Outside, numbers);
                Some(Verdict::FromReplica)
            }
            Side::Inside | Side::Outside => None,
        }
    }

    /// Notes that a segment of an open connection has passed.
    #[inline(always)]
    fn note_segment(&mut self, slot: Slot, from: Side, numbers: (u32, u32)) {
        self.flows.touch(slot, self.now);
        self.flows.value_mut_unsaved(slot).note_segment::<M>(from, numbers, self.now);
    }

    /// Handles data that the winner has put into a tunnel (op 658).
    #[inline(always)]
    fn tunnelled<B: Buffer>(&mut self, packet: &mut Packet<B>, inner: &View) -> Option<Verdict> {
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp {
            return None;
        }
        let client = client::<F>(Side::Outside, head, inner);
        let (outer, tcp) = (packet.ip(), &head[usize::from(inner.l4)..]);
        if F::destination(outer) != client.address || !tcp::flags(tcp).is_acknowledged_data() {
            return None;
        }
        let numbers = (tcp::sequence(tcp), tcp::ack_number(tcp));
        let slot = self.flows.peek(self.entry, client, self.now)?;
        let entry = self.flows.get(slot);
        let translation = entry.value.translation(client);
        let server = server(Side::Outside, head, inner);
        let source = M::tunnel_source(F::source(outer), server, translation.server);
        if entry.state() != Phase::Replica || source != TunnelSource::Replica(translation.replica) {
            return None;
        }
        // A tunnel that cannot be opened is dropped on either path.
        if let Err(verdict) = decap::open(packet, *inner) {
            return Some(verdict);
        }
        self.note_segment(slot, Side::Outside, numbers);
        M::to_client(packet, &translation);
        Some(Verdict::FromReplica)
    }

    /// Handles data that the winner has put into a plain tunnel, as [`FastPath::tunnelled`] does. A
    /// tunnel that is dropped, or that changes what is in it, takes the slow path.
    #[inline(always)]
    fn plain_tunnel<B: Buffer>(&mut self, frame: &mut B, inner: &View) -> Option<Verdict> {
        let headers = TunnelHeaders::<F>::of(frame.head())?;
        let tcp = headers.tcp();
        if !tcp::flags(tcp).is_acknowledged_data() {
            return None;
        }
        let (client, outer) = (headers.destination(), headers.outer());
        let numbers = (tcp::sequence(tcp), tcp::ack_number(tcp));
        let slot = self.flows.peek(self.entry, client, self.now)?;
        let entry = self.flows.get(slot);
        let translation = entry.value.translation(client);
        let source = M::tunnel_source(F::source(outer), headers.source(), translation.server);
        if entry.state() != Phase::Replica
            || F::destination(outer) != client.address
            || source != TunnelSource::Replica(translation.replica)
            || !decap::opens_unchanged(frame, &headers)
        {
            return None;
        }
        let view = decap::open_plain::<F, B>(frame, inner);
        self.note_segment(slot, Side::Outside, numbers);
        M::to_client(&mut Packet { buffer: frame, view }, &translation);
        Some(Verdict::FromReplica)
    }
}
