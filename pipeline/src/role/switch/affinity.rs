//! Session affinity: which server a connection is at. A change of the servers moves no live
//! connection. Stored only for services with several servers; with one there is nothing to
//! remember.

use super::{Phase, SwitchFor};
use crate::base::stored::stored;
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, Side};
use crate::role::tracking::TcpTracking;
use crate::role::{LookupHint, insert_counted};
use crate::table::{Hash, Slot};
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

/// Both ends of a connection: the client's, and the service's.
pub(super) type Pair<F> = [Endpoint<F>; 2];

/// How far a client's FIN, RST or next segment may be from its last segment: 16 times 64 KiB in either
/// direction (RFC 5961; RFC 7857, section 2). A blind guess hits once in 2,000.
const WINDOW: u16 = 16;

/// The switch's entry of a connection.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Affinity {
    /// The sequence number of the SYN.
    pub isn: u32,
    /// Before the connection is established: the lower half of the acknowledgement number by which the
    /// client establishes it, known once the server's SYN/ACK has been seen. Afterwards: the upper half
    /// of the client's last sequence number.
    number: u16,
    /// The server, by its number within the service.
    pub server: u8,
    /// The connection's tracking. "Server seen" is set by the server's answer.
    tracking: TcpTracking,
}

stored!(Affinity, [] { isn: u32, number: u16, server: u8, tracking: TcpTracking });

impl Affinity {
    fn new(isn: u32, server: usize) -> Self {
        Self { isn, number: 0, server: server as u8, tracking: TcpTracking::default() }
    }

    /// Returns the entry of the same SYN at the same server, of which nothing else is known.
    pub(super) fn again(self) -> Self {
        Self { isn: self.isn, server: self.server, ..Self::new(self.isn, 0) }
    }

    /// Returns whether the server's answer has been seen.
    #[inline(always)]
    pub(super) fn server_seen(self) -> bool {
        self.tracking.server_seen()
    }

    /// Notes that the server has answered.
    pub(super) fn note_server(&mut self) {
        self.tracking.note_server();
    }

    /// Notes the server's SYN/ACK.
    pub(super) fn note_syn_ack(&mut self, sequence: u32) {
        self.note_server();
        self.number = sequence.wrapping_add(1) as u16;
    }

    /// Returns whether an acknowledgement number of the client acknowledges the server's SYN/ACK: a
    /// blind packet must not make an entry that stays.
    pub(super) fn is_established_by(self, ack_number: u32) -> bool {
        self.number == ack_number as u16
    }

    /// Notes that the connection is established, and about where the client's next segment is.
    pub(super) fn establish(&mut self, sequence: u32) {
        self.tracking.establish();
        self.number = upper(sequence);
    }

    /// Returns whether the connection has been established at any time.
    pub(super) fn is_established(self) -> bool {
        self.tracking.is_established()
    }

    /// Returns whether a segment of the client is near its last one: who sends it sees the connection.
    pub(super) fn is_near(self, sequence: u32) -> bool {
        let last = if self.tracking.is_established() { self.number } else { upper(self.isn) };
        is_within_window(upper(sequence), last)
    }

    /// Notes the sequence number of the client's last segment, once the connection is established. One
    /// that is far from those before is somebody else's.
    #[inline(always)]
    pub(super) fn note_client(&mut self, sequence: u32) {
        let number = upper(sequence);
        // It changes once in 64 KiB.
        if number != self.number {
            self.note_progress(number);
        }
    }

    #[inline(never)]
    fn note_progress(&mut self, number: u16) {
        if is_within_window(number, self.number) {
            self.number = number;
        }
    }

    /// Returns the state after a FIN or a RST.
    pub(super) fn after_end(&mut self, from: Side, flags: Flags, phase: Phase) -> Phase {
        if flags.fin() {
            self.tracking.note_fin(from);
        }
        match phase {
            Phase::Closed => Phase::Closed,
            _ if flags.rst() => Phase::Reset,
            _ if self.is_finished() => Phase::Closed,
            Phase::Opening | Phase::Reset => phase,
            _ => Phase::HalfClosed,
        }
    }

    /// Returns whether all FINs have been seen: both; or the client's alone while the server has not
    /// been seen, since its packets need not pass the switch.
    fn is_finished(self) -> bool {
        match self.tracking.server_seen() {
            true => self.tracking.has_both_fins(),
            false => self.tracking.has_fin(Side::Outside),
        }
    }

    /// Returns the state of a connection that goes on after a RST, which was forged or ignored. One
    /// that was refused does not.
    pub(super) fn resumed(self, phase: Phase) -> Phase {
        match self.tracking.is_established() {
            false => phase,
            true if self.tracking.has_fin(Side::Inside) || self.tracking.has_fin(Side::Outside) => {
                Phase::HalfClosed
            }
            true if self.server_seen() => Phase::Established,
            true => Phase::Unheard,
        }
    }
}

fn is_within_window(number: u16, last: u16) -> bool {
    number.wrapping_sub(last).wrapping_add(WINDOW) <= 2 * WINDOW
}

/// Returns the upper half of a sequence number.
#[inline(always)]
fn upper(sequence: u32) -> u16 {
    (sequence >> 16) as u16
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
        let pair = [packet.source(), packet.destination()];
        if !self.common.states[service].has_affinity() {
            return match is_syn {
                true => self.selected(service, pair[0]),
                false => self.without_affinity(service, pair[0]),
            };
        }
        let isn = tcp::sequence(packet.tcp());
        match self.affinities.find_hinted(hash, entry, pair, now) {
            Some(slot) if is_syn => self.on_known_syn(service, slot, isn, now),
            Some(slot) => {
                self.track_client(slot, service, packet, now);
                Some(usize::from(self.affinities.get(slot).value.server))
            }
            None if is_syn => self.insert(service, hash, pair, isn, now),
            None => self.selected(service, pair[0]),
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
        self.without_affinity(service, pair[0])
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
        let server = self.selected(service, pair[0])?;
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
            Phase::Established | Phase::Unheard | Phase::HalfClosed => {
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
            let server = self.selected(service, self.affinities.get(slot).key[0])?;
            *self.affinities.value_mut(slot) = Affinity::new(isn, server);
            self.affinities.move_to(slot, Phase::Opening, now);
            return Some(server);
        }
        match phase {
            Phase::Established | Phase::Unheard | Phase::HalfClosed if !is_retransmit => {}
            // The server had refused, and may accept now.
            _ if phase.has_ended() => {
                *self.affinities.value_mut(slot) = affinity.again();
                self.affinities.move_to(slot, Phase::Opening, now);
            }
            _ => self.affinities.touch(slot, now),
        }
        Some(usize::from(affinity.server))
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
