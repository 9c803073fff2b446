//! The policy by which a service's replicas are asked directly.

use std::net::IpAddr;

use crate::base::time::Ticks;
use crate::memory::SITES;
use crate::policy::prefixes::PrefixMap;
use crate::wire::family::Version;

/// The policy of one service.
///
/// # Examples
/// ```
/// use pipeline::memory::Policy;
///
/// let policy = Policy { direct: 2, ..Policy::default() };
/// // One replica appliance with several web servers is one site.
/// let site = |text: &str| policy.site(text.parse().unwrap());
/// assert_eq!(site("198.51.100.10"), site("198.51.100.20"));
/// assert_ne!(site("198.51.100.10"), site("198.51.101.10"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How many replicas are asked directly, 0 to 8. With 0 there is only the race of the patent.
    pub direct: u8,
    /// How many copies the switch is asked for besides, 0 to 14, while direct answers are fresh.
    pub explore: u8,
    /// How long a replica is remembered after its last answer.
    pub memory: Ticks,
    /// The most sites remembered, 1 to 32.
    pub max_sites: u8,
    /// The lengths of the prefixes that tell sites, in bits: IPv4, IPv6.
    pub site_prefix: [u8; 2],
    /// Replicas that may be asked before any race was run.
    pub warm: Vec<IpAddr>,
    /// Races are run and measured, but the origin wins all of them.
    pub shadow: bool,
    /// How long the SYN to the origin waits while direct answers are fresh; zero: not at all.
    pub origin_after: Ticks,
    /// By how much replicas of a prefix have to beat all others.
    pub handicaps: PrefixMap<Ticks>,
    /// For how long a client keeps its replica after its last connection; zero: not at all.
    pub affinity: Ticks,
    /// By how much that replica may be behind the best.
    pub affinity_slack: Ticks,
}

impl Default for Policy {
    /// The race of the patent alone: no direct copies. Otherwise one explorer, 10 minutes, 32 sites
    /// told by /24 and /64, and none of the other policies.
    fn default() -> Self {
        Self {
            direct: 0,
            explore: 1,
            memory: Ticks::from_secs(600),
            max_sites: SITES as u8,
            site_prefix: [24, 64],
            warm: Vec::new(),
            shadow: false,
            origin_after: Ticks(0),
            handicaps: PrefixMap::default(),
            affinity: Ticks(0),
            affinity_slack: Ticks::from_millis(20),
        }
    }
}

impl Policy {
    /// Returns whether replicas are ever asked directly.
    pub fn is_direct(&self) -> bool {
        self.direct > 0
    }

    /// Returns whether an answer may have to wait for others.
    pub fn may_wait(&self) -> bool {
        !self.handicaps.is_empty() || self.affinity > Ticks(0)
    }

    /// Returns the number of the site that an address belongs to: the bits of its prefix.
    #[inline]
    pub fn site(&self, address: IpAddr) -> u128 {
        match address {
            IpAddr::V4(address) => {
                let kept = u32::from(self.site_prefix[Version::V4 as usize]);
                let mask = u32::MAX.checked_shl(32 - kept).unwrap_or(0);
                u128::from(address.to_bits() & mask)
            }
            IpAddr::V6(address) => {
                let kept = u32::from(self.site_prefix[Version::V6 as usize]);
                address.to_bits() & u128::MAX.checked_shl(128 - kept).unwrap_or(0)
            }
        }
    }

    /// Returns the handicap of a replica: that of the longest prefix that contains it.
    pub fn handicap(&self, replica: IpAddr) -> Ticks {
        self.handicaps.get(replica).unwrap_or(Ticks(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sites_are_prefixes_of_any_length() {
        let policy = |v4, v6| Policy { site_prefix: [v4, v6], ..Policy::default() };
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        assert_eq!(policy(32, 128).site(ip("0.0.0.9")), 9);
        assert_eq!(policy(0, 0).site(ip("198.51.100.10")), 0);
        assert_eq!(policy(0, 0).site(ip("2001:db8::1")), 0);
        assert_eq!(policy(24, 64).site(ip("2001:db8::1")), policy(24, 64).site(ip("2001:db8::2")));
        assert_ne!(
            policy(24, 128).site(ip("2001:db8::1")),
            policy(24, 128).site(ip("2001:db8::2"))
        );
    }

    #[test]
    fn the_longest_prefix_decides_the_handicap() {
        let net = |text: &str| text.parse().unwrap();
        let handicaps = PrefixMap::new([
            (net("0.0.0.0/0"), Ticks::from_millis(5)),
            (net("198.51.100.0/24"), Ticks::from_millis(30)),
        ]);
        let policy = Policy { handicaps, ..Policy::default() };
        let of = |text: &str| policy.handicap(text.parse().unwrap());
        assert_eq!(of("198.51.100.9"), Ticks::from_millis(30));
        assert_eq!(of("203.0.113.9"), Ticks::from_millis(5));
        assert_eq!(of("2001:db8::9"), Ticks(0));
    }
}
