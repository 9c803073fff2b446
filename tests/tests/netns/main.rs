//! firstack with real TCP: four processes on DPDK in network namespaces, nginx and curl.
//!
//! Needs root, DPDK, nginx and curl, and the binary `firstack` beside the tests, which
//! `cargo test --workspace` builds; without root every test fails and says so. One test at a
//! time: each has four forwarding threads for itself.

mod configurations;
mod farm;
mod health;
mod keys;
mod links;
mod mtu;
mod races;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;
use firstack_tests::demo::world::World;
use firstack_tests::lab::wan::Report;
use firstack_tests::lab::{Family, LabError, Place, Site, Topology, TopologyBuilder};
use firstack_tests::processes::{Configuration, Ended, ProcessOptions, TunnelFormat};

/// Time that the losers' last packets take to come and go.
const AFTER: Duration = Duration::from_millis(200);
/// Time that everything has to come to rest.
const REST: Duration = Duration::from_secs(10);

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

/// First answers: replica 1 after 60 ms, replica 2 after 80 ms, the origin after 100 ms.
fn topology() -> TopologyBuilder {
    Topology::builder()
        .replicas(2)
        .longest(Duration::from_secs(60))
        .delay(Site::Client, Site::Origin, 50.0)
        .delay(Site::Client, Site::Replica(1), 2.0)
        .delay(Site::Client, Site::Replica(2), 5.0)
        .delay(Site::Origin, Site::Replica(1), 8.0)
        .delay(Site::Origin, Site::Replica(2), 25.0)
}

fn world(name: &str, files: &[(&str, u64)], options: &ProcessOptions) -> World {
    World::build(name, topology(), files, Some(options)).or_fail()
}

/// Fetches `/` from the service so many times; how often each site answered.
#[track_caller]
fn winners(world: &World, count: usize) -> BTreeMap<String, usize> {
    winners_of(world, Family::V4, count)
}

#[track_caller]
fn winners_of(world: &World, family: Family, count: usize) -> BTreeMap<String, usize> {
    let (good, failed) = world.fetch_many(world.service(family), "/", count);
    assert!(failed.is_empty(), "{failed:?}");
    let mut sites = BTreeMap::new();
    for fetched in good {
        *sites.entry(fetched.site).or_default() += 1;
    }
    sites
}

fn all(site: &str, count: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([(site.to_string(), count)])
}

/// Races won and answers that came too late, by address.
fn races(gateway: &Snapshot, site: Site) -> (u64, u64) {
    races_of(gateway, site, Family::V4)
}

fn races_of(gateway: &Snapshot, site: Site, family: Family) -> (u64, u64) {
    let address = Some(site.address_of(family));
    let found = gateway.races.iter().find(|answers| answers.address == address);
    found.map_or((0, 0), |answers| (answers.won, answers.lost))
}

fn made(snapshot: &Snapshot, name: &str) -> u64 {
    snapshot.generated.iter().find(|made| made.name == name).map_or(0, |made| made.count)
}

/// At rest every process accounts for every packet, no kernel holds a connection half open, and
/// SIGTERM ends each process that was not killed with all its packet buffers back.
#[track_caller]
fn finish(world: World) -> Vec<Ended> {
    finish_world(world).0
}

/// The same, and the WAN's counters.
#[track_caller]
fn finish_world(mut world: World) -> (Vec<Ended>, Report) {
    let mut fleet = world.take_fleet().or_fail();
    fleet.forget_killed();
    for (appliance, snapshot) in fleet.all().iter().zip(fleet.settle(REST).or_fail()) {
        assert!(snapshot.is_conserved(), "{} loses packets: {snapshot}", appliance.name());
    }
    for place in world.topology().servers() {
        let half_open = World::half_open(place).or_fail();
        assert_eq!(half_open.trim(), "", "half open at {}", place.site);
    }
    let ended = fleet.stop().or_fail();
    ended.iter().for_each(ended_well);
    (ended, world.finish())
}

#[track_caller]
fn ended_well(ended: &Ended) {
    let Ended { name, status, snapshot, log } = ended;
    assert!(status.success(), "{name}: {status}: {log}");
    assert!(snapshot.is_conserved(), "{name} lost packets: {snapshot}");
}

/// A figure of the kernel's TCP, as in /proc/net/snmp.
fn kernel_tcp(place: &Place, name: &str) -> u64 {
    let text = place.host.run(&["cat", "/proc/net/snmp"]).or_fail().stdout;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut figures = names.split(' ').zip(values.split(' '));
    figures.find(|(of, _)| *of == name).unwrap().1.parse().unwrap()
}

/// One way of connecting: configuration, family, and the format of its tunnels.
type Way = (Configuration, Family, TunnelFormat);

fn options((configuration, family, tunnel_format): Way) -> ProcessOptions {
    let families = vec![family];
    ProcessOptions { configuration, families, tunnel_format, ..ProcessOptions::default() }
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
