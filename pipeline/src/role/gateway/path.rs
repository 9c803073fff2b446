//! What answers say of the path to the server: whether it takes tagged SYNs (docs/protocol.md, 3.3).

use super::GatewayFor;
use super::mode::Mode;
use crate::base::time::Ticks;
use crate::table::Slot;
use crate::wire::family::{Endpoint, Family};

/// Copies of a SYN that come within this time of it are one SYN with it. A client waits a second
/// before it retransmits (RFC 6298, section 2); a tenth of it is left for jitter.
pub(super) const ONE_SYN: Ticks = Ticks::from_millis(900);
/// An untagged retransmission says something of the path only so long after the tagged SYNs:
/// their answers would have come.
pub(super) const LATE: Ticks = Ticks::from_secs(1);
/// A second answer of the origin is one to another SYN only so long after the first: before that it
/// is a copy that the network has made.
const SECOND_ANSWER: Ticks = Ticks::from_millis(500);

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Notes the answer of a replica that was not asked directly: the switch has seen a tagged SYN.
    pub(super) fn note_switch_answers(&mut self, slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        if entry.value.race.is_tagged() {
            let (server, client) = (entry.value.server.into(), entry.key.into());
            self.common.backoff.answered(server, client, now);
        }
    }

    /// Notes that the origin has answered one of the SYNs of a race: if all were tagged, the path
    /// takes the tag.
    pub(super) fn note_origin_answers(&mut self, slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        let race = entry.value.race;
        if race.is_tagged() && !race.is_untagged() {
            let (server, client) = (entry.value.server.into(), entry.key.into());
            self.common.backoff.answered(server, client, now);
        }
    }

    /// Notes that the origin gives a race its first answer. If it comes to an untagged
    /// retransmission, when none of the tagged SYNs before was answered, the path may drop the tag.
    pub(super) fn note_first_answer_is_origins(&mut self, slot: Slot, now: Ticks) {
        let flow = &self.flows.get(slot).value;
        if flow.race.is_untagged_late() && flow.replica == Endpoint::NONE {
            self.note_miss(slot, now);
        } else {
            self.note_origin_answers(slot, now);
        }
    }

    #[cold]
    fn note_miss(&mut self, slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        let (server, client) = (entry.value.server, entry.key);
        if self.common.backoff.missed(server.into(), client.into(), now) {
            self.common.counters.count_backoff(server.address.into());
        }
    }

    /// Notes that the origin has answered once more. If an untagged retransmission was taken to be
    /// the one that it answered first, it has now answered two: the path is only long.
    pub(super) fn note_second_answer(&mut self, slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        if entry.value.race.is_untagged_late() && now.since(entry.seen()) >= SECOND_ANSWER {
            let (server, client) = (entry.value.server.into(), entry.key.into());
            self.common.backoff.take_back(server, client, now);
        }
    }
}
