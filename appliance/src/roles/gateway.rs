//! Builds the gateway's roles from its configuration.

use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pipeline::base::time::Ticks;
use pipeline::memory::Policy;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::Role;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{Gateway, Service, Settings, Shares, Timeouts};
use pipeline::wire::family::Version;

use super::{Controls, Environment, Labels, RoleSet, any_of, controls, path, tables, tag_option};
use crate::config::{self, Config, ServiceAddress};
use crate::control::memory::Remembering;
use crate::control::protected;
use crate::control::share::{self, Hash};

pub(super) fn role_set<M: Mode>(
    config: &Config,
    gateway: &config::Gateway,
    environment: &Environment,
) -> RoleSet<Gateway<M>> {
    let times = &config.timeouts;
    let serves = |version: Version| {
        gateway.services.iter().any(|service| match service.address {
            ServiceAddress::Any => true,
            ServiceAddress::Prefix(net) => any_of(version, std::iter::once(net.addr())),
        })
    };
    let services = gateway.services.iter().map(service).collect();
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
    let memory = settings.services.iter().map(|service| service.policy.clone());
    let mut memory = Remembering::new(memory.collect(), settings.path.clone());
    let mut role = |_| {
        let shares = Shares { plans: memory.plans(), reports: memory.reports() };
        Gateway::with_memory(settings.clone(), controls.keys.reader(), shares)
    };
    let roles = (0..environment.workers).map(&mut role).collect();
    let direct = gateway.services.iter().map(|service| service.direct).max().unwrap_or(0);
    RoleSet {
        roles,
        labels: Labels {
            role: config.role.name(),
            warnings: config.warnings(),
            states: Gateway::<M>::STATES,
            services: gateway.services.iter().map(|service| service.name.clone()).collect(),
            ..Labels::default()
        },
        // A direct copy for each replica asked and one for a trial, or a reset.
        copies: usize::from(direct) + 2,
        controls: Controls { memory: Some(memory), ..controls },
    }
}

fn service(service: &config::GatewayService) -> Service {
    Service {
        scope: match service.address {
            ServiceAddress::Any => Scope::Any,
            ServiceAddress::Prefix(net) => Scope::Prefix(net),
        },
        ports: service.ports.clone(),
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
) -> Result<Option<share::Settings>, protected::Error> {
    let Some(own) = &gateway.share else { return Ok(None) };
    let password = own.password_file.as_deref().map(share::Password::load).transpose()?;
    let numbered = (0..).zip(&gateway.services);
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
