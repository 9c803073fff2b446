//! `[switch]`: the services, the replicas that get copies of their SYNs, and the origin servers.

use std::net::IpAddr;

use ipnet::IpNet;

use super::clients;
use super::common::same_family;
use super::health::Check;
use super::reader::{Found, Section};
use super::section::section;
use super::service::{self, Head, Names, Once, Service, ServiceKeys};
use super::value::{HashKey, MacAddress};

section! {
    /// The settings of a switch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Switch from SwitchKeys in "switch" {
        /// The most copies of one SYN.
        max_copies: u8 = Integer(1, 64), Value("8");
        /// The SYNs of a source prefix that get copies, per second.
        fan_out_rate: u32 = Integer(1, 1_000_000_000), Value("5000");
        /// The most SYNs of a source prefix that get copies at once.
        fan_out_burst: u32 = Integer(1, 1_000_000_000), Value("10000");
        /// The SYNs of all prefixes together that get copies, per second.
        fan_out_total: u32 = Integer(1, 1_000_000_000), Value("250000");
        /// The length in bits of the prefix by which IPv4 sources are limited.
        fan_out_prefix_v4: u8 = Integer(1, 32), Value("24");
        /// The length in bits of the prefix by which IPv6 sources are limited.
        fan_out_prefix_v6: u8 = Integer(1, 128), Value("48");
        /// The prefixes of clients whose SYNs get copies; empty allows all.
        allowed_clients: Vec<IpNet> = PREFIXES, Value(r#"["any"]"#), by clients::allowed_clients;
        /// The key by which clients are divided among servers; the same at all switches of a site.
        hash_key: Option<HashKey> = HASH_KEY, Derived("derived from the key file; without one it is public");
        /// Whether replicas are probed through their tunnels.
        tunnel_probes: bool = Boolean, Value("true");
    }
    with {
        /// The services, in the order of the file; at least one. No two share an address and port.
        services: Vec<SwitchService>,
    }
}

/// The hosts that can serve a service's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Replicas and the origin.
    Static,
    /// The origin only: no copies are made.
    Dynamic,
}

section! {
    /// A service of a switch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SwitchService from SwitchServiceKeys in "switch.service" {
        [[..]] = Sections(1, Some(1024)), Required;
        /// The address that clients connect to.
        address: IpAddr = ADDRESS, Required;
        /// The TCP ports that clients connect to.
        ports: Vec<u16> = PORTS, Value("[80, 443]"), by Section::ports;
        /// Who can serve the content.
        content: Content = OneOf(&["static", "dynamic"]), Value(r#""static""#), by content;
        /// The outer source of tunnelled packets.
        source: Option<IpAddr> => IpAddr = ADDRESS, Derived("the service's `address`");
        /// The name in counters; unique.
        name: Option<String> => String = LABEL, SERVICE_NAME;
    }
    with {
        /// The replicas; none if the content is dynamic.
        replicas: Vec<SwitchReplica>,
        /// The origin servers; at least one.
        servers: Vec<OriginServer>,
    }
}

section! {
    /// A replica that gets copies from a switch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct SwitchReplica from SwitchReplicaKeys in "switch.service.replica" {
        [[..]] = Sections(0, Some(64)), Derived("no replica");
        /// The name in counters and commands; unique within the service.
        name: Option<String> => String = LABEL, Derived("the replica's `address`");
        /// The outer destination of copies; of the family of the service's `source`.
        address: IpAddr = ADDRESS, Required;
        /// Whether it gets copies.
        enabled: bool = Boolean, Value("true");
        /// The health check; without one it counts as up.
        check: Option<Check> = CHECK, NO_CHECK;
    }
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

// These keys become an origin server's name and its `Delivery`.
section! {
    keys DeliveryKeys in "switch.service.server" {
        [[..]] = Sections(1, Some(64)), Required;
        name: Option<String> = LABEL,
            Derived("the server's `mac` or `address`; `inside` when delivery is \"none\"");
        delivery: &'static str = OneOf(&["none", "direct", "tunnel"]), Value(r#""none""#), by way;
        mac: Option<MacAddress> = MAC,
            Derived(r#"required when delivery is "direct" and `address` is left out"#);
        address: Option<IpAddr> = ADDRESS,
            Derived(r#"required when delivery is "tunnel", or "direct" and `mac` is left out"#);
    }
}

section! {
    /// An origin server of a switch.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct OriginServer from OriginServerKeys in "switch.service.server" {
        /// The share of clients relative to the other servers', 1 to 100.
        weight: u8 = Integer(1, 100), Value("1");
        /// Whether it gets new connections.
        enabled: bool = Boolean, Value("true");
        /// The health check; without one it counts as up.
        check: Option<Check> = CHECK, NO_CHECK;
    }
    with {
        /// The name in counters and commands; unique within the service.
        name: String,
        /// How packets are delivered to it.
        delivery: Delivery,
    }
}

/// Reads `[switch]`.
pub(super) fn read(root: &Section<'_>) -> Option<Switch> {
    let section = root.section("switch");
    let keys = SwitchKeys::read(&section);
    let services = services(&section);
    if let (Some(allowed_clients), Some(services)) = (&keys.allowed_clients, &services) {
        let families = services.iter().map(|service| service.address);
        clients::check_families(&section, &allowed_clients.value, families);
    }
    keys.build(services?)
}

impl ServiceKeys for SwitchServiceKeys {
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

fn services(section: &Section<'_>) -> Option<Vec<SwitchService>> {
    let read: Vec<_> = service::services(section).into_iter().map(switch_service).collect();
    read.into_iter().collect()
}

fn switch_service(service: Service<'_, SwitchServiceKeys>) -> Option<SwitchService> {
    let Service { section, keys, name } = service;
    let address = keys.head().map(|head| head.address.value);
    let source = keys.source.as_ref().and_then(|source| source.value.or(address));
    let tunnel = Tunnel { service: address, source };
    let replicas = replicas(&section, tunnel);
    let servers = servers(&section, tunnel);
    if keys.content.as_ref().is_some_and(|content| content.value == Content::Dynamic)
        && let Some(at) = section.position("replica")
    {
        let message = "a replica cannot serve dynamic content; expected none, or \
                       content = \"static\"";
        section.error(at, "replica", message.to_owned());
    }
    keys.build(source?, name?, replicas?, servers?)
}

fn content(section: &Section<'_>, name: &str) -> Option<Found<Content>> {
    section.choice(name, |name| match name {
        "static" => Some(Content::Static),
        "dynamic" => Some(Content::Dynamic),
        _ => None,
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
        let keys = SwitchReplicaKeys::read(section);
        let (name, address) = (keys.name.as_ref()?, keys.address.as_ref()?);
        tunnel.check(section, address);
        let shown = address.value.to_string();
        addresses.take(section, (address.at, "address"), address.value, &shown);
        let name = names.take(section, name, shown);
        keys.build(name)
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
        let keys = DeliveryKeys::read(section);
        let delivery = delivery(section, &keys, tunnel, alone);
        let others = OriginServerKeys::read(section);
        let (name, (delivery, at)) = (keys.name?, delivery?);
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
        let name = names.take(section, &name, shown);
        others.build(name, delivery)
    };
    let read: Vec<_> = sections.iter().map(server).collect();
    read.into_iter().collect()
}

fn way(section: &Section<'_>, name: &str) -> Option<Found<&'static str>> {
    section.choice(name, |name| match name {
        "none" => Some("none"),
        "direct" => Some("direct"),
        "tunnel" => Some("tunnel"),
        _ => None,
    })
}

/// Returns a server's delivery and the position of its `mac` or `address`.
fn delivery(
    section: &Section<'_>,
    keys: &DeliveryKeys,
    tunnel: Tunnel,
    alone: bool,
) -> Option<(Delivery, usize)> {
    let way = keys.delivery.as_ref()?.value;
    check_ends(section, way);
    if way == "none" && !alone {
        let message = "\"none\" is for the only server of a service; expected \"direct\" or \
                       \"tunnel\" for one of several";
        let at = section.position("delivery").unwrap_or(section.at());
        section.error(at, "delivery", message.to_owned());
    }
    let (mac, address) = (keys.mac.as_ref()?, keys.address.as_ref()?);
    let given = address.value.map(|value| Found { value, at: address.at, given: true });
    match (way, mac.value, given) {
        ("direct", Some(value), _) => Some((Delivery::Direct(value), mac.at)),
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
