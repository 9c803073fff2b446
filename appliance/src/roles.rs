//! From a checked configuration to the roles that the workers run. Here, and nowhere else, is
//! the choice of role and configuration made: each worker's loop is compiled for its own.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::configuration::A;
use pipeline::limiter::Limit;
use pipeline::neighbours::Neighbours;
use pipeline::role::Role;
use pipeline::role::gateway::{self, Gateway};
use pipeline::role::replica::{self, Gates, Replica};
use pipeline::role::switch::{self, Switch};
use pipeline::services::Scope;
use pipeline::stage::tag;
use pipeline::time::Ticks;
use pipeline::wire::ethernet::Mac;

use crate::config::{self, Config};

/// What the roles need to know beyond the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings {
    /// How many workers share the work.
    pub workers: usize,
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Secret of the tables' hash.
    pub hash_key: (u64, u64),
}

/// The names that counters are shown under.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// "gateway", "switch" or "replica".
    pub role: &'static str,
    /// States of the table.
    pub states: &'static [&'static str],
    /// Services, by number.
    pub services: Vec<String>,
    /// Replicas of all services in order, as "service/replica" (switch).
    pub replicas: Vec<String>,
    /// Servers of all services in order, as "service/server" (switch, replica).
    pub servers: Vec<String>,
}

/// The roles of all workers, and what the control thread keeps of them.
#[derive(Debug)]
pub struct Crew<R> {
    /// One per worker.
    pub roles: Vec<R>,
    /// The names of what they count.
    pub names: Names,
    /// The replica's gates.
    pub gates: Option<Arc<Gates>>,
    /// The most frames that one packet can turn into beyond itself.
    pub copies: usize,
}

/// What is done with a crew, whatever its role.
pub trait Task {
    /// What comes of it.
    type Output;

    /// Does it.
    fn run<R: Role + Send + 'static>(self, crew: Crew<R>) -> Self::Output;
}

/// Builds the roles and does the task with them.
pub fn with_crew<T: Task>(config: &Config, surroundings: Surroundings, task: T) -> T::Output {
    match &config.role {
        // Configurations B and C do not come this far: `not_yet` of config refuses them.
        config::Role::Gateway(gateway) => task.run(gateways::<A>(config, gateway, surroundings)),
        config::Role::Switch(switch) => task.run(switches(config, switch, surroundings)),
        config::Role::Replica(replica) => task.run(replicas(config, replica, surroundings)),
    }
}

fn tag_format(config: &Config) -> tag::Format {
    tag::Format { kind: config.tag.kind, exid: config.tag.exid }
}

/// This worker's part of a number that is given for the process; at least one.
fn share(total: u64, workers: usize) -> u64 {
    total.div_ceil(workers as u64).max(1)
}

/// IPv6 is refused when the configuration is loaded (config, `not_yet`).
fn v4(address: IpAddr) -> Ipv4Addr {
    match address {
        IpAddr::V4(address) => address,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn gateways<C>(
    config: &Config,
    gateway: &config::Gateway,
    surroundings: Surroundings,
) -> Crew<Gateway<C>>
where
    C: pipeline::configuration::Configuration,
{
    let service = |service: &config::GatewayService| gateway::Service {
        scope: match service.address {
            config::ServiceAddress::Any => Scope::Any,
            config::ServiceAddress::Prefix(net) => Scope::Prefix(net),
        },
        ports: service.ports.clone(),
        replicas: service.replicas.clone(),
    };
    let times = &config.timeouts;
    let connections = share(config.table.max_connections.into(), surroundings.workers);
    let settings = gateway::Settings {
        services: gateway.services.iter().map(service).collect(),
        tag: tag_format(config),
        timeouts: gateway::Timeouts {
            racing: times.racing.into(),
            established: times.established.into(),
            closing: times.closing.into(),
            race_window: times.race_window.into(),
            reuse_after: times.reuse_after.into(),
            tag_backoff: times.tag_backoff.into(),
        },
        max_connections: connections as usize,
        hash_key: surroundings.hash_key,
    };
    Crew {
        roles: (0..surroundings.workers).map(|_| Gateway::new(settings.clone())).collect(),
        names: Names {
            role: config.role.name(),
            states: Gateway::<C>::STATES,
            services: gateway.services.iter().map(|service| service.name.clone()).collect(),
            ..Names::default()
        },
        gates: None,
        copies: 1,
    }
}

fn switches(config: &Config, switch: &config::Switch, surroundings: Surroundings) -> Crew<Switch> {
    let mut names = Names { role: config.role.name(), ..Names::default() };
    let mut services = Vec::new();
    for service in &switch.services {
        let (first_replica, first_server) = (names.replicas.len(), names.servers.len());
        let label = |name: &String| format!("{}/{name}", service.name);
        names.services.push(service.name.clone());
        names.replicas.extend(service.replicas.iter().map(|replica| label(&replica.name)));
        names.servers.extend(service.servers.iter().map(|server| label(&server.name)));
        let replicas = service.replicas.iter().enumerate();
        services.push(switch::Service {
            address: v4(service.address),
            ports: service.ports.clone(),
            replicable: service.content == config::Content::Static,
            source: v4(service.source),
            replicas: replicas
                .filter(|(_, replica)| replica.enabled)
                .map(|(number, replica)| (v4(replica.address), first_replica + number))
                .collect(),
            servers: service.servers.iter().map(origin_server).collect(),
            first_server,
        });
    }
    let settings = switch::Settings {
        services,
        tag: tag_format(config),
        max_copies: switch.max_copies.into(),
        fan_out: Limit {
            rate: share(switch.copies_per_second.into(), surroundings.workers),
            // A worker's share holds the copies of one start packet at least.
            burst: share(switch.copies_burst.into(), surroundings.workers)
                .max(switch.max_copies.into()),
            prefix_v4: switch.copies_prefix_v4,
            prefix_v6: switch.copies_prefix_v6,
        },
        replicas: names.replicas.len(),
        servers: names.servers.len(),
    };
    Crew {
        roles: (0..surroundings.workers).map(|_| Switch::new(settings.clone())).collect(),
        names,
        gates: None,
        copies: switch.max_copies.into(),
    }
}

fn origin_server(server: &config::OriginServer) -> switch::Server {
    switch::Server {
        name: server.name.clone(),
        delivery: match server.delivery {
            // `not_yet` of config refuses neighbours.
            config::Delivery::None | config::Delivery::Neighbour(_) => switch::Delivery::None,
            config::Delivery::Direct(mac) => switch::Delivery::Direct(mac.0),
            config::Delivery::Tunnel(address) => switch::Delivery::Tunnel(v4(address)),
        },
        weight: if server.enabled { server.weight.into() } else { 0 },
    }
}

fn replicas(
    config: &Config,
    replica: &config::Replica,
    surroundings: Surroundings,
) -> Crew<Replica> {
    let mut names = Names { role: config.role.name(), states: Replica::STATES, ..Names::default() };
    let mut services = Vec::new();
    for service in &replica.services {
        let first_server = names.servers.len();
        names.services.push(service.name.clone());
        let label = |server: &config::WebServer| format!("{}/{}", service.name, server.name);
        names.servers.extend(service.servers.iter().map(label));
        services.push(replica::Service {
            address: v4(service.address),
            ports: service.ports.clone(),
            servers: service.servers.iter().map(web_server).collect(),
            first_server,
        });
    }
    let unresolved: BTreeSet<_> = services
        .iter()
        .flat_map(|service| &service.servers)
        .filter(|server| server.mac.is_none())
        .map(|server| server.address)
        .collect();
    let neighbours = Arc::new(Neighbours::new(unresolved));
    let gates = Arc::new(Gates::default());
    gates.dead.store(replica.drained, Relaxed);
    let workers = surroundings.workers;
    let times = &config.timeouts;
    let settings = replica::Settings {
        services,
        switches: replica.switches.clone(),
        tunnel_addresses: replica.tunnel_addresses.iter().copied().map(v4).collect(),
        tag: tag_format(config),
        busy_connections: share(replica.max_connections.into(), workers) as usize,
        busy_syn_rate: share(replica.max_syn_rate.into(), workers),
        max_connections: share(config.table.max_connections.into(), workers) as usize,
        timeouts: [times.racing, times.established, times.closing].map(Ticks::from),
        macs: surroundings.macs,
        probes: false,
        hash_key: surroundings.hash_key,
    };
    let role = |number| {
        let settings = replica::Settings { probes: number == 0, ..settings.clone() };
        Replica::new(settings, Arc::clone(&gates), Arc::clone(&neighbours))
    };
    Crew {
        roles: (0..workers).map(role).collect(),
        names,
        gates: Some(Arc::clone(&gates)),
        copies: 1,
    }
}

fn web_server(server: &config::WebServer) -> replica::Server {
    replica::Server {
        name: server.name.clone(),
        address: v4(server.address),
        port: server.port,
        mac: server.mac.map(|mac| mac.0),
        weight: server.weight.into(),
    }
}
