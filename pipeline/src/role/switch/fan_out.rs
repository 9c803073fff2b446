//! Copies of tagged start packets for the replicas: ops 304-312.

use std::net::IpAddr;

use super::Gate;
use crate::packet::buffer::{Buffer, Pool};
use crate::counters::Generated;
use crate::wire::family::Family;
use crate::role::{Context, send_made};
use crate::stage::sign::Worth;
use crate::stage::{encap, tag};
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};

/// Tells addresses apart.
fn mixed(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => address.to_bits() as usize,
        IpAddr::V6(address) => (address.to_bits() ^ address.to_bits() >> 64) as usize,
    }
}

impl<F: Family> Gate<'_, F> {
    /// A start packet to a service (op 304): copied, if its tag says so, and rid of its tag. What
    /// it comes to, unless no server is to be had; an error is for a packet that goes nowhere.
    pub(super) fn start<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        service: usize,
        context: &mut Context<'_, P>,
    ) -> Result<Verdict, Verdict> {
        let (tag, at, length) = match self.common.settings.tag.find(packet.options()) {
            tag::Found::None => return Ok(Verdict::ToServer),
            tag::Found::Bad => return Err(Verdict::BadTag),
            tag::Found::Tag(tag, at, length) => (tag, at, length),
        };
        if !packet.ip_checksum_ok() {
            return Err(Verdict::TagIpChecksum);
        }
        // Data is not copied, and may lie where its sum cannot be formed.
        if !packet.has_data() && !packet.tcp_checksum_ok::<F>() {
            return Err(Verdict::TagTcpChecksum);
        }
        let header = &packet.buffer.head()[..usize::from(packet.view.l3)];
        let serving = &self.common.serving[service];
        if !serving.replicas.is_empty() {
            self.common.probes.note(serving.first_replica, header, context.now);
        }
        let verdict = match self.may_fan_out(packet, service, &tag) {
            Ok(()) => self.fan_out(packet, service, context),
            Err(verdict) => verdict,
        };
        tag::strip::<F, _>(packet, at, length);
        Ok(verdict)
    }

    /// ops 308-310: whether a start packet is to be copied at all, and why not.
    fn may_fan_out<B: Buffer>(
        &self,
        packet: &Packet<B>,
        service: usize,
        tag: &tag::Tag,
    ) -> Result<(), Verdict> {
        let settings = &self.common.settings;
        // Data must not be delivered more than once; no gateway tags a start packet with data.
        if !tag.permitted || !self.common.serving[service].replicable || packet.has_data() {
            return Err(Verdict::NotFannedOut);
        }
        match self.common.keys.get().judge::<F, B>(packet, tag) {
            Worth::Forged => return Err(Verdict::BadSignature),
            Worth::Unsigned if settings.require_signature => return Err(Verdict::NotSigned),
            Worth::Unsigned | Worth::Genuine => {}
        }
        let client: IpAddr = F::source(packet.ip()).into();
        let gateways = &settings.gateways;
        if !gateways.is_empty() && !gateways.iter().any(|prefix| prefix.contains(&client)) {
            return Err(Verdict::GatewayStranger);
        }
        Ok(())
    }

    /// op 312: a copy to every live replica, within bounds.
    fn fan_out<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        service: usize,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = packet.source::<F>();
        let live = self.common.selection.get().replicas(service).len();
        if live == 0 {
            return Verdict::NoReplica;
        }
        let copies = live.min(self.common.settings.max_copies);
        if !self.common.limiter.take(client.address.into(), copies as u64, context.now) {
            return Verdict::FanOutLimited;
        }
        // Of more replicas than copies, each client's share begins at another.
        let first = match live - copies {
            0 => 0,
            _ => (mixed(client.address.into()) ^ usize::from(client.port)) % live,
        };
        for number in 0..copies {
            let at = (first + number) % live;
            let to = usize::from(self.common.selection.get().replicas(service)[at]);
            self.copy_to(packet, service, to, client.entropy(), Generated::Copy, context);
        }
        Verdict::FannedOut
    }

    /// A tunnelled copy to a replica, given by its number within the service.
    pub(super) fn copy_to<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        service: usize,
        number: usize,
        entropy: u32,
        what: Generated,
        context: &mut Context<'_, P>,
    ) {
        let (serving, counters) = (&self.common.serving[service], &self.common.counters);
        let tunnel = &serving.replicas[number];
        let copy = match context.out.has_room(Side::Outside) {
            true => {
                let how = (tunnel.format, entropy);
                encap::copy_back_to(packet, tunnel.ends, how, context.pool)
            }
            false => None,
        };
        let Some(copy) = copy else { return counters.copies_failed.add(1) };
        if what == Generated::Copy {
            counters.copies[serving.first_replica + number].add(1);
        }
        send_made(counters, Side::Outside, copy, what, context);
    }
}
