//! firstack with real TCP: four processes on DPDK in network namespaces, nginx and curl.
//!
//! Needs root, DPDK, nginx, curl and tcpdump, and the binary `firstack` beside the tests, which
//! `cargo test --workspace` builds; without root every test fails and says so. One test at a
//! time: each has four forwarding threads for itself.
//!
//! The machine may be busy, and any packet late. So nothing here depends on who is fastest: the
//! simulation asserts that, on a clock of its own. A test asserts what holds however late a packet
//! is, and waits for a condition instead of a time. [`network`] has what holds in all of them.

mod configurations;
mod direct;
mod health;
mod interfaces;
mod keys;
mod links;
mod mtu;
mod network;
mod origin_servers;
mod races;
mod resolution;
mod restart;
mod upgrade;
mod upgrade_site;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;
use firstack_tests::lab::{
    Family, LabError, SWITCH_BESIDE_ORIGIN, SWITCH_NEAR_CLIENTS, TopologyBuilder,
};
use firstack_tests::processes::{Configuration, Ended, ProcessOptions, TunnelFormat};

/// Time that a condition has to come true, however busy the machine is.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Ends a test with the message of an error, not with its innards.
trait OrFail<T> {
    fn or_fail(self) -> T;
}

impl<T> OrFail<T> for Result<T, LabError> {
    #[track_caller]
    fn or_fail(self) -> T {
        self.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The switch stands near clients and replicas, so that the patent's race is won by replica 1: on a
/// machine that is not busy its answer comes after 14 ms by way of the switch, that of replica 2 after
/// 44 ms, the origin's after 140 ms.
fn topology() -> TopologyBuilder {
    SWITCH_NEAR_CLIENTS.topology().longest(Duration::from_secs(600))
}

/// The switch stands beside the origin, so that a replica wins only what it is asked directly: on a
/// machine that is not busy replica 1 answers directly after 10 ms, replica 2 after 40 ms, the origin
/// after 140 ms, and the replicas by way of the switch after 141 ms and 150 ms.
fn beside_origin() -> TopologyBuilder {
    SWITCH_BESIDE_ORIGIN.topology().longest(Duration::from_secs(600))
}

/// Answers by site, when all are of one.
fn all(site: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(site.to_string(), count)])
}

/// Packets of a kind that a process has generated.
fn generated(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot.generated.iter().find(|kind| kind.name == name).map_or(0, |kind| kind.count)
}

/// SYNs that a gateway has tagged, retransmissions included.
fn tagged(gateway: &Snapshot) -> u64 {
    ["tagged", "tagged_retransmit", "tagged_new_isn"].iter().map(|name| gateway.verdict(name)).sum()
}

#[track_caller]
fn ended_well(ended: &Ended) {
    let Ended { name, status, snapshot, log } = ended;
    assert!(status.success(), "{name}: {status}: {log}");
    assert!(snapshot.is_conserved(), "{name} lost packets: {snapshot}");
}

/// How connections are made and forwarded.
#[derive(Clone, Copy)]
struct Setup {
    configuration: Configuration,
    family: Family,
    tunnel_format: TunnelFormat,
    direct: bool,
}

impl Setup {
    /// The patent's race alone, where replicas can win it.
    fn new(configuration: Configuration, family: Family, tunnel_format: TunnelFormat) -> Self {
        Self { configuration, family, tunnel_format, direct: false }
    }

    /// The same with direct copies, where replicas can win by nothing else.
    fn direct(configuration: Configuration, family: Family, tunnel_format: TunnelFormat) -> Self {
        Self { direct: true, ..Self::new(configuration, family, tunnel_format) }
    }

    fn topology(self) -> TopologyBuilder {
        if self.direct { beside_origin() } else { topology() }
    }

    fn options(self) -> ProcessOptions {
        let Self { configuration, family, tunnel_format, direct } = self;
        let families = vec![family];
        let options = if direct { ProcessOptions::default() } else { ProcessOptions::patent() };
        ProcessOptions { configuration, families, tunnel_format, ..options }
    }
}

/// Looks until something is so, and says whether it came to be within a time.
fn comes_true(within: Duration, mut look: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if look() {
            return true;
        }
        if start.elapsed() > within {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
