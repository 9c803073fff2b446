//! The replica: figures 4A, 4B and 4C.
//!
//! From the outside: a tunnelled start packet from a permitted switch is dropped when the
//! replica is dead or busy, otherwise cracked and given to a web server ([`copy`]); what a
//! gateway of configuration C sends is cracked ([`gateway`]); all else passes. From the inside:
//! a web server's packets go to the client in the form of the connection's configuration
//! ([`follow`], [`form`]).

mod connection;
mod copy;
mod fast_path;
mod gateway;
mod mode;
mod related;
mod settings;
mod track;

use std::net::IpAddr;
use std::sync::Arc;

use super::oversize::Oversize;
use super::{Context, Foreseen, LookAhead, Role, Shape, Ways, send_made, tidy};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::{BURST, Burst, Seen};
use crate::counters::{Counters, Generated};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::packet::fragments::Fragments;
use crate::policy::limiter::Bucket;
use crate::neighbours::{self, Answer, Neighbours};
use crate::policy::services::{Scope, Services};
use crate::base::published::Reader;
use crate::stage::quote;
use crate::stage::sign::Keys;
use crate::table::Table;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::packet::pending::Waiting;

pub use super::phase::Phase;
pub use connection::Held;
pub use settings::{Gates, Selection, Server, Service, Settings, Shares};

/// A connection and its client: what later fragments of its packets need.
#[derive(Clone, Copy, Debug)]
struct Carried<F: Family> {
    client: Endpoint<F>,
    held: Held<F>,
}

/// One worker's replica.
pub struct Replica {
    common: Common,
    v4: Connections<V4>,
    v6: Connections<V6>,
    ahead: LookAhead,
}

/// What both families share.
struct Common {
    settings: Settings,
    services: Services,
    selection: Reader<Selection>,
    keys: Reader<Keys>,
    syns: Bucket,
    oversize: Oversize,
    gates: Arc<Gates>,
    neighbours: Arc<Neighbours>,
    waiting: Waiting,
    counters: Arc<Counters>,
}

/// What is known of one family's connections.
struct Connections<F: Family> {
    held: Table<Endpoint<F>, Phase, Held<F>>,
    fragments: Fragments<F, Carried<F>>,
    /// Whether, since there was none, any connection was of B or C: packets of A go as they are.
    translates: bool,
}

/// The replica as packets of one family meet it.
struct Door<'a, F: Family> {
    common: &'a mut Common,
    held: &'a mut Table<Endpoint<F>, Phase, Held<F>>,
    fragments: &'a mut Fragments<F, Carried<F>>,
    translates: &'a mut bool,
    /// Live connections of the other family.
    others: usize,
}

/// Connections that count at the busy gate.
fn live<F: Family>(held: &Table<Endpoint<F>, Phase, Held<F>>) -> usize {
    held.count(Phase::Opening) + held.count(Phase::Established)
}

impl<F: Family> Connections<F> {
    fn new(settings: &Settings, counters: &Counters) -> Self {
        let [opening, established, closing] = settings.timeouts;
        let timeouts = [opening, established, closing, closing];
        let capacity = settings.max_connections[F::VERSION as usize];
        let held = Table::new(capacity, timeouts, settings.hash_key);
        counters.table_of(F::VERSION).capacity.set(held.capacity() as u64);
        Self { held, fragments: Fragments::default(), translates: false }
    }
}

impl Replica {
    /// A replica with empty tables.
    pub fn new(
        settings: Settings,
        shares: Shares,
        selection: Reader<Selection>,
        keys: Reader<Keys>,
    ) -> Self {
        let scopes = settings
            .services
            .iter()
            .map(|service| (Scope::Prefix(service.address.into()), service.ports.as_slice()));
        let servers = settings.services.iter().map(|service| service.servers.len()).sum();
        let counters = Counters::new(0, servers);
        Self {
            v4: Connections::new(&settings, &counters),
            v6: Connections::new(&settings, &counters),
            ahead: LookAhead::default(),
            common: Common {
                services: Services::new(scopes),
                selection,
                keys,
                syns: Bucket::full(settings.busy_syn_rate, Ticks(0)),
                oversize: Oversize::default(),
                gates: shares.gates,
                neighbours: shares.neighbours,
                waiting: Waiting::default(),
                counters: Arc::new(counters),
                settings,
            },
        }
    }

    fn door_v4(&mut self) -> Door<'_, V4> {
        let Connections { held, fragments, translates } = &mut self.v4;
        let others = live(&self.v6.held);
        Door { common: &mut self.common, held, fragments, translates, others }
    }

    fn door_v6(&mut self) -> Door<'_, V6> {
        let Connections { held, fragments, translates } = &mut self.v6;
        let others = live(&self.v4.held);
        Door { common: &mut self.common, held, fragments, translates, others }
    }

    #[inline(always)]
    fn look_at_inner(&mut self, from: Side, number: usize, head: &[u8]) {
        let Self { v4, v6, ahead, .. } = self;
        let view = &ahead.inner[number];
        let shape = Shape::long(view.version);
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {
                let client = client(from, head, view);
                ahead.bucket(number, shape, &v4.held, client);
            }
            (Kind::Tcp, Version::V6) => {
                let client = client(from, head, view);
                ahead.bucket(number, shape, &v6.held, client);
            }
            _ => ahead.nothing(number, Shape::Long),
        }
    }

    fn look_at_other(&mut self, from: Side, number: usize, head: &[u8]) {
        self.look_at_inner(from, number, head);
        let view = self.ahead.inner[number];
        match (view.kind, view.version) {
            (Kind::Tcp, Version::V4) => {}
            (Kind::Tcp, Version::V6) => self.ahead.nothing(number, Shape::of_v6(&view)),
            _ => self.ahead.nothing(number, Shape::of_other(&view)),
        }
    }

    /// ARP and neighbour discovery: learns web servers, answers for tunnel addresses that no host
    /// bears, and for the address that probes are sent from.
    fn neighbour<P: Pool>(
        &self,
        from: Side,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let common = &self.common;
        let own = common.settings.macs[from as usize];
        let bears = |address| from == Side::Outside && common.settings.bears(address);
        // Who asks tells where it is, too.
        let learned = from == Side::Inside && common.neighbours.learn(packet, context.now);
        let ours = crate::wire::ethernet::destination(packet.buffer.head()) == own;
        // On the inside, web servers ask for nobody but the sender of the probes.
        match neighbours::answer(packet, own, bears, context.pool) {
            Answer::NotForUs if learned && ours => Verdict::ArpLearned,
            Answer::NotForUs => packet.view.kind.untouched(),
            Answer::NoBuffer => Verdict::NoBuffer,
            Answer::Made(reply) => {
                send_made(&common.counters, from, reply, Generated::ArpReply, context);
                Verdict::ArpAnswered
            }
        }
    }
}

/// The client endpoint of a TCP packet: its one key in the table.
#[inline]
fn client<F: Family>(from: Side, head: &[u8], view: &View) -> Endpoint<F> {
    match from {
        Side::Inside => view.destination(head),
        Side::Outside => view.source(head),
    }
}

impl<F: Family> Door<'_, F> {
    #[inline]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        ahead: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp, Side::Inside) => self.web_server_packet(packet, ahead, context),
            (Kind::Tcp, Side::Outside) => self.gateway_packet(packet, ahead, context.now),
            (Kind::Tunnel, Side::Outside) => self.tunnelled(packet, ahead, context),
            (Kind::BadTunnel, Side::Outside) => self.bad_tunnel(packet),
            (Kind::Icmp, _) => self.icmp(from, packet, context),
            (Kind::FirstFragment, Side::Inside) => self.first_fragment(packet, context),
            (Kind::Fragment, Side::Inside) => self.later_fragment(packet, context),
            (kind, _) => kind.untouched(),
        }
    }
}

impl Ways for Replica {
    #[inline(always)]
    fn look_ahead<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        for number in 0..burst.len().min(BURST) {
            let Seen { head, view, plain } = burst.see(number);
            match plain {
                Some(headers) => {
                    let client = match from {
                        Side::Inside => headers.destination(),
                        Side::Outside => headers.source(),
                    };
                    self.ahead.bucket(number, Shape::PlainV4, &self.v4.held, client);
                }
                None if view.kind == Kind::Tunnel && from == Side::Outside => {
                    self.ahead.inner[number].look_inside(view, head);
                    self.look_at_inner(from, number, head);
                }
                None => {
                    self.ahead.inner[number].put(*view);
                    self.look_at_other(from, number, head);
                }
            }
        }
        self.ahead.entries(burst.len(), &self.v4.held, &self.v6.held);
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
        if packet.view.kind == Kind::Arp {
            return self.neighbour(from, packet, context);
        }
        if packet.view.kind == Kind::Icmp && packet.view.version == Version::V6 {
            let verdict = self.neighbour(from, packet, context);
            if verdict != Verdict::Icmp {
                return verdict;
            }
        }
        // A tunnel is that of the packet in it.
        let version = match (packet.view.kind, from) {
            (Kind::Tunnel, Side::Outside) => foreseen.inner.version,
            _ => packet.view.version,
        };
        match version {
            Version::V4 => self.door_v4().decide(from, packet, &foreseen, context),
            Version::V6 => self.door_v6().decide(from, packet, &foreseen, context),
        }
    }
}

impl Role for Replica {
    const STATES: &'static [&'static str] = Phase::NAMES;

    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        self.common.keys.refresh();
        self.common.selection.refresh();
        super::process(self, from, burst, context);
    }

    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        let Common { counters, waiting, neighbours, settings, .. } = &mut self.common;
        tidy(&mut self.v4.held, &counters.table, context.now);
        tidy(&mut self.v6.held, &counters.table_v6, context.now);
        let out = &mut *context.out;
        let dropped = waiting.release(neighbours, context.pool, context.now, |frame| {
            counters.made(Generated::Released);
            out.send(Side::Inside, frame);
        });
        counters.held_dropped.add(dropped as u64);
        if !settings.probes {
            return;
        }
        let own = settings.macs[Side::Inside as usize];
        for probe in neighbours.due_probes(own, context.now) {
            let Some(mut frame) = context.pool.alloc(probe.len()) else { return };
            probe.emit(frame.head_mut());
            send_made(counters, Side::Inside, frame, Generated::ArpProbe, context);
        }
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        let head = packet.buffer.head();
        let view = match (packet.view.kind, from) {
            // The client is the source of the packet within.
            (Kind::Tunnel, Side::Outside) => packet.view.inner(head),
            _ => packet.view,
        };
        match (view.kind, from) {
            (Kind::Tcp | Kind::FirstFragment | Kind::Fragment, _) => {
                let (source, destination) = view.addresses(head);
                Some(if from == Side::Inside { destination } else { source })
            }
            (Kind::Icmp, _) => {
                let quoted = match view.version {
                    Version::V4 => quoted::<V4>(head, view)?,
                    Version::V6 => quoted::<V6>(head, view)?,
                };
                Some(if from == Side::Inside { quoted.0 } else { quoted.1 })
            }
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.common.counters
    }
}

/// Source and destination of what an ICMP error quotes.
fn quoted<F: Family>(head: &[u8], view: View) -> Option<(IpAddr, IpAddr)> {
    let quoted = quote::read_at::<F>(head, view)?;
    Some((quoted.source.address.into(), quoted.destination.address.into()))
}

#[cfg(test)]
mod tests;
