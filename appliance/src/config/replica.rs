//! `[replica]`: which copies are accepted, when the replica is busy, and which web servers get
//! them.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use toml::de::DeValue;

use super::clients;
use super::common::{Table, same_family};
use super::health::{self, Check};
use super::reader::{Found, Section};
use super::schema;
use super::section::section;
use super::service::{self, Head, Names, Once, Service, ServiceKeys};
use super::value::{self, MacAddress, Parsed};

section! {
    /// The settings of a replica.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Replica from ReplicaKeys in "replica" {
        /// The replica's name in logs and counters.
        name: Option<String> = LABEL, Derived("no name");
        /// The allowed outer sources of SYN copies; at least one, and never a whole family.
        switches: Vec<IpNet> =
            Words("a list of at least one unicast address or prefix, each once"), Required,
            by switches;
        /// Whether copies that gateways send directly are accepted.
        direct: bool = Boolean, Value("true");
        /// The replica's own outer destination addresses; at least one.
        tunnel_addresses: Option<Vec<IpAddr>> => Vec<IpAddr> =
            Words("a list of at least one unicast address, each once"),
            Derived("the addresses of all servers"), by own_addresses;
        /// The prefixes of clients that are served; empty allows all.
        allowed_clients: Vec<IpNet> = PREFIXES, Value(r#"["any"]"#), by clients::allowed_clients;
        /// The number of established connections, heard of lately, at which the replica becomes busy.
        busy_connections: u32 = Integer(1, 64 << 20), Value("10000");
        /// The rate of tunnelled SYNs per second at which the replica becomes busy.
        busy_syn_rate: u32 = Integer(1, 1_000_000_000), Value("10000");
        /// The most retransmissions of a SYN/ACK that are forwarded per copy, 0 to 5.
        syn_ack_retransmits: u8 = Integer(0, 5), Value("0");
        /// The rate per second of repeated SYN/ACKs that pass although their clients have not been
        /// heard; 0: none.
        syn_ack_repair_rate: u32 = Integer(0, 1_000_000), Value("20");
        /// The replica is busy while this file exists.
        busy_file: Option<PathBuf> = ABSOLUTE, Derived("no such file");
        /// The replica is busy while this HTTP check answers 429 or 503.
        busy_check: Option<Check> =
            Words(r#"what to probe, such as "http://198.51.100.10:8080/busy""#), NO_CHECK,
            by |section, name| section.optional(name, health::http);
        /// Whether the replica starts drained, so that it accepts no new connections.
        drained: bool = Boolean, Value("false");
    }
    with {
        /// The services, in the order of the file; at least one. No two share an address and port.
        services: Vec<ReplicaService>,
    }
}

section! {
    /// A service that the replica serves.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct ReplicaService from ReplicaServiceKeys in "replica.service" {
        [[..]] = Sections(1, Some(1024)), Required;
        /// The address that clients connect to.
        address: IpAddr = ADDRESS, Required;
        /// The TCP ports that clients connect to.
        ports: Vec<u16> = PORTS, Value("[80, 443]"), by Section::ports;
        /// The name in counters; unique.
        name: Option<String> => String = LABEL, SERVICE_NAME;
    }
    with {
        /// The web servers; at least one, all of the service's family.
        servers: Vec<WebServer>,
    }
}

section! {
    /// A web server of a replica.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct WebServer from WebServerKeys in "replica.service.server" {
        [[..]] = Sections(1, Some(64)), Required;
        /// The name in counters and commands; unique within the service.
        name: Option<String> => String =
            LABEL, Derived("the server's `address`, and `port` if set");
        /// The address it answers on.
        address: IpAddr = ADDRESS, Required;
        /// The TCP port it answers on; `None` is the port that the client connects to.
        port: Option<u16> = Integer(1, 65535), Derived("the port asked for");
        /// The MAC address; `None` if it is resolved by ARP or neighbour discovery.
        mac: Option<MacAddress> = MAC, Derived("resolved by ARP or neighbour discovery");
        /// The share of clients relative to the other servers', 1 to 100.
        weight: u8 = Integer(1, 100), Value("1");
        /// The health check; without one it counts as up.
        check: Option<Check> = CHECK, NO_CHECK;
        /// Whether it has the service's address too, and gets what comes through a gateway's tunnel
        /// (configuration C) at that.
        has_vip: bool = Boolean, Value("false");
    }
}

/// Reads `[replica]`.
pub(super) fn read(root: &Section<'_>, table: Option<&Table>) -> Option<Replica> {
    let section = root.section("replica");
    let keys = ReplicaKeys::read(&section);
    let services = services(&section);
    if let (Some(allowed_clients), Some(services)) = (&keys.allowed_clients, &services) {
        let families = services.iter().map(|service| service.address);
        clients::check_families(&section, &allowed_clients.value, families);
    }
    if let (Some(most), Some(table)) = (&keys.busy_connections, table) {
        check_table(&section, most, table, services.as_deref());
    }
    let (switches, own) = (keys.switches.as_ref()?, keys.tunnel_addresses.as_ref()?);
    let (own, services) = (own.value.as_deref(), services?);
    let tunnel_addresses = tunnel_addresses(&section, &switches.value, own, &services);
    keys.build(tunnel_addresses, services)
}

fn switches(section: &Section<'_>, name: &str) -> Option<Found<Vec<IpNet>>> {
    section.set(name, schema::ONE_PEER, peer)
}

fn own_addresses(section: &Section<'_>, name: &str) -> Option<Found<Option<Vec<IpAddr>>>> {
    section.if_given(name, || section.set(name, schema::ONE_ADDRESS, value::address))
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
    switches: &[IpNet],
    own: Option<&[IpAddr]>,
    services: &[ReplicaService],
) -> Vec<IpAddr> {
    let mut ends: Vec<IpAddr> = Vec::new();
    for (i, end) in own.into_iter().flatten().enumerate() {
        if switches.iter().all(|switch| switch.addr().is_ipv4() != end.is_ipv4()) {
            let message = format!(
                "{end} is {}, but no entry of switches is; expected one of their family",
                value::family(*end)
            );
            let at = section.entry_at("tunnel_addresses", i);
            section.error(at, &format!("tunnel_addresses[{i}]"), message);
        }
        ends.push(*end);
    }
    if own.is_none() {
        for server in services.iter().flat_map(|service| &service.servers) {
            if !ends.contains(&server.address) {
                ends.push(server.address);
            }
        }
    }
    for (i, switch) in switches.iter().enumerate() {
        if ends.iter().all(|end| end.is_ipv4() != switch.addr().is_ipv4()) {
            let message = format!(
                "{} is {}, but no tunnel address of the replica is; expected one of their family",
                value::shown_prefix(*switch),
                value::family(switch.addr())
            );
            section.error(section.entry_at("switches", i), &format!("switches[{i}]"), message);
        }
    }
    ends
}

impl ServiceKeys for ReplicaServiceKeys {
    type Address = IpAddr;

    fn read(section: &Section<'_>) -> Self {
        Self::read(section)
    }

    fn head(&self) -> Option<Head<IpAddr>> {
        Head::of(&self.address, &self.ports, &self.name)
    }

    fn shown(address: &IpAddr, port: Option<u16>) -> String {
        service::shown(address, port)
    }
}

fn services(section: &Section<'_>) -> Option<Vec<ReplicaService>> {
    let service = |Service { section, keys, name }: Service<'_, ReplicaServiceKeys>| {
        let servers = servers(&section, keys.head().as_ref());
        keys.build(name?, servers?)
    };
    let read: Vec<_> = service::services(section).into_iter().map(service).collect();
    read.into_iter().collect()
}

fn servers(section: &Section<'_>, service: Option<&Head<IpAddr>>) -> Option<Vec<WebServer>> {
    let mut names = Names::default();
    let mut ends = Once::default();
    let ports = service.map(|head| head.ports.value.as_slice()).unwrap_or_default();
    let server = |section: &Section<'_>| {
        let keys = WebServerKeys::read(section);
        let (name, address) = (keys.name.as_ref()?, keys.address.as_ref()?);
        let port = keys.port.as_ref()?.value;
        if let Some(service) = service {
            check_address(section, address, service.address.value);
        }
        // A server without a port is the same as one that names the port, if the service has a
        // single port.
        let end = (address.value, port.or(ports.first().copied().filter(|_| ports.len() == 1)));
        let shown = service::shown(&address.value, port);
        ends.take(section, (address.at, "address"), end, &shown);
        let name = names.take(section, name, shown);
        keys.build(name)
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
