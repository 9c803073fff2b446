//! The switch at the origin's side: figure 3.
//!
//! From the outside: a tagged start packet is copied to the service's replicas ([`fan_out`]);
//! every packet to a service goes to the server that its connection is at ([`kept`]), or that is
//! selected for its client ([`select`]), the tag taken off ([`deliver`]). ICMP errors and
//! fragments go to the server that they concern ([`related`]).
//! From the inside: connections are followed, and errors about tunnels to servers are sent on to
//! the client; all else passes.

mod affinity;
mod deliver;
mod fan_out;
mod fast_path;
mod lookup;
mod probe;
mod related;
mod select;
mod settings;

use std::net::IpAddr;
use std::sync::Arc;

use super::oversize::Oversize;
use super::{Context, Foreseen, Role, Ways, send_made, tidy};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::Burst;
use crate::counters::{Counters, Generated};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::packet::fragments::Fragments;
use crate::policy::limiter::Limiter;
use crate::neighbours::{self, Answer, Neighbours};
use crate::policy::services::{Scope, Services};
use crate::base::published::Reader;
use crate::stage::clamp;
use crate::stage::sign::Keys;
use crate::table::Table;
use crate::base::time::Ticks;
use crate::verdict::Verdict;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::packet::pending::Waiting;
use crate::wire::{ethernet, tcp};
use lookup::Ahead;
use affinity::Pair;
use probe::Probes;
use settings::{Route, Serving};

pub use super::phase::Phase;
pub use affinity::Kept;
pub use probe::TunnelHealth;
pub use select::{Alive, Selection};
pub use settings::{Delivery, Probing, Server, Service, Settings, Timeouts};

/// What workers of a switch share with each other and with the control thread.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Which tunnels are answered.
    pub tunnels: Arc<TunnelHealth>,
    /// MAC addresses of servers.
    pub neighbours: Arc<Neighbours>,
}

/// One worker's switch.
pub struct Switch {
    common: Common,
    v4: Connections<V4>,
    v6: Connections<V6>,
    ahead: Ahead,
}

/// What both families share.
struct Common {
    settings: Settings,
    services: Services,
    serving: Box<[Serving]>,
    /// Whether packets from the inside concern the switch: a service has several servers, or
    /// one by tunnel.
    follows: bool,
    selection: Reader<Selection>,
    keys: Reader<Keys>,
    limiter: Limiter,
    /// Likewise for copies of ICMP errors: they are not to use up what start packets need.
    errors_copied: Limiter,
    oversize: Oversize,
    probes: Probes,
    neighbours: Arc<Neighbours>,
    waiting: Waiting,
    counters: Arc<Counters>,
}

/// What is known of one family's connections.
struct Connections<F: Family> {
    kept: Table<Pair<F>, Phase, Kept>,
    fragments: Fragments<F, Target>,
}

/// The switch as packets of one family meet it.
struct Gate<'a, F: Family> {
    common: &'a mut Common,
    kept: &'a mut Table<Pair<F>, Phase, Kept>,
    fragments: &'a mut Fragments<F, Target>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug)]
struct Target {
    service: u16,
    /// By number within the service.
    server: u16,
    /// What tells its connection from others in a tunnel.
    entropy: u32,
}

impl Target {
    fn new<F: Family>(service: usize, server: usize, client: Endpoint<F>) -> Self {
        Self { service: service as u16, server: server as u16, entropy: client.entropy() }
    }
}

impl<F: Family> Connections<F> {
    fn new(settings: &Settings, counters: &Counters) -> Self {
        let Timeouts { opening, established, closing, .. } = settings.timeouts;
        let timeouts = [opening, established, closing, closing];
        let capacity = settings.max_connections[F::VERSION as usize];
        let kept = Table::new(capacity, timeouts, settings.hash_key);
        counters.table_of(F::VERSION).capacity.set(kept.capacity() as u64);
        Self { kept, fragments: Fragments::default() }
    }
}

impl Switch {
    /// A switch with empty tables.
    pub fn new(
        settings: Settings,
        shares: Shares,
        selection: Reader<Selection>,
        keys: Reader<Keys>,
    ) -> Self {
        let all = &settings.services;
        let scopes = all.iter().map(|s| (Scope::Prefix(s.address.into()), s.ports.as_slice()));
        let serving: Box<[Serving]> =
            all.iter().map(|service| Serving::new(service, &settings.path)).collect();
        let replicas = serving.iter().map(|serving| serving.replicas.len()).sum();
        let servers = serving.iter().map(|serving| serving.servers.len()).sum();
        let counters = Counters::new(replicas, servers);
        let mut switch = Self {
            v4: Connections::new(&settings, &counters),
            v6: Connections::new(&settings, &counters),
            ahead: Ahead::default(),
            common: Common {
                services: Services::new(scopes),
                follows: serving.iter().any(|serving| serving.keeps() || serving.mss.is_some()),
                selection,
                keys,
                limiter: Limiter::new(settings.fan_out),
                errors_copied: Limiter::new(settings.fan_out),
                oversize: Oversize::default(),
                probes: Probes::new(&settings, &serving, shares.tunnels),
                neighbours: shares.neighbours,
                waiting: Waiting::default(),
                counters: Arc::new(counters),
                serving,
                settings,
            },
        };
        switch.common.note_opened();
        switch
    }

    fn gate_v4(&mut self) -> Gate<'_, V4> {
        let Connections { kept, fragments } = &mut self.v4;
        Gate { common: &mut self.common, kept, fragments }
    }

    fn gate_v6(&mut self) -> Gate<'_, V6> {
        let Connections { kept, fragments } = &mut self.v6;
        Gate { common: &mut self.common, kept, fragments }
    }

    /// ARP and neighbour discovery from the inside: learns servers, and answers those that ask
    /// for the address that probes are sent from. `None` for what is nobody's.
    fn neighbour<P: Pool>(
        &self,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        let own = self.common.settings.macs[Side::Inside as usize];
        let learned = self.common.neighbours.learn(packet, context.now);
        let ours = ethernet::destination(packet.buffer.head()) == own;
        match neighbours::answer(packet, own, |_| false, context.pool) {
            Answer::NotForUs => (learned && ours).then_some(Verdict::ArpLearned),
            Answer::NoBuffer => Some(Verdict::NoBuffer),
            Answer::Made(reply) => {
                let counters = &self.common.counters;
                send_made(counters, Side::Inside, reply, Generated::ArpReply, context);
                Some(Verdict::ArpAnswered)
            }
        }
    }
}

impl Common {
    /// Notes whose first server gets connections now: it may have some from now on.
    fn note_opened(&mut self) {
        let selection = self.selection.get();
        for (number, serving) in self.serving.iter_mut().enumerate() {
            serving.opened |= selection.takes(number, 0);
        }
    }
}

impl<F: Family> Gate<'_, F> {
    #[inline]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        (foreseen, service): (Foreseen, Option<usize>),
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp, Side::Outside) => match service {
                Some(service) => self.inbound(packet, service, &foreseen, context),
                None => Verdict::NoService,
            },
            (Kind::Tcp, Side::Inside) => {
                if let Some(service) = service {
                    self.outbound(packet, service, &foreseen, context.now);
                }
                Verdict::FromServer
            }
            (Kind::Icmp, Side::Outside) => self.icmp_from_outside(packet, context),
            (Kind::Icmp, Side::Inside) => self.icmp_from_inside(packet),
            (Kind::FirstFragment | Kind::Fragment, Side::Outside) => self.fragment(packet, context),
            (kind, _) => kind.untouched(),
        }
    }

    fn service(&self, to: Endpoint<F>) -> Option<usize> {
        self.common.services.find(to.address.into(), to.port).map(usize::from)
    }

    /// A TCP packet from the WAN to a service (op 302).
    #[inline]
    fn inbound<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        service: usize,
        foreseen: &Foreseen,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = packet.source::<F>();
        let is_start = tcp::flags(packet.tcp()).is_start();
        let verdict = match is_start {
            true => match self.start(packet, service, context) {
                Ok(verdict) => verdict,
                Err(verdict) => return verdict,
            },
            false => Verdict::ToServer,
        };
        let Some(server) = self.server_for(packet, service, foreseen, context.now) else {
            return Verdict::NoServer;
        };
        if is_start {
            self.note_start(packet, service, server);
        }
        self.deliver(packet, Target::new(service, server, client), verdict, context)
    }

    /// Counts a start packet by its server. Where that is tunnelled to, its MSS is clamped as the
    /// acknowledgement's is.
    fn note_start<B: Buffer>(&self, packet: &mut Packet<B>, service: usize, server: usize) {
        let serving = &self.common.serving[service];
        self.common.counters.starts[serving.first_server + server].add(1);
        if let Route::Tunnel(tunnel) = &serving.servers[server]
            && clamp::mss(packet, clamp::limit::<F>(tunnel.room))
        {
            self.common.counters.clamped.add(1);
        }
    }

    /// A TCP packet from the inside of a service. What its acknowledgement says is how long the
    /// client's segments may be: they are to fit the tunnel to the server.
    fn outbound<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        service: usize,
        foreseen: &Foreseen,
        now: Ticks,
    ) {
        if self.common.serving[service].keeps() {
            self.follow(packet, foreseen, now);
        }
        if let Some(limit) = self.common.serving[service].mss
            && tcp::flags(packet.tcp()).is_acknowledgement()
            && clamp::mss(packet, limit)
        {
            self.common.counters.clamped.add(1);
        }
    }
}

impl Ways for Switch {
    #[inline(always)]
    fn look_ahead<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        let Self { common, v4, v6, ahead } = self;
        ahead.look(from, burst, common, (&v4.kept, &v6.kept));
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
        let mut frame = frame;
        let verdict = self.short(from, number, &mut frame, view, now);
        (frame, verdict)
    }

    #[inline(never)]
    fn decide<P: Pool>(
        &mut self,
        from: Side,
        number: usize,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let neighbourly = matches!(packet.view.kind, Kind::Arp | Kind::Icmp);
        if neighbourly
            && from == Side::Inside
            && let Some(verdict) = self.neighbour(packet, context)
        {
            return verdict;
        }
        let ahead = self.ahead.of(number);
        match packet.view.version {
            Version::V4 => self.gate_v4().decide(from, packet, ahead, context),
            Version::V6 => self.gate_v6().decide(from, packet, ahead, context),
        }
    }
}

impl Role for Switch {
    const STATES: &'static [&'static str] = Phase::NAMES;

    fn process<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        self.common.keys.refresh();
        if self.common.selection.refresh() {
            self.common.note_opened();
        }
        super::process(self, from, burst, context);
    }

    fn housekeep<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        let Common { counters, waiting, neighbours, settings, probes, .. } = &mut self.common;
        tidy(&mut self.v4.kept, &counters.table, context.now);
        tidy(&mut self.v6.kept, &counters.table_v6, context.now);
        let out = &mut *context.out;
        let dropped = waiting.release(neighbours, context.pool, context.now, |frame| {
            counters.made(Generated::Released);
            out.send(Side::Inside, frame);
        });
        counters.held_dropped.add(dropped as u64);
        if !settings.probes {
            return;
        }
        probes.send_due(counters, context);
        let own = settings.macs[Side::Inside as usize];
        for probe in neighbours.due_probes(own, context.now) {
            let Some(mut frame) = context.pool.alloc(probe.len()) else { return };
            probe.emit(frame.head_mut());
            send_made(counters, Side::Inside, frame, Generated::ArpProbe, context);
        }
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        match (packet.view.kind, from) {
            (Kind::Tcp, Side::Inside) => Some(packet.view.addresses(packet.buffer.head()).1),
            (Kind::Tcp | Kind::FirstFragment | Kind::Fragment, Side::Outside) => {
                Some(packet.view.addresses(packet.buffer.head()).0)
            }
            (Kind::Icmp, _) => match packet.view.version {
                Version::V4 => related::client_of_error::<V4, B>(from, packet),
                Version::V6 => related::client_of_error::<V6, B>(from, packet),
            },
            _ => None,
        }
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.common.counters
    }
}

#[cfg(test)]
mod tests;
