//! The gateway at the clients' side: figures 2 (tag), 5A (race) and 6A (translate).
//!
//! From the inside: a start packet to a service is tagged and opens a race ([`start`]); packets
//! of a connection that a replica won go to the replica ([`translate`]); all else passes.
//! From the outside: the first valid acknowledgement wins, later ones are answered by a reset
//! ([`race`]); the winner's packets get the server's address back; all else passes.

mod race;
mod related;
mod start;
mod translate;

use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::{Context, Role, finish, look_ahead, tidy};
use crate::backoff::Backoff;
use crate::buffer::{Buffer, Pool};
use crate::burst::Burst;
use crate::configuration::Configuration;
use crate::counters::{AnswererIndex, Counters};
use crate::family::{Endpoint, Family, V4};
use crate::flow::{Flow, Phase};
use crate::fragments::Fragments;
use crate::services::{Scope, Services};
use crate::stage::{quote, tag};
use crate::table::{Hash, Table};
use crate::time::Ticks;
use crate::verdict::Verdict;
use crate::view::{Kind, Packet, Side, View};
use crate::wire::tcp;

/// How long each state lasts (docs/configuration.md, `[timeouts]`).
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Racing, since the last start packet.
    pub racing: Ticks,
    /// A connection that a replica won, since its last packet (RFC 5382, REQ-5).
    pub established: Ticks,
    /// Closing, since the last packet.
    pub closing: Ticks,
    /// A race that the origin won, since its decision.
    pub race_window: Ticks,
    /// Idleness after which a start packet with a new sequence number opens a fresh race.
    pub reuse_after: Ticks,
    /// How long a destination whose path drops tagged start packets gets untagged ones.
    pub tag_backoff: Ticks,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            racing: Ticks::from_secs(30),
            established: Ticks::from_secs(2 * 3600 + 4 * 60),
            closing: Ticks::from_secs(10),
            race_window: Ticks::from_secs(5),
            reuse_after: Ticks::from_secs(60),
            tag_backoff: Ticks::from_secs(600),
        }
    }
}

/// A service whose connections are raced.
#[derive(Clone, Debug)]
pub struct Service {
    /// The servers it covers.
    pub scope: Scope,
    /// Its TCP ports.
    pub ports: Vec<u16>,
    /// Where replicas may answer from; anywhere when empty.
    pub replicas: Vec<IpNet>,
}

/// What a gateway is told at launch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// The tag's option.
    pub tag: tag::Format,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Connections per worker.
    pub max_connections: usize,
    /// Secret of the table's hash.
    pub hash_key: (u64, u64),
}

/// One worker's gateway.
pub struct Gateway<C> {
    settings: Settings,
    services: Services,
    flows: Table<V4, Phase, Flow<V4>>,
    counters: Arc<Counters>,
    answerers: AnswererIndex,
    backoff: Backoff,
    fragments: Fragments<Ipv4Addr>,
    configuration: PhantomData<C>,
}

impl<C: Configuration> Gateway<C> {
    /// A gateway with an empty table.
    pub fn new(settings: Settings) -> Self {
        let timeouts = &settings.timeouts;
        let by_phase =
            [timeouts.racing, timeouts.established, timeouts.race_window, timeouts.closing];
        let flows = Table::new(settings.max_connections, by_phase, settings.hash_key);
        let scopes = settings.services.iter().map(|s| (s.scope, s.ports.as_slice()));
        let counters = Counters::default();
        counters.table.capacity.set(flows.capacity() as u64);
        Self {
            services: Services::new(scopes),
            flows,
            counters: Arc::new(counters),
            answerers: AnswererIndex::default(),
            backoff: Backoff::new(timeouts.tag_backoff),
            fragments: Fragments::default(),
            settings,
            configuration: PhantomData,
        }
    }

    /// The client endpoint of a TCP packet: its one key in the table.
    #[inline]
    fn client(from: Side, head: &[u8], view: &View) -> Endpoint<V4> {
        match from {
            Side::Inside => view.source(head),
            Side::Outside => view.destination(head),
        }
    }

    /// The other endpoint of a TCP packet.
    fn server<B: Buffer>(from: Side, packet: &Packet<B>) -> Endpoint<V4> {
        Self::client(from.other(), packet.buffer.head(), &packet.view)
    }

    #[inline]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hash: Hash,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match packet.view.kind {
            Kind::Tcp4 => self.tcp(from, packet, hash, context),
            Kind::Icmp4 => self.icmp(from, packet, context.now),
            Kind::FirstFragment4 => self.first_fragment(from, packet, context.now),
            Kind::Fragment4 => self.later_fragment(from, packet, context.now),
            kind => kind.untouched(),
        }
    }

    #[inline]
    fn tcp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hash: Hash,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = Self::client(from, packet.buffer.head(), &packet.view);
        let slot = self.flows.find(hash, client, context.now);
        let flags = tcp::flags(packet.tcp());
        // ops 202, 204, 602, 604, 608: from which side, a start packet or an acknowledgement,
        // with an entry or without.
        match (from, slot) {
            (Side::Inside, _) if flags.is_start() => {
                self.start(packet, client, hash, slot, context.now)
            }
            (_, None) => Verdict::NoEntry,
            (Side::Inside, Some(slot)) => self.client_packet(packet, slot, flags, context.now),
            (Side::Outside, Some(slot)) if flags.is_acknowledgement() => {
                self.acknowledgement(packet, slot, context)
            }
            (Side::Outside, Some(slot)) => self.server_packet(packet, slot, flags, context.now),
        }
    }
}

impl<C: Configuration> Role for Gateway<C> {
    const STATES: &'static [&'static str] = Phase::NAMES;

    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        let hashes = look_ahead(&self.flows, burst, |head, view| Self::client(from, head, view));
        self.counters.side(from).received.add(burst.len() as u64);
        let Burst { frames, views, verdicts } = burst;
        for (buffer, (view, hash)) in frames.drain(..).zip(views.iter().zip(hashes)) {
            let mut packet = Packet { buffer, view: *view };
            let verdict = self.decide(from, &mut packet, hash, context);
            verdicts.push(verdict);
            finish(&self.counters, from, packet, verdict, context);
        }
    }

    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        tidy(&mut self.flows, &self.counters.table, context.now);
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        match packet.view.kind {
            Kind::Tcp4 => {
                Some(Self::client(from, packet.buffer.head(), &packet.view).address.into())
            }
            Kind::FirstFragment4 | Kind::Fragment4 => Some(match from {
                Side::Inside => V4::source(packet.ip()).into(),
                Side::Outside => V4::destination(packet.ip()).into(),
            }),
            Kind::Icmp4 => quote::read(packet).map(|quoted| match from {
                Side::Inside => quoted.destination.address.into(),
                Side::Outside => quoted.source.address.into(),
            }),
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests;
