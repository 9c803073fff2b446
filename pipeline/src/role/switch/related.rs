//! What belongs to a connection without being one of its whole packets: ICMP errors about them,
//! fragments; and the answers to probes of tunnels.

use super::{Gate, Target};
use crate::packet::buffer::{Buffer, Pool};
use crate::counters::Generated;
use crate::wire::family::{Endpoint, Family, V6};
use crate::packet::fragments::{Fate, PacketId};
use crate::role::Context;
use crate::stage::{encap, probe, quote, icmp_relay};
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side};
use crate::wire::tunnel::Format;

/// What fits any tunnel on any path of IPv6.
const ROOM: usize = 1280 - encap::overhead::<V6>(Format::Gue);

impl<F: Family> Gate<'_, F> {
    /// An ICMP packet from the WAN. An error about a server's packet goes to that server; one
    /// that says "too big" to the replicas too: under B they send from the same address.
    pub(super) fn icmp_from_outside<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(quoted) = quote::read::<F, _>(packet) else { return self.echo(packet) };
        let (client, to) = (quoted.destination, quoted.source);
        if quoted.outer.is_some() || F::destination(packet.ip()) != to.address {
            return Verdict::Icmp;
        }
        let Some(service) = self.service(to) else { return Verdict::Icmp };
        if quote::is_too_big::<F, _>(packet) {
            self.tell_replicas(packet, service, client, context);
        }
        match self.server_of(service, (client, to), context.now) {
            Some(server) => {
                let target = Target::new(service, server, client);
                self.deliver(packet, target, Verdict::IcmpToServer, context)
            }
            None => Verdict::Icmp,
        }
    }

    /// A tunnelled copy to each replica, for one that gets no new connections goes on with those
    /// that it has. Which of them has the client is not known here; the others drop it.
    fn tell_replicas<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        service: usize,
        client: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) {
        let replicas = self.common.serving[service].replicas.len();
        let told = replicas > 0
            && self.common.serving[service].replicable
            && quote::checksum_ok::<F, _>(packet)
            && self.common.errors_copied.take(client.address.into(), replicas as u64, context.now);
        if !told {
            return;
        }
        // The error itself takes as much as every path has room for (RFC 4443, section 2.4).
        let short = match packet.ip_len() > ROOM {
            true => match quote::shortened::<F, P>(packet, ROOM, context.pool) {
                Some(short) => Some(Packet::new(short)),
                None => return self.common.counters.copies_failed.add(replicas as u64),
            },
            false => None,
        };
        let packet = short.as_ref().unwrap_or(packet);
        for number in 0..replicas {
            self.copy_to(packet, service, number, client.entropy(), Generated::IcmpCopy, context);
        }
    }

    /// ICMP that is no error about TCP.
    fn echo<B: Buffer>(&self, packet: &Packet<B>) -> Verdict {
        let reply = probe::read_reply::<F, _>(packet);
        match reply.is_some_and(|reply| self.common.probes.returned(&reply)) {
            true => Verdict::ProbeReturned,
            false => Verdict::Icmp,
        }
    }

    /// An ICMP packet from the inside. An error about a tunnel to a server concerns the client
    /// whose packet was in it.
    pub(super) fn icmp_from_inside<B: Buffer>(&self, packet: &mut Packet<B>) -> Verdict {
        let Some(about) = icmp_relay::read::<F, _>(packet) else { return Verdict::Icmp };
        let to = about.receiver;
        let service = self.common.services.find(to.ip(), to.port()).map(usize::from);
        let ours = service
            .is_some_and(|service| self.common.serving[service].tunnel_of(about.tunnel).is_some());
        match ours && icmp_relay::to_sender::<F, _>(packet, &about) {
            true => Verdict::IcmpTranslated,
            false => Verdict::Icmp,
        }
    }

    /// A fragment from the WAN goes where its first fragment's ports say.
    pub(super) fn fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let id = PacketId::of(packet.ip());
        let target = match packet.view.kind {
            Kind::FirstFragment => {
                let target = self.target_of_first(packet, context);
                self.fragments.learn(id, target, context.now);
                target
            }
            _ if !F::fragment(packet.ip()).is_later_tcp() => None,
            _ => match self.fragments.find(id, context.now) {
                Fate::Follow(target) => Some(target),
                // Out of order it may be at the wrong server; dropped, it would be at none.
                Fate::Unknown | Fate::Untouched => None,
            },
        };
        match target {
            Some(target) => self.deliver(packet, target, Verdict::FragmentToServer, context),
            None => Verdict::Fragment,
        }
    }

    fn target_of_first<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        context: &Context<'_, P>,
    ) -> Option<Target> {
        let (client, to) = (packet.source(), packet.destination());
        let service = self.service(to)?;
        let server = self.server_of(service, (client, to), context.now)?;
        Some(Target::new(service, server, client))
    }
}

/// The client that an ICMP error is about: it places the error on a core.
pub(super) fn client_of_error<F: Family, B: Buffer>(
    from: Side,
    packet: &Packet<B>,
) -> Option<std::net::IpAddr> {
    match from {
        Side::Outside => Some(quote::read::<F, B>(packet)?.destination.address.into()),
        Side::Inside => match icmp_relay::read::<F, B>(packet) {
            Some(about) => Some(about.sender.ip()),
            None => Some(quote::read::<F, B>(packet)?.source.address.into()),
        },
    }
}
