//! op 314: on to a server, by MAC address or by tunnel.

use std::net::IpAddr;

use super::settings::Route;
use super::{Common, Gate, Target};
use crate::packet::buffer::{Buffer, Pool};
use crate::wire::family::Family;
use crate::role::Context;
use crate::stage::encap;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Packet, Side};
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
                let Common { oversize, counters, .. } = &mut *self.common;
                let how = (tunnel.format, target.entropy);
                let put = |_, fragment: &mut _| encap::put_to(fragment, tunnel.ends, how);
                let packet = (Side::Outside, &*packet);
                oversize.refuse::<F, P>(packet, tunnel.room, counters, context, put)
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
}
