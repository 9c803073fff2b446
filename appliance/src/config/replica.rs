//! `[replica]`: which copies are accepted, when the replica is busy, and which web servers get
//! them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeValue;

use super::clients;
use super::common::{Table, same_family};
use super::health::{self, Check};
use super::reader::{Found, Section};
use super::schema;
use super::service::{self, Head, Names, Once};
use super::switch::shown;
use super::value::{self, MacAddress, Parsed};

/// The settings of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The replica's name in logs and counters.
    pub name: Option<String>,
    /// The allowed outer sources of SYN copies; at least one, and never a whole family.
    pub switches: Vec<IpNet>,
    /// The replica's own outer destination addresses; at least one.
    pub tunnel_addresses: Vec<IpAddr>,
    /// The prefixes of clients that are served; empty allows all.
    pub allowed_clients: Vec<IpNet>,
    /// The number of live connections at which the replica becomes busy.
    pub busy_connections: u32,
    /// The rate of tunnelled SYNs per second at which the replica becomes busy.
    pub busy_syn_rate: u32,
    /// The most retransmissions of a SYN/ACK that are forwarded per copy, 0 to 5.
    pub syn_ack_retransmits: u8,
    /// The replica is busy while this file exists.
    pub busy_file: Option<PathBuf>,
    /// The replica is busy while this HTTP check answers 429 or 503.
    pub busy_check: Option<Check>,
    /// Whether the replica starts drained, so that it accepts no new connections.
    pub drained: bool,
    /// The services, in the order of the file; at least one. No two share an address and port.
    pub services: Vec<ReplicaService>,
}

/// A service that the replica serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaService {
    /// The name in counters; unique.
    pub name: String,
    /// The address that clients connect to.
    pub address: IpAddr,
    /// The TCP ports that clients connect to.
    pub ports: Vec<u16>,
    /// The web servers; at least one, all of the service's family.
    pub servers: Vec<WebServer>,
}

/// A web server of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebServer {
    /// The name in counters and commands; unique within the service.
    pub name: String,
    /// The address it answers on.
    pub address: IpAddr,
    /// The TCP port it answers on; `None` is the port that the client connects to.
    pub port: Option<u16>,
    /// The MAC address; `None` if it is resolved by ARP or neighbour discovery.
    pub mac: Option<MacAddress>,
    /// The share of clients relative to the other servers', 1 to 100.
    pub weight: u8,
    /// The health check; without one it counts as up.
    pub check: Option<Check>,
    /// Whether it has the service's address too, and gets what comes through a gateway's tunnel
    /// (configuration C) at that.
    pub has_vip: bool,
}

/// Reads `[replica]`.
pub(super) fn read(root: &Section<'_>, table: Option<&Table>) -> Option<Replica> {
    let section = root.section("replica");
    let name = section.optional("name", value::label);
    let switches = section.set("switches", usize::MAX, schema::ONE_PEER, peer);
    let own = match section.position("tunnel_addresses") {
        None => Some(None),
        Some(_) => {
            let read =
                section.set("tunnel_addresses", usize::MAX, schema::ONE_ADDRESS, value::address);
            read.map(Some)
        }
    };
    let busy_connections = section.found_integer::<u32>("busy_connections");
    let busy_syn_rate = section.integer("busy_syn_rate");
    let syn_ack_retransmits = section.integer("syn_ack_retransmits");
    let busy_file = section.optional("busy_file", value::file);
    let busy_check = health::busy_check_of(&section);
    let drained = section.get("drained", value::boolean);
    let allowed_clients = clients::allowed_clients(&section);
    let services = services(&section);
    if let (Some(allowed_clients), Some(services)) = (&allowed_clients, &services) {
        let families = services.iter().map(|service| service.address);
        clients::check_families(&section, allowed_clients, families);
    }
    if let (Some(most), Some(table)) = (&busy_connections, table) {
        check_table(&section, most, table, services.as_deref());
    }
    let (switches, own, services) = (switches?, own?, services?);
    let tunnel_addresses = tunnel_addresses(&section, &switches, own, &services);
    Some(Replica {
        name: name?.map(|name| name.value),
        switches: switches.into_iter().map(|switch| switch.value).collect(),
        tunnel_addresses,
        allowed_clients: allowed_clients?.into_iter().map(|clients| clients.value).collect(),
        busy_connections: busy_connections?.value,
        busy_syn_rate: busy_syn_rate?,
        syn_ack_retransmits: syn_ack_retransmits?,
        busy_file: busy_file?.map(|file| file.value),
        busy_check: busy_check?,
        drained: drained?,
        services,
    })
}

/// Notes a number of connections that exceeds the tables of the services' families.
fn check_table(
    section: &Section<'_>,
    most: &Found<u32>,
    table: &Table,
    services: Option<&[ReplicaService]>,
) {
    let serves =
        |v4| services.is_none_or(|all| all.iter().any(|service| service.address.is_ipv4() == v4));
    let (tables, holds) = match (serves(true), serves(false)) {
        (true, false) => ("table.max_connections holds", table.max_connections.into()),
        (false, true) => ("table.max_connections_v6 holds", table.max_connections_v6.into()),
        _ => (
            "table.max_connections and max_connections_v6 hold together",
            u64::from(table.max_connections) + u64::from(table.max_connections_v6),
        ),
    };
    if most.given && u64::from(most.value) > holds {
        let message = format!("{} is more than {tables}; expected at most {holds}", most.value);
        section.error(most.at, "busy_connections", message);
    }
}

/// Parses an allowed outer source. A whole family would make the replica a relay for spoofed
/// packets.
fn peer(value: &DeValue<'_>) -> Parsed<IpNet> {
    match value::prefix(value)? {
        prefix if prefix.prefix_len() == 0 => Err("permits everybody".to_owned()),
        prefix => Ok(prefix),
    }
}

/// Reads the replica's outer destinations; by default the servers' addresses. Both ends of an outer
/// header are of one family, so an end is useless without one of the same family at the other side.
fn tunnel_addresses(
    section: &Section<'_>,
    switches: &[Found<IpNet>],
    own: Option<Vec<Found<IpAddr>>>,
    services: &[ReplicaService],
) -> Vec<IpAddr> {
    let mut ends: Vec<IpAddr> = Vec::new();
    for (i, end) in own.iter().flatten().enumerate() {
        let peers = switches.iter().map(|switch| switch.value.addr().is_ipv4());
        if peers.clone().all(|v4| v4 != end.value.is_ipv4()) {
            let family = value::family(end.value);
            let message = format!(
                "{} is {family}, but no entry of switches is; expected one of their family",
                end.value
            );
            section.error(end.at, &format!("tunnel_addresses[{i}]"), message);
        }
        ends.push(end.value);
    }
    if own.is_none() {
        for server in services.iter().flat_map(|service| &service.servers) {
            if !ends.contains(&server.address) {
                ends.push(server.address);
            }
        }
    }
    for (i, switch) in switches.iter().enumerate() {
        if ends.iter().all(|end| end.is_ipv4() != switch.value.addr().is_ipv4()) {
            let message = format!(
                "{} is {}, but no tunnel address of the replica is; expected one of their family",
                value::shown_prefix(switch.value),
                value::family(switch.value.addr())
            );
            section.error(switch.at, &format!("switches[{i}]"), message);
        }
    }
    ends
}

fn services(section: &Section<'_>) -> Option<Vec<ReplicaService>> {
    let sections = section.sections("service");
    let heads: Vec<_> =
        sections.iter().map(|section| (section, service::head(section, value::address))).collect();
    let good = || heads.iter().filter_map(|(section, head)| Some((*section, head.as_ref()?)));
    service::check_claims(good(), ToString::to_string);
    let mut names = service::service_names(good(), shown).into_iter();
    let read: Vec<_> = heads
        .iter()
        .map(|(section, head)| {
            let name = head.as_ref().and_then(|_| names.next());
            let servers = servers(section, head.as_ref());
            let head = head.as_ref()?;
            Some(ReplicaService {
                name: name?,
                address: head.address.value,
                ports: service::numbers(&head.ports),
                servers: servers?,
            })
        })
        .collect();
    read.into_iter().collect()
}

fn servers(section: &Section<'_>, service: Option<&Head<IpAddr>>) -> Option<Vec<WebServer>> {
    let mut names = Names::default();
    let mut ends = Once::default();
    let ports = service.map(|head| service::numbers(&head.ports)).unwrap_or_default();
    let server = |section: &Section<'_>| {
        let name = section.optional("name", value::label);
        let address = section.found("address", value::address);
        let port = section.optional_integer::<u16>("port");
        let mac = section.optional("mac", value::mac);
        let weight = section.integer("weight");
        let check = health::check_of(section);
        let has_vip = section.get("has_vip", value::boolean);
        let (name, address, port) = (name?, address?, port?.map(|port| port.value));
        if let Some(service) = service {
            check_address(section, &address, service.address.value);
        }
        // A server without a port is the same as one that names the port, if the service has a
        // single port.
        let end = (address.value, port.or(ports.first().copied().filter(|_| ports.len() == 1)));
        let shown = match port {
            None => address.value.to_string(),
            Some(port) => SocketAddr::new(address.value, port).to_string(),
        };
        ends.take(section, (address.at, "address"), end, &shown);
        let name = names.take(section, name, shown);
        Some(WebServer {
            name,
            address: address.value,
            port,
            mac: mac?.map(|mac| mac.value),
            weight: weight?,
            check: check?,
            has_vip: has_vip?,
        })
    };
    let read: Vec<_> = section.sections("server").iter().map(server).collect();
    read.into_iter().collect()
}

/// Checks the address of a server. The packets to it are the client's with another destination, so
/// it has the service's family; and its answer must not look like the origin's.
fn check_address(section: &Section<'_>, server: &Found<IpAddr>, service: IpAddr) {
    let place = (server.at, "address");
    same_family(section, place, server.value, ("the service", service));
    if server.value == service {
        let message = format!("{service} is the service's own; expected the server's");
        section.error(server.at, "address", message);
    }
}
