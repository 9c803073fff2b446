//! The counters of each role.

use std::net::IpAddr;

use super::{
    CommonCounters, Counter, EarlierNumbers, RefusedPrefixes, Responders, RoleCounters, Scalar,
    continue_all, continue_members,
};
use crate::verdict::Roles;

fn counters(count: usize) -> Box<[Counter]> {
    (0..count).map(|_| Counter::default()).collect()
}

/// The counters of one worker of a gateway.
#[derive(Debug, Default)]
pub struct GatewayCounters {
    /// The counters that every role has.
    pub common: CommonCounters,
    /// The responders of races.
    pub responders: Responders,
    /// The address that was backed off from last, as IPv6: upper and lower half.
    last_backoff: [Counter; 2],
}

impl GatewayCounters {
    /// Counts a back-off, and stores the destination that was backed off from.
    pub fn count_backoff(&self, server: IpAddr) {
        let address = match server {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let bits = address.to_bits();
        self.last_backoff[0].set((bits >> 64) as u64);
        self.last_backoff[1].set(bits as u64);
        self.common.scalar(Scalar::TagBackoffs).add(1);
    }

    /// Goes on from the values of the same worker before a reload.
    pub(crate) fn continue_from(&self, earlier: &Self) {
        let Self { common, responders, last_backoff } = self;
        common.continue_from(&earlier.common);
        responders.continue_from(&earlier.responders);
        continue_all(last_backoff, &earlier.last_backoff);
    }
}

impl RoleCounters for GatewayCounters {
    fn role(&self) -> Roles {
        Roles::GATEWAY
    }

    fn common(&self) -> &CommonCounters {
        &self.common
    }

    fn responders(&self) -> Option<&Responders> {
        Some(&self.responders)
    }

    fn last_backoff(&self) -> Option<IpAddr> {
        let [upper, lower] = &self.last_backoff;
        let bits = u128::from(upper.get()) << 64 | u128::from(lower.get());
        (bits != 0).then(|| IpAddr::from(bits.to_be_bytes()).to_canonical())
    }
}

/// The counters of one worker of a switch.
#[derive(Debug)]
pub struct SwitchCounters {
    /// The counters that every role has.
    pub common: CommonCounters,
    /// Copies sent, by replica in the order of the configuration.
    pub copies: Box<[Counter]>,
    /// SYNs by server, in the order of the configuration.
    pub syns: Box<[Counter]>,
    /// The source prefixes whose SYNs got no copies because a limit was used up.
    pub limited: RefusedPrefixes,
}

impl SwitchCounters {
    /// Returns the counters of a switch with this many configured replicas and servers.
    pub fn new(replicas: usize, servers: usize) -> Self {
        let common = CommonCounters::default();
        let (copies, syns) = (counters(replicas), counters(servers));
        Self { common, copies, syns, limited: RefusedPrefixes::default() }
    }

    /// Goes on from the values of the same worker before a reload, in which replicas and servers had
    /// these numbers.
    pub(crate) fn continue_from(&self, before: &Self, earlier: [&EarlierNumbers; 2]) {
        let (Self { common, copies, syns, limited }, [replicas, servers]) = (self, earlier);
        common.continue_from(&before.common);
        continue_members(copies, &before.copies, replicas);
        continue_members(syns, &before.syns, servers);
        limited.continue_from(&before.limited);
    }
}

impl RoleCounters for SwitchCounters {
    fn role(&self) -> Roles {
        Roles::SWITCH
    }

    fn common(&self) -> &CommonCounters {
        &self.common
    }

    fn copies(&self) -> &[Counter] {
        &self.copies
    }

    fn limited(&self) -> Option<&RefusedPrefixes> {
        Some(&self.limited)
    }

    fn syns(&self) -> &[Counter] {
        &self.syns
    }
}

/// The counters of one worker of a replica.
#[derive(Debug)]
pub struct ReplicaCounters {
    /// The counters that every role has.
    pub common: CommonCounters,
    /// SYN copies by web server, in the order of the configuration.
    pub syns: Box<[Counter]>,
}

impl ReplicaCounters {
    /// Returns the counters of a replica with this many configured web servers.
    pub fn new(servers: usize) -> Self {
        Self { common: CommonCounters::default(), syns: counters(servers) }
    }

    /// Goes on from the values of the same worker before a reload, in which servers had these
    /// numbers.
    pub(crate) fn continue_from(&self, before: &Self, earlier: &EarlierNumbers) {
        let Self { common, syns } = self;
        common.continue_from(&before.common);
        continue_members(syns, &before.syns, earlier);
    }
}

impl RoleCounters for ReplicaCounters {
    fn role(&self) -> Roles {
        Roles::REPLICA
    }

    fn common(&self) -> &CommonCounters {
        &self.common
    }

    fn syns(&self) -> &[Counter] {
        &self.syns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_backoff_is_read_as_it_was_written() {
        let counters = GatewayCounters::default();
        assert_eq!(counters.last_backoff(), None);
        for address in ["203.0.113.10", "2001:db8::10"] {
            let address: IpAddr = address.parse().unwrap();
            counters.count_backoff(address);
            assert_eq!(counters.last_backoff(), Some(address));
        }
        assert_eq!(counters.common.scalar(Scalar::TagBackoffs).get(), 2);
    }
}
