//! What belongs to a translated connection without being one of its whole packets: ICMP errors
//! about them, and fragments.

use super::{Gate, client, server};
use crate::packet::buffer::{Buffer, Pool};
use crate::role::gateway::mode::{Configuration, Obstacle, Way};
use crate::wire::family::{Endpoint, Family};
use crate::role::gateway::flow::Phase;
use crate::packet::fragments::{Fate, PacketId};
use crate::role::Context;
use crate::stage::quote;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    /// The connection of a client endpoint, if it is translated.
    pub(super) fn translated(&mut self, client: Endpoint<F>, now: Ticks) -> Option<Way<F>> {
        let slot = self.flows.find(self.flows.hash(client), client, now)?;
        let entry = self.flows.get(slot);
        let decided = matches!(entry.state(), Phase::Replica | Phase::Closing);
        decided.then(|| entry.value.way(client))
    }

    /// An ICMP packet. From the outside an error quotes what went to the replica: the client
    /// must find the server in it. From the inside it quotes what the client got as from the
    /// server: the replica must find itself.
    pub(super) fn icmp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::Icmp };
        let client = match from {
            Side::Outside => quoted.source,
            Side::Inside => quoted.destination,
        };
        let Some(way) = self.translated(client, context.now) else { return Verdict::Icmp };
        match from {
            Side::Outside => match C::error_to_client(packet, quoted, &way) {
                true => Verdict::IcmpTranslated,
                false => Verdict::Icmp,
            },
            Side::Inside if quoted.outer.is_some() || quoted.source != way.server => Verdict::Icmp,
            Side::Inside => {
                let path = &self.common.settings.path;
                match C::error_to_replica(packet, quoted, &way, path) {
                    Ok(()) => Verdict::IcmpTranslated,
                    Err(Obstacle::NoRoom | Obstacle::TooBig(_)) => Verdict::NoBuffer,
                }
            }
        }
    }

    /// A first fragment that bears the whole TCP header.
    pub(super) fn first_fragment<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if from == Side::Outside && !C::FOLLOWS_PLAIN {
            return Verdict::Fragment;
        }
        let (head, view) = (packet.buffer.head(), &packet.view);
        let (client, other) = (client(from, head, view), server::<F>(from, head, view));
        let id = PacketId::of(packet.ip());
        let way = self.translated(client, context.now).filter(|way| match from {
            Side::Inside => way.server == other,
            Side::Outside => way.server == other || C::plain_winner(way) == Some(other),
        });
        // As of whole packets: from the server of a connection that a replica won.
        let loser = |way: &Way<F>| from == Side::Outside && C::plain_winner(way) != Some(other);
        if way.as_ref().is_some_and(loser) {
            return Verdict::FromLoser;
        }
        match way {
            None => self.learn_untranslated(from, id, context.now),
            way => self.fragments.learn(id, way, context.now),
        }
        match (way, from) {
            (None, _) => Verdict::Fragment,
            (Some(way), Side::Inside) => {
                self.send_to_replica(packet, &way, Verdict::FragmentTranslated, context)
            }
            (Some(way), Side::Outside) => {
                C::to_client(packet, &way);
                Verdict::FragmentTranslated
            }
        }
    }

    /// Any other fragment.
    pub(super) fn later_fragment<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if from == Side::Outside && !C::FOLLOWS_PLAIN || !F::fragment(packet.ip()).is_later_tcp() {
            return self.pass_fragment(from, packet, context.now);
        }
        let fate = self.fragments.find(PacketId::of(packet.ip()), context.now);
        match (fate, from) {
            (Fate::Follow(way), Side::Inside) => {
                let path = &self.common.settings.path;
                match C::fragment_to_replica(packet, &way, path) {
                    Ok(()) => Verdict::FragmentTranslated,
                    Err(obstacle) => self.obstructed(packet, &way, obstacle, context),
                }
            }
            (Fate::Follow(way), Side::Outside) if C::plain_winner(&way).is_some() => {
                C::fragment_to_client(packet, &way);
                Verdict::FragmentTranslated
            }
            (Fate::Unknown, _)
                if self.may_be_translated(from, other_address::<F>(from, packet.ip())) =>
            {
                Verdict::FragmentUnknown
            }
            _ => Verdict::Fragment,
        }
    }

    /// A fragment that passes as it is. Of a first one that has not the whole TCP header, that is
    /// remembered, so that what follows it is not missed. Other protocols number their packets
    /// by themselves.
    fn pass_fragment<B: Buffer>(&mut self, from: Side, packet: &Packet<B>, now: Ticks) -> Verdict {
        if F::fragment(packet.ip()).is_first_tcp() {
            self.learn_untranslated(from, PacketId::of(packet.ip()), now);
        }
        Verdict::Fragment
    }

    /// A first fragment of no translated connection. When the winner's come in tunnels, one from
    /// the outside does not take their place: whoever sent it numbers its packets by itself.
    pub(super) fn learn_untranslated(&mut self, from: Side, id: PacketId<F>, now: Ticks) {
        let others = C::TUNNELS && from == Side::Outside;
        if !others || !matches!(self.fragments.find(id, now), Fate::Follow(_)) {
            self.fragments.learn(id, None, now);
        }
    }

    /// Whether a later fragment, from or to this address beyond the gateway, may be one of a
    /// translated connection: its ports are not known.
    pub(super) fn may_be_translated(&self, from: Side, other: F::Address) -> bool {
        if self.flows.count(Phase::Replica) + self.flows.count(Phase::Closing) == 0 {
            return false;
        }
        let settings = &self.common.settings;
        match from {
            // In a tunnel the source is the server's, as the destination is from the inside.
            Side::Outside if !C::TUNNELS => {
                let end = Endpoint::new(other, 0);
                (0..settings.services.len() as u16).any(|service| self.permits(service, end))
            }
            _ => self.common.services.covers(other.into()),
        }
    }
}

fn other_address<F: Family>(from: Side, ip: &[u8]) -> F::Address {
    match from {
        Side::Inside => F::destination(ip),
        Side::Outside => F::source(ip),
    }
}
