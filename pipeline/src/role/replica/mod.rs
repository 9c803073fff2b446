//! The replica: figures 4A, 4B and 4C.
//!
//! From the outside: the copy of a SYN from an allowed switch, or from the client's gateway
//! directly, is dropped while the replica is out of service or busy, otherwise decapsulated and
//! given to a web server ([`copy`], [`direct`]); tunnels of gateways of configuration C are
//! decapsulated ([`tunnelled`]); all other traffic is bridged. From the inside: a web server's
//! packets go to the client in the form of the connection's configuration ([`track`], [`mode`]);
//! all other traffic is bridged.

mod connection;
mod copy;
mod direct;
mod fast_path;
mod heard;
mod hosts;
mod import;
mod lookup;
mod lost;
mod mode;
mod owner;
mod phase;
mod related;
mod reload;
mod repair;
mod settings;
mod track;
mod tunnelled;
mod watch;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use memmap2::MmapMut;

use super::oversize::{ClientIs, Oversize};
use super::resolver::Resolver;
use super::{BurstLookup, BurstRole, Context, LookupHint, Role, expire_some};
use crate::base::published::Reader;
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, ReplicaCounters, RoleCounters};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::Burst;
use crate::packet::fragments::Fragments;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::policy::clients::ClientHash;
use crate::policy::limiter::Bucket;
use crate::policy::services::{Scope, Services};
use crate::stage::sign::Keys;
use crate::stage::signatures::Signatures;
use crate::table::{Imported, Kept, Kind as TableKind, Refused, Table};
use crate::verdict::{Roles, Verdict};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use connection::ClientConnection;
use heard::Heard;
use hosts::Hosts;
use repair::Repairs;

pub use connection::{Connection, CopyTime};
pub use phase::Phase;
pub use settings::{Admission, Selection, Server, Service, Settings, Shares};

/// Whose tables they are.
const KIND: TableKind = TableKind::Replica;

/// One worker's replica.
pub struct Replica {
    common: Common,
    v4: FamilyState<V4>,
    v6: FamilyState<V6>,
    lookup: BurstLookup,
}

/// How often one signature may be admitted: every retransmission of a SYN is copied directly with
/// the same one in an epoch. Linux sends up to ten SYNs in that time, eight of them in the first 11
/// seconds.
const SIGNATURE_PASSES: u8 = 8;

/// The state that both families share.
struct Common {
    settings: Settings,
    services: Services,
    hosts: Hosts,
    selection: Reader<Selection>,
    keys: Reader<Keys>,
    signatures: Signatures,
    syns: Bucket,
    repairs: Repairs,
    /// Limits answers to tunnels of connections that are lost.
    lost: Bucket,
    heard: Heard,
    oversize: Oversize,
    admission: Arc<Admission>,
    resolver: Resolver,
    counters: Arc<ReplicaCounters>,
}

/// One family's connections.
struct FamilyState<F: Family> {
    connections: Table<Endpoint<F>, Phase, Connection<F>>,
    fragments: Fragments<F, ClientConnection<F>>,
    /// Whether any connection since the table was last empty has packets that the replica changes.
    translates: bool,
}

/// The replica as one family's packets see it.
struct ReplicaFor<'a, F: Family> {
    common: &'a mut Common,
    connections: &'a mut Table<Endpoint<F>, Phase, Connection<F>>,
    fragments: &'a mut Fragments<F, ClientConnection<F>>,
    translates: &'a mut bool,
}

impl<F: Family> FamilyState<F> {
    fn new(settings: &Settings, counters: &CommonCounters) -> Self {
        let capacity = settings.max_connections[F::VERSION as usize];
        let timeouts = Phase::timeouts(settings.timeouts);
        let connections = Table::new(capacity, &timeouts, settings.hash_key);
        counters.table_of(F::VERSION).capacity.set(connections.capacity() as u64);
        Self { connections, fragments: Fragments::new(settings.hash_key), translates: false }
    }
}

impl Replica {
    /// Returns a replica with empty tables.
    pub fn new(
        settings: Settings,
        shares: Shares,
        selection: Reader<Selection>,
        keys: Reader<Keys>,
    ) -> Self {
        // A retired service only covers its address: at no port is a copy accepted.
        let ports = |service: &Service| if service.retired { 0 } else { service.ports.len() };
        let scopes = settings
            .services
            .iter()
            .map(|s| (Scope::Prefix(s.address.into()), &s.ports[..ports(s)]));
        let servers = settings.services.iter().map(|service| service.servers.len()).sum();
        let counters = ReplicaCounters::new(servers);
        Self {
            v4: FamilyState::new(&settings, &counters.common),
            v6: FamilyState::new(&settings, &counters.common),
            lookup: BurstLookup::default(),
            common: Common {
                services: Services::new(scopes),
                hosts: Hosts::new(&settings),
                selection,
                keys,
                signatures: Signatures::new(SIGNATURE_PASSES),
                syns: Bucket::full(settings.busy_syn_rate, Ticks(0)),
                repairs: Repairs::new(
                    settings.syn_ack_repair_rate,
                    ClientHash::new(settings.hash_key),
                ),
                heard: Heard::default(),
                lost: lost::tokens(),
                oversize: Oversize::new(settings.hash_key, ClientIs::Destination),
                admission: shares.admission,
                resolver: Resolver::new(shares.neighbours),
                counters: Arc::new(counters),
                settings,
            },
        }
    }

    fn for_v4(&mut self) -> ReplicaFor<'_, V4> {
        let FamilyState { connections, fragments, translates } = &mut self.v4;
        ReplicaFor { common: &mut self.common, connections, fragments, translates }
    }

    fn for_v6(&mut self) -> ReplicaFor<'_, V6> {
        let FamilyState { connections, fragments, translates } = &mut self.v6;
        ReplicaFor { common: &mut self.common, connections, fragments, translates }
    }

    /// Handles ARP and neighbour discovery: learns web servers, and answers for tunnel addresses
    /// that no host has, and for the address that probes are sent from. On the inside, web servers
    /// ask only for the latter. `None` when the packet does not concern the replica.
    fn neighbour<P: Pool>(
        &self,
        from: Side,
        packet: &Packet<P::Buffer>,
        context: &mut Context<'_, P>,
    ) -> Option<Verdict> {
        let Common { settings, hosts, resolver, counters, .. } = &self.common;
        let (own, counters) = (settings.macs[from as usize], &counters.common);
        let has_address = |address| from == Side::Outside && hosts.has_address(address);
        resolver.on_neighbour_packet(from, own, packet, has_address, counters, context)
    }
}

impl<F: Family> ReplicaFor<'_, F> {
    // For each family it is called once: by the role's slow path, in which it belongs.
    #[inline(always)]
    fn slow_path<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        match (packet.view.kind, from) {
            (Kind::Tcp, Side::Inside) => self.web_server_packet(packet, hint, context),
            (Kind::Tcp, Side::Outside) => self.gateway_packet(packet, hint, context.now),
            (Kind::Tunnel, Side::Outside) => self.tunnelled(packet, hint, context),
            (Kind::Tunnel, Side::Inside) => {
                self.watch_inside(packet);
                packet.view.kind.default_verdict()
            }
            (Kind::BadTunnel, Side::Outside) => self.bad_tunnel(packet),
            (Kind::Icmp, _) => self.icmp(from, packet, context),
            (Kind::FirstFragment, Side::Inside) => self.first_fragment(packet, context),
            (Kind::Fragment, Side::Inside) => self.later_fragment(packet, context),
            (kind, _) => kind.default_verdict(),
        }
    }
}

impl Replica {
    /// Takes over what the control thread has published.
    #[inline(always)]
    fn refresh(&mut self) {
        self.common.keys.refresh();
        self.common.selection.refresh();
    }
}

impl BurstRole for Replica {
    const ROLE: Roles = Roles::REPLICA;

    #[inline(always)]
    fn classify_and_prefetch_buckets<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        self.classify(from, burst);
    }

    #[inline(always)]
    fn prefetch_entries(&mut self, count: usize) {
        self.lookup.prefetch_entries(count, &self.v4.connections, &self.v6.connections);
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
        let hint = self.lookup.hint(number);
        let may_be_neighbour = match packet.view.kind {
            Kind::Arp => true,
            Kind::Icmp => packet.view.version == Version::V6,
            _ => false,
        };
        if may_be_neighbour && let Some(verdict) = self.neighbour(from, packet, context) {
            return verdict;
        }
        // A tunnel belongs to the family of the packet inside.
        let version = match (packet.view.kind, from) {
            (Kind::Tunnel, Side::Outside) => hint.inner.version,
            _ => packet.view.version,
        };
        let verdict = match version {
            Version::V4 => self.for_v4().slow_path(from, packet, &hint, context),
            Version::V6 => self.for_v6().slow_path(from, packet, &hint, context),
        };
        // All changes of entries are complete.
        self.v4.connections.settle();
        self.v6.connections.settle();
        verdict
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
        let Common { counters, resolver, settings, .. } = &mut self.common;
        let counters = &counters.common;
        expire_some(&mut self.v4.connections, &counters.table, context.now);
        expire_some(&mut self.v6.connections, &counters.table_v6, context.now);
        resolver.release_pending(counters, context);
        if settings.probes {
            resolver.send_probes(settings.macs[Side::Inside as usize], counters, context);
        }
    }

    fn reload(&mut self, next: Self, _now: Ticks) -> Self {
        self.go_on_as(next)
    }

    fn table_bytes(&self) -> [usize; 2] {
        [self.v4.connections.bytes(), self.v6.connections.bytes()]
    }

    fn place_tables(&mut self, memory: [Option<MmapMut>; 2]) -> io::Result<()> {
        let [v4, v6] = memory;
        self.v4.connections.place(KIND, v4)?;
        self.v6.connections.place(KIND, v6)
    }

    fn table_memory(&self) -> [Vec<u8>; 2] {
        [self.v4.connections.memory(), self.v6.connections.memory()]
    }

    fn may_import(kept: &Kept<'_>) -> Result<(), Refused> {
        match kept.version() {
            Version::V4 => Table::<Endpoint<V4>, Phase, Connection<V4>>::may_import(KIND, kept),
            Version::V6 => Table::<Endpoint<V6>, Phase, Connection<V6>>::may_import(KIND, kept),
        }
    }

    fn import(&mut self, kept: &[Kept<'_>], owns: impl Fn(IpAddr) -> bool, now: Ticks) -> Imported {
        let (heard, translates) = (&mut self.common.heard, &mut self.v4.translates);
        let mut adopting = import::Adopting { heard, translates, owns, now };
        let mut all = self.v4.connections.import(KIND, kept, now, &mut adopting);
        adopting.translates = &mut self.v6.translates;
        all += self.v6.connections.import(KIND, kept, now, &mut adopting);
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
