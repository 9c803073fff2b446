//! The short way, for what nearly every packet is: data of an established connection, in a frame of
//! the usual shape. As at the gateway, it does what the long way does, or nothing.

use super::Phase;
use super::affinity::{HEARD, Kept, Pair};
use super::settings::Route;
use super::{Common, Switch};
use crate::packet::buffer::Buffer;
use crate::wire::family::{Family, V4, V6};
use crate::role::Shape;
use crate::table::{Guess, Slot, Table};
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Headers, Side, View};
use crate::wire::{ethernet, tcp};

impl Switch {
    /// The verdict on a packet that has gone the short way.
    #[inline(always)]
    pub(super) fn short<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: &mut B,
        view: &View,
        now: Ticks,
    ) -> Option<Verdict> {
        let Self { common, v4, v6, ahead } = self;
        let ((shape, guess), service) = (ahead.shape(number), ahead.service(number));
        match shape {
            Shape::PlainV4 => {
                Short::<V4> { common, kept: &mut v4.kept, guess, now }.data(from, service?, frame)
            }
            Shape::PlainV6 => {
                Short::<V6> { common, kept: &mut v6.kept, guess, now }.data(from, service?, frame)
            }
            Shape::Nobodys => Some(view.kind.untouched()),
            Shape::Passing => common.unkept(from, service, frame, view),
            _ => None,
        }
    }
}

impl Common {
    /// TCP of a service with one server, or of none.
    #[inline(always)]
    fn unkept<B: Buffer>(
        &self,
        from: Side,
        service: Option<usize>,
        frame: &mut B,
        view: &View,
    ) -> Option<Verdict> {
        match (from, service) {
            (Side::Inside, None) => Some(Verdict::FromServer),
            (Side::Outside, None) => Some(Verdict::NoService),
            (_, Some(service)) => {
                let serving = &self.serving[service];
                let tcp = frame.head().get(usize::from(view.l4)..)?;
                if !tcp::flags(tcp).is_data() {
                    return None;
                }
                match from {
                    Side::Inside => Some(Verdict::FromServer),
                    Side::Outside if serving.opened => {
                        serving.servers[0].takes(frame).then_some(Verdict::ToServer)
                    }
                    Side::Outside => None,
                }
            }
        }
    }
}

impl Route {
    /// Whether a frame needs no more than a MAC address to go this way; it has it now.
    #[inline(always)]
    fn takes<B: Buffer>(&self, frame: &mut B) -> bool {
        match self {
            Route::AsItIs => true,
            Route::Direct(mac) => {
                ethernet::set_destination(frame.head_mut(), *mac);
                true
            }
            Route::Neighbour(_) | Route::Tunnel(_) => false,
        }
    }
}

/// What the short way needs of the switch, and knows of a packet.
struct Short<'a, F: Family> {
    common: &'a Common,
    kept: &'a mut Table<Pair<F>, Phase, Kept>,
    guess: Guess,
    now: Ticks,
}

impl<F: Family> Short<'_, F> {
    #[inline(always)]
    fn data<B: Buffer>(&mut self, from: Side, service: usize, frame: &mut B) -> Option<Verdict> {
        let headers = Headers::<F>::of(frame.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (source, destination) = (headers.source(), headers.destination());
        let pair = match from {
            Side::Outside => (source, destination),
            Side::Inside => (destination, source),
        };
        let slot = self.kept.peek(self.guess, pair, self.now)?;
        let entry = self.kept.get(slot);
        if entry.state() != Phase::Established {
            return None;
        }
        match from {
            Side::Outside => self.deliver_data(service, slot, frame),
            // A server that has not been heard yet has now.
            Side::Inside if !entry.value.is_marked(HEARD) => None,
            Side::Inside => {
                self.kept.touch(slot, self.now);
                Some(Verdict::FromServer)
            }
        }
    }

    /// op 314
    #[inline(always)]
    fn deliver_data<B: Buffer>(
        &mut self,
        service: usize,
        slot: Slot,
        frame: &mut B,
    ) -> Option<Verdict> {
        let server = usize::from(self.kept.get(slot).value.server);
        if !self.common.serving[service].servers[server].takes(frame) {
            return None;
        }
        self.kept.touch(slot, self.now);
        Some(Verdict::ToServer)
    }
}
