//! op 314: on to a server, by MAC address or by tunnel.

use std::net::IpAddr;

use super::settings::{Route, Tunnel};
use super::{ERRORS_PER_SECOND, Gate, Target};
use crate::buffer::{Buffer, Pool};
use crate::counters::Generated;
use crate::family::Family;
use crate::role::{Context, send_made};
use crate::stage::{encap, fragment, too_big};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Packet, Side};
use crate::wire::ethernet;

impl<F: Family> Gate<'_, F> {
    /// Sends a packet on to a server; the verdict, unless something is in the way.
    #[inline]
    pub(super) fn deliver<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        target: Target,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match self.common.serving[usize::from(target.service)].servers[usize::from(target.server)] {
            Route::AsItIs => verdict,
            Route::Direct(mac) => {
                ethernet::set_destination(packet.buffer.head_mut(), mac);
                verdict
            }
            Route::Neighbour(address) => self.by_mac_of(packet, address, verdict, context.now),
            Route::Tunnel(tunnel) if packet.ip_len() > tunnel.room => {
                self.too_big(packet, &tunnel, target.entropy, context)
            }
            Route::Tunnel(tunnel) => {
                match encap::put_to(packet, tunnel.ends, (tunnel.format, target.entropy)) {
                    true => verdict,
                    false => Verdict::NoBuffer,
                }
            }
        }
    }

    /// To the MAC address of a server's address; while that is not known the packet waits.
    #[inline]
    fn by_mac_of<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        address: IpAddr,
        verdict: Verdict,
        now: Ticks,
    ) -> Verdict {
        if let Some(mac) = self.common.neighbours.find(address) {
            ethernet::set_destination(packet.buffer.head_mut(), mac);
            return verdict;
        }
        let held = packet.buffer.is_contiguous()
            && self.common.waiting.hold(address, packet.buffer.head(), now);
        if held { Verdict::Held } else { Verdict::NeighbourUnresolved }
    }

    /// What does not fit the tunnel is answered by an ICMP error, or goes in fragments where its
    /// sender allows that.
    #[cold]
    fn too_big<P: Pool>(
        &mut self,
        packet: &Packet<P::Buffer>,
        tunnel: &Tunnel,
        entropy: u32,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if F::may_be_fragmented(packet.ip()) {
            return self.in_fragments(packet, tunnel, entropy, context);
        }
        let rate = ERRORS_PER_SECOND;
        if !context.out.has_room(Side::Outside)
            || !self.common.errors.take(1, rate, rate, context.now)
        {
            return Verdict::TooBigUnanswered;
        }
        match too_big::answer::<F, P>(packet, tunnel.room as u16, context.pool) {
            Some(error) => {
                send_made(&self.common.counters, Side::Outside, error, Generated::TooBig, context);
                Verdict::TooBig
            }
            None => Verdict::TooBigUnanswered,
        }
    }

    fn in_fragments<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        tunnel: &Tunnel,
        entropy: u32,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Some(fragments) = fragment::split(packet, tunnel.room, context.pool) else {
            return Verdict::NoBuffer;
        };
        for fragment in fragments {
            let mut fragment = Packet::new(fragment);
            // One that gets no tunnel is as good as lost on the way: the rest may as well go.
            if encap::put_to(&mut fragment, tunnel.ends, (tunnel.format, entropy))
                && context.out.has_room(Side::Inside)
            {
                let (counters, frame) = (&self.common.counters, fragment.buffer);
                send_made(counters, Side::Inside, frame, Generated::Fragment, context);
            }
        }
        Verdict::Fragmented
    }
}
