//! `[gateway]`: which connections race, and who may win.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pipeline::wire::configuration::Configuration;
use toml::de::DeValue;

use super::clients;
use super::reader::{Found, Section};
use super::schema;
use super::service::{self, Head};
use super::tunnel::Tunnel;
use super::value::{self, Parsed};

/// The settings of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// How packets are exchanged after the race.
    pub configuration: Configuration,
    /// The services, the longest prefix first: the first service that matches a connection is the
    /// most specific. At least one.
    pub services: Vec<GatewayService>,
}

/// A service: the connections that race.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayService {
    /// The name in counters; unique.
    pub name: String,
    /// The addresses that clients connect to.
    pub address: ServiceAddress,
    /// The TCP ports that clients connect to.
    pub ports: Vec<u16>,
    /// The addresses from which a replica's SYN/ACK may come.
    pub allowed_replicas: Vec<IpNet>,
}

/// The addresses of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ServiceAddress {
    /// All addresses of both families.
    Any,
    /// The addresses of a prefix; a single address is a prefix of full length.
    Prefix(IpNet),
}

impl ServiceAddress {
    /// Returns whether an address belongs to the service.
    pub fn contains(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => prefix.contains(&address),
        }
    }

    /// Returns whether all addresses are IPv6.
    fn is_v6(&self) -> bool {
        matches!(self, Self::Prefix(prefix) if prefix.addr().is_ipv6())
    }

    /// Returns the length of the prefix in bits; `None`, which is less than any, for all addresses.
    fn length(&self) -> Option<u8> {
        match self {
            Self::Any => None,
            Self::Prefix(prefix) => Some(prefix.prefix_len()),
        }
    }
}

/// Formats the addresses as in a configuration file: `any`, an address, or a prefix.
impl fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Prefix(prefix) => f.write_str(&value::shown_prefix(*prefix)),
        }
    }
}

/// Reads `[gateway]`. `tunnel` has the position of its `path_mtu`.
pub(super) fn read(root: &Section<'_>, tunnel: Option<&(Tunnel, usize)>) -> Option<Gateway> {
    let section = root.section("gateway");
    let configuration = section.choice("configuration", Configuration::from_name);
    let sections = section.sections("service");
    let read: Vec<_> = sections
        .iter()
        .map(|section| {
            let head = service::head(section, any_or_prefix);
            let allowed_replicas =
                section.set("allowed_replicas", usize::MAX, schema::ONE_PREFIX, any_or_prefix);
            (section, head, allowed_replicas)
        })
        .collect();
    let heads = || read.iter().filter_map(|(section, head, _)| Some((*section, head.as_ref()?)));
    service::check_claims(heads(), ToString::to_string);
    let names = service::service_names(heads(), shown);
    if let (Some(configuration), Some((tunnel, at))) = (configuration, tunnel)
        && configuration.data_in_tunnels()
        && heads().any(|(_, head)| head.address.value.is_v6())
    {
        tunnel.check_room_v6(root, *at);
    }

    let mut names = names.into_iter();
    let mut services = Vec::new();
    for (section, head, allowed_replicas) in read {
        let name = head.is_some().then(|| names.next()).flatten();
        services.push(build(section, name, head, allowed_replicas));
    }
    let mut services = services.into_iter().collect::<Option<Vec<_>>>()?;
    services.sort_by_key(|service| std::cmp::Reverse(service.address.length()));
    Some(Gateway { configuration: configuration?, services })
}

fn build(
    section: &Section<'_>,
    name: Option<String>,
    head: Option<Head<ServiceAddress>>,
    allowed_replicas: Option<Vec<Found<ServiceAddress>>>,
) -> Option<GatewayService> {
    let (name, head, allowed_replicas) = (name?, head?, allowed_replicas?);
    let address = head.address.value;
    let allowed_replicas = permitted(section, address, &allowed_replicas)?;
    Some(GatewayService { name, address, ports: service::numbers(&head.ports), allowed_replicas })
}

/// Parses an entry of a list of prefixes that may be "any".
pub(super) fn any_or_prefix(value: &DeValue<'_>) -> Parsed<ServiceAddress> {
    match value.as_str() {
        Some("any") => Ok(ServiceAddress::Any),
        _ => value::prefix(value).map(ServiceAddress::Prefix),
    }
}

/// Returns a service's address for messages, with a port where the address is ambiguous.
fn shown(address: &ServiceAddress, port: Option<u16>) -> String {
    match (address, port) {
        (_, None) => address.to_string(),
        (ServiceAddress::Prefix(prefix), Some(port))
            if prefix.prefix_len() == prefix.max_prefix_len() =>
        {
            SocketAddr::new(prefix.addr(), port).to_string()
        }
        (_, Some(port)) => format!("{address}:{port}"),
    }
}

/// Reads the prefixes that replicas may answer from. Every packet between client and replica is of
/// the client's family, so a prefix of the other family could never match.
fn permitted(
    section: &Section<'_>,
    address: ServiceAddress,
    allowed_replicas: &[Found<ServiceAddress>],
) -> Option<Vec<IpNet>> {
    let family = match address {
        ServiceAddress::Any => None,
        ServiceAddress::Prefix(prefix) => Some(prefix.addr()),
    };
    let mut prefixes = Vec::new();
    let mut good = clients::any_alone(section, "allowed_replicas", allowed_replicas);
    for (i, replica) in allowed_replicas.iter().enumerate() {
        let key = format!("allowed_replicas[{i}]");
        match (replica.value, family) {
            (ServiceAddress::Any, _) => {
                let every: [IpNet; 2] = [
                    Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
                    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
                ];
                let of_family = |prefix: &IpNet| {
                    family.is_none_or(|address| address.is_ipv4() == prefix.addr().is_ipv4())
                };
                prefixes.extend(every.into_iter().filter(of_family));
            }
            (ServiceAddress::Prefix(prefix), Some(service))
                if service.is_ipv4() != prefix.addr().is_ipv4() =>
            {
                let message = format!(
                    "{} is {}, but the service {address} is {}; expected both of one family",
                    replica.value,
                    value::family(prefix.addr()),
                    value::family(service)
                );
                section.error(replica.at, &key, message);
                good = false;
            }
            (ServiceAddress::Prefix(prefix), _) => prefixes.push(prefix),
        }
    }
    good.then_some(prefixes)
}
