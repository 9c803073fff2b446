//! Allow lists of addresses.

use std::net::IpAddr;

use ipnet::IpNet;

/// The addresses that are allowed: any, or those of some prefixes.
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
    Only(Vec<IpNet>),
}

impl AllowList {
    /// Returns a list that allows the addresses of `prefixes`, or every address when there are
    /// none: the value `"any"` of a configuration file is parsed to an empty list.
    pub fn only_or_any(prefixes: Vec<IpNet>) -> Self {
        if prefixes.is_empty() { Self::Any } else { Self::Only(prefixes) }
    }

    /// Returns whether `address` is allowed.
    pub fn allows(&self, address: IpAddr) -> bool {
        match self {
            Self::Any => true,
            Self::Only(prefixes) => prefixes.iter().any(|prefix| prefix.contains(&address)),
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
        assert!(!AllowList::Only(Vec::new()).allows(inside));
    }
}
