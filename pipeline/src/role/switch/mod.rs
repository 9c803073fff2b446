//! The switch at the origin's side: figure 3.
//!
//! From the outside: a tagged SYN is copied to the service's replicas ([`fan_out`]); every packet
//! to a service goes, without its tag, to the server of its connection ([`affinity`]), or to the
//! one that is selected for its client ([`select`], [`deliver`]). ICMP errors and fragments go to
//! the server that they concern ([`related`]); all other traffic is bridged.
//!
//! From the inside: connections are tracked, and errors about tunnels to servers are relayed to the
//! client; all other traffic is bridged.
//!
//! ARP requests and neighbour solicitations from the outside for addresses that the switch stands for
//! are answered ([`settings::own_addresses`]).

mod affinity;
mod deliver;
mod drained;
mod fan_out;
mod fast_path;
mod import;
mod lookup;
mod owner;
mod phase;
mod probe;
mod related;
mod reload;
mod select;
mod settings;
mod track;
mod watch;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use memmap2::MmapMut;

use super::oversize::{ClientIs, Oversize};
use super::resolver::Resolver;
use super::{BurstRole, Context, LookupHint, Role, expire_some};
use crate::base::published::Reader;
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, RoleCounters, Scalar, SwitchCounters};
use crate::neighbours::Neighbours;
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::Burst;
use crate::packet::fragments::Fragments;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::policy::drain::Count;
use crate::policy::limiter::{Bucket, Limiter};
use crate::policy::recent::Recent;
use crate::policy::services::{Scope, Services};
use crate::stage::clamp;
use crate::stage::sign::Keys;
use crate::stage::signatures::Signatures;
use crate::table::{Imported, Kept, Kind as TableKind, Refused, Table};
use crate::verdict::{Roles, Verdict};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tcp;
use affinity::Pair;
use lookup::ServiceLookup;
use probe::Probes;
use settings::{NextHop, ServiceState, own_addresses};

pub use affinity::Affinity;
pub use phase::Phase;
pub use probe::TunnelHealth;
pub use select::{Liveness, Selection};
pub use settings::{Delivery, Probing, Server, Service, Settings, Timeouts};

/// How often one signature may draw copies: a SYN and its first retransmission have the same one in
/// an epoch, and the network may duplicate one of them.
const SIGNATURE_PASSES: u8 = 3;

/// The state that the workers of a switch share with each other and with the control thread.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Which tunnels are answered.
    pub tunnels: Arc<TunnelHealth>,
    /// MAC addresses of servers.
    pub neighbours: Arc<Neighbours>,
}

/// Time for which a race under configuration B lets many errors about its endpoint pass to the
/// replicas, at least; at most twice that. Paths are discovered by the first large packets.
const RACED_LATELY: Ticks = Ticks::from_secs(600);

/// Whose tables they are.
const KIND: TableKind = TableKind::Switch;

/// One worker's switch.
pub struct Switch {
    common: Common,
    v4: FamilyState<V4>,
    v6: FamilyState<V6>,
    lookup: ServiceLookup,
}

/// The state that both families share.
struct Common {
    settings: Settings,
    services: Services,
    states: Box<[ServiceState]>,
    /// The addresses that the switch answers for on the outside, sorted.
    own: Box<[IpAddr]>,
    /// Whether packets from the inside concern the switch: a service has several servers, or one
    /// that is reached by tunnel.
    tracks_inside: bool,
    selection: Reader<Selection>,
    keys: Reader<Keys>,
    signatures: Signatures,
    /// Limits copies of SYNs whose tags are not signed.
    limiter: Limiter,
    /// Limits copies of SYNs whose signatures are genuine.
    signed_limiter: Limiter,
    /// Limits copies of ICMP errors, separately, so that they cannot starve copies of SYNs.
    icmp_copy_limiter: Limiter,
    /// Clients that have raced under configuration B lately: the replicas may need errors about their
    /// connections.
    raced_under_b: Recent,
    /// Limits copies of errors about all others together.
    unknown_errors: Bucket,
    oversize: Oversize,
    probes: Probes,
    resolver: Resolver,
    counters: Arc<SwitchCounters>,
    left: Count,
}

/// One family's connections.
struct FamilyState<F: Family> {
    affinities: Table<Pair<F>, Phase, Affinity>,
    fragments: Fragments<F, Destination>,
}

/// The switch as one family's packets see it.
struct SwitchFor<'a, F: Family> {
    common: &'a mut Common,
    affinities: &'a mut Table<Pair<F>, Phase, Affinity>,
    fragments: &'a mut Fragments<F, Destination>,
}

/// The server that a packet is sent to.
#[derive(Clone, Copy, Debug)]
struct Destination {
    service: u16,
    /// The server, by its number within the service.
    server: u16,
    /// A hash of its connection, for the outer header of a tunnel.
    entropy: u32,
}

impl Destination {
    fn new<F: Family>(service: usize, server: usize, client: Endpoint<F>) -> Self {
        Self { service: service as u16, server: server as u16, entropy: client.entropy() }
    }
}

impl<F: Family> FamilyState<F> {
    fn new(settings: &Settings, counters: &CommonCounters) -> Self {
        let capacity = settings.max_connections[F::VERSION as usize];
        let timeouts = settings.timeouts.by_phase();
        let affinities = Table::new(capacity, &timeouts, settings.hash_key);
        counters.table_of(F::VERSION).capacity.set(affinities.capacity() as u64);
        Self { affinities, fragments: Fragments::new(settings.hash_key) }
    }
}

impl Switch {
    /// Returns a switch with empty tables.
    pub fn new(
        settings: Settings,
        shares: Shares,
        selection: Reader<Selection>,
        keys: Reader<Keys>,
    ) -> Self {
        let all = &settings.services;
        let numbered = || (0u16..).zip(all);
        // A retired service has the packets that belong to no other.
        let live = numbered().filter(|(_, service)| !service.retired);
        let ordered = live.chain(numbered().filter(|(_, service)| service.retired));
        let scopes = ordered.map(|(n, s)| (n, Scope::Prefix(s.address.into()), s.ports.as_slice()));
        let states: Box<[ServiceState]> =
            all.iter().map(|service| ServiceState::new(service, &settings.path)).collect();
        let replicas = states.iter().map(|state| state.replicas.len()).sum();
        let servers = states.iter().map(|state| state.servers.len()).sum();
        let counters = SwitchCounters::new(replicas, servers);
        let mut switch = Self {
            v4: FamilyState::new(&settings, &counters.common),
            v6: FamilyState::new(&settings, &counters.common),
            lookup: ServiceLookup::default(),
            common: Common {
                services: Services::numbered(scopes),
                own: own_addresses(all),
                tracks_inside: states
                    .iter()
                    .any(|state| state.has_affinity() || state.mss.is_some()),
                selection,
                keys,
                signatures: Signatures::new(SIGNATURE_PASSES),
                limiter: Limiter::new(settings.fan_out, settings.hash_key),
                signed_limiter: Limiter::new(settings.fan_out, settings.hash_key),
                icmp_copy_limiter: Limiter::new(settings.fan_out, settings.hash_key),
                raced_under_b: Recent::new(RACED_LATELY, settings.hash_key),
                unknown_errors: Bucket::full(related::UNKNOWN_ERRORS, Ticks(0)),
                oversize: Oversize::new(settings.hash_key, ClientIs::Source),
                probes: Probes::new(&settings, &states, shares.tunnels),
                resolver: Resolver::new(shares.neighbours),
                counters: Arc::new(counters),
                left: Count::default(),
                states,
                settings,
            },
        };
        switch.common.note_selected();
        switch
    }

    fn for_v4(&mut self) -> SwitchFor<'_, V4> {
        let FamilyState { affinities, fragments } = &mut self.v4;
        SwitchFor { common: &mut self.common, affinities, fragments }
    }

    fn for_v6(&mut self) -> SwitchFor<'_, V6> {
        let FamilyState { affinities, fragments } = &mut self.v6;
        SwitchFor { common: &mut self.common, affinities, fragments }
    }

    /// Handles ARP and neighbour discovery. Learns servers on the inside. Answers on the outside for
    /// service addresses and tunnel sources that no host behind the switch answers for, and on both
    /// sides for the address that probes are sent from. `None` when the packet does not concern the
    /// switch.
    fn neighbour<P: Pool>(
        &self,
        from: Side,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        let Common { settings, resolver, counters, own, .. } = &self.common;
        let (mac, counters) = (settings.macs[from as usize], &counters.common);
        let has_address = |address| from == Side::Outside && own.binary_search(&address).is_ok();
        resolver.on_neighbour_packet(from, mac, packet, has_address, counters, context)
    }
}

impl Common {
    /// Notes which services' first servers get new connections now, and may have some from now on.
    fn note_selected(&mut self) {
        let selection = self.selection.get();
        for (number, state) in self.states.iter_mut().enumerate() {
            state.was_selected |= selection.takes(number, 0);
        }
    }
}

impl<F: Family> SwitchFor<'_, F> {
    // For each family it is called once: by the role's slow path, in which it belongs.
    #[inline(always)]
    fn slow_path<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        service: Option<usize>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp, Side::Outside) => match service {
                Some(service) => self.inbound(packet, service, hint, context),
                None => {
                    self.watch_outside(packet);
                    Verdict::NoService
                }
            },
            (Kind::Tcp, Side::Inside) => {
                if let Some(service) = service {
                    self.outbound(packet, service, hint, context.now);
                }
                Verdict::FromServer
            }
            (Kind::Icmp, Side::Outside) => self.icmp_from_outside(packet, context),
            (Kind::Icmp, Side::Inside) => self.icmp_from_inside(packet),
            (Kind::FirstFragment | Kind::Fragment, Side::Outside) => self.fragment(packet, context),
            (kind, _) => kind.default_verdict(),
        }
    }

    fn service(&self, to: Endpoint<F>) -> Option<usize> {
        self.common.services.find(to.address.into(), to.port).map(usize::from)
    }

    /// Handles a TCP packet from the WAN to a service (op 302).
    #[inline]
    fn inbound<P: Pool>(
        &mut self,
        packet: &mut Packet<P::Buffer>,
        service: usize,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let client = packet.source::<F>();
        // op 302: a packet has come; op 304: is it a SYN?
        let is_syn = tcp::flags(packet.tcp()).is_syn();
        if is_syn && self.begins_at_retired(packet, service, context.now) {
            return Verdict::NoService;
        }
        let verdict = match is_syn {
            true => match self.on_syn(packet, service, context) {
                Ok(verdict) => verdict,
                Err(verdict) => return verdict,
            },
            false => Verdict::ToServer,
        };
        let Some(server) = self.server_for(packet, service, hint, context.now) else {
            return match self.common.states[service].retired {
                true => Verdict::NoService,
                false => Verdict::NoServer,
            };
        };
        if is_syn {
            self.count_syn(packet, service, server);
        }
        // op 314: forwarded to the selected server.
        self.deliver(packet, Destination::new(service, server, client), verdict, context)
    }

    /// Counts a SYN by its server. Where that is reached by tunnel, the SYN's MSS is clamped as the
    /// SYN/ACK's is.
    fn count_syn<B: Buffer>(&self, packet: &mut Packet<B>, service: usize, server: usize) {
        let state = &self.common.states[service];
        if let Some(counter) = self.common.counters.syns.get(state.first_server + server) {
            counter.add(1);
        }
        if let NextHop::Tunnel(tunnel) = &state.servers[server] {
            self.clamp(packet, clamp::limit::<F>(tunnel.inner_mtu));
        }
    }

    /// Handles a TCP packet from the inside of a service. The MSS of a SYN/ACK limits the client's
    /// segments: it is clamped so that they fit the tunnel to the server.
    fn outbound<B: Buffer>(
        &mut self,
        packet: &mut Packet<B>,
        service: usize,
        hint: &LookupHint,
        now: Ticks,
    ) {
        if self.common.states[service].has_affinity() {
            self.track_server(packet, service, hint, now);
        }
        if let Some(limit) = self.common.states[service].mss
            && tcp::flags(packet.tcp()).is_syn_ack()
        {
            self.clamp(packet, limit);
        }
    }

    fn clamp<B: Buffer>(&self, packet: &mut Packet<B>, limit: u16) {
        if clamp::mss(packet, limit) {
            self.common.counters.common.scalar(Scalar::MssClamped).add(1);
        }
    }
}

impl Switch {
    /// Takes over what the control thread has published.
    #[inline(always)]
    fn refresh(&mut self) {
        self.common.keys.refresh();
        if self.common.selection.refresh() {
            self.common.note_selected();
        }
    }
}

impl BurstRole for Switch {
    const ROLE: Roles = Roles::SWITCH;

    #[inline(always)]
    fn classify_and_prefetch_buckets<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        let Self { common, v4, v6, lookup } = self;
        lookup.classify(from, burst, common, &v4.affinities, &v6.affinities);
    }

    #[inline(always)]
    fn prefetch_entries(&mut self, count: usize) {
        self.lookup.prefetch_entries(count, &self.v4.affinities, &self.v6.affinities);
    }

    #[inline(always)]
    fn fast_path<B: Buffer>(
        &mut self,
        from: Side,
        number: usize,
        frame: &mut B,
        view: &View,
        now: Ticks,
    ) -> Option<Verdict> {
        self.take_fast_path(from, number, frame, view, now)
    }

    #[inline(never)]
    fn slow_path<P: Pool>(
        &mut self,
        from: Side,
        number: usize,
        packet: &mut Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        let may_be_neighbour = matches!(packet.view.kind, Kind::Arp | Kind::Icmp);
        if may_be_neighbour && let Some(verdict) = self.neighbour(from, packet, context) {
            return verdict;
        }
        let (hint, service) = (self.lookup.hint(number), self.lookup.service(number));
        let verdict = match packet.view.version {
            Version::V4 => self.for_v4().slow_path(from, packet, &hint, service, context),
            Version::V6 => self.for_v6().slow_path(from, packet, &hint, service, context),
        };
        // All changes of entries are complete.
        self.v4.affinities.settle();
        self.v6.affinities.settle();
        verdict
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
        self.refresh();
        super::process::<true, _, P>(self, from, burst, context);
    }

    fn process_slowly<P: Pool>(
        &mut self,
        from: Side,
        burst: &mut Burst<P::Buffer>,
        context: &mut Context<'_, P>,
    ) {
        self.refresh();
        super::process::<false, _, P>(self, from, burst, context);
    }

    fn on_timer<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        self.count_left();
        let Common { counters, resolver, settings, probes, raced_under_b, .. } = &mut self.common;
        raced_under_b.forget_old(context.now);
        let counters = &counters.common;
        expire_some(&mut self.v4.affinities, &counters.table, context.now);
        expire_some(&mut self.v6.affinities, &counters.table_v6, context.now);
        resolver.release_pending(counters, context);
        if settings.probes {
            probes.send_due(counters, context);
            resolver.send_probes(settings.macs[Side::Inside as usize], counters, context);
        }
    }

    fn reload(&mut self, next: Self, now: Ticks) -> Self {
        self.go_on_as(next, now)
    }

    fn table_bytes(&self) -> [usize; 2] {
        [self.v4.affinities.bytes(), self.v6.affinities.bytes()]
    }

    fn place_tables(&mut self, memory: [Option<MmapMut>; 2]) -> io::Result<()> {
        let [v4, v6] = memory;
        self.v4.affinities.place(KIND, v4)?;
        self.v6.affinities.place(KIND, v6)
    }

    fn table_memory(&self) -> [Vec<u8>; 2] {
        [self.v4.affinities.memory(), self.v6.affinities.memory()]
    }

    fn may_import(kept: &Kept<'_>) -> Result<(), Refused> {
        match kept.version() {
            Version::V4 => Table::<Pair<V4>, Phase, Affinity>::may_import(KIND, kept),
            Version::V6 => Table::<Pair<V6>, Phase, Affinity>::may_import(KIND, kept),
        }
    }

    fn import(&mut self, kept: &[Kept<'_>], owns: impl Fn(IpAddr) -> bool, now: Ticks) -> Imported {
        let Common { services, states, .. } = &mut self.common;
        // Its only server may have connections, which have no entries.
        states.iter_mut().for_each(|state| state.was_selected = true);
        let mut adopting = import::Adopting { services, states, owns };
        let mut all = self.v4.affinities.import(KIND, kept, now, &mut adopting);
        all += self.v6.affinities.import(KIND, kept, now, &mut adopting);
        all
    }

    fn owner<B: Buffer>(from: Side, packet: &Packet<B>) -> Option<IpAddr> {
        owner::client_address(from, packet)
    }

    #[inline(always)]
    fn common_counters(&self) -> &CommonCounters {
        &self.common.counters.common
    }

    fn counters(&self) -> Arc<dyn RoleCounters> {
        Arc::clone(&self.common.counters) as Arc<dyn RoleCounters>
    }
}

#[cfg(test)]
mod tests;
