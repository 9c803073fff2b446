//! Connections that the winner's appliance has lost, under B and C: its web server's packets arrive
//! plain, as R > C, while the gateway still has the entry (docs/protocol.md, 6.6). Their numbers, or
//! those of the client's reset in reply, show that they are the connection's.

use super::GatewayFor;
use super::flow::{Flow, Phase};
use super::lost::AHEAD;
use super::mode::Mode;
use super::segments::has_right_checksums;
use crate::base::time::Ticks;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::role::tracking::is_near;
use crate::stage::reset::{self, Way};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Whether the winner sends as V, and its own packets are not looked up: B.
    const SENDS_AS_SERVER: bool = !M::REPLIES_NEED_LOOKUP;

    /// Returns whether a plain packet from the winner's own address, under B, is its reset of this
    /// connection: it knows no other address any more.
    pub(super) fn is_winners_plain_reset<B: Buffer>(
        &self,
        packet: &Packet<B>,
        flow: &Flow<F>,
        from: Endpoint<F>,
    ) -> bool {
        Self::SENDS_AS_SERVER
            && from == flow.replica
            && tcp::flags(packet.tcp()).rst()
            && is_near(tcp::sequence(packet.tcp()), flow.next_from(Side::Outside))
            && has_right_checksums::<F, B>(packet)
    }

    /// Handles a packet of the client to another address than V. Under B the client's reset to the
    /// winner itself shows that the winner's packets arrive as its own. If it has the very number
    /// that the client would send next, the client is told.
    pub(super) fn packet_to_other_server<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        slot: Slot,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let tcp = packet.tcp();
        let is_told = Self::SENDS_AS_SERVER
            && is_open(phase)
            && packet.destination::<F>() == flow.replica
            && tcp::flags(tcp).0 & (Flags::SYN | Flags::RST) == Flags::RST
            && tcp::sequence(tcp) == flow.next_from_client
            && has_right_checksums::<F, P::Buffer>(packet);
        if !is_told || !self.may_tell(context.now) {
            return Verdict::OtherServer;
        }
        let way = Way::Back(&packet.buffer.head()[..usize::from(packet.view.l3)]);
        let ends = (flow.server, client);
        if let Some(reset) = reset::make(way, ends, flow.next_from_server, context.pool) {
            self.tell(Side::Inside, reset, context);
        }
        // The client's own reset goes on to the winner.
        self.note_lost(slot, Side::Inside, context.now);
        Verdict::ConnectionLost
    }

    /// Handles a plain packet from another address than V, under C. If it comes from the winner's
    /// address with the numbers that the connection is at, both ends are reset: the client as from V,
    /// the web server in the form of its packet.
    pub(super) fn packet_from_other<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        slot: Slot,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let (tcp, from) = (packet.tcp(), packet.source::<F>());
        let is_told = M::DATA_IN_TUNNELS
            && (is_open(phase) || phase == Phase::Reset)
            && from.address == flow.replica.address
            && tcp::flags(tcp).0 & (Flags::SYN | Flags::RST | Flags::ACK) == Flags::ACK
            && flow.next_from_server.wrapping_sub(tcp::sequence(tcp)) <= 1
            && tcp::ack_number(tcp).wrapping_sub(flow.next_from_client) < AHEAD
            && has_right_checksums::<F, P::Buffer>(packet);
        if !is_told || !self.may_tell(context.now) {
            return Verdict::FromOther;
        }
        if let Some(reset) = reset::answer::<F, P>(packet, context.pool) {
            self.tell(Side::Outside, reset, context);
        }
        let way = Way::Along(&packet.buffer.head()[..usize::from(packet.view.l3)]);
        let ends = (flow.server, client);
        if let Some(reset) = reset::make(way, ends, flow.next_from_server, context.pool) {
            self.tell(Side::Inside, reset, context);
        }
        self.note_lost(slot, Side::Outside, context.now);
        Verdict::ConnectionLost
    }

    /// Notes that a connection was reset, as by this side.
    fn note_lost(&mut self, slot: Slot, from: Side, now: Ticks) {
        self.flows.value_mut(slot).tracking.note_rst(from);
        self.flows.move_to(slot, Phase::Reset, now);
    }
}

/// Returns whether data may flow.
fn is_open(phase: Phase) -> bool {
    matches!(phase, Phase::HalfOpen | Phase::Replica | Phase::HalfClosed)
}
