//! Copies of tagged SYNs for the replicas (ops 304, 308, 310, 312).

use std::net::IpAddr;

use super::settings::Tunnel;
use super::{Common, SwitchFor};
use crate::base::time::Ticks;
use crate::counters::{Generated, Scalar};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::policy::limiter::Spent;
use crate::role::{Context, send_generated};
use crate::stage::sign::Verification;
use crate::stage::{encap, tag};
use crate::verdict::Verdict;
use crate::wire::configuration::Configuration;
use crate::wire::copies::CopiesWanted;
use crate::wire::family::Family;

/// Folds an address, to rotate the replicas that get copies by client.
fn rotation_seed(address: IpAddr) -> usize {
    match address {
        IpAddr::V4(address) => address.to_bits() as usize,
        IpAddr::V6(address) => (address.to_bits() ^ address.to_bits() >> 64) as usize,
    }
}

impl Common {
    /// Takes the token that a SYN of this source costs to be copied; returns `false` when there is
    /// none. Signed SYNs have buckets of their own, which forged ones cannot use up.
    fn take_token(&mut self, source: IpAddr, signed: bool, now: Ticks) -> bool {
        let limiter = match signed {
            true => &mut self.signed_limiter,
            false => &mut self.limiter,
        };
        match limiter.take(source, now) {
            Ok(()) => return true,
            Err(Spent::Total) => self.counters.common.scalar(Scalar::FanOutTotal).add(1),
            Err(Spent::Address | Spent::Prefix) => {
                self.counters.limited.count(limiter.limit().prefix(source));
            }
        }
        false
    }
}

impl<F: Family> SwitchFor<'_, F> {
    /// Handles a SYN to a service (op 304): copies it if its tag says so (op 308), and strips the
    /// tag. Returns the verdict, should a server be available.
    ///
    /// # Errors
    /// The verdict on a SYN that is dropped.
    pub(super) fn on_syn<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        service: usize,
        context: &mut Context<'_, P>,
    ) -> Result<Verdict, Verdict> {
        // op 308: is it tagged?
        let (tag, at, length) = match self.common.settings.tag.find(packet.options()) {
            tag::Found::None => {
                self.watch_tag(packet);
                return Ok(Verdict::ToServer);
            }
            tag::Found::Bad => return Err(Verdict::BadTag),
            tag::Found::Tag(tag, at, length) => (tag, at, length),
        };
        if !packet.ip_checksum_ok() {
            return Err(Verdict::TagIpChecksum);
        }
        // A SYN with data is not copied, and its sum may cover several buffer segments.
        if !packet.has_data() && !packet.tcp_checksum_ok::<F>() {
            return Err(Verdict::TagTcpChecksum);
        }
        let verdict = match self.may_fan_out(packet, service, &tag, context.now) {
            Ok(signed) => {
                self.note_way(packet, service, context.now);
                self.note_race(packet, &tag);
                self.fan_out(packet, service, (tag.copies, signed), context)
            }
            Err(verdict) => verdict,
        };
        tag::strip::<F, _>(packet, at, length);
        Ok(verdict)
    }

    /// Notes the way back to the replicas, which a SYN has shown. Only one that may be copied does: a
    /// forged tag from another VLAN must not say where the probes go.
    fn note_way<B: Buffer>(&mut self, packet: &Packet<B>, service: usize, now: Ticks) {
        let state = &self.common.states[service];
        if !state.replicas.is_empty() {
            let header = &packet.buffer.head()[..usize::from(packet.view.l3)];
            self.common.probes.note_header(state.first_replica, header, now);
        }
    }

    /// Notes that a client races under configuration B, where replicas send from the service's address
    /// and errors about their packets come here. Also without copies: its gateway makes some itself.
    fn note_race<B: Buffer>(&mut self, packet: &Packet<B>, tag: &tag::Tag) {
        if tag.configuration == Some(Configuration::B) {
            let client = packet.source::<F>();
            self.common.raced_under_b.insert(client.address.into(), client.port);
        }
    }

    /// Returns whether the tag of a SYN that may be copied is signed (ops 308, 310).
    ///
    /// # Errors
    /// The verdict says why it must not.
    fn may_fan_out<B: Buffer>(
        &mut self,
        packet: &Packet<B>,
        service: usize,
        tag: &tag::Tag,
        now: Ticks,
    ) -> Result<bool, Verdict> {
        let Common { settings, states, keys, signatures, counters, .. } = &mut *self.common;
        // op 310: may it be redirected, and is the content replicable?
        // Data must not be delivered more than once; no gateway tags a SYN with data.
        let state = &states[service];
        if !tag.permitted || !state.replicable || state.retired || packet.has_data() {
            return Err(Verdict::NotFannedOut);
        }
        // RFC 2003, section 3.1: it must not leave a tunnel.
        if F::hop_limit(packet.ip()) == 0 {
            return Err(Verdict::NotFannedOut);
        }
        let keys = keys.get();
        let verified = signatures.verify::<F, B>(keys, packet, tag, now, &counters.common);
        let proof = match verified {
            Verification::Invalid => return Err(Verdict::BadSignature),
            Verification::Unsigned if settings.require_signature => {
                return Err(Verdict::NotSigned);
            }
            Verification::Unsigned => None,
            Verification::Valid(proof) => Some(proof),
        };
        if !settings.allowed_clients.allows(F::source(packet.ip()).into()) {
            return Err(Verdict::ClientNotAllowed);
        }
        match proof {
            Some(proof) if !signatures.pass(proof, keys, now) => Err(Verdict::Replayed),
            proof => Ok(proof.is_some()),
        }
    }

    /// Sends as many copies as the tag asks for to live replicas, within the limits (op 312).
    fn fan_out<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        service: usize,
        (wanted, signed): (CopiesWanted, bool),
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if wanted == CopiesWanted::NONE {
            return Verdict::NoCopiesWanted;
        }
        if self.common.settings.drain.holds(service) {
            return Verdict::Drained;
        }
        let client = packet.source::<F>();
        let live = self.common.selection.get().replicas(service).len();
        if live == 0 {
            return Verdict::NoReplica;
        }
        let asked_for = wanted.limit(live);
        let copies = asked_for.min(self.common.settings.max_copies);
        if !self.common.take_token(client.address.into(), signed, context.now) {
            return Verdict::FanOutLimited;
        }
        let first = if asked_for < live {
            self.next_explorers(service, copies, live)
        } else if copies < live {
            // Each client's share begins at another replica.
            (rotation_seed(client.address.into()) ^ usize::from(client.port)) % live
        } else {
            0
        };
        // op 312: encapsulated and sent to all replicas.
        for number in 0..copies {
            let at = (first + number) % live;
            let to = usize::from(self.common.selection.get().replicas(service)[at]);
            self.copy_to(packet, service, to, client.entropy(), Generated::Copy, context);
        }
        Verdict::FannedOut
    }

    /// Returns where the next explorers begin among the `live` replicas of a service, and moves on
    /// behind them: every live replica is an explorer in turn.
    fn next_explorers(&mut self, service: usize, copies: usize, live: usize) -> usize {
        let next = &mut self.common.states[service].next_explorer;
        let first = *next % live;
        *next = (first + copies) % live;
        first
    }

    /// Sends a tunnelled copy to a replica, given by its number within the service.
    pub(super) fn copy_to<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        service: usize,
        number: usize,
        entropy: u32,
        generated: Generated,
        context: &mut Context<'_, P>,
    ) {
        let (state, counters) = (&self.common.states[service], &self.common.counters);
        let tunnel = state.replicas[number];
        let is_sent = self.send_copy(packet, tunnel, entropy, generated, context);
        if is_sent && generated == Generated::Copy {
            counters.copies[state.first_replica + number].add(1);
        }
    }

    /// Sends a copy through a tunnel. Returns whether there was a buffer for it.
    pub(super) fn send_copy<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        tunnel: Tunnel,
        entropy: u32,
        generated: Generated,
        context: &mut Context<'_, P>,
    ) -> bool {
        let counters = &self.common.counters.common;
        let copy = match context.out.has_room(Side::Outside) {
            true => encap::copy_back_to(packet, tunnel.outer(entropy), context.pool),
            false => None,
        };
        let Some(copy) = copy else {
            counters.scalar(Scalar::CopiesFailed).add(1);
            return false;
        };
        send_generated(counters, Side::Outside, copy, generated, context);
        true
    }
}
