//! The lookup of the service that a server endpoint belongs to.

use std::net::{IpAddr, Ipv4Addr};

use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

/// The addresses that a service covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All addresses of a prefix; one address is a prefix too.
    Prefix(IpNet),
    /// Any address of either family.
    Any,
}

/// The services of a role, by address and port. The most specific one matches: a single address
/// before a prefix, a longer prefix before a shorter one, [`Scope::Any`] last.
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
    /// The addresses of both maps.
    addresses: HashSet<IpAddr>,
    /// Sorted by prefix length, the longest first; [`Scope::Any`] last.
    prefixes: Vec<(Scope, Vec<u16>, u16)>,
}

impl Services {
    /// Returns the lookup for services in the order of their numbers, each with its ports. Of two
    /// services with the same single address and port, the first matches.
    pub fn new<'a>(services: impl IntoIterator<Item = (Scope, &'a [u16])>) -> Self {
        let mut all = Self::default();
        for (number, (scope, ports)) in services.into_iter().enumerate() {
            let number = number as u16;
            match scope {
                Scope::Prefix(net) if net.prefix_len() == net.max_prefix_len() => {
                    all.addresses.insert(net.addr());
                    for &port in ports {
                        all.add(net.addr(), port, number);
                    }
                }
                _ => all.prefixes.push((scope, ports.to_vec(), number)),
            }
        }
        let length = |scope: &Scope| match scope {
            Scope::Prefix(net) => i16::from(net.prefix_len()),
            Scope::Any => -1,
        };
        all.prefixes.sort_by_key(|(scope, _, _)| std::cmp::Reverse(length(scope)));
        all
    }

    fn add(&mut self, address: IpAddr, port: u16, number: u16) {
        match address {
            IpAddr::V4(address) => self.exact_v4.entry(key(address, port)).or_insert(number),
            IpAddr::V6(address) => self.exact_v6.entry((address.to_bits(), port)).or_insert(number),
        };
    }

    /// Returns whether an address belongs to a service, at any port.
    pub fn covers(&self, address: IpAddr) -> bool {
        self.addresses.contains(&address)
            || self.prefixes.iter().any(|(scope, _, _)| match scope {
                Scope::Prefix(net) => net.contains(&address),
                Scope::Any => true,
            })
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
        let covers = |scope: &Scope| match scope {
            Scope::Prefix(net) => net.contains(&address),
            Scope::Any => true,
        };
        self.prefixes
            .iter()
            .find(|(scope, ports, _)| ports.contains(&port) && covers(scope))
            .map(|(_, _, number)| *number)
    }
}

#[inline(always)]
fn key(address: Ipv4Addr, port: u16) -> u64 {
    u64::from(address.to_bits()) << 16 | u64::from(port)
}

#[cfg(test)]
mod tests {
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
}
