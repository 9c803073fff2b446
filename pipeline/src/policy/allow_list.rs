//! Which addresses may do something.

use std::net::IpAddr;

use ipnet::IpNet;

/// Prefixes whose addresses are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowList {
    /// Every address.
    Any,
    /// Addresses of these prefixes only; none when the list is empty.
    Only(Vec<IpNet>),
}

impl AllowList {
    /// Allows the addresses of `prefixes`, or every address when there are none: the value `"any"`
    /// of a configuration file is an empty list.
    pub fn only_or_any(prefixes: Vec<IpNet>) -> Self {
        if prefixes.is_empty() { Self::Any } else { Self::Only(prefixes) }
    }

    /// Whether `address` is allowed.
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
    fn allows_its_prefixes_or_everybody() {
        let inside = IpAddr::from([198, 51, 100, 7]);
        let outside = IpAddr::from([203, 0, 113, 7]);
        let list = AllowList::only_or_any(vec!["198.51.100.0/24".parse().unwrap()]);
        assert!(list.allows(inside) && !list.allows(outside));
        assert_eq!(AllowList::only_or_any(Vec::new()), AllowList::Any);
        assert!(AllowList::Any.allows(outside));
        assert!(!AllowList::Only(Vec::new()).allows(inside));
    }
}
