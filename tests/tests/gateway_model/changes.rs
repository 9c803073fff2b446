//! What reloads of the gateway change.

use firstack_tests::model::plan::policy;
use pipeline::base::time::Ticks;
use pipeline::memory::Policy;
use pipeline::policy::allow_list::AllowList;
use pipeline::role::gateway::{Settings, Timeouts};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What a reload changes.
#[derive(Clone, Debug)]
pub enum Change {
    /// A service leaves the configuration, or comes back.
    Retire(usize, bool),
    /// The replicas that may answer for a service.
    Allow(usize, usize),
    /// The time-outs.
    Times(Timeouts),
    /// Who may race.
    Everybody(bool),
    /// How replicas are asked.
    Ask(Policy),
}

/// The lists of replicas that a reload gives a service.
pub const LISTS: [&[&str]; 4] = [
    &["0.0.0.0/0", "::/0"],
    &["198.51.100.10/32", "2001:db8:30::10/128"],
    &["198.51.100.11/32", "198.18.99.0/24", "2001:db8:30::11/128", "2001:db8:99::/48"],
    &[],
];

pub fn list(prefixes: &[&str]) -> AllowList {
    AllowList::only(prefixes.iter().map(|text| text.parse().expect("a prefix")))
}

impl Change {
    pub fn apply(&self, settings: &mut Settings) {
        match self {
            Self::Retire(number, retired) => settings.services[*number].retired = *retired,
            Self::Allow(number, prefixes) => {
                settings.services[*number].allowed_replicas = list(LISTS[*prefixes]);
            }
            Self::Times(timeouts) => settings.timeouts = *timeouts,
            Self::Everybody(true) => settings.allowed_clients = AllowList::Any,
            Self::Everybody(false) => settings.allowed_clients = some_clients(),
            Self::Ask(policy) => {
                for service in &mut settings.services {
                    // Sites keep their numbers, which another prefix would change.
                    let site_prefix = service.policy.site_prefix;
                    service.policy = Policy { site_prefix, ..policy.clone() };
                }
            }
        }
    }
}

pub fn changes() -> impl Strategy<Value = Vec<Change>> {
    let usual = Timeouts::default();
    let s = Ticks::from_secs;
    let short = Timeouts { racing: s(20), established: s(600), closing: s(30), ..usual };
    let long = Timeouts { race_window: s(120), reuse_after: s(9), closing: s(400), ..usual };
    let change = prop_oneof![
        3 => (0..4usize, weighted(0.6)).prop_map(|(number, retired)| Change::Retire(number, retired)),
        3 => (0..4usize, 0..LISTS.len()).prop_map(|(number, list)| Change::Allow(number, list)),
        2 => select(vec![usual, short, long]).prop_map(Change::Times),
        1 => any::<bool>().prop_map(Change::Everybody),
        2 => policy().prop_map(Change::Ask),
    ];
    vec(change, 0..4)
}

/// The first clients of each family.
pub fn some_clients() -> AllowList {
    list(&["198.18.1.0/24", "2001:db8:1::/48"])
}
