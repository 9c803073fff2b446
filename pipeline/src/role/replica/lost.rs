//! Tunnels of gateways for connections that the replica does not know: its table was lost, or the
//! entry expired. Both ends are told (docs/protocol.md, 8.5).

use super::ReplicaFor;
use crate::base::time::Ticks;
use crate::counters::Generated;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::view::{Kind, Packet, Side};
use crate::policy::limiter::Bucket;
use crate::role::{Context, LookupHint, send_generated};
use crate::stage::decap;
use crate::stage::encap::{self, Outer};
use crate::stage::reset::{self, Way};
use crate::verdict::Verdict;
use crate::wire::family::{Endpoint, Family};
use crate::wire::tcp::{self, Flags};

/// Tunnels that a worker answers per second.
const PER_SECOND: u64 = 1000;

/// Returns the bucket of a worker's answers.
pub(super) fn tokens() -> Bucket {
    Bucket::full(PER_SECOND, Ticks(0))
}

impl<F: Family> ReplicaFor<'_, F> {
    /// Answers a tunnel C > R [ C > V ] that belongs to no connection with resets: to the client in
    /// the form R > C [ V > C ], and to the web server as from the client, each with the number that
    /// the segment says its receiver expects. `None`, if it has not that form, opens a connection or
    /// resets one, or if there are too many.
    ///
    /// Who forges one could send the same resets itself, with the same numbers.
    pub(super) fn lost_tunnel<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        let inner = hint.inner;
        let head = packet.buffer.head();
        if inner.kind != Kind::Tcp || packet.view.version != F::VERSION {
            return None;
        }
        let tcp = &head[usize::from(inner.l4)..];
        let (client, server) = (inner.source::<F>(head), inner.destination::<F>(head));
        if tcp::flags(tcp).0 & (Flags::SYN | Flags::RST | Flags::ACK) != Flags::ACK
            || F::source(packet.ip()) != client.address
        {
            return None;
        }
        let replica = self.web_server_at(F::destination(packet.ip()), server)?;
        let hash = self.connections.hash(client);
        if self.connections.find(hash, client, context.now).is_some()
            || self.is_martian(client.address)
            || !Side::ALL.iter().all(|&side| context.out.has_room(side))
            || !self.common.lost.take(1, PER_SECOND, PER_SECOND, context.now)
        {
            return None;
        }
        let outer = Outer::<F> {
            format: self.common.settings.path.format(client.address.into()),
            source: F::destination(packet.ip()),
            destination: client.address,
            entropy: client.entropy(),
        };
        if let Err(verdict) = decap::open(packet, inner) {
            return Some(verdict);
        }
        if !packet.tcp_checksum_ok::<F>() {
            return Some(Verdict::TunnelInnerChecksum);
        }
        let counters = &self.common.counters.common;
        if let Some(reset) = reset::answer::<F, P>(packet, context.pool) {
            let mut back = Packet::new(reset);
            if encap::put(&mut back, &outer) {
                let back = back.buffer;
                send_generated(counters, Side::Outside, back, Generated::LostReset, context);
            }
        }
        let way = Way::Along(&packet.buffer.head()[..usize::from(packet.view.l3)]);
        let sequence = tcp::sequence(packet.tcp());
        if let Some(reset) = reset::make(way, (client, replica), sequence, context.pool) {
            send_generated(counters, Side::Inside, reset, Generated::LostReset, context);
        }
        Some(Verdict::TunnelReset)
    }

    /// Returns the endpoint to which a web server at this address has the packets of clients of
    /// `server`; `None` if there is none, or several.
    fn web_server_at(&self, address: F::Address, server: Endpoint<F>) -> Option<Endpoint<F>> {
        let service = self.common.services.find(server.address.into(), server.port)?;
        let service = &self.common.settings.services[usize::from(service)];
        let mut own = service.servers.iter().filter(|own| own.address == address.into());
        let (found, None) = (own.next()?, own.next()) else { return None };
        Some(match found.has_vip {
            true => server,
            false => Endpoint::new(address, found.port.unwrap_or(server.port)),
        })
    }
}
