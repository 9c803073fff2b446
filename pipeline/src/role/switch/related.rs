//! Packets that belong to a connection without being one of its whole TCP packets: ICMP errors
//! about those, and fragments; also the answers to probes of tunnels.

use super::{Destination, SwitchFor};
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Kind, Packet};
use crate::role::Context;
use crate::stage::{icmp_relay, probe, quote};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family, V6};
use crate::wire::tunnel::Format;

/// The largest packet that fits a tunnel of any format on any IPv6 path, in bytes.
const SAFE_INNER_MTU: usize = 1280 - Format::most_overhead::<V6>();

impl<F: Family> SwitchFor<'_, F> {
    /// Handles an ICMP packet from the WAN. An error about a server's packet goes to that server; a
    /// "too big" to the replicas, too, since under B they send from the same address.
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
            self.copy_to_replicas(packet, service, client, context);
        }
        match self.server_of(service, (client, to), context.now) {
            Some(server) => {
                let destination = Destination::new(service, server, client);
                self.deliver(packet, destination, Verdict::IcmpToServer, context)
            }
            None => Verdict::Icmp,
        }
    }

    /// Sends a tunnelled copy of an ICMP error to each replica, also to those that get no new
    /// connections, since they may still have the client's. Which one has it is not known here; the
    /// others drop the copy.
    fn copy_to_replicas<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        service: usize,
        client: Endpoint<F>,
        context: &mut Context<'_, P>,
    ) {
        let replicas = self.common.states[service].replicas.len();
        let is_copied = replicas > 0
            && self.common.states[service].replicable
            && quote::checksum_ok::<F, _>(packet)
            && self.common.icmp_copy_limiter.take(client.address.into(), context.now).is_ok();
        if !is_copied {
            return;
        }
        // The error itself is as large as every path allows (RFC 4443, section 2.4).
        let short = match packet.ip_len() > SAFE_INNER_MTU {
            true => match quote::shortened::<F, P>(packet, SAFE_INNER_MTU, context.pool) {
                Some(short) => Some(Packet::new(short)),
                None => {
                    return self
                        .common
                        .counters
                        .common
                        .scalar(Scalar::CopiesFailed)
                        .add(replicas as u64);
                }
            },
            false => None,
        };
        let packet = short.as_ref().unwrap_or(packet);
        for number in 0..replicas {
            self.copy_to(packet, service, number, client.entropy(), Generated::IcmpCopy, context);
        }
    }

    /// Handles ICMP that is no error about TCP.
    fn echo<B: Buffer>(&self, packet: &Packet<B>) -> Verdict {
        let reply = probe::read_reply::<F, _>(packet);
        match reply.is_some_and(|reply| self.common.probes.returned(&reply)) {
            true => Verdict::ProbeReturned,
            false => Verdict::Icmp,
        }
    }

    /// Handles an ICMP packet from the inside. An error about a tunnel to a server concerns the
    /// client whose packet was in it.
    pub(super) fn icmp_from_inside<B: Buffer>(&self, packet: &mut Packet<B>) -> Verdict {
        let Some(error) = icmp_relay::read::<F, _>(packet) else { return Verdict::Icmp };
        let to = error.receiver;
        let service = self.common.services.find(to.ip(), to.port()).map(usize::from);
        let ours = service
            .is_some_and(|service| self.common.states[service].tunnel_of(error.tunnel).is_some());
        match ours && icmp_relay::to_sender::<F, _>(packet, &error) {
            true => Verdict::IcmpTranslated,
            false => Verdict::Icmp,
        }
    }

    /// Sends a fragment from the WAN where its first fragment's ports say.
    pub(super) fn fragment<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let id = PacketId::of(packet.ip());
        let destination = match packet.view.kind {
            Kind::FirstFragment => {
                let destination = self.destination_of_first(packet, context);
                self.fragments.learn(id, destination, context.now);
                destination
            }
            _ if !F::fragment(packet.ip()).is_later_tcp() => None,
            _ => match self.fragments.find(id, context.now) {
                FirstFragment::Handled(destination) => Some(destination),
                // Out of order it may reach the wrong server; dropped, it would reach none.
                FirstFragment::Unseen | FirstFragment::PassedThrough => None,
            },
        };
        match destination {
            Some(destination) => {
                self.deliver(packet, destination, Verdict::FragmentToServer, context)
            }
            None => Verdict::Fragment,
        }
    }

    fn destination_of_first<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        context: &Context<'_, P>,
    ) -> Option<Destination> {
        let (client, to) = (packet.source(), packet.destination());
        let service = self.service(to)?;
        let server = self.server_of(service, (client, to), context.now)?;
        Some(Destination::new(service, server, client))
    }
}
