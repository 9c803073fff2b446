//! Builds the gateway's roles from its configuration.

use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::Role;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{Gateway, Service, Settings, Timeouts};
use pipeline::wire::family::Version;

use super::{Environment, Labels, RoleSet, any_of, controls, path, tables, tag_option};
use crate::config::{self, Config, ServiceAddress};

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
    let controls = controls(config, environment);
    let role = |_| Gateway::new(settings.clone(), controls.keys.reader());
    RoleSet {
        roles: (0..environment.workers).map(role).collect(),
        labels: Labels {
            role: config.role.name(),
            states: Gateway::<M>::STATES,
            services: gateway.services.iter().map(|service| service.name.clone()).collect(),
            ..Labels::default()
        },
        controls,
        copies: 1,
    }
}

fn service(service: &config::GatewayService) -> Service {
    Service {
        scope: match service.address {
            ServiceAddress::Any => Scope::Any,
            ServiceAddress::Prefix(net) => Scope::Prefix(net),
        },
        ports: service.ports.clone(),
        allowed_replicas: AllowList::Only(service.allowed_replicas.clone()),
        policy: pipeline::memory::Policy::default(),
    }
}
