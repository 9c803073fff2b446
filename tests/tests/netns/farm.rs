//! Several origin servers behind one switch, reached by the MAC addresses of their own addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use firstack::stats::Snapshot;
use firstack_tests::lab::{
    Content, Curl, Family, Farm, Fetched, Lab, LabError, Site, Topology, WebServer,
};
use firstack_tests::processes::{HealthTimes, OriginServer, ProcessOptions, Processes};

use super::{OrFail, REST, all, alone, comes_true, ended_well};

/// Time in which anything is noticed.
const NOTICED: Duration = Duration::from_secs(8);
/// Downloads that go on while a server is drained, and the port of the first one.
const LONG: u16 = 6;
const FIRST_PORT: u16 = 50_000;

/// What stands; dropped in this order.
struct World {
    fleet: Processes,
    servers: Vec<WebServer>,
    topology: Topology,
    content: Content,
    service: SocketAddr,
    _lab: Lab,
}

impl World {
    fn build(name: &str, family: Family) -> Result<Self, LabError> {
        let (lab, ipv6) = (Lab::new(name)?, family == Family::V6);
        let topology = Topology::builder().replicas(0).longest(Duration::from_secs(60));
        let topology = topology.ipv6(ipv6).delay(Site::Client, Site::Origin, 5.0);
        let routes = Farm::routes().filter(|route| ipv6 || route.prefix.addr().is_ipv4());
        let topology =
            routes.fold(topology, |topology, route| topology.route(route)).build(&lab)?;
        let farm = Farm::build(&lab, &topology, 2, ipv6)?;
        let content = Content::generate(&lab, &[("long", 2_000_000)])?;
        let start = |(number, host)| WebServer::start_in(&lab, host, &Farm::name(number), &content);
        let servers = (1..).zip(farm.hosts()).map(start).collect::<Result<_, _>>()?;
        let server = |number| OriginServer {
            name: Farm::name(number),
            address: Farm::address(number, family),
            check: Some(Farm::probed(number)),
        };
        let options = ProcessOptions {
            families: vec![family],
            servers: [1, 2].map(server).into(),
            health: Some(HealthTimes { interval: Duration::from_millis(200), rise: 2, fall: 3 }),
            ..ProcessOptions::default()
        };
        let fleet = Processes::start(&lab, &topology, &options)?;
        let service = topology.origin().web(family);
        Ok(Self { fleet, servers, topology, content, service, _lab: lab })
    }

    /// Fetches `/` so many times; how often each server answered.
    #[track_caller]
    fn answers(&self, count: usize) -> BTreeMap<String, usize> {
        let mut servers = BTreeMap::new();
        for _ in 0..count {
            let fetched = Curl::to(self.service, "/").run(&self.topology.client().host).or_fail();
            assert_eq!(fetched.status, 200);
            *servers.entry(fetched.site).or_default() += 1;
        }
        servers
    }

    /// Downloads that take two seconds or more.
    fn long_downloads(&self) -> Vec<JoinHandle<Result<Fetched, LabError>>> {
        let client = self.topology.client().host.clone();
        let from = |number| {
            let slowly = Curl::to(self.service, "long").option("--limit-rate").option("800K");
            // Far apart: a port that is taken makes curl take one of the next.
            let curl = slowly.local_port(FIRST_PORT + 200 * number).digest();
            let client = client.clone();
            spawn(move || curl.run(&client))
        };
        (0..LONG).map(from).collect()
    }

    fn switch(&self) -> Snapshot {
        self.fleet.switch().stats().or_fail()
    }

    fn is_out(&self, server: &str) -> bool {
        self.switch().out.iter().any(|out| out.contains(server))
    }

    #[track_caller]
    fn finish(self) {
        let Self { fleet, servers, topology, .. } = self;
        for (appliance, snapshot) in fleet.all().iter().zip(fleet.settle(REST).or_fail()) {
            assert!(snapshot.is_conserved(), "{} loses packets: {snapshot}", appliance.name());
        }
        fleet.stop().or_fail().iter().for_each(ended_well);
        drop((servers, topology));
    }
}

fn connections(snapshot: &Snapshot, family: Family, state: &str) -> u64 {
    let table = if family == Family::V6 { &snapshot.table_v6 } else { &snapshot.table };
    table.live.iter().find(|live| live.name == state).map_or(0, |live| live.count)
}

/// What the switch shares out, by ARP or by neighbour discovery: new connections move, live ones
/// stay.
#[track_caller]
fn servers_come_and_go(name: &str, family: Family) {
    let _alone = alone();
    let mut world = World::build(name, family).or_fail();
    let shares = world.answers(16);
    assert!(shares.len() == 2 && shares.values().all(|share| *share >= 2), "{shares:?}");

    let long = world.long_downloads();
    let live = || connections(&world.switch(), family, "established") >= u64::from(LONG);
    assert!(comes_true(NOTICED, live), "{}", world.switch());
    world.fleet.switch().command(&["gate", "drain", "web/web1"]).or_fail();
    assert!(world.is_out("web/web1"));
    assert_eq!(world.answers(8), all("web2", 8));
    assert!(long.iter().any(|download| !download.is_finished()), "too fast to show anything");
    let file = world.content.file("long").unwrap();
    let mut servers = BTreeMap::<String, usize>::new();
    for download in long {
        let fetched = download.join().unwrap().or_fail();
        assert_eq!(fetched.sha256.as_ref(), Some(&file.sha256), "{}", fetched.site);
        *servers.entry(fetched.site).or_default() += 1;
    }
    assert_eq!(servers.len(), 2, "{servers:?}");

    world.fleet.switch().command(&["gate", "undrain", "web/web1"]).or_fail();
    let shares = world.answers(16);
    assert!(shares.len() == 2, "{shares:?}");
    drop(world.servers.remove(1));
    assert!(comes_true(NOTICED, || world.is_out("web/web2")), "{}", world.switch());
    assert_eq!(world.answers(8), all("web1", 8));
    world.finish();
}

#[test]
fn servers_by_arp_come_and_go_and_live_connections_stay() {
    servers_come_and_go("arp", Family::V4);
}

#[test]
fn servers_by_neighbour_discovery_come_and_go_and_live_connections_stay() {
    servers_come_and_go("nd", Family::V6);
}
