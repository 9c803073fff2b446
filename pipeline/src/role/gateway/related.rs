//! Packets that belong to a translated connection without being one of its whole TCP packets: ICMP
//! errors about those, and fragments.

use super::lookup::{client, server};
use super::mode::{EncapError, Mode, Translation};
use super::{Common, GatewayFor};
use crate::base::time::Ticks;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::stage::{quote, quoted_tag};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
    /// Returns the translation of a client endpoint's connection; `None` when it is not translated.
    pub(super) fn translated(&mut self, client: Endpoint<F>, now: Ticks) -> Option<Translation<F>> {
        let slot = self.flows.find(self.flows.hash(client), client, now)?;
        let entry = self.flows.get(slot);
        entry.state().is_translated().then(|| entry.value.translation(client))
    }

    /// Handles an ICMP packet. An error from the outside quotes a packet to the replica: the client
    /// must find the server in it, and no tag. An error from the inside quotes a packet as the client received
    /// it from the server: the replica must find itself in it.
    pub(super) fn icmp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::Icmp };
        if from == Side::Outside
            && let Some(tag) = quoted_tag::find(packet, &quoted, self.common.settings.tag)
        {
            if quoted.outer.is_some() {
                return Verdict::IcmpDirectCopy;
            }
            quoted_tag::strip(packet, &quoted, tag);
            return Verdict::IcmpTagStripped;
        }
        let client = match from {
            Side::Outside => quoted.source,
            Side::Inside => quoted.destination,
        };
        let Some(translation) = self.translated(client, context.now) else { return Verdict::Icmp };
        match from {
            Side::Outside => match M::error_to_client(packet, quoted, &translation) {
                true => Verdict::IcmpTranslated,
                false => Verdict::Icmp,
            },
            Side::Inside if quoted.outer.is_some() || quoted.source != translation.server => {
                Verdict::Icmp
            }
            Side::Inside => {
                let path = &self.common.settings.path;
                match M::error_to_replica(packet, quoted, &translation, path) {
                    Ok(()) => Verdict::IcmpTranslated,
                    Err(EncapError::NoHeadroom | EncapError::TooBig(_)) => Verdict::NoBuffer,
                }
            }
        }
    }

    /// Handles a first fragment that contains the whole TCP header.
    pub(super) fn first_fragment<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if from == Side::Outside && !M::REPLIES_NEED_LOOKUP {
            return Verdict::Fragment;
        }
        let (head, view) = (packet.buffer.head(), &packet.view);
        let (client, other) = (client(from, head, view), server::<F>(from, head, view));
        let id = PacketId::of(packet.ip());
        let is_winner = |translation: &_| M::plain_winner(translation) == Some(other);
        let translation = self.translated(client, context.now).filter(|translation| match from {
            Side::Inside => translation.server == other,
            Side::Outside => translation.server == other || is_winner(translation),
        });
        // As with whole packets: from the server of a connection that a replica won.
        if from == Side::Outside && translation.as_ref().is_some_and(|t| !is_winner(t)) {
            return Verdict::FromLoser;
        }
        match translation {
            None => self.learn_untranslated(from, id, context.now),
            translation => self.fragments.learn(id, translation, context.now),
        }
        match (translation, from) {
            (None, _) => Verdict::Fragment,
            (Some(translation), Side::Inside) => {
                self.send_to_replica(packet, &translation, Verdict::FragmentTranslated, context)
            }
            (Some(translation), Side::Outside) => {
                M::to_client(packet, &translation);
                Verdict::FragmentTranslated
            }
        }
    }

    /// Handles any other fragment.
    pub(super) fn later_fragment<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if from == Side::Outside && !M::REPLIES_NEED_LOOKUP
            || !F::fragment(packet.ip()).is_later_tcp()
        {
            return self.pass_fragment(from, packet, context.now);
        }
        let id = PacketId::of(packet.ip());
        match (self.fragments.find(id, context.now), from) {
            (FirstFragment::Handled(translation), Side::Inside) => {
                let path = &self.common.settings.path;
                match M::fragment_to_replica(packet, &translation, path) {
                    Ok(()) => Verdict::FragmentTranslated,
                    Err(error) => self.encap_failed(packet, &translation, error, context),
                }
            }
            (FirstFragment::Handled(translation), Side::Outside)
                if M::plain_winner(&translation).is_some() =>
            {
                M::fragment_to_client(packet, &translation);
                Verdict::FragmentTranslated
            }
            (FirstFragment::Unseen, _) if self.may_be_translated(from, id) => {
                Verdict::FragmentUnknown
            }
            _ => Verdict::Fragment,
        }
    }

    /// Forwards a fragment as it is. A first fragment without the whole TCP header is remembered,
    /// so that later ones are not taken for fragments whose first was lost. Other protocols number
    /// their packets independently.
    fn pass_fragment<B: Buffer>(&mut self, from: Side, packet: &Packet<B>, now: Ticks) -> Verdict {
        if F::fragment(packet.ip()).is_first_tcp() {
            self.learn_untranslated(from, PacketId::of(packet.ip()), now);
        }
        Verdict::Fragment
    }

    /// Remembers a first fragment of no translated connection, if later ones could be taken for a
    /// translated connection's. When the winner's fragments come in tunnels, a plain one from the
    /// outside does not replace them: its sender numbers its packets independently.
    pub(super) fn learn_untranslated(&mut self, from: Side, id: PacketId<F>, now: Ticks) {
        let is_others = M::SYN_ACK_IN_TUNNEL && from == Side::Outside;
        let has_earlier = matches!(self.fragments.find(id, now), FirstFragment::Handled(_));
        let is_needed = if has_earlier { !is_others } else { self.may_be_translated(from, id) };
        if is_needed {
            self.fragments.learn(id, None, now);
        }
    }

    /// Returns whether a later fragment may belong to a translated connection: its ports are not
    /// known. It may only if the client's address has such a connection.
    pub(super) fn may_be_translated(&self, from: Side, id: PacketId<F>) -> bool {
        let (client, other) = match from {
            Side::Inside => (id.source, id.destination),
            Side::Outside => (id.destination, id.source),
        };
        if self.flows.count_of_host(Endpoint::new(client, 0)) == 0 {
            return false;
        }
        match from {
            // In a tunnel the source is the server's, as the destination is from the inside.
            Side::Outside if !M::SYN_ACK_IN_TUNNEL => {
                let Common { allowed_replicas, allowed_earlier, .. } = &*self.common;
                let mut lists = std::iter::once(allowed_replicas).chain(allowed_earlier);
                lists.any(|list| list.allows(other.into()))
            }
            Side::Inside | Side::Outside => self.common.services.covers(other.into()),
        }
    }
}
