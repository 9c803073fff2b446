//! `[gateway]`: which connections race, and who may win.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use pipeline::memory::{DIRECT, SITES};
use pipeline::wire::configuration::Configuration;
use pipeline::wire::copies::CopiesWanted;
use pipeline::wire::family::Version;
use toml::de::DeValue;

use super::clients;
use super::reader::{Found, Section};
use super::schema;
use super::section::section;
use super::service::{self, Head, Once, Service, ServiceKeys};
use super::share::{self, Share};
use super::tunnel::Tunnel;
use super::value::{self, Parsed};

section! {
    /// The settings of a gateway.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Gateway from GatewayKeys in "gateway" {
        /// How packets are exchanged after the race.
        configuration: Configuration = OneOf(&Configuration::NAMES), Value(r#""A""#);
    }
    with {
        /// The services, the longest prefix first: the first service that matches a connection is
        /// the most specific. At least one.
        services: Vec<GatewayService>,
        /// The store through which it shares what it has learned, if any.
        share: Option<Share>,
    }
}

section! {
    /// A service: the connections that race.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct GatewayService from GatewayServiceKeys in "gateway.service" {
        [[..]] = Sections(1, Some(1024)), Required;
        /// The addresses that clients connect to.
        address: ServiceAddress = Words(ONE_PREFIX), Required,
            by |section, name| section.found(name, any_or_prefix);
        /// The TCP ports that clients connect to.
        ports: Vec<u16> = PORTS, Value("[80, 443]"), by Section::ports;
        /// The addresses from which a replica's SYN/ACK may come.
        allowed_replicas: Vec<ServiceAddress> => Vec<IpNet> =
            REPLICA_PREFIXES, Required, by prefixes_or_any;
        /// The name in counters; unique.
        name: Option<String> => String = LABEL, SERVICE_NAME;
        /// How many replicas are asked directly; 0 is the race of the patent alone.
        direct: u8 = Integer(0, DIRECT as u64), Value("2");
        /// How many copies the switch is asked for while direct answers are fresh.
        explore: u8 = Integer(0, CopiesWanted::MOST as u64), Value("1");
        /// How long a replica is remembered after its last answer.
        memory: Duration = Duration, Value(r#""10m""#);
        /// The most sites remembered for each family.
        max_sites: u8 = Integer(1, SITES as u64), Value("32");
        /// The length in bits of the IPv4 prefix that tells a replica's site.
        site_prefix_v4: u8 = Integer(0, 32), Value("24");
        /// The length in bits of the IPv6 prefix that tells a replica's site.
        site_prefix_v6: u8 = Integer(0, 128), Value("64");
        /// Replicas that may be asked before any race was run.
        warm: Vec<IpAddr> = ADDRESSES, Value("[]"),
            by |section, name| section.list(name, schema::ONE_ADDRESS, value::address);
        /// How long the SYN to the origin waits while direct answers are fresh.
        origin_after: Option<Duration> = Duration, Derived("does not wait");
        /// Whether races are only run and measured: the origin wins all of them.
        shadow: bool = Boolean, Value("false");
        /// For how long after its last connection a client address keeps its server.
        affinity: Option<Duration> = Duration, Derived("no affinity");
        /// By how much that server may be behind the best.
        affinity_slack: Duration = Duration, Value(r#""20ms""#);
    }
    with {
        /// By how much replicas have to beat all others. No two have the same prefix.
        handicaps: Vec<Handicap>,
    }
}

section! {
    /// By how much replicas of a prefix have to beat the origin or another replica.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Handicap from HandicapKeys in "gateway.service.handicap" {
        [[..]] = Sections(0, Some(64)), Derived("no handicap");
        /// The replicas.
        prefix: ServiceAddress = Words(ONE_PREFIX), Value(r#""any""#),
            by |section, name| section.found(name, any_or_prefix);
        /// The handicap.
        time: Duration = Duration, Required;
    }
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
    /// Returns whether the service has addresses of a family.
    pub fn is_of(&self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(prefix) => Version::of(prefix.addr()) == version,
        }
    }

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
    let keys = GatewayKeys::read(&section);
    let share = share::read(&section);
    let services = service::services::<GatewayServiceKeys>(&section);
    if let (Some(configuration), Some((tunnel, at))) = (&keys.configuration, tunnel)
        && configuration.value.data_in_tunnels()
        && services
            .iter()
            .any(|service| service.keys.head().is_some_and(|head| head.address.value.is_v6()))
    {
        tunnel.check_room_v6(root, *at);
    }
    let read: Vec<_> = services.into_iter().map(gateway_service).collect();
    let mut services = read.into_iter().collect::<Option<Vec<_>>>()?;
    services.sort_by_key(|service| std::cmp::Reverse(service.address.length()));
    keys.build(services, share?)
}

impl GatewayService {
    /// Returns whether every address of a family may win the service's races.
    pub fn lets_anybody_win(&self) -> bool {
        self.allowed_replicas.iter().any(|prefix| prefix.prefix_len() == 0)
    }
}

impl ServiceKeys for GatewayServiceKeys {
    type Address = ServiceAddress;

    fn read(section: &Section<'_>) -> Self {
        Self::read(section)
    }

    fn head(&self) -> Option<Head<ServiceAddress>> {
        Head::of(&self.address, &self.ports, &self.name)
    }

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
}

fn gateway_service(service: Service<'_, GatewayServiceKeys>) -> Option<GatewayService> {
    let Service { section, keys, name } = service;
    let handicaps = handicaps(&section);
    let name = name?;
    let address = keys.address.as_ref()?.value;
    let allowed = permitted(&section, address, &keys.allowed_replicas.as_ref()?.value);
    let allowed = allowed?;
    check_warm(&section, &keys.warm.as_ref()?.value, &allowed)?;
    keys.build(allowed, name, handicaps?)
}

fn handicaps(section: &Section<'_>) -> Option<Vec<Handicap>> {
    let mut prefixes = Once::default();
    let handicap = |section: &Section<'_>| {
        let keys = HandicapKeys::read(section);
        let prefix = keys.prefix.as_ref()?;
        let shown = prefix.value.to_string();
        prefixes.take(section, (prefix.at, "prefix"), prefix.value, &shown);
        keys.build()
    };
    let read: Vec<_> = section.sections("handicap").iter().map(handicap).collect();
    read.into_iter().collect()
}

/// Notes warm replicas that could not win, or that occur twice.
fn check_warm(section: &Section<'_>, warm: &[IpAddr], allowed: &[IpNet]) -> Option<()> {
    let mut good = section.all_differ("warm", warm);
    for (i, replica) in warm.iter().enumerate() {
        if !allowed.iter().any(|prefix| prefix.contains(replica)) {
            let message =
                format!("{replica} is not in allowed_replicas; expected a replica that may win");
            section.error(section.entry_at("warm", i), &format!("warm[{i}]"), message);
            good = false;
        }
    }
    good.then_some(())
}

/// Reads a list of prefixes that may be "any".
pub(super) fn prefixes_or_any(
    section: &Section<'_>,
    name: &str,
) -> Option<Found<Vec<ServiceAddress>>> {
    section.set(name, schema::ONE_PREFIX, any_or_prefix)
}

/// Parses an entry of a list of prefixes that may be "any".
fn any_or_prefix(value: &DeValue<'_>) -> Parsed<ServiceAddress> {
    match value.as_str() {
        Some("any") => Ok(ServiceAddress::Any),
        _ => value::prefix(value).map(ServiceAddress::Prefix),
    }
}

/// Reads the prefixes that replicas may answer from. Every packet between client and replica is of
/// the client's family, so a prefix of the other family could never match.
fn permitted(
    section: &Section<'_>,
    address: ServiceAddress,
    allowed_replicas: &[ServiceAddress],
) -> Option<Vec<IpNet>> {
    let family = match address {
        ServiceAddress::Any => None,
        ServiceAddress::Prefix(prefix) => Some(prefix.addr()),
    };
    let mut prefixes = Vec::new();
    let mut good = clients::any_alone(section, "allowed_replicas", allowed_replicas);
    for (i, replica) in allowed_replicas.iter().enumerate() {
        let key = format!("allowed_replicas[{i}]");
        match (*replica, family) {
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
                    replica,
                    value::family(prefix.addr()),
                    value::family(service)
                );
                section.error(section.entry_at("allowed_replicas", i), &key, message);
                good = false;
            }
            (ServiceAddress::Prefix(prefix), _) => prefixes.push(prefix),
        }
    }
    good.then_some(prefixes)
}
