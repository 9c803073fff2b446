//! Tunnels from the outside, under B and C: looked up by the packet inside, and decapsulated only
//! when that belongs to an entry and comes from an allowed source (ops 535, 554, 658).

use super::GatewayFor;
use super::flow::Phase;
use super::mode::{Mode, Translation, TunnelSource};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Kind, Packet, Side, View};
use crate::role::{Context, LookupHint};
use crate::stage::{decap, quote};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp;

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Handles a tunnel from the outside; the packet inside stands in `hint`.
    #[inline]
    pub(super) fn tunnelled<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let (head, inner) = (packet.buffer.head(), hint.inner);
        let is_handled =
            matches!(inner.kind, Kind::Tcp | Kind::Icmp | Kind::FirstFragment | Kind::Fragment);
        // Both headers are addressed to the client, or the tunnel is not for the gateway.
        if !is_handled
            || inner.version != F::VERSION
            || F::destination(packet.ip()) != F::destination(&head[usize::from(inner.l3)..])
        {
            return Verdict::ForeignTunnel;
        }
        match inner.kind {
            Kind::Tcp => self.tunnelled_tcp(packet, hint, context),
            // Under B nothing but SYN/ACKs and refusals comes in tunnels.
            _ if !M::DATA_IN_TUNNELS => Verdict::ForeignTunnel,
            Kind::Icmp => self.tunnelled_error(packet, inner, context),
            Kind::FirstFragment => self.tunnelled_first_fragment(packet, inner, context),
            _ => self.tunnelled_fragment(packet, inner, context),
        }
    }

    #[inline]
    fn tunnelled_tcp<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let LookupHint { hash, entry, inner } = *hint;
        let head = packet.buffer.head();
        let client = inner.destination(head);
        let Some(slot) = self.flows.find_hinted(hash, entry, client, context.now) else {
            self.tunnel_without_entry(packet, inner, context);
            return Verdict::ForeignTunnel;
        };
        let flow = &self.flows.get(slot).value;
        let (outer, source) = (F::source(packet.ip()), inner.source::<F>(head));
        let replica = match M::tunnel_source(outer, source, flow.server) {
            TunnelSource::Unknown => return Verdict::ForeignTunnel,
            TunnelSource::Spoofed => return Verdict::TunnelSpoofed,
            TunnelSource::Replica(replica) => replica,
        };
        if !tcp::flags(&head[usize::from(inner.l4)..]).is_syn_ack() {
            return self.tunnelled_data(packet, inner, slot, replica, context);
        }
        // ops 535, 554: a SYN/ACK in a tunnel is decapsulated first.
        match decap::open(packet, inner) {
            Ok(()) => self.on_syn_ack(packet, slot, Some(replica), context),
            Err(verdict) => verdict,
        }
    }

    /// Handles a tunnelled packet that is no SYN/ACK: the winner's data, or a refusal.
    #[inline]
    fn tunnelled_data<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        slot: Slot,
        replica: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let flags = tcp::flags(&packet.buffer.head()[usize::from(inner.l4)..]);
        match phase {
            Phase::Racing if flags.rst() && self.may_be_replica(slot, replica) => {
                Verdict::ResetByReplica
            }
            Phase::Racing => Verdict::RaceUndecided,
            // A replica refuses after another one has won.
            _ if flags.rst() && replica != flow.replica => Verdict::ResetByReplica,
            // Under B everything but SYN/ACKs and refusals comes plain.
            _ if !M::DATA_IN_TUNNELS => Verdict::ConfigurationMismatch,
            _ if phase.is_translated() && replica == flow.replica => {
                // op 658
                if let Err(verdict) = decap::open(packet, inner) {
                    return verdict;
                }
                self.track(packet, slot, Side::Outside, context.now);
                M::to_client(packet, &flow.translation(client));
                Verdict::FromReplica
            }
            _ => Verdict::TunnelSpoofed,
        }
    }

    /// Handles an ICMP error that the replica has put into the tunnel: it is about a packet of the
    /// client.
    fn tunnelled_error<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read_at::<F>(packet.buffer.head(), inner) else {
            return Verdict::ForeignTunnel;
        };
        let Some(translation) = self.translated(quoted.source, context.now) else {
            return Verdict::ForeignTunnel;
        };
        if quoted.destination != translation.server || quoted.outer.is_some() {
            return Verdict::ForeignTunnel;
        }
        self.open_winners_tunnel(&translation, packet, inner, Verdict::IcmpTranslated)
    }

    fn tunnelled_first_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let head = packet.buffer.head();
        let id = PacketId::of(&head[usize::from(inner.l3)..]);
        let (client, from) = (inner.destination(head), inner.source::<F>(head));
        let translation = self.translated(client, context.now);
        let Some(translation) = translation.filter(|translation| translation.server == from) else {
            self.learn_untranslated(Side::Outside, id, context.now);
            return Verdict::ForeignTunnel;
        };
        let translated = Verdict::FragmentTranslated;
        let verdict = self.open_winners_tunnel(&translation, packet, inner, translated);
        if verdict == translated {
            self.fragments.learn(id, Some(translation), context.now);
        }
        verdict
    }

    fn tunnelled_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let ip = &packet.buffer.head()[usize::from(inner.l3)..];
        if !F::fragment(ip).is_later_tcp() {
            return Verdict::ForeignTunnel;
        }
        let id = PacketId::of(ip);
        match self.fragments.find(id, context.now) {
            FirstFragment::Handled(translation) => {
                let verdict = Verdict::FragmentTranslated;
                self.open_winners_tunnel(&translation, packet, inner, verdict)
            }
            FirstFragment::Unseen if self.may_be_translated(Side::Outside, id) => {
                Verdict::FragmentUnknown
            }
            FirstFragment::Unseen | FirstFragment::PassedThrough => Verdict::ForeignTunnel,
        }
    }

    /// Decapsulates a packet of the winner, and returns `verdict`.
    fn open_winners_tunnel<B: Buffer>(
        &self,
        translation: &Translation<F>,
        packet: &mut Packet<B>,
        inner: View,
        verdict: Verdict,
    ) -> Verdict {
        if F::source(packet.ip()) != translation.replica.address {
            return Verdict::TunnelSpoofed;
        }
        match decap::open(packet, inner) {
            Ok(()) => verdict,
            Err(wrong) => wrong,
        }
    }
}
