//! Packets that belong to a connection without being one of its whole TCP packets: ICMP errors
//! about those, and fragments; also the answers to probes of tunnels.

use super::{Common, Destination, SwitchFor};
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::fragments::{FirstFragment, PacketId};
use crate::packet::view::{Kind, Packet};
use crate::role::Context;
use crate::stage::quote::{self, Quoted};
use crate::stage::{icmp_relay, probe};
use crate::verdict::Verdict;
use crate::wire::family::Family;

/// Errors about endpoints that have not raced under configuration B here that a worker copies per
/// second, and at once.
pub(super) const UNKNOWN_ERRORS: u64 = 100;

/// The largest copy of an error, in bytes: with all IPv4 options inside and outside.
const LARGEST_COPY: usize = 2 * (60 + 8);

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
            self.copy_to_replicas(packet, service, &quoted, context);
        }
        match self.server_of(service, [client, to], context.now) {
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
    ///
    /// Anybody can send an error. It is copied only for a client whose SYNs may be copied, and without
    /// what it quotes beyond the least, so that little is won by one that is forged. About an endpoint
    /// that has raced under configuration B here lately many are copied; about others few, because the
    /// switch does not see every race: a gateway may ask replicas alone, or leave the SYN untagged.
    fn copy_to_replicas<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        service: usize,
        quoted: &Quoted<F>,
        context: &mut Context<'_, P>,
    ) {
        let Common {
            settings,
            states,
            icmp_copy_limiter,
            raced_under_b,
            unknown_errors,
            counters,
            ..
        } = &mut *self.common;
        let client = quoted.destination;
        let (address, replicas) = (client.address.into(), states[service].replicas.len());
        let length = quote::least_length(packet, quoted);
        let is_copied = replicas > 0
            && states[service].replicable
            && length <= LARGEST_COPY
            && settings.allowed_clients.allows(address)
            && quote::checksum_ok::<F, _>(packet)
            && (raced_under_b.contains(address, client.port)
                || unknown_errors.take(1, UNKNOWN_ERRORS, UNKNOWN_ERRORS, context.now))
            && icmp_copy_limiter.take(address, context.now).is_ok();
        if !is_copied {
            return;
        }
        let Some(short) = quote::shortened::<F, P>(packet, length, context.pool) else {
            return counters.common.scalar(Scalar::CopiesFailed).add(replicas as u64);
        };
        let short = Packet::new(short);
        for number in 0..replicas {
            self.copy_to(&short, service, number, client.entropy(), Generated::IcmpCopy, context);
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
        let ours =
            service.is_some_and(|service| self.common.states[service].has_tunnel(error.tunnel));
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
        let server = self.server_of(service, [client, to], context.now)?;
        Some(Destination::new(service, server, client))
    }
}
