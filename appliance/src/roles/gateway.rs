use pipeline::configuration::Configuration;
use pipeline::family::Version;
use pipeline::role::Role;
use pipeline::role::gateway::{Gateway, Service, Settings, Timeouts};
use pipeline::services::Scope;

use super::{Crew, Names, Surroundings, any_of, levers, path, tables, tag_format};
use crate::config::{self, Config, ServiceAddress};

pub(super) fn crew<C: Configuration>(
    config: &Config,
    gateway: &config::Gateway,
    surroundings: &Surroundings,
) -> Crew<Gateway<C>> {
    let times = &config.timeouts;
    let serves = |version: Version| {
        gateway.services.iter().any(|service| match service.address {
            ServiceAddress::Any => true,
            ServiceAddress::Prefix(net) => any_of(version, std::iter::once(net.addr())),
        })
    };
    let settings = Settings {
        services: gateway.services.iter().map(service).collect(),
        tag: tag_format(config),
        timeouts: Timeouts {
            racing: times.racing.into(),
            established: times.established.into(),
            closing: times.closing.into(),
            race_window: times.race_window.into(),
            reuse_after: times.reuse_after.into(),
            tag_backoff: times.tag_backoff.into(),
        },
        path: path(config),
        max_connections: tables(config, surroundings.workers, serves),
        hash_key: surroundings.hash_key,
    };
    let levers = levers(config, surroundings);
    let role = |_| Gateway::new(settings.clone(), levers.keys.reader());
    Crew {
        roles: (0..surroundings.workers).map(role).collect(),
        names: Names {
            role: config.role.name(),
            states: Gateway::<C>::STATES,
            services: gateway.services.iter().map(|service| service.name.clone()).collect(),
            ..Names::default()
        },
        levers,
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
        replicas: service.replicas.clone(),
    }
}
