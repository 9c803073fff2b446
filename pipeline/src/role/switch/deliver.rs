//! Delivery to a server, by MAC address or by tunnel (op 314).

use super::settings::NextHop;
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
            NextHop::Tunnel(tunnel) if packet.ip_len() > tunnel.inner_mtu => {
                let Common { oversize, counters, .. } = &mut *self.common;
                let (counters, inner_mtu) = (&counters.common, tunnel.inner_mtu);
                let outer = tunnel.outer(to.entropy);
                let put = |_, fragment: &mut _| encap::put_to(fragment, outer);
                let from = Side::Outside;
                oversize.fragment_or_reject::<F, P>(from, packet, inner_mtu, counters, context, put)
            }
            NextHop::Tunnel(tunnel) => match encap::put_to(packet, tunnel.outer(to.entropy)) {
                true => verdict,
                false => Verdict::NoBuffer,
            },
        }
    }
}
