//! Builds the switch's roles from its configuration.

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

use super::{
    Controls, Environment, Labels, Member, RoleSet, controls, path, selection_key, tables,
    tag_option,
};
use crate::config::{self, Config};

/// The shortest idleness after which a SYN with a new sequence number moves a connection to another
/// server: a gateway may open a fresh race earlier, but servers keep a closed connection for a minute.
const REUSE_AFTER: Ticks = Ticks::from_secs(60);

pub(super) fn role_set(
    config: &Config,
    switch: &config::Switch,
    environment: &Environment,
) -> RoleSet<Switch> {
    let mut labels =
        Labels { role: config.role.name(), states: Switch::STATES, ..Labels::default() };
    let (mut services, mut replicas, mut servers) = (Vec::new(), Vec::new(), Vec::new());
    for service in &switch.services {
        let (first_replica, first_server) = (replicas.len(), servers.len());
        let label = |name: &String| format!("{}/{name}", service.name);
        labels.services.push(service.name.clone());
        replicas.extend(service.replicas.iter().map(|replica| Member {
            name: label(&replica.name),
            enabled: replica.enabled,
            check: replica.check.clone(),
        }));
        servers.extend(service.servers.iter().map(|server| Member {
            name: label(&server.name),
            enabled: server.enabled,
            check: server.check.clone(),
        }));
        services.push(Service {
            address: service.address,
            ports: service.ports.clone(),
            replicable: service.content == config::Content::Static,
            source: service.source,
            replicas: service.replicas.iter().map(|replica| replica.address).collect(),
            first_replica,
            servers: service.servers.iter().map(origin_server).collect(),
            first_server,
        });
    }
    let named = |members: &[Member]| members.iter().map(|member| member.name.clone()).collect();
    (labels.replicas, labels.servers) = (named(&replicas), named(&servers));
    let shares = Shares {
        tunnels: Arc::new(TunnelHealth::new(replicas.len())),
        neighbours: Arc::new(unresolved(&services)),
    };
    let first_server = replicas.len();
    let members: Vec<_> = replicas.into_iter().chain(servers).collect();
    let alive = move |up: &[bool]| Liveness {
        replicas: up[..first_server].to_vec(),
        servers: up[first_server..].to_vec(),
    };
    let enabled: Vec<_> = members.iter().map(|member| member.enabled).collect();
    let key = selection_key(switch.hash_key, environment);
    let selection = Published::new(Selection::keyed(&services, &alive(&enabled), key));
    let settings = settings(config, switch, environment, services.clone());
    let controls = Controls {
        members,
        tunnels: switch.tunnel_probes.then(|| Arc::clone(&shares.tunnels)),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        drain: Some(Arc::clone(&settings.drain)),
        ..controls(config, environment)
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
        copies: usize::from(switch.max_copies).max(1),
    }
}

fn settings(
    config: &Config,
    switch: &config::Switch,
    environment: &Environment,
    services: Vec<Service>,
) -> Settings {
    let workers = environment.workers;
    let times = &config.timeouts;
    let needs_affinity = Settings::needs_affinity(&services);
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
        max_connections: tables(config, workers, |version| needs_affinity[version as usize]),
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

fn origin_server(server: &config::OriginServer) -> Server {
    Server {
        name: server.name.clone(),
        delivery: match server.delivery {
            config::Delivery::None => Delivery::None,
            config::Delivery::Direct(mac) => Delivery::Direct(mac.0),
            config::Delivery::Neighbour(address) => Delivery::Neighbour(address),
            config::Delivery::Tunnel(address) => Delivery::Tunnel(address),
        },
        weight: server.weight.into(),
    }
}
