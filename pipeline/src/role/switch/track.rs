//! Tracking of connections at the switch: which segments of client and server establish an entry, and
//! which end it.
//!
//! The server's packets need not pass the switch. Where they do, only the server's word establishes an
//! entry: its SYN/ACK, acknowledged by the client, or what it sends afterwards. Otherwise anybody could
//! fill the table with connections that do not exist.

use super::affinity::Affinity;
use super::{Phase, SwitchFor};
use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, Side};
use crate::role::LookupHint;
use crate::role::tracking::{RST_GRACE, acknowledges, refuses};
use crate::table::Slot;
use crate::wire::family::Family;
use crate::wire::tcp::{self, Flags};

/// How often the time-out of a connection is restarted whose server is not seen. Each restart moves it
/// to the end of the order of eviction.
pub(super) const RESTART_INTERVAL: Ticks = Ticks::from_secs(1);

impl<F: Family> SwitchFor<'_, F> {
    /// Tracks a packet of the client.
    #[inline(never)]
    pub(super) fn track_client<B: Buffer>(
        &mut self,
        slot: Slot,
        service: usize,
        packet: &Packet<B>,
        now: Ticks,
    ) {
        let entry = self.affinities.get(slot);
        let (was, seen, mut affinity) = (entry.state(), entry.seen(), entry.value);
        let (flags, sequence) = (tcp::flags(packet.tcp()), tcp::sequence(packet.tcp()));
        let mut phase = was;
        if was == Phase::Opening && flags.0 & Flags::ACK != 0 {
            phase = self.after_client_ack(&affinity, service, packet, now);
            if phase != was {
                affinity.establish(sequence);
            }
        }
        if flags.fin() || flags.rst() {
            // A forged one would end the connection before its time.
            if affinity.is_near(sequence) && packet.tcp_checksum_ok::<F>() {
                phase = affinity.after_end(Side::Outside, flags, phase);
            }
        } else if was == Phase::Reset && now.since(seen) >= RST_GRACE {
            phase = affinity.resumed(was);
        }
        if affinity.is_established() {
            affinity.note_client(sequence);
        }
        self.update(slot, affinity, phase, now);
    }

    /// Returns the state after an acknowledgement of the client of a connection that is opening.
    fn after_client_ack<B: Buffer>(
        &self,
        affinity: &Affinity,
        service: usize,
        packet: &Packet<B>,
        now: Ticks,
    ) -> Phase {
        let established = match affinity.server_seen() {
            true => affinity.is_established_by(tcp::ack_number(packet.tcp())),
            // The server's packets may take another path.
            false => !self.common.states[service].passes(affinity.server, now),
        };
        match established && packet.tcp_checksum_ok::<F>() {
            true if affinity.server_seen() => Phase::Established,
            true => Phase::Unheard,
            false => Phase::Opening,
        }
    }

    /// Tracks a packet from the inside that a server has sent.
    #[inline]
    pub(super) fn track_server<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        service: usize,
        hint: &LookupHint,
        now: Ticks,
    ) {
        let LookupHint { hash, entry, .. } = *hint;
        let pair = [packet.destination(), packet.source()];
        let Some(slot) = self.affinities.find_hinted(hash, entry, pair, now) else { return };
        let entry = self.affinities.get(slot);
        let (was, seen, mut affinity) = (entry.state(), entry.seen(), entry.value);
        let (tcp, flags) = (packet.tcp(), tcp::flags(packet.tcp()));
        let is_open = !matches!(was, Phase::Opening | Phase::Unheard);
        let mut phase = was;
        if flags.is_syn_ack() && acknowledges(tcp, affinity.isn) {
            self.common.states[service].note_heard(affinity.server, now);
            if !is_open {
                affinity = affinity.again();
                affinity.note_syn_ack(tcp::sequence(tcp));
                phase = Phase::Opening;
            }
        } else if !is_open && goes_on(packet, affinity.isn) {
            affinity.note_server();
            affinity.establish(tcp::ack_number(tcp));
            phase = Phase::Established;
        }
        // A RST that refuses no SYN answers a blind acknowledgement.
        if flags.fin() || flags.rst() && (is_open || refuses(tcp, affinity.isn)) {
            affinity.note_server();
            phase = affinity.after_end(Side::Inside, flags, phase);
        } else if was == Phase::Reset && now.since(seen) >= RST_GRACE {
            phase = affinity.resumed(was);
        }
        self.update(slot, affinity, phase, now);
    }

    fn update(&mut self, slot: Slot, affinity: Affinity, phase: Phase, now: Ticks) {
        let entry = self.affinities.get(slot);
        let (was, idle) = (entry.state(), now.since(entry.seen()));
        *self.affinities.value_mut(slot) = affinity;
        if phase != was {
            self.affinities.move_to(slot, phase, now);
        } else if was != Phase::Unheard || idle >= RESTART_INTERVAL {
            self.affinities.touch(slot, now);
        }
    }
}

/// Returns whether a server's segment says that the connection is established: it carries data, or
/// acknowledges some. A SYN/ACK with another number may have replaced the one that the client has
/// acknowledged (SYN cookies, or a server that is itself a load balancer), but an established connection
/// shows. An acknowledgement of the SYN alone may answer a blind segment (RFC 9293, section 3.10.7.4).
fn goes_on<B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    let (tcp, flags) = (packet.tcp(), tcp::flags(packet.tcp()));
    let is_acknowledgement = flags.0 & (Flags::SYN | Flags::RST | Flags::ACK) == Flags::ACK;
    is_acknowledgement && (packet.has_data() || !acknowledges(tcp, isn))
}
