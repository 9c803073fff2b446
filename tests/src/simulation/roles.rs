//! The appliances of a plan: the pipeline's own roles, with the settings that the appliance would
//! derive from a configuration. New abilities of the pipeline are configured here.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use firstack_fixtures::UNLIMITED;
use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::memory::DIRECT;
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::limiter::Limit;
use pipeline::policy::services::Scope;
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::role::gateway::mode::{A, B, C, Mode};
use pipeline::role::gateway::{self, Gateway};
use pipeline::role::replica::{self, Admission, Replica};
use pipeline::role::switch::{self, Delivery, Liveness, Probing, Switch, TunnelHealth};

use super::address::{
    CLIENTS, HOST, ORIGIN, PORT, REPLICAS, SERVICE, SOURCE, Site, TUNNEL, address, mac, port_mac,
    prefix, service,
};
use super::control::{self, Controls, Members};
use super::plan::{self, Gate, Permits, Plan, Reach};
use super::racing::Remembering;
use super::rng::Rng;
use super::station::{Appliance, Mutant, Station};
use super::variety::{Signing, Source};

/// Capacity of each table of switch and replicas.
fn table(plan: &Plan) -> usize {
    match (plan.flood, &plan.attack) {
        (_, Some(attack)) => attack.table,
        (Some(_), _) => 1 << 14,
        _ if plan.is_long() => 1 << 10,
        _ => 64,
    }
}

/// Returns the appliance of a site, and its controls.
pub fn build(
    plan: &Plan,
    site: Site,
    rng: &mut Rng,
    mutant: Option<Mutant>,
) -> (Station, Controls) {
    let key = (rng.next_u64(), rng.next_u64());
    match site {
        CLIENTS => match plan.configuration {
            plan::Configuration::A => gateway::<A>(plan, key, mutant),
            plan::Configuration::B => gateway::<B>(plan, key, mutant),
            plan::Configuration::C => gateway::<C>(plan, key, mutant),
        },
        ORIGIN => switch(plan, key),
        site => replica(plan, site, key),
    }
}

/// Returns the family of the tunnels from switch to replicas.
#[must_use]
pub fn outer(plan: &Plan) -> plan::Family {
    match plan.tunnels.source {
        Source::OtherFamily => plan.family.other(),
        Source::Service | Source::Own => plan.family,
    }
}

/// Returns the tunnel address of a replica.
fn tunnel_address(plan: &Plan, site: Site) -> IpAddr {
    let bears = plan.replicas[site - REPLICAS].reach == Reach::Bears;
    let number = if bears && outer(plan) == plan.family { HOST } else { TUNNEL };
    address(outer(plan), site, number)
}

/// Returns an appliance's tunnel settings: 0 gateway, 1 switch, 2 replica.
fn path(plan: &Plan, role: usize) -> TunnelPath {
    let formats = plan.tunnels.formats[role];
    let own = |(site, format)| {
        let family = if role == ORIGIN { outer(plan) } else { plan.family };
        (prefix(family, site), format)
    };
    TunnelPath::new(plan.tunnels.path_mtu, formats.usual, formats.own.map(own))
}

/// Returns the allowed clients of a site's appliance.
fn clients(plan: &Plan, site: Site) -> AllowList {
    match plan.strangers.excludes(site) {
        None => AllowList::Any,
        Some(true) => AllowList::only(vec![prefix(plan.family, ORIGIN)]),
        Some(false) => AllowList::only(vec![prefix(plan.family, CLIENTS)]),
    }
}

fn gateway<X: Mode>(
    plan: &Plan,
    hash_key: (u64, u64),
    mutant: Option<Mutant>,
) -> (Station, Controls) {
    let sites = match plan.permits {
        Permits::Any => 0..0,
        Permits::Sites => REPLICAS..plan.sites(),
        Permits::First => REPLICAS..REPLICAS + 1,
    };
    let service = |number: usize| gateway::Service {
        scope: Scope::Prefix(service(plan.family, number).into()),
        ports: vec![PORT],
        retired: false,
        policy: plan.racing.policy(plan),
        allowed_replicas: AllowList::only_or_any(
            sites.clone().map(|site| prefix(plan.family, site)).collect(),
        ),
    };
    let settings = gateway::Settings {
        path: path(plan, CLIENTS),
        max_connections: [plan.table; 2],
        hash_key,
        ..firstack_fixtures::gateway((0..plan.services).map(service).collect())
    };
    let keys = Published::new(control::keys(plan, CLIENTS, false));
    let appliance = |role: Gateway<X>| {
        let copies = (DIRECT + 1, plan.segmented);
        Appliance::new("gateway".into(), role, copies, mutant).with_buffers(plan.buffers_left)
    };
    let station = Remembering::new(settings, keys.reader(), (plan.racing.lag, mutant), appliance);
    (Box::new(station), Controls { keys, members: Members::None })
}

fn origin_service(plan: &Plan, number: usize) -> switch::Service {
    let host = |at: usize| HOST + SERVICE * number as u8 + at as u8;
    let server = |at: usize| switch::Server {
        name: format!("origin{at}"),
        delivery: match (plan.origins, at % 2) {
            (1, _) => Delivery::None,
            (_, 0) => Delivery::Direct(mac(ORIGIN, host(at))),
            // It has its own address, too.
            _ => Delivery::Neighbour(address(plan.family, ORIGIN, host(at))),
        },
        weight: 1 + at as u32 % 2,
    };
    switch::Service {
        address: service(plan.family, number),
        ports: vec![PORT],
        retired: false,
        replicable: true,
        source: match plan.tunnels.source {
            Source::Service => service(plan.family, number),
            Source::Own | Source::OtherFamily => address(outer(plan), ORIGIN, SOURCE),
        },
        replicas: (REPLICAS..plan.sites()).map(|site| tunnel_address(plan, site)).collect(),
        first_replica: number * plan.replicas.len(),
        servers: (0..plan.origins).map(server).collect(),
        first_server: number * plan.origins,
    }
}

fn switch(plan: &Plan, hash_key: (u64, u64)) -> (Station, Controls) {
    let services: Vec<_> = (0..plan.services).map(|number| origin_service(plan, number)).collect();
    let probing = Probing { interval: Ticks::from_secs(2), fall: 3, rise: 2, id: 0x5157 };
    let settings = switch::Settings {
        require_signature: match plan.signing {
            Signing::Not => false,
            Signing::Missing { switch } => switch,
            Signing::Signed | Signing::Rotated { .. } => true,
        },
        allowed_clients: clients(plan, ORIGIN),
        max_copies: plan.max_copies,
        fan_out: Limit { rate: plan.fan_out, burst: plan.fan_out, ..UNLIMITED },
        path: path(plan, ORIGIN),
        max_connections: [table(plan); 2],
        probing: plan.tunnels.probes.then_some(probing),
        probes: true,
        macs: [0, 1].map(|port| port_mac(ORIGIN, port)),
        hash_key,
        ..firstack_fixtures::switch(services.clone())
    };
    let replicas = plan.services * plan.replicas.len();
    let alive = Liveness {
        replicas: vec![true; replicas],
        servers: vec![true; plan.services * plan.origins],
    };
    let asked_for = |server: &switch::Server| match server.delivery {
        Delivery::Neighbour(address) => Some(address),
        _ => None,
    };
    let servers = services.iter().flat_map(|service| &service.servers);
    let shares = switch::Shares {
        tunnels: Arc::new(TunnelHealth::new(replicas)),
        neighbours: Arc::new(Neighbours::new(servers.filter_map(asked_for))),
    };
    let tunnels = Arc::clone(&shares.tunnels);
    let keys = Published::new(control::keys(plan, ORIGIN, false));
    let selection = Published::new(switch::Selection::new(&services, &alive));
    let role = Switch::new(settings, shares, selection.reader(), keys.reader());
    let appliance = Appliance::new("switch".into(), role, (plan.max_copies, plan.segmented), None);
    let members = Members::Switch { selection, services, alive, tunnels };
    (Box::new(appliance), Controls { keys, members })
}

fn held_service(plan: &Plan, site: Site, number: usize) -> replica::Service {
    let replica = &plan.replicas[site - REPLICAS];
    let server = |number: usize| {
        let host = HOST + number as u8;
        replica::Server {
            name: format!("web{number}"),
            address: address(plan.family, site, host),
            port: replica.port,
            mac: (replica.reach == Reach::Mac).then(|| mac(site, host)),
            weight: 1,
            has_vip: replica.has_vip,
        }
    };
    replica::Service {
        address: service(plan.family, number),
        ports: vec![PORT],
        retired: false,
        servers: (0..replica.servers).map(server).collect(),
        first_server: number * replica.servers,
    }
}

fn replica(plan: &Plan, site: Site, hash_key: (u64, u64)) -> (Station, Controls) {
    let replica = &plan.replicas[site - REPLICAS];
    let services: Vec<_> =
        (0..plan.services).map(|number| held_service(plan, site, number)).collect();
    let servers = services.iter().flat_map(|service| &service.servers);
    let unresolved: std::collections::BTreeSet<_> =
        servers.filter(|s| s.mac.is_none()).map(|s| s.address).collect();
    let admission = Arc::new(Admission::default());
    admission.dead.store(replica.gate == Gate::Dead, Relaxed);
    admission.busy.store(replica.gate == Gate::Busy, Relaxed);
    let settings = replica::Settings {
        switches: AllowList::only(vec![prefix(outer(plan), ORIGIN)]),
        allowed_clients: clients(plan, site),
        tunnel_addresses: vec![tunnel_address(plan, site)],
        require_signature: match plan.signing {
            Signing::Not => false,
            Signing::Missing { switch } => !switch,
            Signing::Signed | Signing::Rotated { .. } => true,
        },
        path: path(plan, 2),
        busy_connections: match replica.gate {
            Gate::Limit(most) => most,
            _ => table(plan),
        },
        busy_syn_rate: 1000,
        syn_ack_retransmits: replica.repeats,
        max_connections: [table(plan); 2],
        macs: [0, 1].map(|port| port_mac(site, port)),
        probes: true,
        hash_key,
        ..firstack_fixtures::replica(services.clone())
    };
    let shares = replica::Shares {
        admission: Arc::clone(&admission),
        neighbours: Arc::new(Neighbours::new(unresolved)),
    };
    let up = vec![true; plan.services * replica.servers];
    let keys = Published::new(control::keys(plan, site, false));
    let selection = Published::new(replica::Selection::new(&services, |number| up[number]));
    let role = Replica::new(settings, shares, selection.reader(), keys.reader());
    let name = format!("replica{}", site + 1 - REPLICAS);
    let appliance = Appliance::new(name, role, (1, plan.segmented), None);
    (
        Box::new(appliance),
        Controls { keys, members: Members::Replica { selection, services, up, admission } },
    )
}
