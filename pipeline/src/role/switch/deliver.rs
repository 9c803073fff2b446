//! Delivery to a server, by MAC address or by tunnel (op 314).

use super::settings::{NextHop, Tunnel};
use super::{Common, Destination, SwitchFor};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Packet, Side};
use crate::role::Context;
use crate::stage::encap;
use crate::verdict::Verdict;
use crate::wire::ethernet;
use crate::wire::family::Family;

impl<F: Family> SwitchFor<'_, F> {
    /// Sends a packet to a server. Returns `verdict`, unless it is pending or was not put into its
    /// tunnel.
    #[inline]
    pub(super) fn deliver<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        to: Destination,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match self.common.states[usize::from(to.service)].servers[usize::from(to.server)] {
            NextHop::Unchanged => verdict,
            NextHop::Direct(mac) => {
                ethernet::set_destination(packet.buffer.head_mut(), mac);
                verdict
            }
            NextHop::Neighbour(address) => {
                self.common.resolver.address(packet, address, verdict, context.now)
            }
            NextHop::Tunnel(tunnel) => self.tunnel_to(packet, tunnel, to.entropy, verdict, context),
        }
    }

    /// Sends a packet through a tunnel to a server. A frame that the router addressed to the switch
    /// itself, which answers for the service address, gets the server's MAC address; any other
    /// already has that of its next hop.
    fn tunnel_to<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        tunnel: Tunnel,
        entropy: u32,
        verdict: Verdict,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let Common { settings, oversize, resolver, counters, .. } = &mut *self.common;
        let (outer, from) = (tunnel.outer(entropy), Side::Outside);
        let own = settings.macs[from as usize];
        if F::hop_limit(packet.ip()) == 0 {
            return Verdict::TunnelHopLimit;
        }
        let is_to_us = ethernet::destination(packet.buffer.head()) == own;
        if packet.ip_len() <= tunnel.inner_mtu {
            return match encap::put_to(packet, outer) {
                true if is_to_us => {
                    resolver.address(packet, outer.destination, verdict, context.now)
                }
                true => verdict,
                false => Verdict::NoBuffer,
            };
        }
        let mac = is_to_us.then(|| resolver.find_or_want(outer.destination));
        // The copies that wait for a MAC address are of whole packets.
        if mac == Some(None) && F::may_be_fragmented(packet.ip()) {
            return Verdict::NeighbourUnresolved;
        }
        let put = |_, fragment: &mut Packet<P::Buffer>| {
            if let Some(mac) = mac.flatten() {
                ethernet::set_destination(fragment.buffer.head_mut(), mac);
            }
            encap::put_to(fragment, outer)
        };
        let (counters, inner_mtu) = (&counters.common, tunnel.inner_mtu);
        oversize.fragment_or_reject::<F, P>(from, packet, inner_mtu, counters, context, put)
    }
}
