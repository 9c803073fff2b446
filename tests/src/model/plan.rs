//! Plans that a memory might publish, drawn at random.

use std::net::IpAddr;

use pipeline::base::time::Ticks;
use pipeline::memory::{Candidate, Plan, Plans, Policy, Why};
use pipeline::policy::prefixes::PrefixMap;
use pipeline::role::gateway::Settings;
use pipeline::wire::copies::CopiesWanted;
use pipeline::wire::family::Version;
use pipeline::wire::tunnel::Format;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::{PEERS, PEERS_V6};

/// A plan of any service.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Sites by index, each with its rank in milliseconds and the format of tunnels to it.
    sites: Vec<(usize, Option<u64>, Format)>,
    /// How many of them are asked.
    best: usize,
    trial: bool,
    trial_every: u32,
    explore_every: u32,
    copies: u8,
    why: Why,
    origin: Option<u64>,
    origin_is_nearest: bool,
    distrusts_first: bool,
}

/// Returns the address of a site: two replicas, one that never answers, and one that is not allowed
/// everywhere.
fn address(is_v6: bool, index: usize) -> IpAddr {
    let peers = if is_v6 { &PEERS_V6 } else { &PEERS };
    match index {
        0 => peers[4].ip(),
        1 => peers[5].ip(),
        2 if is_v6 => IpAddr::from([0x2001, 0xdb8, 0x31, 0, 0, 0, 0, 1]),
        2 => IpAddr::from([198, 51, 101, 1]),
        _ => peers[6].ip(),
    }
}

/// Generates a plan.
pub fn drawn() -> impl Strategy<Value = Drawn> {
    let time = || prop_oneof![1 => Just(None), 4 => (1u64..120).prop_map(Some)];
    let site = (time(), select(Format::ALL.to_vec()));
    let sites = (
        subsequence(vec![0usize, 1, 2, 3], 0..=4).prop_shuffle(),
        [site.clone(), site.clone(), site.clone(), site],
    )
        .prop_map(|(indices, about)| {
            let known = indices.into_iter().zip(about);
            known.map(|(index, (rank, format))| (index, rank, format)).collect::<Vec<_>>()
        });
    let whys = vec![Why::Fresh, Why::Fresh, Why::NothingRemembered, Why::OriginLately];
    let turns = (select(vec![1u32, 2, 16]), select(vec![1u32, 2, 3, 64]));
    let origin = (time(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (sites, 0usize..4, any::<bool>(), turns, 0u8..16, select(whys), origin).prop_map(
        |(sites, best, trial, (trial_every, explore_every), copies, why, origin)| {
            let (origin, origin_is_nearest, distrusts_first) = origin;
            Drawn {
                sites,
                best,
                trial,
                trial_every,
                explore_every,
                copies,
                why,
                origin,
                origin_is_nearest,
                distrusts_first,
            }
        },
    )
}

impl Drawn {
    /// Returns a plan that asks two sites and tries a third.
    pub fn usual() -> Self {
        let sites =
            vec![(1, Some(10), Format::Gre), (0, Some(20), Format::Gue), (2, None, Format::Ipip)];
        Self {
            sites,
            best: 2,
            trial: true,
            trial_every: 3,
            explore_every: 4,
            copies: 1,
            why: Why::Fresh,
            origin: Some(70),
            origin_is_nearest: false,
            distrusts_first: false,
        }
    }

    /// Returns the plan of a service with this policy. Replicas of one site are one.
    fn plan(&self, policy: &Policy, is_v6: bool) -> Plan {
        let mut plan = Plan::empty();
        if !policy.is_direct() {
            return plan;
        }
        let mut numbers = Vec::new();
        for (index, rank, format) in &self.sites {
            let address = address(is_v6, *index);
            let site = policy.site(address);
            if plan.number_of(site).is_some() {
                continue;
            }
            let distrusted = self.distrusts_first && numbers.is_empty();
            let handicap = policy.handicap(address);
            let handicap = if distrusted { handicap + Ticks::from_secs(1) } else { handicap };
            let rank = rank.map(|rank| Ticks::from_millis(rank) + handicap);
            let candidate = Candidate { address, format: *format, rank, handicap };
            plan.has_distrusted |= distrusted;
            numbers.extend(plan.push(site, candidate));
        }
        plan.best = numbers.iter().take(self.best).copied().collect();
        plan.trial = numbers.get(self.best).copied().filter(|_| self.trial);
        (plan.trial_every, plan.explore_every) = (self.trial_every, self.explore_every);
        (plan.copies, plan.why) = (CopiesWanted::from_bits(self.copies), self.why);
        plan.origin = self.origin.map(Ticks::from_millis);
        plan.origin_is_nearest = self.origin_is_nearest;
        plan
    }

    /// Returns the plan of each service of a gateway for [`PEERS`] and [`PEERS_V6`].
    pub fn by_service(&self, settings: &Settings) -> Vec<Plan> {
        let numbered = settings.services.iter().enumerate();
        // The services of IPv4 come first.
        let of_v6 = settings.services.len() / 2;
        numbered.map(|(number, service)| self.plan(&service.policy, number >= of_v6)).collect()
    }

    /// Returns the same plans as the gateway reads them.
    pub fn published(&self, settings: &Settings) -> Plans {
        let mut plans = Plans::empty(settings.services.len());
        for (number, plan) in self.by_service(settings).into_iter().enumerate() {
            let is_v6 = number >= settings.services.len() / 2;
            let version = if is_v6 { Version::V6 } else { Version::V4 };
            plans.set(number as u16, version, plan);
        }
        plans
    }
}

/// Returns a policy by which SYNs wait, answers wait, and clients keep their server.
pub fn waiting() -> Policy {
    let ms = Ticks::from_millis;
    let prefix = |text: &str| text.parse().expect("a prefix");
    let handicaps = PrefixMap::new([
        (prefix("0.0.0.0/0"), ms(5)),
        (prefix("::/0"), ms(5)),
        (prefix("198.51.100.10/32"), ms(60)),
        (prefix("2001:db8:30::10/128"), ms(60)),
    ]);
    Policy {
        direct: 2,
        origin_after: ms(30),
        handicaps,
        affinity: Ticks::from_secs(60),
        site_prefix: [32, 128],
        ..Policy::default()
    }
}

/// Generates the policy of all services.
pub fn policy() -> impl Strategy<Value = Policy> {
    let ms = Ticks::from_millis;
    let direct = Policy { direct: 2, ..Policy::default() };
    let affinity = Ticks::from_secs(60);
    let kinds = vec![
        Policy::default(),
        direct.clone(),
        Policy { origin_after: ms(50), ..direct.clone() },
        Policy { handicaps: waiting().handicaps, ..direct.clone() },
        Policy { affinity, affinity_slack: ms(30), ..direct.clone() },
        Policy { shadow: true, ..direct },
        waiting(),
    ];
    let prefixes = select(vec![[24, 64], [32, 128]]);
    (select(kinds), prefixes).prop_map(|(policy, site_prefix)| Policy { site_prefix, ..policy })
}

/// Returns the settings with this policy for all services.
pub fn with_policy(mut settings: Settings, policy: &Policy) -> Settings {
    settings.services.iter_mut().for_each(|service| service.policy = policy.clone());
    settings
}
