//! Builds the gateway's roles from its configuration.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pipeline::base::time::Ticks;
use pipeline::memory::{DIRECT, Policy};
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::Role;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{Gateway, Service, Settings, Shares, Timeouts};
use pipeline::wire::family::Version;

use super::numbers::{self, Numbers};
use super::{
    Carried, Controls, Environment, Labels, RoleSet, any_of, controls, label, path, tables,
    tag_option,
};
use crate::config::{self, Config, ServiceAddress};
use crate::control::memory::Remembering;
use crate::control::protected;
use crate::control::share::{self, Hash};

pub(super) fn role_set<M: Mode>(
    config: &Config,
    gateway: &config::Gateway,
    environment: &Environment,
    numbers: Numbers,
) -> RoleSet<Gateway<M>> {
    let times = &config.timeouts;
    let serves = |version: Version| {
        gateway.services.iter().any(|service| match service.address {
            ServiceAddress::Any => true,
            ServiceAddress::Prefix(net) => any_of(version, std::iter::once(net.addr())),
        })
    };
    let services = services(gateway, environment, &numbers);
    let settings = Settings {
        allowed_clients: AllowList::only_or_any(gateway.allowed_clients.clone()),
        tag: tag_option(config),
        timeouts: Timeouts {
            racing: times.racing.into(),
            established: times.established.into(),
            closing: times.closing.into(),
            race_window: times.race_window.into(),
            reuse_after: times.reuse_after.into(),
            tag_backoff: times.tag_backoff.into(),
        },
        path: path(config),
        max_connections: tables(config, environment.workers, serves),
        hash_key: environment.hash_key,
        ..Settings::new(services)
    };
    let drain = Some(Arc::clone(&settings.drain));
    let controls = Controls { drain, ..controls(config, environment) };
    let memory = settings.services.iter().map(Service::memory);
    let mut memory = Remembering::new(memory.collect(), settings.path.clone());
    let mut role = |_| {
        let shares = Shares { plans: memory.plans(), reports: memory.reports() };
        Gateway::with_memory(settings.clone(), controls.keys.reader(), shares)
    };
    let roles = (0..environment.workers).map(&mut role).collect();
    let carried = Carried {
        policies: settings.services.iter().map(|service| service.policy.clone()).collect(),
        unix: controls.unix.clone(),
        ..Carried::default()
    };
    RoleSet {
        roles,
        labels: Labels {
            role: config.role.name(),
            warnings: config.warnings(),
            states: Gateway::<M>::STATES,
            services: numbers.services().iter().map(label).collect(),
            ..Labels::default()
        },
        // A direct copy for each replica asked and one for a trial, or a reset; as many as a reload may
        // allow.
        copies: DIRECT + 2,
        controls: Controls {
            memory: Some(memory),
            carried: Carried { numbers, ..carried },
            ..controls
        },
    }
}

/// Returns the services by number, with the old data of those that have left the configuration.
fn services(
    gateway: &config::Gateway,
    environment: &Environment,
    numbers: &Numbers,
) -> Vec<Service> {
    let own = |(number, known): (usize, &numbers::Service)| {
        let is_known = |service: &&config::GatewayService| service.name == known.name;
        let configured = gateway.services.iter().find(is_known);
        match configured.filter(|_| known.retired.is_none()) {
            Some(configured) => service(configured),
            None => retired(known, environment.carried.policies.get(number)),
        }
    };
    numbers.services().iter().enumerate().map(own).collect()
}

fn retired(known: &numbers::Service, policy: Option<&Policy>) -> Service {
    let prefix = |text: &String| -> Option<IpNet> {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse().ok().or_else(address)
    };
    Service {
        scope: prefix(&known.address).map_or(Scope::Any, Scope::Prefix),
        ports: known.ports.clone(),
        retired: true,
        allowed_replicas: AllowList::only(known.allowed_replicas.iter().filter_map(prefix)),
        policy: policy.cloned().unwrap_or_default(),
    }
}

fn service(service: &config::GatewayService) -> Service {
    Service {
        scope: match service.address {
            ServiceAddress::Any => Scope::Any,
            ServiceAddress::Prefix(net) => Scope::Prefix(net),
        },
        ports: service.ports.clone(),
        retired: false,
        allowed_replicas: AllowList::only(service.allowed_replicas.clone()),
        policy: policy(service),
    }
}

fn policy(service: &config::GatewayService) -> Policy {
    let optional = |time: Option<Duration>| time.map_or(Ticks(0), Ticks::from);
    Policy {
        direct: service.direct,
        explore: service.explore,
        memory: service.memory.into(),
        max_sites: service.max_sites,
        site_prefix: [service.site_prefix_v4, service.site_prefix_v6],
        warm: service.warm.clone(),
        shadow: service.shadow,
        origin_after: optional(service.origin_after),
        // Of "any" and a prefix of length 0, the later counts.
        handicaps: service.handicaps.iter().rev().flat_map(handicap).collect(),
        affinity: optional(service.affinity),
        affinity_slack: service.affinity_slack.into(),
    }
}

fn handicap(handicap: &config::Handicap) -> Vec<(IpNet, Ticks)> {
    let time = handicap.time.into();
    match handicap.prefix {
        ServiceAddress::Prefix(prefix) => vec![(prefix, time)],
        ServiceAddress::Any => {
            vec![(Ipv4Net::default().into(), time), (Ipv6Net::default().into(), time)]
        }
    }
}

/// Returns what is shared through a store: the services that ask directly.
pub(super) fn sharing(
    gateway: &config::Gateway,
    numbers: &Numbers,
) -> Result<Option<share::Settings>, protected::Error> {
    let Some(own) = &gateway.share else { return Ok(None) };
    let password = own.password_file.as_deref().map(share::Password::load).transpose()?;
    let number = |service: &config::GatewayService| numbers.number_of(&service.name);
    let numbered = gateway.services.iter().filter_map(|s| Some((number(s)? as u16, s)));
    let direct = numbered.filter(|(_, service)| service.direct > 0);
    Ok(Some(share::Settings {
        server: own.server.clone(),
        user: own.user.clone(),
        password,
        database: own.database,
        interval: own.interval,
        hashes: direct.flat_map(|(number, service)| hashes(&own.prefix, number, service)).collect(),
    }))
}

/// Returns the hashes of a service: one for each family.
fn hashes(prefix: &str, number: u16, service: &config::GatewayService) -> Vec<Hash> {
    let families =
        [(Version::V4, "v4", service.site_prefix_v4), (Version::V6, "v6", service.site_prefix_v6)];
    let served = families.into_iter().filter(|(version, ..)| match service.address {
        ServiceAddress::Any => true,
        ServiceAddress::Prefix(net) => Version::of(net.addr()) == *version,
    });
    let hash = |(version, family, site_prefix)| Hash {
        key: format!("{prefix}:{}:{family}", service.name),
        service: number,
        version,
        allowed: service.allowed_replicas.clone(),
        memory: service.memory,
        site_prefix,
    };
    served.map(hash).collect()
}
