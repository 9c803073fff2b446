//! The settings of a replica, fixed until a reload, and the state that the control thread changes while
//! it runs.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::base::time::Ticks;
use crate::counters::EarlierNumbers;
use crate::neighbours::Neighbours;
use crate::policy::allow_list::AllowList;
use crate::policy::maglev::{Maglev, PUBLIC_KEY};
use crate::policy::tunnel_path::TunnelPath;
use crate::stage::tag;
use crate::wire::ethernet::Mac;

/// A web server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, on which the selection depends.
    pub name: String,
    /// Its address, R in the patent, of its service's family.
    pub address: IpAddr,
    /// Its TCP port; `None`: the port that the client connects to.
    pub port: Option<u16>,
    /// Its MAC address; `None`: resolved by ARP or neighbour discovery.
    pub mac: Option<Mac>,
    /// Its share of the clients, relative to the others'.
    pub weight: u32,
    /// Whether it has the service address itself; under configuration C it then receives packets
    /// for that address.
    pub has_vip: bool,
}

/// A service that this replica has.
#[derive(Clone, Debug)]
pub struct Service {
    /// The service address, V in the patent.
    pub address: IpAddr,
    /// The TCP ports of the service.
    pub ports: Vec<u16>,
    /// Its web servers.
    pub servers: Vec<Server>,
    /// The number of the first of `servers` among the web servers of all services.
    pub first_server: usize,
    /// It has left the configuration: no copy is accepted, and its connections go on.
    pub retired: bool,
}

/// The settings of a replica, fixed until a reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The services, by number.
    pub services: Vec<Service>,
    /// The numbers that the web servers of all services had before a reload.
    pub earlier_servers: EarlierNumbers,
    /// The switches whose copies are accepted.
    pub switches: AllowList,
    /// Whether a gateway's own copies are accepted, without regard to `switches`.
    pub direct: bool,
    /// The clients that are served.
    pub allowed_clients: AllowList,
    /// The outer destinations that belong to the replica.
    pub tunnel_addresses: Vec<IpAddr>,
    /// The TCP option that is the tag.
    pub tag: tag::OptionId,
    /// Whether a copy is dropped unless its tag is signed.
    pub require_signature: bool,
    /// The tunnels to the gateways.
    pub path: TunnelPath,
    /// This worker is busy from this number of established connections heard of lately on.
    pub busy_connections: usize,
    /// This worker is busy above this number of SYN copies per second.
    pub busy_syn_rate: u64,
    /// How many unsolicited retransmissions of its SYN/ACK a web server may send for each copy.
    pub syn_ack_retransmits: u8,
    /// How many SYN/ACKs per second web servers may repeat, beyond those and beyond what the clients'
    /// established connections have earned, before the client has been heard; 0: none at all.
    pub syn_ack_repair_rate: u64,
    /// Connections this worker can track: IPv4, IPv6.
    pub max_connections: [usize; 2],
    /// Time-outs of opening, established and closing connections.
    pub timeouts: [Ticks; 3],
    /// MAC addresses of the inside and the outside port.
    pub macs: [Mac; 2],
    /// Whether this worker sends the probes for MAC addresses.
    pub probes: bool,
    /// Secret of the tables' hash.
    pub hash_key: (u64, u64),
}

impl Settings {
    /// Returns settings with defaults for everything but the services: no switch is allowed, direct
    /// copies and any client are; the web servers' addresses are the tunnel addresses; default tag, unsigned; IP in
    /// IP with a path MTU of 1500 bytes; busy from 10,000 connections or 10,000 SYNs per second on;
    /// no SYN/ACK retransmissions for each copy, 20 repairs per second; 65,536 connections per
    /// family; time-outs of 40 s, 2 h 4 min and 4 min; no probes; MAC addresses and hash key of zeros.
    pub fn new(services: Vec<Service>) -> Self {
        let servers = services.iter().flat_map(|service| &service.servers);
        Self {
            switches: AllowList::only(Vec::new()),
            direct: true,
            allowed_clients: AllowList::Any,
            tunnel_addresses: servers.map(|server| server.address).collect(),
            services,
            earlier_servers: EarlierNumbers::default(),
            tag: tag::OptionId::default(),
            require_signature: false,
            path: TunnelPath::default(),
            busy_connections: 10_000,
            busy_syn_rate: 10_000,
            syn_ack_retransmits: 0,
            syn_ack_repair_rate: 20,
            max_connections: [1 << 16; 2],
            timeouts: [40, 2 * 3600 + 4 * 60, 240].map(Ticks::from_secs),
            macs: [[0; 6]; 2],
            probes: false,
            hash_key: (0, 0),
        }
    }
}

/// The selection of web servers for clients, among those that are up. The control thread makes it.
#[derive(Debug, Default)]
pub struct Selection {
    /// By service; `None` when no server of it is up.
    services: Vec<Option<Maglev>>,
    /// Whether a service has a server that is up.
    is_live: bool,
}

impl Selection {
    /// Makes the selection under the public key. `up` says whether a web server is up, by its number
    /// among all.
    pub fn new(services: &[Service], up: impl Fn(usize) -> bool) -> Self {
        Self::keyed(services, up, PUBLIC_KEY)
    }

    /// Makes the selection under a key.
    pub fn keyed(services: &[Service], up: impl Fn(usize) -> bool, key: (u64, u64)) -> Self {
        let of = |service: &Service| {
            let weight = |(number, server): (usize, &Server)| match up(number) {
                true if !service.retired => server.weight,
                _ => 0,
            };
            let numbered = (service.first_server..).zip(&service.servers);
            let shares: Vec<_> =
                numbered.map(|(n, server)| (server.name.as_str(), weight((n, server)))).collect();
            Maglev::keyed(shares, key)
        };
        let services: Vec<_> = services.iter().map(of).collect();
        Self { is_live: services.iter().any(Option::is_some), services }
    }

    /// Returns whether no service has a server that is up: the replica is out of service (op 404).
    pub(super) fn is_dead(&self) -> bool {
        !self.is_live
    }

    /// Returns the server of a service for this client, by its number within the service; `None`
    /// when none is up.
    pub(super) fn select(&self, service: usize, client: IpAddr, port: u16) -> Option<usize> {
        Some(self.services.get(service)?.as_ref()?.select(client, port))
    }
}

/// Whether the replica accepts connections, as operator and health checks decide; shared with the
/// control thread.
#[derive(Debug, Default)]
pub struct Admission {
    /// Out of service ("dead" in the patent): accepts no new connection (op 404).
    pub dead: AtomicBool,
    /// Busy, without regard to the thresholds (op 406).
    pub busy: AtomicBool,
}

/// The state that the workers of a replica share with the control thread.
#[derive(Clone, Debug)]
pub struct Shares {
    /// Whether the replica accepts connections.
    pub admission: Arc<Admission>,
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
            has_vip: false,
        };
        let service = |first_server, servers| Service {
            address: IpAddr::from([203, 0, 113, 10]),
            ports: vec![80],
            retired: false,
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
