//! Session affinity: which server a connection is at. A change of the servers moves no live
//! connection. Stored only for services with several servers; with one there is nothing to
//! remember.

use super::SwitchFor;
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, Side};
use crate::role::phase::Phase;
use crate::role::tracking::{TcpTracking, Tracked, on_segment};
use crate::role::{LookupHint, insert_counted};
use crate::table::{Hash, Slot};
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

/// Both ends of a connection: the client's, and the service's.
pub(super) type Pair<F> = (Endpoint<F>, Endpoint<F>);

/// The switch's entry of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Affinity {
    /// The sequence number of the SYN.
    pub isn: u32,
    /// The lower half of the acknowledgement number by which the client establishes the connection;
    /// known once the server's SYN/ACK has been seen.
    expected_ack: u16,
    /// The server, by its number within the service.
    pub server: u8,
    /// The connection's tracking. "Server seen" is set by any packet of the server.
    tracking: TcpTracking,
}

impl Affinity {
    fn new(isn: u32, server: usize) -> Self {
        Self { isn, expected_ack: 0, server: server as u8, tracking: TcpTracking::default() }
    }

    /// Returns whether a packet of the server has been seen.
    #[inline(always)]
    pub(super) fn server_seen(self) -> bool {
        self.tracking.server_seen()
    }

    /// Returns whether an acknowledgement number of the client establishes the connection: a blind
    /// packet must not make an entry that stays.
    fn is_established_by(self, ack_number: u32) -> bool {
        self.tracking.is_established_by(self.expected_ack == ack_number as u16)
    }
}

impl Tracked for Affinity {
    type Phase = Phase;
    const CLOSING: Phase = Phase::Closing;

    fn tracking_mut(&mut self) -> &mut TcpTracking {
        &mut self.tracking
    }

    /// Both FINs; or the client's alone while the server has not been seen: its packets need not
    /// pass the switch.
    fn is_finished(&self) -> bool {
        match self.tracking.server_seen() {
            true => self.tracking.has_both_fins(),
            false => self.tracking.has_fin(Side::Outside),
        }
    }

    fn resumed(&self) -> Option<Phase> {
        None
    }
}

impl<F: Family> SwitchFor<'_, F> {
    /// Returns the server of a TCP packet from the outside to a service: the one that its
    /// connection is at, or for a new connection the selected one. `None` when no server is
    /// available.
    #[inline]
    pub(super) fn server_for<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        service: usize,
        hint: &LookupHint,
        now: Ticks,
    ) -> Option<usize> {
        let LookupHint { hash, entry, .. } = *hint;
        let is_syn = tcp::flags(packet.tcp()).is_syn();
        let pair = (packet.source(), packet.destination());
        if !self.common.states[service].has_affinity() {
            return match is_syn {
                true => self.selected(service, pair.0),
                false => self.without_affinity(service, pair.0),
            };
        }
        let isn = tcp::sequence(packet.tcp());
        match self.affinities.find_hinted(hash, entry, pair, now) {
            Some(slot) if is_syn => self.on_known_syn(service, slot, isn, now),
            Some(slot) => {
                self.on_client_segment(slot, packet.tcp(), now);
                Some(usize::from(self.affinities.get(slot).value.server))
            }
            None if is_syn => self.insert(service, hash, pair, isn, now),
            None => self.selected(service, pair.0),
        }
    }

    /// Returns the server of a packet that belongs to a connection without being one of its whole
    /// TCP packets.
    pub(super) fn server_of(&mut self, service: usize, pair: Pair<F>, now: Ticks) -> Option<usize> {
        if self.common.states[service].has_affinity()
            && let Some(slot) = self.affinities.find(self.affinities.hash(pair), pair, now)
        {
            return Some(usize::from(self.affinities.get(slot).value.server));
        }
        self.without_affinity(service, pair.0)
    }

    /// Returns the server that is selected for a new connection, if there is one.
    fn selected(&self, service: usize, client: Endpoint<F>) -> Option<usize> {
        self.common.selection.get().server(service, client)
    }

    /// Returns the server of a connection without an entry. A service's only server has its
    /// connections even when it gets no new ones; a server that never got any has none.
    fn without_affinity(&self, service: usize, client: Endpoint<F>) -> Option<usize> {
        let state = &self.common.states[service];
        match state.has_affinity() {
            true => self.selected(service, client),
            false => state.was_selected.then_some(0),
        }
    }

    /// Handles a SYN of an unknown connection. When the table is full, it and the packets that
    /// follow it go to the selected server without an entry.
    fn insert(
        &mut self,
        service: usize,
        hash: Hash,
        pair: Pair<F>,
        isn: u32,
        now: Ticks,
    ) -> Option<usize> {
        let server = self.selected(service, pair.0)?;
        let counters = self.common.counters.common.table_of(F::VERSION);
        let (opening, affinity) = (Phase::Opening, Affinity::new(isn, server));
        // A full table does not matter here.
        let _ = insert_counted(self.affinities, counters, hash, pair, opening, affinity, now);
        Some(server)
    }

    /// Handles a SYN of endpoints that have a connection: a retransmission, or a new connection.
    fn on_known_syn(&mut self, service: usize, slot: Slot, isn: u32, now: Ticks) -> Option<usize> {
        let entry = self.affinities.get(slot);
        let (affinity, phase, idle) = (entry.value, entry.state(), now.since(entry.seen()));
        let is_retransmit = affinity.isn == isn;
        let stays = match phase {
            // A SYN with another sequence number does not restart the time-out: when the server
            // does not answer it (RFC 5961), the endpoints' next connection is not bound to that
            // server.
            Phase::Established => {
                is_retransmit || idle <= self.common.settings.timeouts.reuse_after
            }
            // A server that has not answered and gets no new connections is not waited for.
            _ => {
                let server = usize::from(affinity.server);
                is_retransmit
                    && (affinity.server_seen()
                        || self.common.selection.get().takes(service, server))
            }
        };
        if !stays {
            let server = self.selected(service, self.affinities.get(slot).key.0)?;
            *self.affinities.value_mut(slot) = Affinity::new(isn, server);
            self.affinities.move_to(slot, Phase::Opening, now);
            return Some(server);
        }
        match phase {
            Phase::Established if !is_retransmit => {}
            // The server had refused, and may accept now.
            Phase::Closing => {
                self.affinities.value_mut(slot).tracking.forget_fins();
                self.affinities.move_to(slot, Phase::Opening, now);
            }
            _ => self.affinities.touch(slot, now),
        }
        Some(usize::from(affinity.server))
    }

    /// Tracks a packet of the client.
    #[inline]
    fn on_client_segment(&mut self, slot: Slot, tcp: &[u8], now: Ticks) {
        let (flags, entry) = (tcp::flags(tcp), self.affinities.get(slot));
        if entry.state() == Phase::Opening
            && flags.0 & Flags::ACK != 0
            && entry.value.is_established_by(tcp::ack_number(tcp))
        {
            self.affinities.move_to(slot, Phase::Established, now);
        }
        on_segment(self.affinities, slot, Side::Outside, flags, now);
    }

    /// Tracks a packet from the inside that a server has sent.
    #[inline]
    pub(super) fn track_server<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        hint: &LookupHint,
        now: Ticks,
    ) {
        let LookupHint { hash, entry, .. } = *hint;
        let pair = (packet.destination(), packet.source());
        let Some(slot) = self.affinities.find_hinted(hash, entry, pair, now) else { return };
        let flags = tcp::flags(packet.tcp());
        let affinity = self.affinities.value_mut(slot);
        affinity.tracking.note_server();
        if flags.is_syn_ack() {
            affinity.expected_ack = tcp::sequence(packet.tcp()).wrapping_add(1) as u16;
        }
        on_segment(self.affinities, slot, Side::Inside, flags, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Entry;
    use crate::wire::family::{V4, V6};

    #[test]
    fn a_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<Pair<V4>, Phase, Affinity>>(), 64);
        assert_eq!(size_of::<Entry<Pair<V6>, Phase, Affinity>>(), 64);
    }
}
