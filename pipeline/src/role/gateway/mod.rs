//! The gateway at the clients' side: figures 2 (tag), 5A-C (race) and 6A-C (translate).
//!
//! From the inside: a start packet to a service is tagged and opens a race ([`start`]); packets
//! of a connection that a replica won go to the replica ([`translate`]); all else passes.
//! From the outside: the first valid acknowledgement wins, later ones are answered by a reset
//! ([`race`]); the winner's packets get the server's address back, or are taken out of their
//! tunnels ([`tunnelled`]); all else passes. What A, B and C do differently stands in
//! [`crate::role::gateway::mode`].

mod fast_path;
pub mod flow;
pub mod mode;
mod race;
mod related;
mod syn;
mod translate;
mod tunnelled;

use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::oversize::Oversize;
use super::{Context, Foreseen, LookAhead, Role, Shape, Ways, tidy};
use crate::policy::backoff::Backoff;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::{BURST, Burst, Seen};
use crate::role::gateway::mode::{Configuration, Way};
use crate::counters::{AnswererIndex, Counters};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::role::gateway::flow::{Flow, Phase};
use crate::packet::fragments::Fragments;
use crate::policy::tunnel_path::Path;
use crate::policy::services::{Scope, Services};
use crate::base::published::Reader;
use crate::stage::sign::Keys;
use crate::stage::{quote, tag};
use crate::table::Table;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side, View};
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
            racing: Ticks::from_secs(40),
            established: Ticks::from_secs(2 * 3600 + 4 * 60),
            closing: Ticks::from_secs(120),
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
    /// The way to the replicas, under configuration C.
    pub path: Path,
    /// Connections per worker: IPv4, IPv6. A family without a service needs no more than one.
    pub max_connections: [usize; 2],
    /// Secret of the table's hash.
    pub hash_key: (u64, u64),
}

/// One worker's gateway.
pub struct Gateway<C> {
    common: Common,
    v4: Connections<V4>,
    v6: Connections<V6>,
    ahead: LookAhead,
    configuration: PhantomData<C>,
}

/// What both families share.
struct Common {
    settings: Settings,
    services: Services,
    keys: Reader<Keys>,
    counters: Arc<Counters>,
    answerers: AnswererIndex,
    backoff: Backoff,
    oversize: Oversize,
}

/// What is known of one family's connections.
struct Connections<F: Family> {
    flows: Table<Endpoint<F>, Phase, Flow<F>>,
    fragments: Fragments<F, Way<F>>,
}

/// The gateway as packets of one family meet it.
struct Gate<'a, C, F: Family> {
    common: &'a mut Common,
    flows: &'a mut Table<Endpoint<F>, Phase, Flow<F>>,
    fragments: &'a mut Fragments<F, Way<F>>,
    configuration: PhantomData<C>,
}

impl<F: Family> Connections<F> {
    fn new(settings: &Settings, counters: &Counters) -> Self {
        let timeouts = &settings.timeouts;
        let by_phase =
            [timeouts.racing, timeouts.established, timeouts.race_window, timeouts.closing];
        let capacity = settings.max_connections[F::VERSION as usize];
        let flows = Table::new(capacity, by_phase, settings.hash_key);
        counters.table_of(F::VERSION).capacity.set(flows.capacity() as u64);
        Self { flows, fragments: Fragments::default() }
    }
}

impl<C: Configuration> Gateway<C> {
    /// A gateway with empty tables.
    pub fn new(settings: Settings, keys: Reader<Keys>) -> Self {
        let scopes = settings.services.iter().map(|s| (s.scope, s.ports.as_slice()));
        let counters = Counters::default();
        Self {
            v4: Connections::new(&settings, &counters),
            v6: Connections::new(&settings, &counters),
            ahead: LookAhead::default(),
            common: Common {
                services: Services::new(scopes),
                keys,
                counters: Arc::new(counters),
                answerers: AnswererIndex::default(),
                backoff: Backoff::new(settings.timeouts.tag_backoff),
                oversize: Oversize::default(),
                settings,
            },
            configuration: PhantomData,
        }
    }

    #[inline(always)]
    fn look_into_tunnel(&mut self, number: usize, head: &[u8], view: &View) {
        let Self { v4, v6, ahead, .. } = self;
        ahead.inner[number].look_inside(view, head);
        let inner = &ahead.inner[number];
        let shape = Shape::long(inner.version);
        match (inner.kind, inner.version) {
            (Kind::Tcp, Version::V4) => {
                let client = inner.destination(head);
                ahead.bucket(number, shape, &v4.flows, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = inner.destination(head);
                ahead.bucket(number, shape, &v6.flows, client);
            }
            _ => ahead.nothing(number, Shape::Long),
        }
    }

    fn look_at_other(&mut self, from: Side, number: usize, head: &[u8], view: &View) {
        let Self { v4, v6, ahead, .. } = self;
        if view.kind != Kind::Tcp {
            return ahead.nothing(number, Shape::of_other(view));
        }
        if !Self::concerns(from, &head[usize::from(view.l4)..]) {
            return ahead.nothing(number, Shape::Passing);
        }
        match view.version {
            Version::V4 => {
                let client = client(from, head, view);
                ahead.bucket(number, Shape::LongV4, &v4.flows, client);
            }
            Version::V6 => {
                let client = client(from, head, view);
                ahead.bucket(number, Shape::of_v6(view), &v6.flows, client);
            }
        }
    }

    /// Whether a plain TCP packet is looked up at all (op 632: under B, of those from the
    /// outside, only acknowledgements and what ends a connection).
    #[inline(always)]
    fn concerns(from: Side, tcp: &[u8]) -> bool {
        if C::FOLLOWS_PLAIN || from == Side::Inside {
            return true;
        }
        let flags = tcp::flags(tcp);
        flags.is_acknowledgement() || flags.fin() || flags.rst()
    }

    fn gate_v4(&mut self) -> Gate<'_, C, V4> {
        let Connections { flows, fragments } = &mut self.v4;
        Gate { common: &mut self.common, flows, fragments, configuration: PhantomData }
    }

    fn gate_v6(&mut self) -> Gate<'_, C, V6> {
        let Connections { flows, fragments } = &mut self.v6;
        Gate { common: &mut self.common, flows, fragments, configuration: PhantomData }
    }
}

/// The client endpoint of a TCP packet: its one key in the table.
#[inline(always)]
fn client<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    match from {
        Side::Inside => view.source(head),
        Side::Outside => view.destination(head),
    }
}

/// The other endpoint of a TCP packet.
#[inline(always)]
fn server<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    client(from.other(), head, view)
}

impl<C: Configuration, F: Family> Gate<'_, C, F> {
    #[inline]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp, _) => self.tcp(from, packet, foreseen, context),
            (Kind::Tunnel, Side::Outside) if C::TUNNELS => {
                self.tunnelled(packet, foreseen, context)
            }
            (Kind::Icmp, _) => self.icmp(from, packet, context),
            (Kind::FirstFragment, _) => self.first_fragment(from, packet, context),
            (Kind::Fragment, _) => self.later_fragment(from, packet, context),
            (kind, _) => kind.untouched(),
        }
    }

    #[inline]
    fn tcp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if !Gateway::<C>::concerns(from, packet.tcp()) {
            return Verdict::Passed;
        }
        let client = client(from, packet.buffer.head(), &packet.view);
        let Foreseen { hash, guess, .. } = *foreseen;
        let slot = self.flows.find_ahead(hash, guess, client, context.now);
        let flags = tcp::flags(packet.tcp());
        // ops 202, 204, 602, 604, 608, 652: from which side, a start packet or an acknowledgement,
        // with an entry or without.
        match (from, slot) {
            (Side::Inside, _) if flags.is_start() => {
                self.start(packet, client, hash, slot, context)
            }
            (_, None) => Verdict::NoEntry,
            (Side::Inside, Some(slot)) => self.client_packet(packet, slot, flags, context),
            (Side::Outside, Some(slot)) if flags.is_acknowledgement() => {
                self.acknowledgement(packet, slot, None, context)
            }
            (Side::Outside, Some(slot)) => self.server_packet(packet, slot, flags, context.now),
        }
    }
}

impl<C: Configuration> Ways for Gateway<C> {
    #[inline(always)]
    fn look_ahead<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        for number in 0..burst.len().min(BURST) {
            let Seen { head, view, plain } = burst.see(number);
            match plain {
                Some(headers) if !Self::concerns(from, headers.tcp()) => {
                    self.ahead.nothing(number, Shape::Passing);
                }
                Some(headers) => {
                    let client = match from {
                        Side::Inside => headers.source(),
                        Side::Outside => headers.destination(),
                    };
                    self.ahead.bucket(number, Shape::PlainV4, &self.v4.flows, client);
                }
                None if C::TUNNELS && from == Side::Outside && view.kind == Kind::Tunnel => {
                    self.look_into_tunnel(number, head, view);
                }
                None => self.look_at_other(from, number, head, view),
            }
        }
        self.ahead.entries(burst.len(), &self.v4.flows, &self.v6.flows);
    }

    #[inline(always)]
    fn express<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: B,
        view: &View,
        now: Ticks,
    ) -> (B, Option<Verdict>) {
        self.short(from, number, frame, view, now)
    }

    #[inline(never)]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        number: usize,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let foreseen = self.ahead.of(number);
        match packet.view.version {
            Version::V4 => self.gate_v4().decide(from, packet, &foreseen, context),
            Version::V6 => self.gate_v6().decide(from, packet, &foreseen, context),
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
        self.common.keys.refresh();
        super::process(self, from, burst, context);
    }

    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        let counters = &self.common.counters;
        tidy(&mut self.v4.flows, &counters.table, context.now);
        tidy(&mut self.v6.flows, &counters.table_v6, context.now);
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        fn quoted<F: Family, B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
            let quoted = quote::read::<F, B>(packet)?;
            Some(match (from, quoted.outer) {
                (Side::Inside, _) => quoted.destination.address.into(),
                (Side::Outside, Some((source, _))) => source.into(),
                (Side::Outside, None) => quoted.source.address.into(),
            })
        }
        let (source, destination) = match packet.view.kind {
            Kind::Tcp | Kind::Tunnel | Kind::FirstFragment | Kind::Fragment => {
                packet.view.addresses(packet.buffer.head())
            }
            Kind::Icmp => {
                return match packet.view.version {
                    Version::V4 => quoted::<V4, B>(from, packet),
                    Version::V6 => quoted::<V6, B>(from, packet),
                };
            }
            _ => return None,
        };
        match (packet.view.kind, from) {
            (Kind::Tunnel, Side::Inside) => None,
            (_, Side::Inside) => Some(source),
            // Tunnels to a client are addressed to it outside as they are inside.
            (_, Side::Outside) => Some(destination),
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.common.counters
    }
}

#[cfg(test)]
mod tests;
