//! The gateway at the clients' side: figures 2 (tag), 5A to 5C (race) and 6A to 6C (translate).
//!
//! From the inside: a SYN to a service is tagged and opens a race ([`syn`]); packets of a
//! connection that a replica won go to the replica ([`translate`]); all other traffic is bridged.
//!
//! From the outside: the first valid SYN/ACK wins, later ones are answered with a reset ([`race`]);
//! the winner's packets get the server's address back, or are decapsulated ([`tunnelled`]); all
//! other traffic is bridged. The differences between A, B and C are in
//! [`mode`].

mod asking;
mod drained;
mod endpoint;
mod fast_path;
pub mod flow;
mod goodbye;
mod import;
mod lookup;
mod lost;
pub mod mode;
mod owner;
mod path;
mod preference;
mod race;
mod related;
mod reload;
mod replica_lost;
mod segments;
mod settings;
mod syn;
mod translate;
mod tunnelled;
mod waiting;
mod watch;

use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::Arc;

use memmap2::MmapMut;

use super::oversize::{ClientIs, Oversize};
use super::{BurstLookup, BurstRole, Context, LookupHint, Role, expire_some};
use crate::base::published::{Published, Reader};
use crate::base::time::Ticks;
use crate::counters::{CommonCounters, GatewayCounters, ResponderIndex, RoleCounters};
use crate::memory::{Plans, Reports};
use crate::packet::buffer::{Buffer, Pool};
use crate::packet::burst::Burst;
use crate::packet::delayed::DelayedFrames;
use crate::packet::fragments::Fragments;
use crate::packet::view::{Kind, Packet, Side, View};
use crate::policy::allow_list::AllowList;
use crate::policy::backoff::Backoff;
use crate::policy::clients::ClientHash;
use crate::policy::drain::Count;
use crate::policy::limiter::Bucket;
use crate::policy::services::Services;
use crate::stage::sign::Keys;
use crate::table::{Imported, Kept, Kind as TableKind, Refused, State, Table};
use crate::verdict::{Roles, Verdict};
use crate::wire::family::{Endpoint, Family, V4, V6, Version};
use crate::wire::tcp;
use asking::Asking;
use flow::{Flow, Phase};
use goodbye::Ways;
use lost::Lost;
use mode::{Mode, Translation};
use preference::Preferences;
use waiting::Waiting;

pub use asking::Shares;
pub use settings::{Service, Settings, Timeouts};

/// One worker's gateway, compiled for one configuration.
pub struct Gateway<M> {
    common: Common,
    v4: FamilyState<V4>,
    v6: FamilyState<V6>,
    lookup: BurstLookup,
    mode: PhantomData<M>,
}

/// The state that both families share.
struct Common {
    settings: Settings,
    services: Services,
    /// The addresses from which replicas of any service may answer.
    allowed_replicas: AllowList,
    /// Those from which they could before reloads, and may still have connections.
    allowed_earlier: Vec<AllowList>,
    keys: Reader<Keys>,
    counters: Arc<GatewayCounters>,
    responders: ResponderIndex,
    backoff: Backoff,
    clients: ClientHash,
    oversize: Oversize,
    asking: Asking,
    waiting: DelayedFrames<Waiting>,
    left: Count,
    /// Limits what is sent for connections that are lost.
    tells: Bucket,
    ways: Ways,
}

/// One family's connections.
struct FamilyState<F: Family> {
    flows: Table<Endpoint<F>, Phase, Flow<F>>,
    fragments: Fragments<F, Translation<F>>,
    preferences: Preferences<F>,
    lost: Lost<F>,
}

/// The gateway as one family's packets see it.
struct GatewayFor<'a, M, F: Family> {
    common: &'a mut Common,
    flows: &'a mut Table<Endpoint<F>, Phase, Flow<F>>,
    fragments: &'a mut Fragments<F, Translation<F>>,
    preferences: &'a mut Preferences<F>,
    lost: &'a mut Lost<F>,
    mode: PhantomData<M>,
}

impl<F: Family> FamilyState<F> {
    fn new(settings: &Settings, counters: &CommonCounters) -> Self {
        let capacity = settings.max_connections[F::VERSION as usize];
        let timeouts = Self::timeouts(&settings.timeouts);
        let mut flows = Table::new(capacity, &timeouts, settings.hash_key);
        let host = |client: Endpoint<F>| Endpoint::new(client.address, 0);
        flows.count_hosts(Phase::is_translated, host);
        counters.table_of(F::VERSION).capacity.set(flows.capacity() as u64);
        let is_needed = settings.services.iter().any(|service| {
            service.policy.affinity > Ticks(0) && service.scope.has_family(F::VERSION)
        });
        let preferences = Preferences::new(is_needed);
        let (fragments, lost) = (Fragments::new(settings.hash_key), Lost::new(settings));
        Self { flows, fragments, preferences, lost }
    }

    /// Returns the time-outs of all phases.
    fn timeouts(timeouts: &Timeouts) -> [Ticks; Phase::ALL.len()] {
        let of = |phase: &Phase| match phase {
            Phase::Racing | Phase::HalfOpen => timeouts.racing,
            Phase::Replica => timeouts.established,
            Phase::Origin => timeouts.race_window,
            Phase::HalfClosed | Phase::Closed | Phase::Reset => timeouts.closing,
        };
        std::array::from_fn(|number| of(&Phase::ALL[number]))
    }
}

impl<M: Mode> Gateway<M> {
    /// Returns a gateway with empty tables that remembers no replicas.
    pub fn new(settings: Settings, keys: Reader<Keys>) -> Self {
        let plans = Published::new(Plans::empty(settings.services.len())).reader();
        Self::with_memory(settings, keys, Shares { plans, reports: Reports::ignored() })
    }

    /// Returns a gateway with empty tables that asks whom a memory's plans say, and reports its
    /// races to the memory.
    pub fn with_memory(settings: Settings, keys: Reader<Keys>, shares: Shares) -> Self {
        // A retired service only covers addresses: at no port does a race begin.
        let ports = |service: &'_ Service| if service.retired { 0 } else { service.ports.len() };
        let scopes = settings.services.iter().map(|s| (s.scope, &s.ports[..ports(s)]));
        let allowed = settings.services.iter().map(|service| &service.allowed_replicas);
        let counters = GatewayCounters::default();
        // Small tables are those of tests, whose gateways are made often.
        let paths = settings.max_connections.iter().sum::<usize>() / 16;
        Self {
            v4: FamilyState::new(&settings, &counters.common),
            v6: FamilyState::new(&settings, &counters.common),
            lookup: BurstLookup::default(),
            common: Common {
                services: Services::new(scopes),
                allowed_replicas: AllowList::union(allowed),
                allowed_earlier: Vec::new(),
                keys,
                counters: Arc::new(counters),
                responders: ResponderIndex::default(),
                backoff: Backoff::new(settings.timeouts.tag_backoff, settings.hash_key, paths),
                clients: ClientHash::new(settings.hash_key),
                oversize: Oversize::new(settings.hash_key, ClientIs::Source),
                asking: Asking::new(shares, settings.services.len()),
                waiting: DelayedFrames::new(waiting::capacity(&settings)),
                left: Count::default(),
                tells: lost::tokens(),
                ways: Ways::new(settings.hash_key),
                settings,
            },
            mode: PhantomData,
        }
    }

    fn for_v4(&mut self) -> GatewayFor<'_, M, V4> {
        let FamilyState { flows, fragments, preferences, lost } = &mut self.v4;
        let common = &mut self.common;
        GatewayFor { common, flows, fragments, preferences, lost, mode: PhantomData }
    }

    fn for_v6(&mut self) -> GatewayFor<'_, M, V6> {
        let FamilyState { flows, fragments, preferences, lost } = &mut self.v6;
        let common = &mut self.common;
        GatewayFor { common, flows, fragments, preferences, lost, mode: PhantomData }
    }
}

impl<M: Mode, F: Family> GatewayFor<'_, M, F> {
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
            (Kind::Tcp, _) => self.tcp(from, packet, hint, context),
            (Kind::Tunnel, Side::Outside) if M::SYN_ACK_IN_TUNNEL => {
                self.tunnelled(packet, hint, context)
            }
            (Kind::Icmp, _) => self.icmp(from, packet, context),
            (Kind::FirstFragment, _) => self.first_fragment(from, packet, context),
            (Kind::Fragment, _) => self.later_fragment(from, packet, context),
            (kind, _) => kind.default_verdict(),
        }
    }

    #[inline(always)]
    fn tcp<P: Pool>(
        &mut self,
        from: Side,
        packet: &mut Packet<P::Buffer>,
        hint: &LookupHint,
        context: &mut Context<'_, P>,
    ) -> Verdict {
        if !Gateway::<M>::needs_lookup(from, packet.tcp()) {
            return Verdict::Passed;
        }
        let client = lookup::client(from, packet.buffer.head(), &packet.view);
        let LookupHint { hash, entry, .. } = *hint;
        let slot = self.flows.find_hinted(hash, entry, client, context.now);
        let flags = tcp::flags(packet.tcp());
        // ops 202, 602, 652: a packet has come; ops 204, 604: a SYN or a SYN/ACK, or neither;
        // ops 606, 608: with an entry or without; op 610: from which side.
        match (from, slot) {
            (Side::Inside, _) if flags.is_syn() => self.on_syn(packet, client, hash, slot, context),
            // op 616: without an entry the packet is forwarded to its destination.
            (_, None) => {
                if flags.is_syn() || flags.is_syn_ack() {
                    self.watch_sides(from, packet);
                }
                self.without_entry(from, packet, client, context)
            }
            (Side::Inside, Some(slot)) => self.client_packet(packet, slot, context),
            // ops 502, 532, 552: a SYN/ACK has come.
            (Side::Outside, Some(slot)) if flags.is_syn_ack() => {
                self.on_syn_ack(packet, slot, None, context)
            }
            (Side::Outside, Some(slot)) => self.server_packet(packet, slot, context),
        }
    }
}

impl<M: Mode> Gateway<M> {
    /// Whose tables they are.
    const KIND: TableKind = TableKind::Gateway(M::CONFIGURATION);

    /// Takes over what the control thread has published.
    #[inline(always)]
    fn refresh(&mut self) {
        self.common.keys.refresh();
        self.common.asking.shares.plans.refresh();
    }

    /// Notes that all changes of entries are complete.
    #[inline(always)]
    fn settle(&mut self) {
        self.v4.flows.settle();
        self.v6.flows.settle();
    }
}

impl<M: Mode> BurstRole for Gateway<M> {
    const ROLE: Roles = Roles::GATEWAY;

    #[inline(always)]
    fn classify_and_prefetch_buckets<B: Buffer>(&mut self, from: Side, burst: &mut Burst<B>) {
        self.classify(from, burst);
    }

    #[inline(always)]
    fn prefetch_entries(&mut self, count: usize) {
        self.lookup.prefetch_entries(count, &self.v4.flows, &self.v6.flows);
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
        let verdict = match packet.view.version {
            Version::V4 => self.for_v4().slow_path(from, packet, &hint, context),
            Version::V6 => self.for_v6().slow_path(from, packet, &hint, context),
        };
        self.settle();
        verdict
    }
}

impl<M: Mode> Role for Gateway<M> {
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
        self.release_due(context);
        self.settle();
        let counters = &self.common.counters.common;
        expire_some(&mut self.v4.flows, &counters.table, context.now);
        expire_some(&mut self.v6.flows, &counters.table_v6, context.now);
        self.count_left();
    }

    fn finish<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        self.release_all(context);
        self.settle();
    }

    fn say_goodbye<P: Pool>(&mut self, context: &mut Context<'_, P>) {
        self.say_some_goodbyes(context);
    }

    fn reload(&mut self, next: Self, _now: Ticks) -> Self {
        self.go_on_as(next)
    }

    fn table_bytes(&self) -> [usize; 2] {
        [self.v4.flows.bytes(), self.v6.flows.bytes()]
    }

    fn place_tables(&mut self, memory: [Option<MmapMut>; 2]) -> io::Result<()> {
        let [v4, v6] = memory;
        self.v4.flows.place(Self::KIND, v4)?;
        self.v6.flows.place(Self::KIND, v6)
    }

    fn table_memory(&self) -> [Vec<u8>; 2] {
        [self.v4.flows.memory(), self.v6.flows.memory()]
    }

    fn may_import(kept: &Kept<'_>) -> Result<(), Refused> {
        match kept.version() {
            Version::V4 => Table::<Endpoint<V4>, Phase, Flow<V4>>::may_import(Self::KIND, kept),
            Version::V6 => Table::<Endpoint<V6>, Phase, Flow<V6>>::may_import(Self::KIND, kept),
        }
    }

    fn import(&mut self, kept: &[Kept<'_>], owns: impl Fn(IpAddr) -> bool, now: Ticks) -> Imported {
        let settings = &self.common.settings;
        let mut adopting = import::Adopting { settings, owns };
        let mut all = self.v4.flows.import(Self::KIND, kept, now, &mut adopting);
        all += self.v6.flows.import(Self::KIND, kept, now, &mut adopting);
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
