//! Several origin servers behind one switch, reached by the MAC addresses of their own addresses.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::{connect_from, download, request};
use firstack_tests::lab::{
    Content, Curl, Family, Lab, LabError, ServerGroup, Site, Topology, WebServer,
};
use firstack_tests::processes::{HealthTimes, OriginServer, ProcessOptions, Processes};

use super::{MAX_WAIT, OrFail, all, alone, comes_true, ended_well};

/// Connections that stay while a server is drained, at least.
const OPEN: usize = 6;

/// What stands; dropped in this order.
struct World {
    processes: Processes,
    servers: Vec<WebServer>,
    topology: Topology,
    content: Content,
    service: SocketAddr,
    _lab: Lab,
}

impl World {
    fn build(name: &str, family: Family) -> Result<Self, LabError> {
        let (lab, ipv6) = (Lab::new(name)?, family == Family::V6);
        let topology = Topology::builder().replicas(0).longest(Duration::from_secs(600));
        let topology = topology.ipv6(ipv6).delay(Site::Client, Site::Origin, 5.0);
        let routes = ServerGroup::routes().filter(|route| ipv6 || route.prefix.addr().is_ipv4());
        let topology =
            routes.fold(topology, |topology, route| topology.route(route)).build(&lab)?;
        let group = ServerGroup::build(&lab, &topology, 2, ipv6)?;
        let content = Content::generate(&lab, &[("long", 2_000_000)])?;
        let start =
            |(number, host)| WebServer::start_in(&lab, host, &ServerGroup::name(number), &content);
        let servers = (1..).zip(group.hosts()).map(start).collect::<Result<_, _>>()?;
        let server = |number| OriginServer {
            name: ServerGroup::name(number),
            address: ServerGroup::address(number, family),
            check: Some(ServerGroup::probed(number)),
        };
        let options = ProcessOptions {
            families: vec![family],
            servers: [1, 2].map(server).into(),
            health: Some(HealthTimes { interval: Duration::from_millis(500), rise: 2, fall: 3 }),
            ..ProcessOptions::default()
        };
        let processes = Processes::start(&lab, &topology, &options)?;
        let service = topology.origin().web(family);
        Ok(Self { processes, servers, topology, content, service, _lab: lab })
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

    /// Fetches `/` until each of two servers has answered.
    #[track_caller]
    fn both_answer(&self) {
        let mut servers = BTreeMap::new();
        let both = comes_true(MAX_WAIT, || {
            servers.append(&mut self.answers(4));
            servers.len() == 2
        });
        assert!(both, "{servers:?}: {}", self.switch());
    }

    /// Opens connections until there are some to either server; each with its server.
    #[track_caller]
    fn open_connections(&self) -> Vec<(TcpStream, String)> {
        let mut open: Vec<(TcpStream, String)> = Vec::new();
        let to = |open: &[(TcpStream, String)], server| open.iter().any(|(_, of)| of == server);
        let enough = comes_true(MAX_WAIT, || {
            let client = self.topology.client();
            let mut stream = connect_from(client, 0, self.service).or_fail();
            let server = request(&mut stream, false).or_fail();
            open.push((stream, server));
            open.len() >= OPEN && to(&open, "web1") && to(&open, "web2")
        });
        assert!(enough, "{} connections: {}", open.len(), self.switch());
        open
    }

    fn switch(&self) -> Snapshot {
        self.processes.switch().stats().or_fail()
    }

    fn is_out(&self, server: &str) -> bool {
        self.switch().out_of_service.iter().any(|out| out.contains(server))
    }

    #[track_caller]
    fn finish(self) {
        let Self { processes, servers, topology, .. } = self;
        let mut snapshots = Vec::new();
        let conserved = comes_true(MAX_WAIT, || {
            snapshots = processes.stats().or_fail();
            snapshots.iter().all(Snapshot::is_conserved)
        });
        assert!(conserved, "packets are lost: {snapshots:?}");
        processes.stop().or_fail().iter().for_each(ended_well);
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
    world.both_answer();

    let open = world.open_connections();
    let is_tracked = || connections(&world.switch(), family, "established") >= open.len() as u64;
    assert!(comes_true(MAX_WAIT, is_tracked), "{}", world.switch());
    world.processes.switch().command(&["gate", "drain", "web/web1"]).or_fail();
    assert!(world.is_out("web/web1"));
    assert_eq!(world.answers(8), all("web2", 8));
    let path = world.content.file("long").unwrap().path();
    let bytes = std::fs::read(path).unwrap();
    for (mut stream, server) in open {
        assert_eq!(download(&mut stream, ("long", &bytes)).or_fail(), server);
    }

    world.processes.switch().command(&["gate", "undrain", "web/web1"]).or_fail();
    world.both_answer();
    drop(world.servers.remove(1));
    assert!(comes_true(MAX_WAIT, || world.is_out("web/web2")), "{}", world.switch());
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
