//! What a replica is told at launch, and what it is told while it runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ipnet::IpNet;

use crate::policy::maglev::Maglev;
use crate::neighbours::Neighbours;
use crate::policy::tunnel_path::Path;
use crate::stage::tag;
use crate::base::time::Ticks;
use crate::wire::ethernet::Mac;

/// A web server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, which the selection depends on.
    pub name: String,
    /// R's address, of its service's family.
    pub address: IpAddr,
    /// R's port; the one asked for when `None`.
    pub port: Option<u16>,
    /// Its MAC address; resolved by ARP or neighbour discovery when `None`.
    pub mac: Option<Mac>,
    /// Its share.
    pub weight: u32,
    /// Whether it bears V itself; under configuration C it then gets packets for V.
    pub bears_service: bool,
}

/// A service that this replica holds.
#[derive(Clone, Debug)]
pub struct Service {
    /// V's address.
    pub address: IpAddr,
    /// V's ports.
    pub ports: Vec<u16>,
    /// The web servers; the first one's number among all configured.
    pub servers: Vec<Server>,
    /// See `servers`.
    pub first_server: usize,
}

/// What a replica is told at launch.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// Switches whose copies are taken.
    pub switches: Vec<IpNet>,
    /// Prefixes of the clients of permitted gateways; any client's when empty.
    pub gateways: Vec<IpNet>,
    /// Outer destinations that are the replica's.
    pub tunnel_addresses: Vec<IpAddr>,
    /// The tag's option.
    pub tag: tag::Format,
    /// Whether a copy is dropped unless its tag is signed.
    pub require_signature: bool,
    /// The way to the gateways.
    pub path: Path,
    /// Live connections of this worker above which it is busy.
    pub busy_connections: usize,
    /// Start packet copies per second of this worker above which it is busy.
    pub busy_syn_rate: u64,
    /// How often a web server may repeat its acknowledgement unasked.
    pub acknowledgement_repeats: u8,
    /// Connections this worker can follow: IPv4, IPv6.
    pub max_connections: [usize; 2],
    /// Time-outs of Opening, Established, Closing.
    pub timeouts: [Ticks; 3],
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Whether this worker sends the probes for MAC addresses.
    pub probes: bool,
    /// Secret of the tables' hash.
    pub hash_key: (u64, u64),
}

impl Settings {
    /// Whether the appliance itself bears this tunnel address: no web server does.
    pub(super) fn bears(&self, address: IpAddr) -> bool {
        let mut servers = self.services.iter().flat_map(|service| &service.servers);
        self.tunnel_addresses.contains(&address) && !servers.any(|s| s.address == address)
    }

    /// Whether copies of this peer are taken.
    pub(super) fn is_switch(&self, peer: IpAddr) -> bool {
        self.switches.iter().any(|net| net.contains(&peer))
    }

    /// The web server of this address.
    pub(super) fn server(&self, address: IpAddr) -> Option<&Server> {
        let mut servers = self.services.iter().flat_map(|service| &service.servers);
        servers.find(|server| server.address == address)
    }
}

/// Which web server gets which client, among those that are up; made outside the workers.
#[derive(Debug, Default)]
pub struct Selection(Vec<Option<Maglev>>);

impl Selection {
    /// The selection of each service among its servers that are up, by their numbers among all.
    pub fn new(services: &[Service], up: impl Fn(usize) -> bool) -> Self {
        let of = |service: &Service| {
            let weight = |(number, server): (usize, &Server)| match up(number) {
                true => server.weight,
                false => 0,
            };
            let numbered = (service.first_server..).zip(&service.servers);
            let shares: Vec<_> =
                numbered.map(|(n, server)| (server.name.as_str(), weight((n, server)))).collect();
            Maglev::new(shares)
        };
        Self(services.iter().map(of).collect())
    }

    /// Whether no service has a server that is up: the replica is dead (op 404).
    pub(super) fn is_dead(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The server of a service for this client, by its number within the service; `None` when
    /// none is up.
    pub(super) fn select(&self, service: usize, client: IpAddr, port: u16) -> Option<usize> {
        Some(self.0.get(service)?.as_ref()?.select(client, port))
    }
}

/// What an operator, or a health check, says of the replica; shared with the control thread.
#[derive(Debug, Default)]
pub struct Gates {
    /// Dead or drained: takes no new connection (op 404).
    pub dead: AtomicBool,
    /// Busy whatever the counts say (op 406).
    pub busy: AtomicBool,
}

/// What workers of a replica share with the control thread.
#[derive(Clone, Debug)]
pub struct Shares {
    /// What an operator or a health check says.
    pub gates: Arc<Gates>,
    /// MAC addresses of web servers.
    pub neighbours: Arc<Neighbours>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_whose_servers_are_all_down_has_no_server() {
        let server = |name: &str| Server {
            name: name.to_owned(),
            address: IpAddr::from([198, 51, 100, 10]),
            port: None,
            mac: None,
            weight: 1,
            bears_service: false,
        };
        let service = |first_server, servers| Service {
            address: IpAddr::from([203, 0, 113, 10]),
            ports: vec![80],
            servers,
            first_server,
        };
        let services = [service(0, vec![server("a"), server("b")]), service(2, vec![server("c")])];
        let client = IpAddr::from([198, 18, 1, 10]);
        let selection = Selection::new(&services, |number| number == 1);
        assert!((0..50).all(|port| selection.select(0, client, port) == Some(1)));
        assert_eq!(selection.select(1, client, 1), None);
        assert_eq!(selection.select(9, client, 1), None);
        assert!(!selection.is_dead());
        assert!(Selection::new(&services, |_| false).is_dead());
    }
}
