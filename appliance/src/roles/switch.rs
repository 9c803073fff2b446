//! Builds the switch's roles from its configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::limiter::Limit;
use pipeline::role::Role;
use pipeline::role::switch::{
    Delivery, Liveness, Probing, Selection, Server, Service, Settings, Shares, Switch, Timeouts,
    TunnelHealth,
};

use super::carried::{earlier_replicas, earlier_servers, place};
use super::numbers::{Numbers, Place};
use super::{
    Carried, Controls, Environment, Labels, Member, RoleSet, any_of, controls, derived, label,
    path, selection_key, tables, tag_option,
};
use crate::config::{self, Config};

/// The most copies of a SYN that a configuration allows, now or after a reload.
const MOST_COPIES: usize = 64;

/// The shortest idleness after which a SYN with a new sequence number moves a connection to another
/// server: a gateway may open a fresh race earlier, but servers keep a closed connection for a minute.
const REUSE_AFTER: Ticks = Ticks::from_secs(60);

pub(super) fn role_set(
    config: &Config,
    switch: &config::Switch,
    environment: &Environment,
    numbers: Numbers,
) -> RoleSet<Switch> {
    let Listed { services, replicas, addresses, servers, server_labels } = list(switch, &numbers);
    let first_server = replicas.len();
    let labels = Labels {
        role: config.role.name(),
        states: Switch::STATES,
        services: numbers.services().iter().map(label).collect(),
        replicas: replicas.iter().map(|member| member.name.clone()).collect(),
        servers: server_labels,
        ..Labels::default()
    };
    let before = &environment.carried;
    let earlier_replicas = earlier_replicas(&addresses, &before.replicas);
    let shares = Shares {
        tunnels: Arc::new(TunnelHealth::new(replicas.len())),
        neighbours: Arc::new(unresolved(&services)),
    };
    if let Some(tunnels) = &before.tunnels {
        shares.tunnels.inherit(tunnels, &earlier_replicas);
    }
    if let Some(neighbours) = &before.neighbours {
        shares.neighbours.inherit(neighbours);
    }
    let (server_numbers, servers): (Vec<_>, Vec<_>) = servers.into_iter().unzip();
    let members: Vec<_> = replicas.into_iter().chain(servers).collect();
    let all_servers = labels.servers.len();
    let alive = move |up: &[bool]| {
        let mut servers = vec![false; all_servers];
        for (number, up) in server_numbers.iter().zip(&up[first_server..]) {
            servers[*number] = *up;
        }
        Liveness { replicas: up[..first_server].to_vec(), servers }
    };
    let enabled: Vec<_> = members.iter().map(|member| member.enabled).collect();
    let key = selection_key(switch.hash_key, environment);
    let selection = Published::new(Selection::keyed(&services, &alive(&enabled), key));
    let settings = Settings {
        earlier_servers: earlier_servers(&numbers, &before.numbers),
        earlier_replicas,
        ..settings(config, switch, environment, services.clone())
    };
    let controls = controls(config, environment);
    let carried = Carried {
        numbers,
        replicas: addresses,
        unix: controls.unix.clone(),
        tunnels: Some(Arc::clone(&shares.tunnels)),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        ..derived(key, switch.hash_key, environment)
    };
    let controls = Controls {
        members,
        tunnels: switch.tunnel_probes.then(|| Arc::clone(&shares.tunnels)),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        drain: Some(Arc::clone(&settings.drain)),
        carried,
        ..controls
    };
    let role = |number| {
        let settings = Settings { probes: number == 0, ..settings.clone() };
        Switch::new(settings, shares.clone(), selection.reader(), controls.keys.reader())
    };
    RoleSet {
        roles: (0..environment.workers).map(role).collect(),
        labels,
        controls: Controls {
            apply: Box::new(move |up| {
                selection.publish(Selection::keyed(&services, &alive(up), key));
            }),
            ..controls
        },
        copies: MOST_COPIES,
    }
}

/// The services of a switch by number, and their replicas and servers.
#[derive(Default)]
struct Listed {
    services: Vec<Service>,
    replicas: Vec<Member>,
    /// The service and the address of each replica.
    addresses: Vec<(usize, IpAddr)>,
    /// The servers of the configuration, each with its number among all.
    servers: Vec<(usize, Member)>,
    /// The names of all servers; empty for one that has left the configuration.
    server_labels: Vec<String>,
}

fn list(switch: &config::Switch, numbers: &Numbers) -> Listed {
    let mut listed = Listed::default();
    for (number, known) in numbers.services().iter().enumerate() {
        let is_known = |service: &&config::SwitchService| service.name == known.name;
        let configured = switch.services.iter().find(is_known);
        let configured = configured.filter(|_| known.retired.is_none());
        let (first_replica, first_server) = (listed.replicas.len(), listed.server_labels.len());
        let name = |name: &String| format!("{}/{name}", known.name);
        let replicas = configured.map(|service| service.replicas.as_slice()).unwrap_or_default();
        listed.replicas.extend(replicas.iter().map(|replica| Member {
            name: name(&replica.name),
            enabled: replica.enabled,
            check: replica.check.clone(),
        }));
        listed.addresses.extend(replicas.iter().map(|replica| (number, replica.address)));
        let mut servers = Vec::new();
        for server in &known.servers {
            let is_here = |own: &&config::OriginServer| place(own.delivery) == server.place;
            let own = configured.and_then(|service| service.servers.iter().find(is_here));
            let own = own.filter(|_| server.retired.is_none());
            if let Some(own) = own {
                let (name, check) = (name(&own.name), own.check.clone());
                let member = Member { name, enabled: own.enabled, check };
                listed.servers.push((listed.server_labels.len(), member));
            }
            listed.server_labels.push(own.map(|own| name(&own.name)).unwrap_or_default());
            servers.push(Server {
                name: server.name.clone(),
                delivery: delivery(server.place),
                // One that has left the configuration gets no new clients.
                weight: own.map_or(0, |own| own.weight.into()),
            });
        }
        listed.services.push(Service {
            address: known.address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            ports: known.ports.clone(),
            retired: configured.is_none(),
            replicable: configured.is_some_and(|own| own.content == config::Content::Static),
            source: known.source.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            replicas: replicas.iter().map(|replica| replica.address).collect(),
            first_replica,
            servers,
            first_server,
        });
    }
    listed
}

fn settings(
    config: &Config,
    switch: &config::Switch,
    environment: &Environment,
    services: Vec<Service>,
) -> Settings {
    let workers = environment.workers;
    let times = &config.timeouts;
    // A service that has one server now may have several after a reload.
    let serves = |version| any_of(version, services.iter().map(|service| service.address));
    let probing = Probing {
        interval: config.health.interval.into(),
        fall: config.health.fall,
        rise: config.health.rise,
        id: environment.probe_id,
    };
    Settings {
        tag: tag_option(config),
        require_signature: config.tag.require_signature,
        allowed_clients: AllowList::only_or_any(switch.allowed_clients.clone()),
        max_copies: switch.max_copies.into(),
        fan_out: Limit {
            rate: switch.fan_out_rate.into(),
            burst: switch.fan_out_burst.into(),
            total: switch.fan_out_total.into(),
            prefix_v4: switch.fan_out_prefix_v4,
            prefix_v6: switch.fan_out_prefix_v6,
            ..Limit::default()
        }
        .of_worker(workers),
        path: path(config),
        max_connections: tables(config, workers, serves),
        timeouts: Timeouts {
            opening: times.racing.into(),
            established: times.established.into(),
            closing: times.closing.into(),
            reuse_after: Ticks::from(times.reuse_after).max(REUSE_AFTER),
        },
        probing: switch.tunnel_probes.then_some(probing),
        macs: environment.macs,
        hash_key: environment.hash_key,
        ..Settings::new(services)
    }
}

/// Returns the servers whose MAC addresses have to be resolved; those that are tunnelled to only
/// once a router addresses packets for them to the switch.
fn unresolved(services: &[Service]) -> Neighbours {
    let deliveries = || services.iter().flat_map(|service| &service.servers).map(|s| s.delivery);
    let resolved = deliveries().filter_map(|delivery| match delivery {
        Delivery::Neighbour(address) => Some(address),
        _ => None,
    });
    let tunnelled = deliveries().filter_map(|delivery| match delivery {
        Delivery::Tunnel(address) => Some(address),
        _ => None,
    });
    Neighbours::with_optional(resolved, tunnelled)
}

fn delivery(place: Place) -> Delivery {
    match place {
        Place::Mac(mac) => Delivery::Direct(mac),
        Place::Neighbour(address) => Delivery::Neighbour(address),
        Place::Tunnel(address) => Delivery::Tunnel(address),
        // A switch has no web servers.
        Place::Inside | Place::Web { .. } => Delivery::None,
    }
}
