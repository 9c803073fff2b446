//! What the roles of a changed configuration take over from those before.

use std::net::IpAddr;
use std::sync::Arc;

use pipeline::base::time::UnixClock;
use pipeline::memory::Policy;
use pipeline::neighbours::Neighbours;
use pipeline::role::EarlierNumbers;
use pipeline::role::replica::Admission;
use pipeline::role::switch::TunnelHealth;

use super::numbers::{Conflict, Entries, Numbers, Place, Server, Service};
use crate::config::{self, Config, Delivery};

/// What the roles of a changed configuration take over from those before; by default, nothing.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    /// The numbers of services and servers. After a restart they are those that the tables refer to.
    pub numbers: Numbers,
    /// The policies of services by number, for those that are retired (gateway).
    pub policies: Vec<Policy>,
    /// The replicas of all services in order: the service's number, and the address (switch).
    pub replicas: Vec<(usize, IpAddr)>,
    /// The key that clients are divided by, if it was derived from the key file.
    pub selection_key: Option<(u64, u64)>,
    /// The Unix time.
    pub unix: UnixClock,
    /// Whether the replica admits connections.
    pub admission: Option<Arc<Admission>>,
    /// Which replicas' tunnels answer probes.
    pub tunnels: Option<Arc<TunnelHealth>>,
    /// The neighbours' MAC addresses.
    pub neighbours: Option<Arc<Neighbours>>,
}

impl Carried {
    /// Returns the numbers of services and servers for a configuration.
    ///
    /// # Errors
    /// If no numbers keep their meaning for connections that refer to them.
    pub fn numbers_for(&self, config: &Config) -> Result<Numbers, Vec<Conflict>> {
        let (wanted, entries) = wanted(config);
        self.numbers.assigned(&wanted, entries)
    }
}

/// Returns the services of a configuration, and what entries of connections refer to.
fn wanted(config: &Config) -> (Vec<Service>, Entries) {
    match &config.role {
        config::Role::Gateway(own) => {
            let service = |service: &config::GatewayService| Service {
                name: service.name.clone(),
                address: service.address.to_string(),
                ports: service.ports.clone(),
                allowed_replicas: service
                    .allowed_replicas
                    .iter()
                    .map(ToString::to_string)
                    .collect(),
                ..Service::default()
            };
            (own.services.iter().map(service).collect(), Entries::Services)
        }
        config::Role::Switch(own) => {
            let server = |server: &config::OriginServer| Server {
                name: server.name.clone(),
                place: place(server.delivery),
                retired: None,
            };
            let service = |service: &config::SwitchService| Service {
                name: service.name.clone(),
                address: service.address.to_string(),
                ports: service.ports.clone(),
                source: Some(service.source),
                servers: service.servers.iter().map(server).collect(),
                ..Service::default()
            };
            (own.services.iter().map(service).collect(), Entries::Servers)
        }
        config::Role::Replica(own) => {
            let server = |server: &config::WebServer| Server {
                name: server.name.clone(),
                place: web_place(server),
                retired: None,
            };
            let service = |service: &config::ReplicaService| Service {
                name: service.name.clone(),
                address: service.address.to_string(),
                ports: service.ports.clone(),
                servers: service.servers.iter().map(server).collect(),
                ..Service::default()
            };
            (own.services.iter().map(service).collect(), Entries::Nothing)
        }
    }
}

/// Returns where an origin server is.
pub(super) fn place(delivery: Delivery) -> Place {
    match delivery {
        Delivery::None => Place::Inside,
        Delivery::Direct(mac) => Place::Mac(mac.0),
        Delivery::Neighbour(address) => Place::Neighbour(address),
        Delivery::Tunnel(address) => Place::Tunnel(address),
    }
}

/// Returns where a web server is.
pub(super) fn web_place(server: &config::WebServer) -> Place {
    Place::Web {
        address: server.address,
        port: server.port,
        mac: server.mac.map(|mac| mac.0),
        has_vip: server.has_vip,
    }
}

/// Returns the earlier numbers of the servers of all services in order.
pub(super) fn earlier_servers(now: &Numbers, before: &Numbers) -> EarlierNumbers {
    let mut firsts = vec![0];
    for service in before.services() {
        firsts.push(firsts.last().copied().unwrap_or(0) + service.servers.len());
    }
    let of_service = |(number, service): (usize, &Service)| {
        let known = before.services().get(number).filter(|known| known.address == service.address);
        let (known, first) = (known.cloned().unwrap_or_default(), firsts.get(number).copied());
        let earlier = move |(slot, server): (usize, Server)| {
            let was = known.servers.get(slot).filter(|was| was.place.is_same(server.place));
            was.and(first).map(|first| first + slot)
        };
        service.servers.clone().into_iter().enumerate().map(earlier)
    };
    EarlierNumbers::new(now.services().iter().enumerate().flat_map(of_service))
}

/// Returns the earlier numbers of the replicas of all services in order.
pub(super) fn earlier_replicas(
    now: &[(usize, IpAddr)],
    before: &[(usize, IpAddr)],
) -> EarlierNumbers {
    let earlier = |own: &(usize, IpAddr)| before.iter().position(|known| known == own);
    EarlierNumbers::new(now.iter().map(earlier))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(services: &[&[u8]]) -> Numbers {
        let server = |last: &u8| Server {
            name: format!("web{last}"),
            place: Place::Neighbour([192, 0, 2, *last].into()),
            retired: None,
        };
        let service = |(number, servers): (usize, &&[u8])| Service {
            name: format!("service{number}"),
            address: format!("203.0.113.{number}"),
            ports: vec![80],
            servers: servers.iter().map(server).collect(),
            ..Service::default()
        };
        let wanted: Vec<_> = services.iter().enumerate().map(service).collect();
        Numbers::default().assigned(&wanted, Entries::Servers).unwrap()
    }

    #[test]
    fn servers_are_found_at_their_numbers_before() {
        let before = numbers(&[&[1, 2], &[3], &[4]]);
        let now = numbers(&[&[1, 2, 5], &[6], &[4], &[7]]);
        let earlier = earlier_servers(&now, &before);
        let found: Vec<_> = (0..7).map(|number| earlier.of(number)).collect();
        assert_eq!(found, [Some(0), Some(1), None, None, Some(3), None, None]);
        let [a, b, c] = [1, 2, 3].map(|last| IpAddr::from([198, 51, 100, last]));
        let earlier = earlier_replicas(&[(0, b), (0, c), (1, a)], &[(0, a), (0, b), (1, a)]);
        let found: Vec<_> = (0..3).map(|number| earlier.of(number)).collect();
        assert_eq!(found, [Some(1), None, Some(2)]);
    }
}
