//! Allow lists of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::prefixes::PrefixSet;

/// The addresses that are allowed: any, or those of some prefixes. The prefixes are compiled: a
/// list of thousands costs a packet a binary search.
///
/// # Examples
/// ```
/// use pipeline::policy::allow_list::AllowList;
///
/// let list = AllowList::only_or_any(vec!["198.51.100.0/24".parse().unwrap()]);
/// assert!(list.allows("198.51.100.7".parse().unwrap()));
/// assert!(!list.allows("203.0.113.7".parse().unwrap()));
/// assert_eq!(AllowList::only_or_any(Vec::new()), AllowList::Any);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// Every address.
    Any,
    /// Only addresses of these prefixes; with an empty list, no address.
    Only(Prefixes),
}

/// Prefixes as they were listed, and compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefixes {
    listed: Box<[IpNet]>,
    compiled: PrefixSet,
}

impl AllowList {
    /// Returns a list that allows the addresses of `prefixes` only.
    pub fn only(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let listed: Box<[_]> = prefixes.into_iter().collect();
        let compiled = listed.iter().copied().collect();
        Self::Only(Prefixes { listed, compiled })
    }

    /// Returns a list that allows the addresses of `prefixes`, or every address when there are
    /// none: the value `"any"` of a configuration file is parsed to an empty list.
    pub fn only_or_any(prefixes: Vec<IpNet>) -> Self {
        if prefixes.is_empty() { Self::Any } else { Self::only(prefixes) }
    }

    /// Returns a list that allows what at least one of `lists` allows.
    pub fn union<'a>(lists: impl Iterator<Item = &'a Self> + Clone) -> Self {
        if lists.clone().any(|list| *list == Self::Any) {
            return Self::Any;
        }
        Self::only(lists.flat_map(Self::prefixes).copied())
    }

    /// Returns whether `address` is allowed.
    #[inline]
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(prefixes) => prefixes.compiled.contains(address),
        }
    }

    /// Returns the prefixes, as they were listed; none for [`AllowList::Any`].
    pub fn prefixes(&self) -> &[IpNet] {
        match self {
            Self::Any => &[],
            Self::Only(prefixes) => &prefixes.listed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_its_prefixes_or_every_address() {
        let inside = IpAddr::from([198, 51, 100, 7]);
        let outside = IpAddr::from([203, 0, 113, 7]);
        let list = AllowList::only_or_any(vec!["198.51.100.0/24".parse().unwrap()]);
        assert!(list.allows(inside) && !list.allows(outside));
        assert_eq!(AllowList::only_or_any(Vec::new()), AllowList::Any);
        assert!(AllowList::Any.allows(outside));
        assert!(!AllowList::only([]).allows(inside));
    }

    #[test]
    fn a_union_allows_what_one_of_its_lists_allows() {
        let list = |text: &str| AllowList::only([text.parse().unwrap()]);
        let lists = [list("198.51.100.0/24"), list("2001:db8::/32"), AllowList::only([])];
        let union = AllowList::union(lists.iter());
        for (address, allowed) in
            [("198.51.100.7", true), ("2001:db8::7", true), ("203.0.113.7", false)]
        {
            assert_eq!(union.allows(address.parse().unwrap()), allowed, "{address}");
        }
        assert_eq!(AllowList::union([&lists[0], &AllowList::Any].into_iter()), AllowList::Any);
        assert!(!AllowList::union([].into_iter()).allows([198, 51, 100, 7].into()));
    }
}
