//! A process that is killed, or told to end, and started again: no connection is lost, whoever sends
//! and whatever the role. `FIRSTACK_FLOWS` is the number of connections, 200 if it is not given.

use std::time::Duration;

use firstack::control::stats::Snapshot;
use firstack_tests::flows::{Flows, Report, Server};
use firstack_tests::lab::Family::{self, V4, V6};
use firstack_tests::lab::{Lab, ServerGroup, Site, Topology};
use firstack_tests::processes::Configuration::{A, B, C};
use firstack_tests::processes::TunnelFormat::{Gre, Gue, Ipip};
use firstack_tests::processes::{OriginServer, ProcessOptions, Processes};

use super::{MAX_WAIT, OrFail, Setup, alone, topology};

/// The numbers of the processes.
const GATEWAY: usize = 0;
const SWITCH: usize = 1;
const REPLICA: usize = 2;
/// The time for those that wait longest: a sender waits as long again as the gap was, or twice that.
const LONGEST: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
enum Event {
    Kill,
    End,
}

/// What stands; dropped in this order.
struct Network {
    flows: Flows,
    name: String,
    processes: Processes,
    _servers: Vec<Server>,
    _topology: Topology,
    lab: Lab,
}

/// The number of connections, and how often each of them sends.
fn size() -> (usize, Duration) {
    let given = std::env::var("FIRSTACK_FLOWS").ok();
    let count = given.map_or(200, |given| given.parse().expect("FIRSTACK_FLOWS is a number"));
    (count, Duration::from_millis(100 + count as u64 / 10))
}

impl Network {
    /// One server at each site; the switch is where replica 1 wins.
    fn new(name: &str, family: Family, options: &ProcessOptions) -> Self {
        let lab = Lab::new(name).or_fail();
        let topology = topology().longest(Duration::from_secs(1200)).ipv6(family == V6);
        let topology = topology.build(&lab).or_fail();
        let pace = size().1;
        let start = |(number, place): (u8, &firstack_tests::lab::Place)| {
            Server::start(&place.host, number, family, pace).or_fail()
        };
        let servers = (0..).zip(topology.servers()).map(start).collect();
        Self::start(name, family, (lab, topology, servers), options)
    }

    /// Two origin servers behind a switch.
    fn of_switch(name: &str, family: Family) -> Self {
        let (lab, ipv6) = (Lab::new(name).or_fail(), family == V6);
        let topology = Topology::builder().replicas(0).longest(Duration::from_secs(1200));
        let topology = topology.ipv6(ipv6).delay(Site::Client, Site::Origin, 5.0);
        let routes = ServerGroup::routes().filter(|route| ipv6 || route.prefix.addr().is_ipv4());
        let topology = routes.fold(topology, |topology, route| topology.route(route));
        let topology = topology.build(&lab).or_fail();
        let group = ServerGroup::build(&lab, &topology, 2, ipv6).or_fail();
        let pace = size().1;
        let start = |(number, host)| Server::start(host, number, family, pace).or_fail();
        let servers = (1..).zip(group.hosts()).map(start).collect();
        let server = |number| OriginServer {
            name: ServerGroup::name(number),
            address: ServerGroup::address(number, family),
            check: None,
        };
        let options = ProcessOptions {
            families: vec![family],
            servers: [1, 2].map(server).into(),
            ..ProcessOptions::default()
        };
        Self::start(name, family, (lab, topology, servers), &options)
    }

    fn start(
        name: &str,
        family: Family,
        (lab, topology, servers): (Lab, Topology, Vec<Server>),
        options: &ProcessOptions,
    ) -> Self {
        let processes = Processes::start(&lab, &topology, options).or_fail();
        let (count, pace) = size();
        let (client, service) = (&topology.client().host, topology.origin().web(family));
        let flows = Flows::open(client, service, count, pace).or_fail();
        assert!(flows.all_are_heard(MAX_WAIT), "connections that bring nothing");
        let name = name.to_owned();
        Self { flows, name, processes, _servers: servers, _topology: topology, lab }
    }

    /// Kills or ends a process and starts it again; all connections go on. Returns its counters.
    #[track_caller]
    fn restart(&mut self, number: usize, event: Event) -> Snapshot {
        self.restart_changed(number, event, |text| text)
    }

    /// The same with another configuration.
    #[track_caller]
    fn restart_changed(
        &mut self,
        number: usize,
        event: Event,
        change: impl FnOnce(String) -> String,
    ) -> Snapshot {
        let _ = self.flows.take_longest_gap();
        let appliance = self.processes.one_mut(number);
        match event {
            Event::Kill => appliance.kill().or_fail(),
            Event::End => {
                let status = appliance.end().or_fail();
                assert!(status.success(), "{status}");
            }
        }
        appliance.change_config(change).or_fail();
        appliance.start(&self.lab).or_fail();
        let (name, role) = (&self.name, appliance.name());
        assert!(self.flows.all_are_heard(LONGEST), "{name}: {role} {event:?}: silence");
        assert!(self.flows.races_go_on(20, LONGEST), "{name}: {role} {event:?}: no races");
        let gap = self.flows.take_longest_gap();
        let snapshot = appliance.stats().or_fail();
        let kept = snapshot.kept.clone().expect("tables are kept");
        println!("{name}: {role} {event:?}: {} taken over, longest gap {gap:?}", kept.adopted);
        assert!(kept.refused.is_empty() && kept.unplaced + kept.invalid == 0, "{kept}");
        snapshot
    }

    #[track_caller]
    fn finish(self) -> Report {
        let report = self.flows.finish();
        println!(
            "{}: {} connections by site {:?}, {} lost; {} races, {} failed",
            self.name,
            report.connections,
            report.sites,
            report.lost.len(),
            report.races,
            report.failed_races.len()
        );
        assert_eq!(report.lost, Vec::<String>::new());
        assert_eq!(report.failed_races, Vec::<String>::new());
        report
    }
}

fn adopted(snapshot: &Snapshot) -> u64 {
    snapshot.kept.as_ref().map_or(0, |kept| kept.adopted)
}

/// Gateway, replica and switch are killed and told to end while connections of all kinds are open.
#[track_caller]
fn all_goes_on(name: &str, setup: Setup) {
    let _alone = alone();
    let mut network = Network::new(name, setup.family, &setup.options());
    for event in [Event::Kill, Event::End] {
        let gateway = network.restart(GATEWAY, event);
        assert!(adopted(&gateway) >= size().0 as u64 / 2, "{gateway}");
        let replica = network.restart(REPLICA, event);
        assert!(adopted(&replica) > 0, "{replica}");
    }
    network.restart(SWITCH, Event::Kill);
    let report = network.finish();
    let by_replicas: usize = report.sites.range(1..).map(|(_, count)| count).sum();
    assert!(by_replicas > 0, "{:?}", report.sites);
}

#[test]
fn connections_outlive_every_process_in_a_over_ipv4() {
    all_goes_on("ra4", Setup::new(A, V4, Ipip));
}

#[test]
fn connections_outlive_every_process_in_a_over_ipv6() {
    all_goes_on("ra6", Setup::new(A, V6, Gue));
}

#[test]
fn connections_outlive_every_process_in_b_over_ipv4() {
    all_goes_on("rb4", Setup::new(B, V4, Gre));
}

#[test]
fn connections_outlive_every_process_in_b_over_ipv6() {
    all_goes_on("rb6", Setup::new(B, V6, Ipip));
}

#[test]
fn connections_outlive_every_process_in_c_over_ipv4() {
    all_goes_on("rc4", Setup::new(C, V4, Gue));
}

#[test]
fn connections_outlive_every_process_in_c_over_ipv6() {
    all_goes_on("rc6", Setup::new(C, V6, Gre));
}

/// The servers of a switch keep their connections, and a drain of one of them holds.
#[track_caller]
fn servers_keep_their_connections(name: &str, family: Family) {
    let _alone = alone();
    let mut network = Network::of_switch(name, family);
    network.processes.switch().command(&["gate", "drain", "web/web1"]).or_fail();
    for event in [Event::Kill, Event::End] {
        // The state is written within a second.
        std::thread::sleep(Duration::from_millis(1500));
        let switch = network.restart(SWITCH, event);
        assert!(adopted(&switch) >= size().0 as u64, "{switch}");
        let drained = |out: &String| out.starts_with("web/web1: drained");
        assert!(switch.out_of_service.iter().any(drained), "{switch}");
        let known = |neighbour: &firstack::control::stats::Neighbour| neighbour.mac.is_some();
        assert!(switch.neighbours.iter().all(known), "{switch}");
    }
    let report = network.finish();
    assert_eq!(report.sites.len(), 2, "{:?}", report.sites);
}

#[test]
fn connections_to_several_origin_servers_outlive_the_switch_over_ipv4() {
    servers_keep_their_connections("rs4", V4);
}

#[test]
fn connections_to_several_origin_servers_outlive_the_switch_over_ipv6() {
    servers_keep_their_connections("rs6", V6);
}

#[test]
fn connections_outlive_another_number_of_workers_and_another_size_of_the_table() {
    let _alone = alone();
    let mut network = Network::new("rw", V4, &Setup::new(A, V4, Ipip).options());
    let two = |text: String| {
        let core = text.split("cores = [").nth(1).and_then(|rest| rest.split(']').next());
        let core = core.expect("a list of cores").to_owned();
        text.replace(&format!("cores = [{core}]"), &format!("cores = [{core}, {core}]"))
            + "\n[table]\nmax_connections = 30000\n"
    };
    let gateway = network.restart_changed(GATEWAY, Event::Kill, two);
    assert_eq!((gateway.workers.len(), gateway.table.capacity), (2, 30000), "{gateway}");
    let before = adopted(&gateway);
    assert!(before > 0, "{gateway}");
    let one = |text: String| {
        let cores = text.split("cores = [").nth(1).and_then(|rest| rest.split(']').next());
        let cores = cores.expect("a list of cores").to_owned();
        let core = cores.split(',').next().expect("a core").to_owned();
        text.replace(&cores, &core).replace("30000", "40000")
    };
    let gateway = network.restart_changed(GATEWAY, Event::End, one);
    assert_eq!((gateway.workers.len(), gateway.table.capacity), (1, 40000), "{gateway}");
    assert!(adopted(&gateway) > 0, "{gateway}");
    network.finish();
}
