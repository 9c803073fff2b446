//! `[switch]`: the services, the replicas that get copies of their SYNs, and the origin servers.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::clients;
use super::common::same_family;
use super::health::{self, Check};
use super::reader::{Found, Section};
use super::service::{self, Head, Names, Once};
use super::value::{self, MacAddress};

/// The settings of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The most copies of one SYN.
    pub max_copies: u8,
    /// The rate at which a source prefix gains copies, per second.
    pub copies_per_second: u32,
    /// The most copies that a source prefix can accumulate; at least `max_copies`.
    pub copies_burst: u32,
    /// The length in bits of the prefix by which IPv4 sources are limited.
    pub copies_prefix_v4: u8,
    /// The length in bits of the prefix by which IPv6 sources are limited.
    pub copies_prefix_v6: u8,
    /// The prefixes of clients whose SYNs get copies; empty allows all.
    pub allowed_clients: Vec<IpNet>,
    /// Whether replicas are probed through their tunnels.
    pub tunnel_probes: bool,
    /// The services, in the order of the file; at least one. No two share an address and port.
    pub services: Vec<SwitchService>,
}

/// The hosts that can serve a service's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Replicas and the origin.
    Static,
    /// The origin only: no copies are made.
    Dynamic,
}

/// A service of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchService {
    /// The name in counters; unique.
    pub name: String,
    /// The address that clients connect to.
    pub address: IpAddr,
    /// The TCP ports that clients connect to.
    pub ports: Vec<u16>,
    /// Who can serve the content.
    pub content: Content,
    /// The outer source of tunnelled packets.
    pub source: IpAddr,
    /// The replicas; none if the content is dynamic.
    pub replicas: Vec<SwitchReplica>,
    /// The origin servers; at least one.
    pub servers: Vec<OriginServer>,
}

/// A replica that gets copies from a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwitchReplica {
    /// The name in counters and commands; unique within the service.
    pub name: String,
    /// The outer destination of copies; of the family of the service's `source`.
    pub address: IpAddr,
    /// Whether it gets copies.
    pub enabled: bool,
    /// The health check; without one it counts as up.
    pub check: Option<Check>,
}

/// How packets are delivered to an origin server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Unchanged: the server is the only one, and the host behind the inside port.
    None,
    /// With this destination MAC address; the server has the service's address.
    Direct(MacAddress),
    /// With the destination MAC address that ARP or neighbour discovery finds for this address,
    /// which is of the service's family; the server has the service's address.
    Neighbour(IpAddr),
    /// In a tunnel to this outer destination.
    Tunnel(IpAddr),
}

/// An origin server of a switch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginServer {
    /// The name in counters and commands; unique within the service.
    pub name: String,
    /// How packets are delivered to it.
    pub delivery: Delivery,
    /// The share of clients relative to the other servers', 1 to 100.
    pub weight: u8,
    /// Whether it gets new connections.
    pub enabled: bool,
    /// The health check; without one it counts as up.
    pub check: Option<Check>,
}

/// Reads `[switch]`.
pub(super) fn read(root: &Section<'_>) -> Option<Switch> {
    let section = root.section("switch");
    let max_copies = section.found_integer::<u8>("max_copies");
    let copies_per_second = section.integer("copies_per_second");
    let copies_burst = section.found_integer::<u32>("copies_burst");
    let copies_prefix_v4 = section.integer("copies_prefix_v4");
    let copies_prefix_v6 = section.integer("copies_prefix_v6");
    if let (Some(most), Some(burst)) = (&max_copies, &copies_burst)
        && burst.value < u32::from(most.value)
    {
        let message = format!(
            "{} never suffices for one SYN's switch.max_copies; expected at least {}",
            burst.shown(),
            most.value
        );
        section.error(burst.at, "copies_burst", message);
    }
    let allowed_clients = clients::allowed_clients(&section);
    let tunnel_probes = section.get("tunnel_probes", value::boolean);
    let services = services(&section);
    if let (Some(allowed_clients), Some(services)) = (&allowed_clients, &services) {
        let families = services.iter().map(|service| service.address);
        clients::check_families(&section, allowed_clients, families);
    }
    Some(Switch {
        max_copies: max_copies?.value,
        copies_per_second: copies_per_second?,
        copies_burst: copies_burst?.value,
        copies_prefix_v4: copies_prefix_v4?,
        copies_prefix_v6: copies_prefix_v6?,
        allowed_clients: allowed_clients?.into_iter().map(|clients| clients.value).collect(),
        tunnel_probes: tunnel_probes?,
        services: services?,
    })
}

fn services(section: &Section<'_>) -> Option<Vec<SwitchService>> {
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
            service(section, name, head.as_ref())
        })
        .collect();
    read.into_iter().collect()
}

/// Returns a service's address for messages, with a port where the address is ambiguous.
pub(super) fn shown(address: &IpAddr, port: Option<u16>) -> String {
    match port {
        None => address.to_string(),
        Some(port) => SocketAddr::new(*address, port).to_string(),
    }
}

fn service(
    section: &Section<'_>,
    name: Option<String>,
    head: Option<&Head<IpAddr>>,
) -> Option<SwitchService> {
    let content = section.choice("content", |name| match name {
        "static" => Some(Content::Static),
        "dynamic" => Some(Content::Dynamic),
        _ => None,
    });
    let source = section.optional("source", value::address);
    let address = head.map(|head| head.address.value);
    let tunnel = Tunnel {
        service: address,
        source: source.as_ref().and_then(|given| given.as_ref().map(|s| s.value).or(address)),
    };
    let replicas = replicas(section, tunnel);
    let servers = servers(section, tunnel);
    if content == Some(Content::Dynamic)
        && let Some(at) = section.position("replica")
    {
        let message = "a replica cannot serve dynamic content; expected none, or \
                       content = \"static\"";
        section.error(at, "replica", message.to_owned());
    }
    let (head, address) = (head?, address?);
    Some(SwitchService {
        name: name?,
        address,
        ports: service::numbers(&head.ports),
        content: content?,
        source: source?.map_or(address, |source| source.value),
        replicas: replicas?,
        servers: servers?,
    })
}

/// A service's keys about tunnels, as far as they are read.
#[derive(Clone, Copy)]
struct Tunnel {
    service: Option<IpAddr>,
    source: Option<IpAddr>,
}

impl Tunnel {
    /// Checks an outer destination: it must be of the source's family, and not an address whose
    /// packets would come back to the switch.
    fn check(&self, section: &Section<'_>, end: &Found<IpAddr>) {
        if let Some(source) = self.source {
            let other = ("the service's source", source);
            same_family(section, (end.at, "address"), end.value, other);
        }
        if Some(end.value) == self.service || Some(end.value) == self.source {
            let message = format!("{} is the service's own; expected another", end.value);
            section.error(end.at, "address", message);
        }
    }
}

fn replicas(section: &Section<'_>, tunnel: Tunnel) -> Option<Vec<SwitchReplica>> {
    let mut names = Names::default();
    let mut addresses = Once::default();
    let sections = section.sections("replica");
    let replica = |section: &Section<'_>| {
        let name = section.optional("name", value::label);
        let address = section.found("address", value::address);
        let enabled = section.get("enabled", value::boolean);
        let check = health::check_of(section);
        let (name, address) = (name?, address?);
        tunnel.check(section, &address);
        let shown = address.value.to_string();
        addresses.take(section, (address.at, "address"), address.value, &shown);
        let name = names.take(section, name, shown);
        let (enabled, check) = (enabled?, check?);
        Some(SwitchReplica { name, address: address.value, enabled, check })
    };
    let read: Vec<_> = sections.iter().map(replica).collect();
    read.into_iter().collect()
}

fn servers(section: &Section<'_>, tunnel: Tunnel) -> Option<Vec<OriginServer>> {
    let mut names = Names::default();
    let mut ends = Once::default();
    let sections = section.sections("server");
    let alone = sections.len() == 1;
    let server = |section: &Section<'_>| {
        let name = section.optional("name", value::label);
        let delivery = delivery(section, tunnel, alone);
        let weight = section.integer("weight");
        let enabled = section.get("enabled", value::boolean);
        let check = health::check_of(section);
        let (name, (delivery, at)) = (name?, delivery?);
        let (key, shown) = match delivery {
            Delivery::None => ("", "inside".to_owned()),
            Delivery::Direct(mac) => ("mac", mac.to_string()),
            Delivery::Neighbour(address) | Delivery::Tunnel(address) => {
                ("address", address.to_string())
            }
        };
        if delivery != Delivery::None {
            ends.take(section, (at, key), shown.clone(), &shown);
        }
        let name = names.take(section, name, shown);
        let (weight, enabled, check) = (weight?, enabled?, check?);
        Some(OriginServer { name, delivery, weight, enabled, check })
    };
    let read: Vec<_> = sections.iter().map(server).collect();
    read.into_iter().collect()
}

/// Reads a server's delivery and the position of its `mac` or `address`.
fn delivery(section: &Section<'_>, tunnel: Tunnel, alone: bool) -> Option<(Delivery, usize)> {
    let way = section.choice("delivery", |name| match name {
        "none" => Some("none"),
        "direct" => Some("direct"),
        "tunnel" => Some("tunnel"),
        _ => None,
    });
    let mac = section.optional("mac", value::mac);
    let address = section.optional("address", value::address);
    let way = way?;
    check_ends(section, way);
    if way == "none" && !alone {
        let message = "\"none\" is for the only server of a service; expected \"direct\" or \
                       \"tunnel\" for one of several";
        let at = section.position("delivery").unwrap_or(section.at());
        section.error(at, "delivery", message.to_owned());
    }
    match (way, mac?, address?) {
        ("direct", Some(mac), _) => Some((Delivery::Direct(mac.value), mac.at)),
        ("direct", None, Some(address)) => {
            // The address is resolved within the service's family, whose packets the server gets.
            if let Some(service) = tunnel.service {
                let other = ("the service", service);
                same_family(section, (address.at, "address"), address.value, other);
            }
            Some((Delivery::Neighbour(address.value), address.at))
        }
        ("tunnel", _, Some(address)) => {
            tunnel.check(section, &address);
            Some((Delivery::Tunnel(address.value), address.at))
        }
        ("none", ..) => Some((Delivery::None, section.at())),
        _ => None,
    }
}

/// Notes a `mac` or `address` that the delivery does not use, or lacks.
fn check_ends(section: &Section<'_>, way: &str) {
    let (mac, address) = (section.position("mac"), section.position("address"));
    if let Some(at) = mac.filter(|_| way != "direct") {
        let message =
            format!("is for delivery \"direct\" only; expected none with delivery {way:?}");
        section.error(at, "mac", message);
    }
    match (way, mac, address) {
        ("none", _, Some(at)) => {
            let message = "is for delivery \"direct\" or \"tunnel\"; expected none with delivery \
                           \"none\"";
            section.error(at, "address", message.to_owned());
        }
        ("direct", Some(_), Some(at)) => {
            let message = "is given beside mac; expected one of the two with delivery \"direct\"";
            section.error(at, "address", message.to_owned());
        }
        ("direct", None, None) => {
            section.missing("mac", ", or address, as delivery \"direct\" requires");
        }
        ("tunnel", _, None) => {
            section.missing("address", ", as delivery \"tunnel\" requires");
        }
        _ => {}
    }
}
