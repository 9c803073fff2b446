//! What belongs to a held connection without being one of its whole packets: plain ICMP errors
//! about them, and fragments of the web server's.

use super::mode::{self, Part};
use super::{Carried, Door};
use crate::packet::buffer::Pool;
use crate::wire::family::Family;
use crate::packet::fragments::{Fate, PacketId};
use crate::role::Context;
use crate::stage::quote;
use crate::stage::tag::Code;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};

impl<F: Family> Door<'_, F> {
    /// A plain ICMP packet. From the inside an error quotes what the web server got from the
    /// client; from the outside, under C, it quotes a tunnel to the client.
    pub(super) fn icmp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read::<F, _>(packet) else { return Verdict::Icmp };
        let client = match from {
            Side::Inside => quoted.source,
            Side::Outside => quoted.destination,
        };
        let Some(Carried { held, .. }) = self.carried(client, context) else {
            return Verdict::Icmp;
        };
        if held.configuration != Code::C {
            return Verdict::Icmp;
        }
        match (from, quoted.outer) {
            (Side::Inside, None) if quoted.destination == held.sends_as() => {
                match mode::error_to_client(packet, quoted, client, &held) {
                    Ok(()) => Verdict::IcmpTranslated,
                    Err(_) => Verdict::NoBuffer,
                }
            }
            (Side::Outside, Some(outer))
                if outer == (held.replica.address, client.address)
                    && quoted.source == held.server =>
            {
                let Some(quoted) = quote::peel(packet, quoted) else { return Verdict::Icmp };
                mode::error_to_web_server(packet, quoted, &held);
                Verdict::IcmpTranslated
            }
            _ => Verdict::Icmp,
        }
    }

    /// A web server's first fragment that bears the whole TCP header.
    pub(super) fn first_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let id = PacketId::of(packet.ip());
        let from = packet.source::<F>();
        let carried = self.carried(packet.destination(), context);
        let carried = carried.filter(|carried| {
            carried.held.configuration != Code::A && carried.held.sends_as() == from
        });
        self.fragments.learn(id, carried, context.now);
        let Some(Carried { client, held }) = carried else { return Verdict::Fragment };
        let verdict = Verdict::FragmentTranslated;
        self.send_to_client(packet, Part::Data, client, &held, verdict, context)
    }

    /// Any other fragment of a web server.
    pub(super) fn later_fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let fragment = F::fragment(packet.ip());
        if !fragment.is_later_tcp() {
            if fragment.is_first_tcp() {
                // Without the whole TCP header: what follows it is not to be missed.
                self.fragments.learn(PacketId::of(packet.ip()), None, context.now);
            }
            return Verdict::Fragment;
        }
        match self.fragments.find(PacketId::of(packet.ip()), context.now) {
            Fate::Follow(Carried { client, held }) => {
                let verdict = Verdict::FragmentTranslated;
                self.send_to_client(packet, Part::LaterFragment, client, &held, verdict, context)
            }
            Fate::Unknown if self.may_be_translated(F::source(packet.ip())) => {
                Verdict::FragmentUnknown
            }
            Fate::Unknown | Fate::Untouched => Verdict::Fragment,
        }
    }

    /// Whether a later fragment of this source may be one of a connection whose packets do not go
    /// as they are.
    fn may_be_translated(&mut self, source: F::Address) -> bool {
        *self.translates &= !self.held.is_empty();
        let source = source.into();
        *self.translates
            && (self.common.settings.server(source).is_some()
                || self.common.services.covers(source))
    }
}
