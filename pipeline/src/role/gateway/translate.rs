//! Figure 6A: what is neither start packet nor acknowledgement.

use super::Gateway;
use crate::buffer::Buffer;
use crate::configuration::Configuration;
use crate::family::V4;
use crate::flow::{BOTH_FINS, Phase};
use crate::table::Slot;
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Packet, Side};
use crate::wire::tcp::Flags;

impl<C: Configuration> Gateway<C> {
    /// Anything but a start packet from the inside, with an entry (op 610: from the client side).
    #[inline]
    pub(super) fn client_packet<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        flags: Flags,
        now: Ticks,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (server, replica) = (entry.value.server, entry.value.replica);
        if packet.destination::<V4>() != server {
            return Verdict::OtherServer;
        }
        match entry.state() {
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin => Verdict::WithOrigin,
            Phase::Replica | Phase::Closing => {
                self.heard(slot, Side::Inside, flags, now);
                C::to_replica(packet, replica);
                Verdict::ToReplica
            }
        }
    }

    /// Anything but an acknowledgement from the outside, with an entry (op 610: not from the
    /// client side).
    #[inline]
    pub(super) fn server_packet<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        slot: Slot,
        flags: Flags,
        now: Ticks,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let flow = &entry.value;
        let (server, from) = (flow.server, packet.source::<V4>());
        match entry.state() {
            Phase::Replica | Phase::Closing if from == flow.replica => {
                self.heard(slot, Side::Outside, flags, now);
                C::to_client(packet, server);
                Verdict::FromReplica
            }
            Phase::Replica | Phase::Closing if from == server => Verdict::FromLoser,
            Phase::Racing if flags.rst() && from == server => {
                self.path_takes_tags(slot);
                self.flows.move_to(slot, Phase::Origin, now);
                Verdict::ResetByOrigin
            }
            Phase::Racing
                if flags.rst() && from != flow.second && self.permits(flow.service, from) =>
            {
                Verdict::ResetByReplica
            }
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin if from == server => Verdict::WithOrigin,
            _ => Verdict::FromOther,
        }
    }

    /// A packet of a translated connection has passed.
    #[inline]
    fn heard(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        self.flows.touch(slot, now);
        if flags.fin() || flags.rst() {
            self.ends(slot, from, flags, now);
        }
    }

    #[cold]
    fn ends(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        let flow = self.flows.value_mut(slot);
        flow.fins |= u8::from(flags.fin()) << from as u8;
        if flags.rst() || flow.fins == BOTH_FINS {
            self.flows.move_to(slot, Phase::Closing, now);
        }
    }
}
