//! The appliances of a plan: the pipeline's own roles with the settings that the appliance
//! would make of a configuration. What the pipeline learns to do is told to it here.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::configuration::A;
use pipeline::limiter::Limit;
use pipeline::neighbours::Neighbours;
use pipeline::role::gateway::{self, Gateway, Timeouts};
use pipeline::role::replica::{self, Gates, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::services::Scope;
use pipeline::stage::tag;
use pipeline::time::Ticks;

use super::address::{
    CLIENTS, HOST, ORIGIN, PORT, REPLICAS, SERVICE, Site, TUNNEL, address, mac, port_mac, prefix,
    service,
};
use super::dice::Dice;
use super::plan::{Configuration, Gate, Permits, Plan, Reach};
use super::station::{Appliance, Sabotage, Station};

/// Connections that each table holds.
const TABLE: usize = 64;

/// The appliance of a site; a replica's with its gates.
pub fn build(
    plan: &Plan,
    site: Site,
    dice: &mut Dice,
    sabotage: Option<Sabotage>,
) -> (Station, Option<Arc<Gates>>) {
    let key = (dice.roll(), dice.roll());
    let cut = plan.segmented;
    match site {
        CLIENTS => match plan.configuration {
            Configuration::A => {
                let role = Gateway::<A>::new(gateway(plan, key));
                (
                    Box::new(
                        Appliance::new("gateway", role, (1, cut), sabotage)
                            .with_buffers(plan.buffers_left),
                    ),
                    None,
                )
            }
        },
        ORIGIN => {
            let (role, copies) = (Switch::new(switch(plan)), plan.replicas.len().max(1));
            (Box::new(Appliance::new("switch", role, (copies, cut), None)), None)
        }
        site => {
            let name = ["replica1", "replica2", "replica3"][site - REPLICAS];
            let gates = Arc::new(Gates::default());
            let role = replica(plan, site, key, Arc::clone(&gates));
            (Box::new(Appliance::new(name, role, (1, cut), None)), Some(gates))
        }
    }
}

/// Where copies for a replica are sent.
fn tunnel_address(plan: &Plan, site: Site) -> IpAddr {
    let number = match plan.replicas[site - REPLICAS].reach {
        Reach::Bears => HOST,
        Reach::Mac | Reach::Resolved => TUNNEL,
    };
    address(plan.family, site, number)
}

fn gateway(plan: &Plan, hash_key: (u64, u64)) -> gateway::Settings {
    let sites = match plan.permits {
        Permits::Any => 0..0,
        Permits::Sites => REPLICAS..plan.sites(),
        Permits::First => REPLICAS..REPLICAS + 1,
    };
    let service = |number: usize| gateway::Service {
        scope: Scope::Prefix(service(plan.family, number).into()),
        ports: vec![PORT],
        replicas: sites.clone().map(|site| prefix(plan.family, site)).collect(),
    };
    gateway::Settings {
        services: (0..plan.services).map(service).collect(),
        tag: tag::Format::default(),
        timeouts: Timeouts::default(),
        max_connections: plan.table,
        hash_key,
    }
}

fn switch(plan: &Plan) -> switch::Settings {
    let server = |service: usize, number: usize| switch::Server {
        name: format!("origin{number}"),
        delivery: match plan.origins {
            1 => Delivery::None,
            _ => Delivery::Direct(mac(ORIGIN, HOST + SERVICE * service as u8 + number as u8)),
        },
        weight: 1,
    };
    let copies = plan.replicas.len();
    let replica = |service: usize, site: Site| {
        (v4(tunnel_address(plan, site)), service * copies + site - REPLICAS)
    };
    let service = |number: usize| switch::Service {
        address: v4(service(plan.family, number)),
        ports: vec![PORT],
        replicable: true,
        source: v4(service(plan.family, number)),
        replicas: (REPLICAS..plan.sites()).map(|site| replica(number, site)).collect(),
        servers: (0..plan.origins).map(|at| server(number, at)).collect(),
        first_server: number * plan.origins,
    };
    switch::Settings {
        services: (0..plan.services).map(service).collect(),
        tag: tag::Format::default(),
        max_copies: 8,
        fan_out: Limit {
            rate: plan.fan_out,
            burst: plan.fan_out.max(copies as u64),
            prefix_v4: 24,
            prefix_v6: 48,
        },
        replicas: plan.services * copies,
        servers: plan.services * plan.origins,
    }
}

fn replica(plan: &Plan, site: Site, hash_key: (u64, u64), gates: Arc<Gates>) -> Replica {
    let replica = &plan.replicas[site - REPLICAS];
    let server = |number: usize| {
        let host = HOST + number as u8;
        replica::Server {
            name: format!("web{number}"),
            address: v4(address(plan.family, site, host)),
            port: replica.port,
            mac: (replica.reach == Reach::Mac).then(|| mac(site, host)),
            weight: 1,
        }
    };
    let servers: Vec<_> = (0..replica.servers).map(server).collect();
    let unresolved = servers.iter().filter(|s| s.mac.is_none()).map(|s| s.address);
    let neighbours = Arc::new(Neighbours::new(unresolved));
    let held = |number: usize| replica::Service {
        address: v4(service(plan.family, number)),
        ports: vec![PORT],
        servers: servers.clone(),
        first_server: number * servers.len(),
    };
    gates.dead.store(replica.gate == Gate::Dead, Relaxed);
    gates.busy.store(replica.gate == Gate::Busy, Relaxed);
    let settings = replica::Settings {
        services: (0..plan.services).map(held).collect(),
        switches: vec![prefix(plan.family, ORIGIN)],
        tunnel_addresses: vec![v4(tunnel_address(plan, site))],
        tag: tag::Format::default(),
        busy_connections: match replica.gate {
            Gate::Limit(most) => most,
            _ => TABLE,
        },
        busy_syn_rate: 1000,
        max_connections: TABLE,
        timeouts: [30, 7440, 10].map(Ticks::from_secs),
        macs: [0, 1].map(|port| port_mac(site, port)),
        probes: true,
        hash_key,
    };
    Replica::new(settings, gates, neighbours)
}

fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => unreachable!("the pipeline serves IPv4"),
    }
}
