//! The short way, for what nearly every packet is: data of a connection that a replica has won, in
//! a frame of the usual shape. It does what the long way does, in fewer steps; where anything is
//! out of the ordinary it gives `None`, has changed nothing, and the packet goes the long way.
//! Property tests send the same packets both ways.

use std::marker::PhantomData;

use super::{Gateway, client, server};
use crate::buffer::Buffer;
use crate::configuration::{Claim, Configuration};
use crate::family::{Endpoint, Family, V4, V6, Version};
use crate::flow::{Flow, Phase};
use crate::path::Path;
use crate::role::Foreseen;
use crate::stage::crack;
use crate::table::Table;
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, Side};
use crate::wire::tcp;

type Flows<F> = Table<Endpoint<F>, Phase, Flow<F>>;

impl<C: Configuration> Gateway<C> {
    /// The verdict on a packet that has gone the short way.
    #[inline(always)]
    pub(super) fn express<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        foreseen: &Foreseen,
        now: Ticks,
    ) -> Option<Verdict> {
        let path = &self.common.settings.path;
        match packet.view.version {
            Version::V4 => {
                let mut way = Short::<C, V4>::new(&mut self.v4.flows, path, now);
                way.go(from, packet, foreseen)
            }
            Version::V6 => {
                let mut way = Short::<C, V6>::new(&mut self.v6.flows, path, now);
                way.go(from, packet, foreseen)
            }
        }
    }
}

/// What the short way needs of the gateway.
struct Short<'a, C, F: Family> {
    flows: &'a mut Flows<F>,
    path: &'a Path,
    now: Ticks,
    configuration: PhantomData<C>,
}

impl<'a, C: Configuration, F: Family> Short<'a, C, F> {
    #[inline(always)]
    fn new(flows: &'a mut Flows<F>, path: &'a Path, now: Ticks) -> Self {
        Self { flows, path, now, configuration: PhantomData }
    }

    #[inline(always)]
    fn go<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        foreseen: &Foreseen,
    ) -> Option<Verdict> {
        match (packet.view.kind, from) {
            (Kind::Tcp, _) => self.plain(from, packet, foreseen),
            (Kind::Tunnel, Side::Outside) if C::TUNNELS && C::FOLLOWS_PLAIN => {
                self.tunnelled(packet, foreseen)
            }
            _ => None,
        }
    }

    /// ops 606-612, 632, 636, 656.
    #[inline(always)]
    fn plain<B: Buffer>(
        &mut self,
        from: Side,
        packet: &mut Packet<B>,
        foreseen: &Foreseen,
    ) -> Option<Verdict> {
        let (head, view) = (packet.buffer.head(), &packet.view);
        let headers = view.plain_headers::<F>(head)?;
        if !tcp::flags(headers.tcp()).is_data() {
            return None;
        }
        if from == Side::Outside && !C::FOLLOWS_PLAIN {
            return Some(Verdict::Passed);
        }
        let (source, destination) = (headers.source(), headers.destination());
        let (client, other) = match from {
            Side::Inside => (source, destination),
            Side::Outside => (destination, source),
        };
        let Some(slot) = self.flows.peek(foreseen.guess, client, self.now) else {
            return self.flows.is_absent(foreseen.guess).then_some(Verdict::NoEntry);
        };
        let entry = self.flows.get(slot);
        if entry.state() != Phase::Replica {
            return None;
        }
        let way = entry.value.way(client);
        match from {
            Side::Inside if other == way.server => {
                C::to_replica(packet, &way, self.path).ok()?;
                self.flows.touch(slot, self.now);
                Some(Verdict::ToReplica)
            }
            Side::Outside if C::plain_winner(&way) == Some(other) => {
                C::to_client(packet, &way);
                self.flows.touch(slot, self.now);
                Some(Verdict::FromReplica)
            }
            _ => None,
        }
    }

    /// op 658: what the winner has put into a tunnel.
    #[inline(always)]
    fn tunnelled<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        foreseen: &Foreseen,
    ) -> Option<Verdict> {
        let (head, inner) = (packet.buffer.head(), foreseen.inner);
        let is_of_family = packet.view.version == F::VERSION && inner.version == F::VERSION;
        if inner.kind != Kind::Tcp || !is_of_family {
            return None;
        }
        let client = client::<F>(Side::Outside, head, &inner);
        let outer = packet.ip();
        if F::destination(outer) != client.address
            || !tcp::flags(&head[usize::from(inner.l4)..]).is_data()
        {
            return None;
        }
        let slot = self.flows.peek(foreseen.guess, client, self.now)?;
        let entry = self.flows.get(slot);
        let way = entry.value.way(client);
        let claim = C::claim(F::source(outer), server(Side::Outside, head, &inner), way.server);
        if entry.state() != Phase::Replica || claim != Claim::Replica(way.replica) {
            return None;
        }
        // What cannot be opened is dropped, whichever way it came here.
        if let Err(verdict) = crack::open(packet, inner) {
            return Some(verdict);
        }
        self.flows.touch(slot, self.now);
        C::to_client(packet, &way);
        Some(Verdict::FromReplica)
    }
}
