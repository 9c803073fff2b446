//! What comes in tunnels from the outside, under B and C: looked up by what is inside, cracked
//! only when it belongs to an entry and comes from whom it may (ops 535, 554, 658).

use super::Gate;
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::{Claim, Configuration, Way};
use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::Phase;
use crate::packet::fragments::{Fate, PacketId};
use crate::role::{Context, Foreseen};
use crate::stage::{decap, quote};
use crate::table::Slot;
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::wire::tcp;

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    /// A tunnel from the outside; `inner` is the packet in it.
    #[inline]
    pub(super) fn tunnelled<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let (head, inner) = (packet.buffer.head(), foreseen.inner);
        let readable =
            matches!(inner.kind, Kind::Tcp | Kind::Icmp | Kind::FirstFragment | Kind::Fragment);
        // Both headers are addressed to the client, or it is somebody else's tunnel.
        if !readable
            || inner.version != F::VERSION
            || F::destination(packet.ip()) != F::destination(&head[usize::from(inner.l3)..])
        {
            return Verdict::ForeignTunnel;
        }
        match inner.kind {
            Kind::Tcp => self.tunnelled_tcp(packet, foreseen, context),
            // Under B nothing but acknowledgements comes in tunnels.
            _ if !C::FOLLOWS_PLAIN => Verdict::ForeignTunnel,
            Kind::Icmp => self.tunnelled_error(packet, inner, context),
            Kind::FirstFragment => self.tunnelled_first_fragment(packet, inner, context),
            _ => self.tunnelled_fragment(packet, inner, context),
        }
    }

    #[inline]
    fn tunnelled_tcp<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Foreseen { hash, guess, inner } = *foreseen;
        let head = packet.buffer.head();
        let client = inner.destination(head);
        let Some(slot) = self.flows.find_ahead(hash, guess, client, context.now) else {
            return Verdict::ForeignTunnel;
        };
        let flow = &self.flows.get(slot).value;
        let (outer, source) = (F::source(packet.ip()), inner.source::<F>(head));
        let claimant = match C::claim(outer, source, flow.server) {
            Claim::Stranger => return Verdict::ForeignTunnel,
            Claim::Forged => return Verdict::NotAuthentic,
            Claim::Replica(replica) => replica,
        };
        if !tcp::flags(&head[usize::from(inner.l4)..]).is_acknowledgement() {
            return self.tunnelled_data(packet, inner, slot, claimant, context);
        }
        match decap::open(packet, inner) {
            Ok(()) => self.acknowledgement(packet, slot, Some(claimant), context),
            Err(verdict) => verdict,
        }
    }

    /// What is no acknowledgement: the winner's data, or a refusal.
    #[inline]
    fn tunnelled_data<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        slot: Slot,
        claimant: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let entry = self.flows.get(slot);
        let (flow, phase, client) = (entry.value, entry.state(), entry.key);
        let flags = tcp::flags(&packet.buffer.head()[usize::from(inner.l4)..]);
        match phase {
            Phase::Racing if flags.rst() && self.permits(flow.service, claimant) => {
                Verdict::ResetByReplica
            }
            Phase::Racing => Verdict::RaceUndecided,
            // A replica that refuses when another has won.
            _ if flags.rst() && claimant != flow.replica => Verdict::ResetByReplica,
            // Under B all but acknowledgements come plain.
            _ if !C::FOLLOWS_PLAIN => Verdict::WrongForm,
            Phase::Replica | Phase::Closing if claimant == flow.replica => {
                // op 658
                if let Err(verdict) = decap::open(packet, inner) {
                    return verdict;
                }
                self.heard(slot, Side::Outside, flags, context.now);
                C::to_client(packet, &flow.way(client));
                Verdict::FromReplica
            }
            _ => Verdict::NotAuthentic,
        }
    }

    /// An ICMP error that the replica has put into the tunnel, about a packet of the client.
    fn tunnelled_error<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        inner: View,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read_at::<F>(packet.buffer.head(), inner) else {
            return Verdict::ForeignTunnel;
        };
        let Some(way) = self.translated(quoted.source, context.now) else {
            return Verdict::ForeignTunnel;
        };
        if quoted.destination != way.server || quoted.outer.is_some() {
            return Verdict::ForeignTunnel;
        }
        self.crack_of(&way, packet, inner, Verdict::IcmpTranslated)
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
        let way = self.translated(client, context.now).filter(|way| way.server == from);
        match way {
            Some(way) => {
                let verdict = self.crack_of(&way, packet, inner, Verdict::FragmentTranslated);
                if verdict == Verdict::FragmentTranslated {
                    self.fragments.learn(id, Some(way), context.now);
                }
                verdict
            }
            None => {
                self.learn_untranslated(Side::Outside, id, context.now);
                Verdict::ForeignTunnel
            }
        }
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
        match self.fragments.find(PacketId::of(ip), context.now) {
            Fate::Follow(way) => self.crack_of(&way, packet, inner, Verdict::FragmentTranslated),
            Fate::Unknown if self.may_be_translated(Side::Outside, F::source(ip)) => {
                Verdict::FragmentUnknown
            }
            _ => Verdict::ForeignTunnel,
        }
    }

    /// Cracks what comes from the winner, and gives the verdict.
    fn crack_of<B: Buffer>(
        &self,
        way: &Way<F>,
        packet: &mut Packet<B>,
        inner: View,
        verdict: Verdict,
    ) -> Verdict {
        if F::source(packet.ip()) != way.replica.address {
            return Verdict::NotAuthentic;
        }
        match decap::open(packet, inner) {
            Ok(()) => verdict,
            Err(wrong) => wrong,
        }
    }
}
