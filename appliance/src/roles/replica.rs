//! Builds the replica's roles from its configuration.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::replica::{Admission, Replica, Selection, Server, Service, Settings, Shares};

use super::{
    Controls, Environment, Labels, Member, RoleSet, any_of, controls, path, selection_key, share,
    tables, tag_option,
};
use crate::config::{self, Config};

pub(super) fn role_set(
    config: &Config,
    replica: &config::Replica,
    environment: &Environment,
) -> RoleSet<Replica> {
    let mut labels =
        Labels { role: config.role.name(), states: Replica::STATES, ..Labels::default() };
    let (mut services, mut members) = (Vec::new(), Vec::new());
    for service in &replica.services {
        let first_server = labels.servers.len();
        labels.services.push(service.name.clone());
        for server in &service.servers {
            let name = format!("{}/{}", service.name, server.name);
            labels.servers.push(name.clone());
            members.push(Member { name, enabled: true, check: server.check.clone() });
        }
        services.push(Service {
            address: service.address,
            ports: service.ports.clone(),
            retired: false,
            servers: service.servers.iter().map(web_server).collect(),
            first_server,
        });
    }
    let admission = Arc::new(Admission::default());
    admission.dead.store(replica.drained, Relaxed);
    let neighbours = Arc::new(unresolved(&services));
    let shares = Shares { admission: Arc::clone(&admission), neighbours };
    let key = selection_key(None, environment);
    let selection = Published::new(Selection::keyed(&services, |_| true, key));
    let settings = settings(config, replica, environment, services.clone());
    let controls = Controls {
        members,
        admission: Some(admission),
        busy_file: replica.busy_file.clone(),
        busy_check: replica.busy_check.clone(),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        ..controls(config, environment)
    };
    let role = |number| {
        let settings = Settings { probes: number == 0, ..settings.clone() };
        Replica::new(settings, shares.clone(), selection.reader(), controls.keys.reader())
    };
    RoleSet {
        roles: (0..environment.workers).map(role).collect(),
        labels,
        controls: Controls {
            apply: Box::new(move |up| {
                selection.publish(Selection::keyed(&services, |number| up[number], key));
            }),
            ..controls
        },
        copies: 1,
    }
}

fn settings(
    config: &Config,
    replica: &config::Replica,
    environment: &Environment,
    services: Vec<Service>,
) -> Settings {
    let workers = environment.workers;
    let times = &config.timeouts;
    let serves = |version| any_of(version, services.iter().map(|service| service.address));
    Settings {
        max_connections: tables(config, workers, serves),
        switches: AllowList::only(replica.switches.clone()),
        direct: replica.direct,
        allowed_clients: AllowList::only_or_any(replica.allowed_clients.clone()),
        tunnel_addresses: replica.tunnel_addresses.clone(),
        tag: tag_option(config),
        require_signature: config.tag.require_signature,
        path: path(config),
        busy_connections: share(replica.busy_connections.into(), workers) as usize,
        busy_syn_rate: share(replica.busy_syn_rate.into(), workers),
        syn_ack_retransmits: replica.syn_ack_retransmits,
        syn_ack_repair_rate: match replica.syn_ack_repair_rate {
            0 => 0,
            rate => share(rate.into(), workers),
        },
        timeouts: [times.racing, times.established, times.closing].map(Ticks::from),
        macs: environment.macs,
        hash_key: environment.hash_key,
        ..Settings::new(services)
    }
}

/// Returns the servers whose MAC addresses have to be resolved.
fn unresolved(services: &[Service]) -> Neighbours {
    let servers = services.iter().flat_map(|service| &service.servers);
    let addresses: BTreeSet<_> =
        servers.filter(|server| server.mac.is_none()).map(|server| server.address).collect();
    Neighbours::new(addresses)
}

fn web_server(server: &config::WebServer) -> Server {
    Server {
        name: server.name.clone(),
        address: server.address,
        port: server.port,
        mac: server.mac.map(|mac| mac.0),
        weight: server.weight.into(),
        has_vip: server.has_vip,
    }
}
