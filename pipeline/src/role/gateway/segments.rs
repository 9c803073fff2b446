//! Segments of connections that a replica has won: what they change in the entry.
//!
//! Nobody can end a connection, or keep it, for others. The client's acknowledgement of the
//! winner's SYN/ACK opens a connection. A FIN or RST counts only with right checksums and a
//! sequence number near the one that the other side expects (RFC 5961, RFC 7857 section 2). Only
//! the side that a RST came from can take it back.

use super::GatewayFor;
use super::flow::{Flow, Phase};
use super::mode::Mode;
use crate::base::time::Ticks;
use crate::counters::Scalar;
use crate::memory::Event;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Packet, Side};
use crate::role::tracking::{RST_GRACE, acknowledges, is_near};
use crate::table::Slot;
use crate::wire::family::Family;
use crate::wire::tcp::{self, Flags};

impl<F: Family> Flow<F> {
    /// Notes the numbers of a segment with ACK of an open connection. Under B, where the server's
    /// segments are not seen, the client's own sequence number says what is expected of it.
    #[inline(always)]
    pub(super) fn note_segment<M: Mode>(
        &mut self,
        from: Side,
        (sequence, ack_number): (u32, u32),
        now: Ticks,
    ) {
        match from {
            Side::Inside => {
                self.next_from_server = ack_number;
                if !M::REPLIES_NEED_LOOKUP {
                    self.next_from_client = sequence;
                }
                self.note_heard(now);
            }
            Side::Outside => self.next_from_client = ack_number,
        }
    }
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Tracks a segment of a connection that a replica has won.
    #[inline]
    pub(super) fn track<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        slot: Slot,
        from: Side,
        now: Ticks,
    ) {
        let flags = tcp::flags(packet.tcp());
        if self.flows.get(slot).state() == Phase::Reset {
            self.resume(slot, from, flags, now);
        }
        if self.flows.get(slot).state() == Phase::HalfOpen && from == Side::Inside {
            self.establish(packet, slot, flags, now);
        }
        match self.flows.get(slot).state() {
            // Neither renews the entry: a client that never answers must not keep it, and a RST
            // counts from when it came.
            Phase::HalfOpen | Phase::Reset => {}
            _ => {
                self.flows.touch(slot, now);
                let flow = self.flows.value_mut_unsaved(slot);
                if flags.is_acknowledged_data() {
                    let numbers = (tcp::sequence(packet.tcp()), tcp::ack_number(packet.tcp()));
                    flow.note_segment::<M>(from, numbers, now);
                } else if from == Side::Inside {
                    flow.note_heard(now);
                }
            }
        }
        if flags.fin() || flags.rst() {
            self.end(packet, slot, from, flags, now);
        }
    }

    /// Opens a connection whose client acknowledges the winner's SYN/ACK.
    #[cold]
    fn establish<B: Buffer>(&mut self, packet: &Packet<B>, slot: Slot, flags: Flags, now: Ticks) {
        let flow = &self.flows.get(slot).value;
        let is_answer = flags.0 & (Flags::ACK | Flags::RST | Flags::SYN) == Flags::ACK
            && (flow.race.has_two_numbers()
                || is_near(tcp::ack_number(packet.tcp()), flow.next_from_server));
        if !is_answer || !has_right_checksums::<F, B>(packet) {
            return;
        }
        let flow = self.flows.value_mut(slot);
        flow.tracking.establish();
        let phase = flow.open_phase();
        self.flows.move_to(slot, phase, now);
    }

    /// Takes a RST back that the side it came from has disproved by going on (RFC 7857,
    /// section 2). Under B the server's segments are not seen: the client's tell that it has
    /// ignored the RST.
    #[cold]
    fn resume(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        let entry = self.flows.get(slot);
        if flags.rst() || now.since(entry.seen()) < RST_GRACE {
            return;
        }
        let flow = self.flows.value_mut(slot);
        flow.tracking.forget_rst(from);
        if !M::REPLIES_NEED_LOOKUP && from == Side::Inside {
            flow.tracking.forget_rst(Side::Outside);
        }
        if !flow.tracking.has_rst() {
            let phase = flow.open_phase();
            self.flows.move_to(slot, phase, now);
        }
    }

    /// Notes a FIN or RST, if it may be from who it says.
    #[cold]
    fn end<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        slot: Slot,
        from: Side,
        flags: Flags,
        now: Ticks,
    ) {
        let entry = self.flows.get(slot);
        let (flow, phase) = (entry.value, entry.state());
        let tcp = packet.tcp();
        let is_near = is_near(tcp::sequence(tcp), flow.next_from(from));
        // The winner refuses the SYN of another connection, which it alone was sent.
        let refuses_pending = from == Side::Outside
            && flags.rst()
            && flow.pending_isn().is_some_and(|isn| acknowledges(tcp, isn));
        if !(is_near || refuses_pending) || !has_right_checksums::<F, B>(packet) {
            self.common.counters.common.scalar(Scalar::EndsIgnored).add(1);
            return;
        }
        if flags.fin() {
            self.report_end(slot, from, now);
            self.flows.value_mut(slot).tracking.note_fin(from);
        }
        let flow = self.flows.value_mut(slot);
        let next = match phase {
            Phase::Closed => Phase::Closed,
            _ if flags.rst() => {
                flow.tracking.note_rst(from);
                Phase::Reset
            }
            Phase::Reset if !flow.tracking.has_both_fins() => Phase::Reset,
            _ => flow.open_phase(),
        };
        if next != phase {
            self.flows.move_to(slot, next, now);
        }
    }

    /// Reports the first FIN of a side of a connection that a replica has won: a replica that
    /// answers SYNs and serves nothing ends no connection.
    fn report_end(&mut self, slot: Slot, from: Side, now: Ticks) {
        let entry = self.flows.get(slot);
        let (flow, client) = (&entry.value, entry.key);
        if flow.tracking.has_fin(from) || flow.tracking.has_fin(Side::Outside) {
            return;
        }
        let replica = flow.replica.address.into();
        let event = Event::Ended { replica, by_replica: from == Side::Outside };
        self.report(flow.service, client, event, now);
    }
}

impl<F: Family> Flow<F> {
    /// Returns the state of a connection without a RST.
    fn open_phase(&self) -> Phase {
        match self.tracking {
            tracking if tracking.has_both_fins() => Phase::Closed,
            tracking if !tracking.is_established() => Phase::HalfOpen,
            tracking if tracking.has_any_fin() => Phase::HalfClosed,
            _ => Phase::Replica,
        }
    }
}

/// Returns whether the checksums of a packet that decides something are right.
pub(super) fn has_right_checksums<F: Family, B: Buffer>(packet: &Packet<B>) -> bool {
    packet.ip_checksum_ok() && packet.tcp_checksum_ok::<F>()
}
