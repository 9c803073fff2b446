//! Figures 6A, 6B and 6C: what is neither start packet nor acknowledgement.

use super::{Common, Gate};
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::{Configuration, Obstacle, Way};
use crate::wire::family::Family;
use crate::role::gateway::flow::{Flow, Phase};
use crate::role::Context;
use crate::table::Slot;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};
use crate::wire::tcp::{self, Flags};

/// By then what was on its way when a RST was sent has arrived.
const QUIET: Ticks = Ticks::from_secs(3);

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    /// Anything but a start packet from the inside, with an entry (op 610: from the client side).
    #[inline]
    pub(super) fn client_packet<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        slot: Slot,
        flags: Flags,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        if packet.destination::<F>() != entry.value.server {
            return Verdict::OtherServer;
        }
        match entry.state() {
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin => Verdict::WithOrigin,
            Phase::Replica | Phase::Closing => {
                let way = entry.value.way(entry.key);
                self.heard(slot, Side::Inside, flags, context.now);
                self.send_to_replica(packet, &way, Verdict::ToReplica, context)
            }
        }
    }

    /// ops 612, 636, 656: on to the winner; the verdict, unless something is in the way.
    #[inline]
    pub(super) fn send_to_replica<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        way: &Way<F>,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match C::to_replica(packet, way, &self.common.settings.path) {
            Ok(()) => verdict,
            Err(obstacle) => self.obstructed(packet, way, obstacle, context),
        }
    }

    /// What is to become of a packet that does not go into its tunnel.
    #[cold]
    pub(super) fn obstructed<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        way: &Way<F>,
        obstacle: Obstacle,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Obstacle::TooBig(room) = obstacle else { return Verdict::NoBuffer };
        let Common { oversize, settings, counters, .. } = &mut *self.common;
        let put = |_, fragment: &mut _| C::to_replica(fragment, way, &settings.path).is_ok();
        oversize.refuse::<F, P>((Side::Inside, packet), room, counters, context, put)
    }

    /// Anything but an acknowledgement from the outside, plain, with an entry (op 610: not from
    /// the client side).
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
        let (server, from) = (flow.server, packet.source::<F>());
        match entry.state() {
            Phase::Replica | Phase::Closing => {
                let way = flow.way(entry.key);
                if C::plain_winner(&way) == Some(from) && !refuses_late(packet, flow, from) {
                    self.heard(slot, Side::Outside, flags, now);
                    C::to_client(packet, &way);
                    Verdict::FromReplica
                } else if from == server {
                    Verdict::FromLoser
                } else {
                    Verdict::FromOther
                }
            }
            Phase::Racing if from == server && refuses::<F, B>(packet, flow.isn) => {
                self.path_takes_tags(slot);
                self.flows.move_to(slot, Phase::Origin, now);
                Verdict::ResetByOrigin
            }
            // Under B and C the refusal of a replica comes in a tunnel.
            Phase::Racing
                if !C::TUNNELS
                    && flags.rst()
                    && from != server
                    && from != flow.second
                    && self.permits(flow.service, from) =>
            {
                Verdict::ResetByReplica
            }
            Phase::Racing => Verdict::RaceUndecided,
            Phase::Origin if from == server => Verdict::WithOrigin,
            Phase::Origin => Verdict::FromOther,
        }
    }

    /// A packet of a translated connection has passed.
    #[inline]
    pub(super) fn heard(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        if self.flows.get(slot).state() == Phase::Closing {
            self.goes_on(slot, now);
        }
        self.flows.touch(slot, now);
        if flags.fin() || flags.rst() {
            self.ends(slot, from, flags, now);
        }
    }

    /// Traffic of a closing connection. A RST of which nobody took notice, for its sequence number
    /// was wrong, closes nothing: who goes on after some quiet has not taken it (RFC 7857,
    /// section 2).
    #[cold]
    fn goes_on(&mut self, slot: Slot, now: Ticks) {
        let entry = self.flows.get(slot);
        if !entry.value.has_both_fins() && now.since(entry.seen()) >= QUIET {
            self.flows.move_to(slot, Phase::Replica, now);
        }
    }

    #[cold]
    fn ends(&mut self, slot: Slot, from: Side, flags: Flags, now: Ticks) {
        let flow = self.flows.value_mut(slot);
        let both = if flags.fin() { flow.note_fin(from) } else { flow.has_both_fins() };
        if flags.rst() || both {
            self.flows.move_to(slot, Phase::Closing, now);
        }
    }
}

/// Whether this refuses the start packet of a race: a RST that acknowledges it (RFC 9293, section
/// 3.10.7.1). The client's TCP takes no notice of any other.
fn refuses<F: Family, B: Buffer>(packet: &Packet<B>, isn: u32) -> bool {
    let tcp = packet.tcp();
    let flags = tcp::flags(tcp);
    flags.rst()
        && flags.0 & Flags::ACK != 0
        && tcp::acknowledgement(tcp) == isn.wrapping_add(1)
        && packet.ip_checksum_ok()
        && packet.tcp_checksum_ok::<F>()
}

/// Under B the replica's packets come from the server's endpoint, and so does what the origin
/// says when it refuses after a replica has won: a RST that answers the start packet (RFC 9293,
/// section 3.10.7.1). It must not end the winner's connection.
fn refuses_late<F: Family, B: Buffer>(
    packet: &Packet<B>,
    flow: &Flow<F>,
    from: crate::wire::family::Endpoint<F>,
) -> bool {
    let tcp = packet.tcp();
    from == flow.server
        && tcp::flags(tcp).rst()
        && tcp::sequence(tcp) == 0
        && tcp::acknowledgement(tcp) == flow.isn.wrapping_add(1)
}
