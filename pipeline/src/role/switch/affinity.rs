//! Connections and the servers that they are at: a change of the servers moves none that lives.
//! Of services with several servers only; with one there is nothing to remember.

use super::Gate;
use crate::packet::buffer::Buffer;
use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::BOTH_FINS;
use crate::role::Foreseen;
use crate::role::phase::Phase;
use crate::table::{Hash, Inserted, Slot};
use crate::base::time::Ticks;
use crate::packet::view::{Packet, Side};
use crate::wire::tcp::{self, Flags};

/// Both ends of a connection: the client's, and the service's.
pub(super) type Pair<F> = (Endpoint<F>, Endpoint<F>);

/// What the switch keeps of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// The SYN's sequence number.
    pub isn: u32,
    /// The lower half of what the client acknowledges when it goes on; known once the server has
    /// been heard.
    answered: u16,
    /// The server, by its number within the service.
    pub server: u8,
    /// Which sides have sent a FIN, one bit each; above them, whether the server has been heard.
    marks: u8,
}

/// In the marks: the server has been heard.
pub(super) const HEARD: u8 = BOTH_FINS + 1;

impl Kept {
    fn new(isn: u32, server: usize) -> Self {
        Self { isn, answered: 0, server: server as u8, marks: 0 }
    }

    /// Whether this mark is set.
    #[inline(always)]
    pub(super) fn is_marked(self, mark: u8) -> bool {
        self.marks & mark != 0
    }

    /// Whether an acknowledgement of the client shows that it has got the server's: what anybody
    /// sends blindly must not make an entry that stays. While the server has not been heard, any
    /// does.
    fn is_taken_up_by(self, acknowledgement: u32) -> bool {
        self.marks & HEARD == 0 || self.answered == acknowledgement as u16
    }

    /// Whether both sides are at their end. What a server sends does not have to pass here:
    /// while it has not been heard, the client's FIN is all that will be seen.
    fn is_over(self) -> bool {
        let client_alone = 1 << Side::Outside as u8;
        match self.marks & HEARD {
            0 => self.marks & client_alone != 0,
            _ => self.marks & BOTH_FINS == BOTH_FINS,
        }
    }
}

impl<F: Family> Gate<'_, F> {
    /// The server of a TCP packet from the outside to a service: the one that its connection is
    /// at, or for a new connection the selected one; `None` when none is to be had.
    #[inline]
    pub(super) fn server_for<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        service: usize,
        foreseen: &Foreseen,
        now: Ticks,
    ) -> Option<usize> {
        let Foreseen { hash, guess, .. } = *foreseen;
        let flags = tcp::flags(packet.tcp());
        let pair = (packet.source(), packet.destination());
        if !self.common.serving[service].keeps() {
            return match flags.is_start() {
                true => self.selected(service, pair.0),
                false => self.unkept(service, pair.0),
            };
        }
        let isn = tcp::sequence(packet.tcp());
        match self.kept.find_ahead(hash, guess, pair, now) {
            Some(slot) if flags.is_start() => self.start_again(service, slot, isn, now),
            Some(slot) => {
                self.heard(slot, Side::Outside, packet.tcp(), now);
                Some(usize::from(self.kept.get(slot).value.server))
            }
            None if flags.is_start() => self.keep(service, hash, pair, isn, now),
            None => self.selected(service, pair.0),
        }
    }

    /// The server of what belongs to a connection without being one of its whole packets.
    pub(super) fn server_of(&mut self, service: usize, pair: Pair<F>, now: Ticks) -> Option<usize> {
        if self.common.serving[service].keeps()
            && let Some(slot) = self.kept.find(self.kept.hash(pair), pair, now)
        {
            return Some(usize::from(self.kept.get(slot).value.server));
        }
        self.unkept(service, pair.0)
    }

    /// The selected server, if there is one for a new connection.
    fn selected(&self, service: usize, client: Endpoint<F>) -> Option<usize> {
        self.common.selection.get().server(service, client)
    }

    /// The server of a connection that is not kept. One without others keeps its connections
    /// even when it gets no new ones; one that never got any has none.
    fn unkept(&self, service: usize, client: Endpoint<F>) -> Option<usize> {
        let serving = &self.common.serving[service];
        match serving.keeps() {
            true => self.selected(service, client),
            false => serving.opened.then_some(0),
        }
    }

    /// A start packet of a connection that is not known. Without a place in the table it goes to
    /// the selected server all the same, and so do the packets that follow it.
    fn keep(
        &mut self,
        service: usize,
        hash: Hash,
        pair: Pair<F>,
        isn: u32,
        now: Ticks,
    ) -> Option<usize> {
        let server = self.selected(service, pair.0)?;
        let entry = Kept::new(isn, server);
        let inserted = self.kept.insert(hash, pair, Phase::Opening, now, entry);
        let counters = self.common.counters.table_of(F::VERSION);
        counters.inserted.add(u64::from(inserted.is_some()));
        let evicted = matches!(inserted, Some(Inserted::Evicted(..)));
        counters.evicted.add(u64::from(evicted));
        Some(server)
    }

    /// A start packet where there is a connection: repeated, or of a new one between the same
    /// endpoints.
    fn start_again(&mut self, service: usize, slot: Slot, isn: u32, now: Ticks) -> Option<usize> {
        let entry = self.kept.get(slot);
        let (kept, phase, idle) = (entry.value, entry.state(), now.since(entry.seen()));
        let repeated = kept.isn == isn;
        let stays = match phase {
            // One with another sequence number keeps nothing alive: when the server does not
            // answer it (RFC 5961), the next connection of these endpoints is not bound to it.
            Phase::Established => repeated || idle <= self.common.settings.timeouts.reuse_after,
            // One that has not answered, and is given up, is not waited for.
            _ => {
                let server = usize::from(kept.server);
                let answers = kept.marks & HEARD != 0;
                repeated && (answers || self.common.selection.get().takes(service, server))
            }
        };
        if !stays {
            let server = self.selected(service, self.kept.get(slot).key.0)?;
            *self.kept.value_mut(slot) = Kept::new(isn, server);
            self.kept.move_to(slot, Phase::Opening, now);
            return Some(server);
        }
        match phase {
            Phase::Established if !repeated => {}
            // It had refused, and is asked again.
            Phase::Closing => {
                self.kept.value_mut(slot).marks &= !BOTH_FINS;
                self.kept.move_to(slot, Phase::Opening, now);
            }
            _ => self.kept.touch(slot, now),
        }
        Some(usize::from(kept.server))
    }

    /// A packet from the inside that a server has sent.
    #[inline]
    pub(super) fn follow<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        foreseen: &Foreseen,
        now: Ticks,
    ) {
        let Foreseen { hash, guess, .. } = *foreseen;
        let pair = (packet.destination(), packet.source());
        if let Some(slot) = self.kept.find_ahead(hash, guess, pair, now) {
            let kept = self.kept.value_mut(slot);
            kept.marks |= HEARD;
            if tcp::flags(packet.tcp()).is_acknowledgement() {
                kept.answered = tcp::sequence(packet.tcp()).wrapping_add(1) as u16;
            }
            self.heard(slot, Side::Inside, packet.tcp(), now);
        }
    }

    /// A packet of a connection has passed.
    #[inline]
    fn heard(&mut self, slot: Slot, from: Side, tcp: &[u8], now: Ticks) {
        let flags = tcp::flags(tcp);
        let entry = self.kept.get(slot);
        if entry.state() == Phase::Opening
            && from == Side::Outside
            && flags.0 & Flags::ACK != 0
            && entry.value.is_taken_up_by(tcp::acknowledgement(tcp))
        {
            self.kept.move_to(slot, Phase::Established, now);
        } else {
            self.kept.touch(slot, now);
        }
        if flags.fin() || flags.rst() {
            self.ends(slot, from, flags, now);
        }
    }

    #[cold]
    fn ends(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        let kept = self.kept.value_mut(slot);
        kept.marks |= u8::from(flags.fin()) << from as u8;
        if flags.rst() || kept.is_over() {
            self.kept.move_to(slot, Phase::Closing, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::family::{V4, V6};
    use crate::table::Entry;

    #[test]
    fn a_connection_is_one_cache_line() {
        assert_eq!(size_of::<Entry<Pair<V4>, Phase, Kept>>(), 64);
        assert_eq!(size_of::<Entry<Pair<V6>, Phase, Kept>>(), 64);
    }
}
