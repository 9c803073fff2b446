//! Builds the replica's roles from its configuration.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::Role;
use pipeline::role::replica::{Admission, Replica, Selection, Server, Service, Settings, Shares};

use super::carried::{earlier_servers, web_place};
use super::numbers::{self, Numbers, Place};
use super::{
    Carried, Controls, Environment, Labels, Member, RoleSet, any_of, controls, derived, label,
    path, selection_key, share, tables, tag_option,
};
use crate::config::{self, Config};

pub(super) fn role_set(
    config: &Config,
    replica: &config::Replica,
    environment: &Environment,
    numbers: Numbers,
) -> RoleSet<Replica> {
    let (services, members, servers) = list(replica, &numbers);
    let labels = Labels {
        role: config.role.name(),
        states: Replica::STATES,
        services: numbers.services().iter().map(label).collect(),
        servers,
        ..Labels::default()
    };
    let before = &environment.carried;
    let admission = before.admission.clone().unwrap_or_else(|| {
        let admission = Arc::new(Admission::default());
        admission.dead.store(replica.drained, Relaxed);
        admission
    });
    let neighbours = Arc::new(unresolved(&services));
    if let Some(earlier) = &before.neighbours {
        neighbours.inherit(earlier);
    }
    let shares = Shares { admission: Arc::clone(&admission), neighbours };
    let key = selection_key(None, environment);
    let (numbers_of, members): (Vec<_>, Vec<_>) = members.into_iter().unzip();
    let all_servers = labels.servers.len();
    let alive = move |up: &dyn Fn(usize) -> bool| {
        let mut servers = vec![false; all_servers];
        numbers_of.iter().enumerate().for_each(|(member, number)| servers[*number] = up(member));
        servers
    };
    let all = alive(&|_| true);
    let selection = Published::new(Selection::keyed(&services, |number| all[number], key));
    let settings = Settings {
        earlier_servers: earlier_servers(&numbers, &before.numbers),
        ..settings(config, replica, environment, services.clone())
    };
    let controls = controls(config, environment);
    let carried = Carried {
        numbers,
        unix: controls.unix.clone(),
        admission: Some(Arc::clone(&admission)),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        ..derived(key, None, environment)
    };
    let controls = Controls {
        members,
        admission: Some(admission),
        busy_file: replica.busy_file.clone(),
        busy_check: replica.busy_check.clone(),
        neighbours: Some(Arc::clone(&shares.neighbours)),
        carried,
        ..controls
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
                let up = alive(&|member| up[member]);
                selection.publish(Selection::keyed(&services, |number| up[number], key));
            }),
            ..controls
        },
        copies: 1,
    }
}

/// A web server with its number among those of all services.
type Numbered = (usize, Member);

/// Returns the services by number, the servers of the configuration, and the names of all servers.
fn list(
    replica: &config::Replica,
    numbers: &Numbers,
) -> (Vec<Service>, Vec<Numbered>, Vec<String>) {
    let (mut services, mut members, mut labels) = (Vec::new(), Vec::new(), Vec::new());
    for known in numbers.services() {
        let is_known = |service: &&config::ReplicaService| service.name == known.name;
        let configured = replica.services.iter().find(is_known);
        let configured = configured.filter(|_| known.retired.is_none());
        let first_server = labels.len();
        let mut servers = Vec::new();
        for server in &known.servers {
            let is_here = |own: &&config::WebServer| web_place(own) == server.place;
            let own = configured.and_then(|service| service.servers.iter().find(is_here));
            let own = own.filter(|_| server.retired.is_none());
            let name = own.map(|own| format!("{}/{}", known.name, own.name));
            if let (Some(own), Some(name)) = (own, &name) {
                let (name, check) = (name.clone(), own.check.clone());
                members.push((labels.len(), Member { name, enabled: true, check }));
            }
            labels.push(name.unwrap_or_default());
            // One that has left the configuration gets no new clients.
            servers.extend(web_server(server, own.map_or(0, |own| own.weight.into())));
        }
        services.push(Service {
            address: known.address.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            ports: known.ports.clone(),
            retired: configured.is_none(),
            servers,
            first_server,
        });
    }
    (services, members, labels)
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

/// Returns a web server; `None` for a server of another role.
fn web_server(server: &numbers::Server, weight: u32) -> Option<Server> {
    let Place::Web { address, port, mac, has_vip } = server.place else { return None };
    Some(Server { name: server.name.clone(), address, port, mac, weight, has_vip })
}
