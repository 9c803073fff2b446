//! The short way, for what nearly every packet is: data of a connection that the client has taken
//! up, in a frame of the usual shape. As at the gateway, it does what the long way does, or nothing.

use super::mode::{self, Part};
use super::connection::ESTABLISHED;
use super::{Carried, Held, Phase, Replica};
use crate::packet::buffer::Buffer;
use crate::packet::burst::BURST;
use crate::role::gateway::mode::Obstacle;
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::policy::tunnel_path::Path;
use crate::role::Shape;
use crate::stage::decap;
use crate::stage::tag::Code;
use crate::table::{Guess, Slot, Table};
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Headers, Kind, Packet, Side, View};
use crate::wire::tcp;

impl Replica {
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
        let Self { common, v4, v6, ahead } = self;
        let (path, (shape, guess)) = (&common.settings.path, ahead.shape(number));
        let is_tunnel = from == Side::Outside && view.kind == Kind::Tunnel;
        match shape {
            Shape::Nobodys => (frame, Some(view.kind.untouched())),
            Shape::PlainV4 => {
                Short::<V4> { held: &mut v4.held, path, guess, now }.plain(from, frame, view)
            }
            Shape::PlainV6 => {
                Short::<V6> { held: &mut v6.held, path, guess, now }.plain(from, frame, view)
            }
            Shape::LongV4 if is_tunnel && view.version == Version::V4 => {
                let inner = &ahead.inner[number % BURST];
                let mut way = Short::<V4> { held: &mut v4.held, path, guess, now };
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
            Shape::LongV6 if is_tunnel && view.version == Version::V6 => {
                let (mut packet, inner) = (Packet::seen(frame, view), &ahead.inner[number % BURST]);
                let mut way = Short::<V6> { held: &mut v6.held, path, guess, now };
                let verdict = way.tunnelled(&mut packet, inner);
                (packet.buffer, verdict)
            }
            _ => (frame, None),
        }
    }
}

/// What the short way needs of the replica, and knows of a packet.
struct Short<'a, F: Family> {
    held: &'a mut Table<Endpoint<F>, Phase, Held<F>>,
    path: &'a Path,
    guess: Guess,
    now: Ticks,
}

impl<F: Family> Short<'_, F> {
    #[inline(always)]
    fn plain<B: Buffer>(mut self, from: Side, frame: B, view: &View) -> (B, Option<Verdict>) {
        let mut packet = Packet { buffer: frame, view: view.as_plain::<F>() };
        let verdict = self.plain_packet(from, &mut packet);
        (packet.buffer, verdict)
    }

    #[inline(always)]
    fn plain_packet<B: Buffer>(&mut self, from: Side, packet: &mut Packet<B>) -> Option<Verdict> {
        let headers = Headers::<F>::of(packet.buffer.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (source, destination) = (headers.source(), headers.destination());
        let client = if from == Side::Inside { destination } else { source };
        let Some(slot) = self.held.peek(self.guess, client, self.now) else {
            return self.held.is_absent(self.guess).then_some(Verdict::NoEntry);
        };
        let held = self.taken_up(slot)?;
        match from {
            // ops 412, 442, 462
            Side::Inside if source == held.sends_as() => {
                let verdict = match mode::to_client(packet, Part::Data, client, held, self.path) {
                    Ok(()) => Verdict::FromWebServer,
                    Err(Obstacle::TooBig(_)) => return None,
                    Err(Obstacle::NoRoom) => Verdict::NoBuffer,
                };
                self.held.touch(slot, self.now);
                Some(verdict)
            }
            Side::Outside if held.configuration != Code::C && held.replica == destination => {
                self.held.touch(slot, self.now);
                Some(Verdict::ToWebServer)
            }
            _ => None,
        }
    }

    /// What a gateway of configuration C has put into a tunnel.
    #[inline(always)]
    fn tunnelled<B: Buffer>(&mut self, packet: &mut Packet<B>, inner: &View) -> Option<Verdict> {
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp || !tcp::flags(&head[usize::from(inner.l4)..]).is_data() {
            return None;
        }
        let client = inner.source::<F>(head);
        let slot = self.held.peek(self.guess, client, self.now)?;
        let held = *self.taken_up(slot)?;
        let carried = Carried { client, held };
        if !carried.has_tunnel(packet) || inner.destination::<F>(head) != held.server {
            return None;
        }
        // What cannot be opened is dropped, whichever way it came here.
        if let Err(verdict) = decap::open(packet, *inner) {
            return Some(verdict);
        }
        self.held.touch(slot, self.now);
        mode::to_web_server(packet, Part::Data, &held);
        Some(Verdict::ToWebServer)
    }

    /// A connection that the client has gone on with and that is not closing.
    #[inline(always)]
    fn taken_up(&self, slot: Slot) -> Option<&Held<F>> {
        let entry = self.held.get(slot);
        let is_taken_up =
            entry.state() == Phase::Established && entry.value.marks & ESTABLISHED != 0;
        is_taken_up.then_some(&entry.value)
    }
}
