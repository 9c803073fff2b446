//! The fast path: data of an established connection, with all headers at their usual places. As at
//! the gateway, it does what the slow path does, or nothing.

use super::affinity::{Affinity, Pair};
use super::settings::NextHop;
use super::track::RESTART_INTERVAL;
use super::{Common, Phase, Switch};
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Headers, Side, View};
use crate::role::PathClass;
use crate::table::{EntryHint, Slot, Table};
use crate::verdict::Verdict;
use crate::wire::family::{Family, V4, V6};
use crate::wire::{ethernet, tcp};

impl Switch {
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
        let ((class, entry), service) = (lookup.class(number), lookup.service(number));
        // The class of nearly all packets first: a jump through a table takes longer.
        if class == PathClass::FastV4 {
            let affinities = &mut v4.affinities;
            return FastPath::<V4> { common, affinities, entry, now }.data(from, service?, frame);
        }
        match class {
            PathClass::FastV6 => {
                let affinities = &mut v6.affinities;
                FastPath::<V6> { common, affinities, entry, now }.data(from, service?, frame)
            }
            PathClass::NotHandled => Some(view.kind.default_verdict()),
            PathClass::PassThrough => common.without_affinity(from, service, frame, view),
            _ => None,
        }
    }
}

impl Common {
    /// Handles TCP of a service with one server, or of no service.
    #[inline(always)]
    fn without_affinity<B: Buffer>(
        &self,
        from: Side,
        service: Option<usize>,
        frame: &mut B,
        view: &View,
    ) -> Option<Verdict> {
        match (from, service) {
            (Side::Inside, None) => Some(Verdict::FromServer),
            // A SYN or SYN/ACK may tell of a mistake.
            (Side::Outside, None) => {
                let tcp = frame.head().get(usize::from(view.l4)..)?;
                tcp::flags(tcp).is_data().then_some(Verdict::NoService)
            }
            (_, Some(service)) => {
                let state = &self.states[service];
                let tcp = frame.head().get(usize::from(view.l4)..)?;
                if !tcp::flags(tcp).is_data() {
                    return None;
                }
                match from {
                    Side::Inside => Some(Verdict::FromServer),
                    Side::Outside if state.was_selected => {
                        state.servers[0].takes(frame).then_some(Verdict::ToServer)
                    }
                    Side::Outside => None,
                }
            }
        }
    }
}

impl NextHop {
    /// Sends a frame to this next hop if it needs no more than a MAC address. Returns whether it
    /// did.
    #[inline(always)]
    fn takes<B: Buffer>(&self, frame: &mut B) -> bool {
        match self {
            NextHop::Unchanged => true,
            NextHop::Direct(mac) => {
                ethernet::set_destination(frame.head_mut(), *mac);
                true
            }
            NextHop::Neighbour(_) | NextHop::Tunnel(_) => false,
        }
    }
}

/// The state of the switch that the fast path uses for one packet.
struct FastPath<'a, F: Family> {
    common: &'a Common,
    affinities: &'a mut Table<Pair<F>, Phase, Affinity>,
    entry: EntryHint,
    now: Ticks,
}

impl<F: Family> FastPath<'_, F> {
    #[inline(always)]
    fn data<B: Buffer>(&mut self, from: Side, service: usize, frame: &mut B) -> Option<Verdict> {
        let headers = Headers::<F>::of(frame.head())?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        let (source, destination) = (headers.source(), headers.destination());
        let pair = match from {
            Side::Outside => [source, destination],
            Side::Inside => [destination, source],
        };
        let sequence = tcp::sequence(headers.tcp());
        let slot = self.affinities.peek(self.entry, pair, self.now)?;
        let entry = self.affinities.get(slot);
        let (phase, seen) = (entry.state(), entry.seen());
        // A time-out that is restarted seldom is restarted by the slow path.
        let is_unheard = || {
            let is_recent = self.now.since(seen) < RESTART_INTERVAL;
            from == Side::Outside && phase == Phase::Unheard && is_recent
        };
        if phase != Phase::Established && !is_unheard() {
            return None;
        }
        match from {
            Side::Outside => self.deliver_data(service, slot, sequence, frame),
            // The slow path notes that the server is seen for the first time.
            Side::Inside if !entry.value.server_seen() => None,
            Side::Inside => {
                self.affinities.touch(slot, self.now);
                Some(Verdict::FromServer)
            }
        }
    }

    /// Sends data to the server of its connection (op 314).
    #[inline(always)]
    fn deliver_data<B: Buffer>(
        &mut self,
        service: usize,
        slot: Slot,
        sequence: u32,
        frame: &mut B,
    ) -> Option<Verdict> {
        let entry = self.affinities.get(slot);
        let (server, phase) = (usize::from(entry.value.server), entry.state());
        if !self.common.states[service].servers[server].takes(frame) {
            return None;
        }
        self.affinities.value_mut_unsaved(slot).note_client(sequence);
        if phase == Phase::Established {
            self.affinities.touch(slot, self.now);
        }
        Some(Verdict::ToServer)
    }
}
