//! The lookup of the service that a server endpoint belongs to.

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::HashMap;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::prefixes::{PrefixMap, PrefixSet};
use crate::wire::family::Version;

/// The addresses that a service covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All addresses of a prefix; one address is a prefix too.
    Prefix(IpNet),
    /// Any address of either family.
    Any,
}

impl Scope {
    /// Returns the address of a scope that is a single one.
    pub fn address(self) -> Option<IpAddr> {
        match self {
            Self::Prefix(net) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
            _ => None,
        }
    }

    /// Returns whether it contains addresses of a family.
    pub fn has_family(self, version: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Prefix(net) => Version::of(net.addr()) == version,
        }
    }

    fn prefixes(self) -> impl Iterator<Item = IpNet> {
        let prefixes = match self {
            Self::Prefix(prefix) => [Some(prefix), None],
            Self::Any => [Some(Ipv4Net::default().into()), Some(Ipv6Net::default().into())],
        };
        prefixes.into_iter().flatten()
    }
}

/// The services of a role, by address and port. The most specific one matches: a single address
/// before a prefix, a longer prefix before a shorter one, [`Scope::Any`] last.
///
/// The lookup is compiled. Single addresses are in hash maps. For prefixes, ports that belong to the
/// same services share a [`PrefixMap`], so a packet costs a hash and a binary search, however many
/// services and ports there are.
///
/// # Examples
/// ```
/// use pipeline::policy::services::{Scope, Services};
///
/// let prefix = |text: &str| Scope::Prefix(text.parse().unwrap());
/// let services = Services::new([
///     (prefix("203.0.113.0/24"), &[80, 443][..]),
///     (prefix("203.0.113.10/32"), &[80][..]),
/// ]);
/// let address = "203.0.113.10".parse().unwrap();
/// assert_eq!(services.find(address, 80), Some(1));
/// assert_eq!(services.find(address, 443), Some(0));
/// assert_eq!(services.find(address, 22), None);
/// assert!(services.covers(address));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Services {
    /// By address and port. The key is one word, because a switch looks up every packet.
    exact_v4: HashMap<u64, u16>,
    exact_v6: HashMap<(u128, u16), u16>,
    /// The addresses of all services.
    addresses: PrefixSet,
    /// The number of a port's map among `prefixes`.
    ports: HashMap<u16, u16>,
    /// The services that are no single addresses, by prefix.
    prefixes: Vec<PrefixMap<u16>>,
}

impl Services {
    /// Returns the lookup for services in the order of their numbers, each with its ports. Of two
    /// services with the same single address or prefix and port, the first matches.
    pub fn new<'a>(services: impl IntoIterator<Item = (Scope, &'a [u16])>) -> Self {
        let numbered = (0u16..).zip(services);
        Self::numbered(numbered.map(|(number, (scope, ports))| (number, scope, ports)))
    }

    /// Returns the lookup for services with these numbers, in the order of their precedence: of two
    /// services with the same single address or prefix and port, the first matches.
    pub fn numbered<'a>(services: impl IntoIterator<Item = (u16, Scope, &'a [u16])>) -> Self {
        let all: Vec<_> = services.into_iter().collect();
        let prefixes = all.iter().flat_map(|(_, scope, _)| scope.prefixes());
        let mut compiled = Self { addresses: prefixes.collect(), ..Self::default() };
        // The services at each port, by their places in the order.
        let mut at_port: HashMap<u16, Vec<usize>> = HashMap::new();
        for (place, (number, scope, ports)) in all.iter().enumerate() {
            for &port in *ports {
                match scope.address() {
                    Some(address) => compiled.add(address, port, *number),
                    None => at_port.entry(port).or_default().push(place),
                }
            }
        }
        let mut known: HashMap<Vec<usize>, u16> = HashMap::new();
        for (port, places) in at_port {
            let next = compiled.prefixes.len() as u16;
            let map = *known.entry(places).or_insert_with_key(|places| {
                compiled.prefixes.push(by_prefix(&all, places));
                next
            });
            compiled.ports.insert(port, map);
        }
        compiled
    }

    fn add(&mut self, address: IpAddr, port: u16, number: u16) {
        match address {
            IpAddr::V4(address) => self.exact_v4.entry(key(address, port)).or_insert(number),
            IpAddr::V6(address) => self.exact_v6.entry((address.to_bits(), port)).or_insert(number),
        };
    }

    /// Returns whether an address belongs to a service, at any port.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// Returns the number of the service that an endpoint belongs to.
    #[inline(always)]
    pub fn find(&self, address: IpAddr, port: u16) -> Option<u16> {
        let exact = match address {
            IpAddr::V4(address) => self.exact_v4.get(&key(address, port)),
            IpAddr::V6(address) => self.exact_v6.get(&(address.to_bits(), port)),
        };
        exact.copied().or_else(|| self.find_prefix(address, port))
    }

    fn find_prefix(&self, address: IpAddr, port: u16) -> Option<u16> {
        let map = self.ports.get(&port)?;
        self.prefixes.get(usize::from(*map))?.get(address)
    }
}

/// Returns the services in these places by prefix. [`Scope::Any`] comes last, so that a prefix of
/// length 0 is more specific.
fn by_prefix(all: &[(u16, Scope, &[u16])], places: &[usize]) -> PrefixMap<u16> {
    let scopes = || places.iter().map(|&place| (all[place].1, all[place].0));
    let specific = scopes().filter(|(scope, _)| *scope != Scope::Any);
    let any = scopes().filter(|(scope, _)| *scope == Scope::Any);
    let prefixes =
        |(scope, number): (Scope, u16)| scope.prefixes().map(move |prefix| (prefix, number));
    specific.chain(any).flat_map(prefixes).collect()
}

#[inline(always)]
fn key(address: Ipv4Addr, port: u16) -> u64 {
    u64::from(address.to_bits()) << 16 | u64::from(port)
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_most_specific_service_wins() {
        let prefix = |text: &str| Scope::Prefix(text.parse().unwrap());
        let ports: [&[u16]; 4] = [&[80], &[80, 443], &[80], &[443]];
        let services = Services::new([
            (Scope::Any, ports[0]),
            (prefix("203.0.113.0/24"), ports[1]),
            (prefix("203.0.113.10/32"), ports[2]),
            (prefix("203.0.113.128/25"), ports[3]),
        ]);
        let find = |address: &str, port| services.find(address.parse().unwrap(), port);
        assert_eq!(find("203.0.113.10", 80), Some(2));
        assert_eq!(find("203.0.113.10", 443), Some(1));
        assert_eq!(find("203.0.113.200", 443), Some(3));
        assert_eq!(find("203.0.113.200", 80), Some(1));
        assert_eq!(find("192.0.2.1", 80), Some(0));
        assert_eq!(find("2001:db8::1", 80), Some(0));
        assert_eq!(find("192.0.2.1", 443), None);
        let exact = Services::new([(prefix("203.0.113.10/32"), ports[0])]);
        let covers = |address: &str| exact.covers(address.parse().unwrap());
        assert!(covers("203.0.113.10") && !covers("203.0.113.11"));
        assert!(services.covers("192.0.2.1".parse().unwrap()));
    }
    /// Services of few addresses and ports, so that they overlap.
    fn scope() -> impl Strategy<Value = Scope> {
        let prefix = |(v6, bits, length): (bool, u8, u8)| {
            let (address, whole) = match v6 {
                true => (IpAddr::V6((u128::from(bits) << 120 | u128::from(bits)).into()), 128),
                false => (IpAddr::V4((u32::from(bits) << 24 | u32::from(bits)).into()), 32),
            };
            let length = if length > 8 { whole - (length - 9) } else { length };
            Scope::Prefix(IpNet::new(address, length).unwrap().trunc())
        };
        let prefix = (any::<bool>(), 0u8..6, 0u8..14).prop_map(prefix);
        prop_oneof![8 => prefix, 1 => Just(Scope::Any)]
    }

    fn contains(scope: &Scope, address: IpAddr) -> bool {
        match scope {
            Scope::Prefix(net) => net.contains(&address),
            Scope::Any => true,
        }
    }

    #[test]
    fn of_equal_services_the_first_in_the_order_matches_whatever_its_number() {
        let prefix = |text: &str| Scope::Prefix(text.parse().unwrap());
        let services = Services::numbered([
            (2, prefix("203.0.113.10/32"), &[80][..]),
            (0, prefix("203.0.113.10/32"), &[80, 443]),
            (3, prefix("198.51.100.0/24"), &[80]),
            (1, prefix("198.51.100.0/24"), &[80]),
            // A service without ports only covers addresses.
            (4, prefix("192.0.2.1/32"), &[]),
        ]);
        let find = |address: &str, port| services.find(address.parse().unwrap(), port);
        assert_eq!((find("203.0.113.10", 80), find("203.0.113.10", 443)), (Some(2), Some(0)));
        assert_eq!((find("198.51.100.7", 80), find("192.0.2.1", 80)), (Some(3), None));
        assert!(services.covers("192.0.2.1".parse().unwrap()));
    }

    /// Walks all services: the longest prefix that has the port, the first of equals.
    fn naive(services: &[(Scope, Vec<u16>)], address: IpAddr, port: u16) -> Option<u16> {
        let length = |scope: &Scope| match scope {
            Scope::Prefix(net) => i16::from(net.prefix_len()),
            Scope::Any => -1,
        };
        let own = (0..).zip(services).filter(|(_, (scope, _))| contains(scope, address));
        let own = own.filter(|(_, (_, ports))| ports.contains(&port));
        let longest = own.max_by_key(|(number, (scope, _))| (length(scope), Reverse(*number)));
        longest.map(|(number, _)| number)
    }

    proptest! {
        #[test]
        fn a_compiled_lookup_finds_what_a_walk_finds(
            services in vec((scope(), vec(80u16..84, 1..4)), 0..10),
            others in vec((any::<bool>(), 0u8..6, 0u8..8), 1..20),
        ) {
            let compiled = services.iter().map(|(scope, ports)| (*scope, ports.as_slice()));
            let compiled = Services::new(compiled);
            for (v6, high, low) in others {
                let address = match v6 {
                    true => IpAddr::V6((u128::from(high) << 120 | u128::from(low)).into()),
                    false => IpAddr::V4((u32::from(high) << 24 | u32::from(low)).into()),
                };
                for port in 79..85 {
                    let expected = naive(&services, address, port);
                    prop_assert_eq!(compiled.find(address, port), expected, "{} {}", address, port);
                }
                let covered = services.iter().any(|(scope, _)| contains(scope, address));
                prop_assert_eq!(compiled.covers(address), covered, "{}", address);
            }
        }
    }
}
