//! Lookups of addresses in prefixes, compiled once: however many prefixes there are, a packet costs
//! a short binary search.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ranges::Ranges;

/// Values by prefix. The longest prefix that contains an address decides.
///
/// # Examples
/// ```
/// use pipeline::policy::prefixes::PrefixMap;
///
/// let prefix = |text: &str| text.parse().unwrap();
/// let map = PrefixMap::new([(prefix("198.51.100.0/24"), 'a'), (prefix("198.51.100.7/32"), 'b')]);
/// assert_eq!(map.get("198.51.100.9".parse().unwrap()), Some('a'));
/// assert_eq!(map.get("198.51.100.7".parse().unwrap()), Some('b'));
/// assert_eq!(map.get("203.0.113.7".parse().unwrap()), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrefixMap<V> {
    v4: Ranges<u32, V>,
    v6: Ranges<u128, V>,
}

impl<V> Default for PrefixMap<V> {
    fn default() -> Self {
        Self { v4: Ranges::default(), v6: Ranges::default() }
    }
}

impl<V: Copy + PartialEq> PrefixMap<V> {
    /// Returns the map of these prefixes. Of a prefix that occurs more than once, the first value
    /// counts.
    pub fn new(prefixes: impl IntoIterator<Item = (IpNet, V)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (prefix, value) in prefixes {
            match prefix {
                IpNet::V4(net) => {
                    v4.push((net.network().to_bits(), net.broadcast().to_bits(), value));
                }
                IpNet::V6(net) => {
                    v6.push((net.network().to_bits(), net.broadcast().to_bits(), value));
                }
            }
        }
        Self { v4: Ranges::nested(v4), v6: Ranges::nested(v6) }
    }

    /// Returns the value of the longest prefix that contains an address.
    #[inline]
    pub fn get(&self, address: IpAddr) -> Option<V> {
        match address {
            IpAddr::V4(address) => self.v4.get(address.to_bits()),
            IpAddr::V6(address) => self.v6.get(address.to_bits()),
        }
    }

    /// Returns whether there is no prefix.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl<V: Copy + PartialEq> FromIterator<(IpNet, V)> for PrefixMap<V> {
    fn from_iter<I: IntoIterator<Item = (IpNet, V)>>(prefixes: I) -> Self {
        Self::new(prefixes)
    }
}

/// The addresses of some prefixes.
///
/// # Examples
/// ```
/// use pipeline::policy::prefixes::PrefixSet;
///
/// let set: PrefixSet = ["198.51.100.0/24".parse().unwrap()].into_iter().collect();
/// assert!(set.contains("198.51.100.9".parse().unwrap()));
/// assert!(!set.contains("2001:db8::9".parse().unwrap()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrefixSet(PrefixMap<()>);

impl PrefixSet {
    /// Returns whether one of the prefixes contains an address.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.get(address).is_some()
    }
}

impl FromIterator<IpNet> for PrefixSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        Self(prefixes.into_iter().map(|prefix| (prefix, ())).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Prefixes and addresses of few bits, so that prefixes nest and addresses hit their ends.
    fn few_bits() -> impl Strategy<Value = IpAddr> {
        let bits = |v6: bool| if v6 { 128 } else { 32 };
        (any::<bool>(), any::<u8>(), any::<u8>()).prop_map(move |(v6, high, low)| {
            let word = |byte: u8| if byte & 1 == 0 { u128::from(byte >> 5) } else { u128::MAX };
            let address = (word(high) << 5 | u128::from(high >> 6)) << (bits(v6) - 8)
                | (word(low) & 7) << 4
                | u128::from(low >> 4);
            match v6 {
                true => IpAddr::V6(address.into()),
                false => IpAddr::V4((address as u32).into()),
            }
        })
    }

    fn prefix() -> impl Strategy<Value = IpNet> {
        (few_bits(), 0u8..=16, any::<bool>()).prop_map(|(address, length, is_long)| {
            let whole = if address.is_ipv6() { 128 } else { 32 };
            let length = if is_long { whole - length } else { length };
            IpNet::new(address, length).unwrap().trunc()
        })
    }

    /// Walks all prefixes.
    fn naive(prefixes: &[(IpNet, u16)], address: IpAddr) -> Option<u16> {
        let mut longest: Option<(IpNet, u16)> = None;
        for &(prefix, value) in prefixes {
            let is_longer = longest.is_none_or(|(net, _)| net.prefix_len() < prefix.prefix_len());
            if prefix.contains(&address) && is_longer {
                longest = Some((prefix, value));
            }
        }
        longest.map(|(_, value)| value)
    }

    /// The addresses at which something may change, and beside them.
    fn edges(prefixes: &[(IpNet, u16)]) -> Vec<IpAddr> {
        let beside = |address: IpAddr, by: i128| match address {
            IpAddr::V4(address) => IpAddr::V4(address.to_bits().wrapping_add(by as u32).into()),
            IpAddr::V6(address) => IpAddr::V6(address.to_bits().wrapping_add(by as u128).into()),
        };
        let of = |(net, _): &(IpNet, u16)| {
            let ends = [net.network(), net.broadcast()];
            ends.map(|end| [-1, 0, 1].map(|by| beside(end, by))).concat()
        };
        prefixes.iter().flat_map(of).collect()
    }

    proptest! {
        #[test]
        fn a_map_finds_what_a_walk_finds(
            prefixes in vec((prefix(), 0u16..4), 0..40),
            addresses in vec(few_bits(), 1..20),
        ) {
            let map = PrefixMap::new(prefixes.clone());
            let set: PrefixSet = prefixes.iter().map(|(prefix, _)| *prefix).collect();
            prop_assert_eq!(map.is_empty(), prefixes.is_empty());
            for address in addresses.into_iter().chain(edges(&prefixes)) {
                let expected = naive(&prefixes, address);
                prop_assert_eq!(map.get(address), expected, "{}", address);
                prop_assert_eq!(set.contains(address), expected.is_some(), "{}", address);
            }
        }
    }
}
