//! The fast path: data of a connection that the client has established, with all headers at their
//! usual places. As at the gateway, it does what the slow path does, or nothing.

use super::Replica;
use super::connection::{ClientConnection, Connection};
use super::heard::{self, Connections, Heard};
use super::mode::{self, Segment};
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::burst::BURST;
use crate::packet::view::{Headers, Kind, Packet, Side, TunnelHeaders, View};
use crate::policy::tunnel_path::TunnelPath;
use crate::role::PathClass;
use crate::role::gateway::mode::EncapError;
use crate::stage::decap;
use crate::table::{EntryHint, Slot};
use crate::verdict::Verdict;
use crate::wire::family::{Family, V4, V6, Version};
use crate::wire::tcp;

impl Replica {
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
        let Self { common, v4, v6, lookup } = self;
        let (path, (class, entry)) = (&common.settings.path, lookup.class(number));
        let (heard, connections) = (&mut common.heard, &mut v4.connections);
        // The classes of nearly all packets first: a jump through a table takes longer.
        if class == PathClass::FastV4 {
            let mut fast = FastPath::<V4> { connections, heard, path, entry, now };
            return fast.plain(from, frame, view);
        }
        if from == Side::Outside && class == PathClass::TunnelV4 {
            let mut fast = FastPath::<V4> { connections, heard, path, entry, now };
            return fast.plain_tunnel(frame, &lookup.inner[number % BURST]);
        }
        if class == PathClass::FastV6 {
            let connections = &mut v6.connections;
            let mut fast = FastPath::<V6> { connections, heard, path, entry, now };
            return fast.plain(from, frame, view);
        }
        if from == Side::Outside && class == PathClass::TunnelV6 {
            let connections = &mut v6.connections;
            let mut fast = FastPath::<V6> { connections, heard, path, entry, now };
            return fast.plain_tunnel(frame, &lookup.inner[number % BURST]);
        }
        match class {
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
        let Self { common, v4, v6, lookup } = self;
        let (path, (class, entry)) = (&common.settings.path, lookup.class(number));
        let (heard, connections) = (&mut common.heard, &mut v4.connections);
        let is_tunnel = from == Side::Outside && view.kind == Kind::Tunnel;
        match class {
            PathClass::SlowV4 if is_tunnel && view.version == Version::V4 => {
                let mut fast = FastPath::<V4> { connections, heard, path, entry, now };
                let inner = &lookup.inner[number % BURST];
                fast.tunnelled(&mut Packet::parsed(frame, view), inner)
            }
            PathClass::SlowV6 if is_tunnel && view.version == Version::V6 => {
                let connections = &mut v6.connections;
                let mut fast = FastPath::<V6> { connections, heard, path, entry, now };
                let inner = &lookup.inner[number % BURST];
                fast.tunnelled(&mut Packet::parsed(frame, view), inner)
            }
            _ => None,
        }
    }
}

/// The state of the replica that the fast path uses for one packet.
struct FastPath<'a, F: Family> {
    connections: &'a mut Connections<F>,
    heard: &'a mut Heard,
    path: &'a TunnelPath,
    entry: EntryHint,
    now: Ticks,
}

impl<F: Family> FastPath<'_, F> {
    #[inline(always)]
    fn plain<B: Buffer>(&mut self, from: Side, frame: &mut B, view: &View) -> Option<Verdict> {
        let packet = &mut Packet { buffer: frame, view: view.as_plain::<F>() };
        let headers = Headers::<F>::of(packet.buffer.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (source, destination) = (headers.source(), headers.destination());
        let client = if from == Side::Inside { destination } else { source };
        let Some(slot) = self.connections.peek(self.entry, client, self.now) else {
            return self.connections.is_absent(self.entry).then_some(Verdict::NoEntry);
        };
        let connection = self.established(slot)?;
        match from {
            // ops 412, 442, 462
            Side::Inside if source == connection.sends_as() => {
                let (data, expected) = (Segment::Data, tcp::ack_number(headers.tcp()));
                let verdict = match mode::to_client(packet, data, client, connection, self.path) {
                    Ok(()) => Verdict::FromWebServer,
                    Err(EncapError::TooBig(_)) => return None,
                    Err(EncapError::NoHeadroom) => Verdict::NoBuffer,
                };
                self.connections.value_mut_unsaved(slot).expected[0] = expected;
                self.touch(slot);
                Some(verdict)
            }
            Side::Outside
                if !connection.configuration.data_in_tunnels()
                    && connection.replica == destination =>
            {
                self.touch(slot);
                Some(Verdict::ToWebServer)
            }
            Side::Inside | Side::Outside => None,
        }
    }

    /// Handles data that a gateway of configuration C has put into a tunnel.
    #[inline(always)]
    fn tunnelled<B: Buffer>(&mut self, packet: &mut Packet<B>, inner: &View) -> Option<Verdict> {
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp || !tcp::flags(&head[usize::from(inner.l4)..]).is_data() {
            return None;
        }
        let client = inner.source::<F>(head);
        let slot = self.connections.peek(self.entry, client, self.now)?;
        let connection = *self.established(slot)?;
        let of_client = ClientConnection { client, connection };
        if !of_client.has_tunnel(packet) || inner.destination::<F>(head) != connection.server {
            return None;
        }
        // A tunnel that cannot be opened is dropped on either path.
        if let Err(verdict) = decap::open(packet, *inner) {
            return Some(verdict);
        }
        self.touch(slot);
        mode::to_web_server(packet, Segment::Data, &connection);
        Some(Verdict::ToWebServer)
    }

    #[inline(always)]
    fn touch(&mut self, slot: Slot) {
        heard::touch(self.connections, self.heard, slot, self.now);
    }

    /// Returns a connection that the client has established and that nothing has ended.
    #[inline(always)]
    fn established(&self, slot: Slot) -> Option<&Connection<F>> {
        let entry = self.connections.get(slot);
        entry.state().is_open().then_some(&entry.value)
    }

    /// Handles data that a gateway of configuration C has put into a plain tunnel, as
    /// [`FastPath::tunnelled`] does. A tunnel that is dropped, or that changes what is in it, takes the
    /// slow path.
    #[inline(always)]
    fn plain_tunnel<B: Buffer>(&mut self, frame: &mut B, inner: &View) -> Option<Verdict> {
        let headers = TunnelHeaders::<F>::of(frame.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (client, outer) = (headers.source(), headers.outer());
        let slot = self.connections.peek(self.entry, client, self.now)?;
        let connection = self.established(slot)?;
        if !connection.configuration.data_in_tunnels()
            || F::source(outer) != client.address
            || F::destination(outer) != connection.replica.address
            || headers.destination() != connection.server
            || !decap::opens_unchanged(frame, &headers)
        {
            return None;
        }
        let view = decap::open_plain::<F, B>(frame, inner);
        mode::to_web_server(&mut Packet { buffer: frame, view }, Segment::Data, connection);
        self.touch(slot);
        Some(Verdict::ToWebServer)
    }
}
