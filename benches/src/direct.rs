//! Policies and plans of gateways that send direct copies.

use std::net::{IpAddr, Ipv4Addr};

use pipeline::base::time::Ticks;
use pipeline::memory::{Candidate, Plan, Policy, SITES, Why};
use pipeline::wire::copies::CopiesWanted;
use pipeline::wire::tunnel::Format;

use crate::fixtures::{REPLICA, ip};

/// Returns a policy with this many direct copies, 1 to 8. Sites are told by whole addresses, since
/// the replicas of the benchmarks are neighbours.
pub fn policy(direct: u8) -> Policy {
    Policy { direct, site_prefix: [32, 128], ..Policy::default() }
}

/// Returns the plan of a full memory, which asks `direct` sites, and one explorer. The replica that
/// wins the benchmarks' races is the first of them. They have the last numbers: to find them takes
/// longest.
pub fn plan(policy: &Policy, direct: u8) -> Plan {
    let mut plan = Plan::empty();
    (plan.trial_every, plan.explore_every) = (16, 64);
    (plan.copies, plan.why) = (CopiesWanted::at_most(1), Why::Fresh);
    plan.origin = Some(Ticks::from_millis(140));
    let winner: IpAddr = ip(REPLICA).parse().expect("an address");
    for number in (0..SITES as u8).rev() {
        let address = match number {
            0 => winner,
            _ => Ipv4Addr::new(198, 51, 101, number).into(),
        };
        let rank = Some(Ticks::from_millis(10 + u64::from(number)));
        let handicap = policy.handicap(address);
        let candidate = Candidate { address, format: Format::Ipip, rank, handicap };
        let place = plan.push(policy.site(address), candidate);
        if let Some(place) = place.filter(|_| number < direct) {
            plan.best.insert(0, place);
        }
    }
    plan
}
