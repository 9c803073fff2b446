//! The three roles as benchmarks configure them: no probes, no limit in effect.

use std::net::IpAddr;
use std::sync::Arc;

use firstack_packets::Segment;
use pipeline::base::published::Published;
use pipeline::memory::{DIRECT, Plan, Plans, Policy, ReportsReader, reports};
use pipeline::neighbours::Neighbours;
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{self, Gateway};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::stage::sign::Keys;
use pipeline::verdict::Verdict;
use pipeline::wire::family::Version;

use crate::Harness;
use crate::fixtures::{KEY, Peers, V4, V6, frames, from_replica, ip, run_all};

/// Reports between two readings: those of several bursts.
const REPORTS: usize = 4096;

/// Returns a gateway with a service of each family, for this many connections of each.
pub fn gateway_harness<Q: Mode>(connections: usize) -> Harness<Gateway<Q>> {
    let keys = Published::new(Keys::default()).reader();
    Harness::new(Gateway::new(gateway_settings(connections, &Policy::default()), keys), 2)
}

/// Returns a gateway as [`gateway_harness`] does, whose services have this policy and this plan,
/// and the end at which its reports arrive.
pub fn direct_harness<Q: Mode>(
    connections: usize,
    policy: &Policy,
    plan: &Plan,
) -> (Harness<Gateway<Q>>, ReportsReader) {
    let mut plans = Plans::empty(2);
    plans.set(0, Version::V4, plan.clone());
    plans.set(1, Version::V6, plan.clone());
    let (reports, reader) = reports(REPORTS);
    let shares = gateway::Shares { plans: Published::new(plans).reader(), reports };
    let keys = Published::new(Keys::default()).reader();
    let gateway = Gateway::with_memory(gateway_settings(connections, policy), keys, shares);
    (Harness::new(gateway, DIRECT), reader)
}

/// Returns the settings of a gateway with a service of each family.
pub fn gateway_settings(connections: usize, policy: &Policy) -> gateway::Settings {
    let service = |address: &str| gateway::Service {
        scope: Scope::Prefix(address.parse::<IpAddr>().expect("an address").into()),
        ports: vec![80],
        allowed_replicas: AllowList::Any,
        policy: policy.clone(),
    };
    let services = [V4, V6].iter().map(|peers| service(&ip(peers.server))).collect();
    gateway::Settings {
        max_connections: [connections; 2],
        hash_key: KEY,
        ..firstack_fixtures::gateway(services)
    }
}

/// Returns a gateway with open connections. The replica has won every race.
pub fn established<Q: Mode>(peers: Peers, connections: usize) -> Harness<Gateway<Q>> {
    let mut harness = gateway_harness(connections);
    let syns = frames(peers, connections, |client| Segment::syn(client, peers.server, 7).frame());
    run_all(&mut harness, Side::Inside, &syns, Verdict::Tagged);
    let answers =
        frames(peers, connections, |client| from_replica(Q::CONFIGURATION, peers, client, true));
    run_all(&mut harness, Side::Outside, &answers, Verdict::ReplicaWon);
    let opened =
        frames(peers, connections, |client| Segment::ack(client, peers.server, 8, 6).frame());
    run_all(&mut harness, Side::Inside, &opened, Verdict::ToReplica);
    harness
}

/// Returns a switch with one service of two servers and two replicas.
pub fn switch_harness() -> Harness<Switch> {
    switch_with(2)
}

/// Returns a switch with one service of two servers and this many replicas.
pub fn switch_with(replicas: u8) -> Harness<Switch> {
    let server = |name: &str, last| switch::Server {
        name: name.to_owned(),
        delivery: Delivery::Direct([2, 0, 0, 0, 1, last]),
        weight: 1,
    };
    let services = vec![switch::Service {
        address: [203, 0, 113, 10].into(),
        ports: vec![80],
        replicable: true,
        source: [203, 0, 113, 10].into(),
        replicas: (1..=replicas).map(|number| [198, 51, 100, 10 * number].into()).collect(),
        first_replica: 0,
        servers: vec![server("web1", 1), server("web2", 2)],
        first_server: 0,
    }];
    let selection = switch::Selection::new(&services, &switch::Liveness::default());
    let settings = switch::Settings {
        max_connections: [100_000, 1],
        hash_key: KEY,
        ..firstack_fixtures::switch(services)
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(replicas.into())),
        neighbours: Arc::new(Neighbours::default()),
    };
    let (selection, keys) = (Published::new(selection), Published::new(Keys::default()));
    Harness::new(Switch::new(settings, shares, selection.reader(), keys.reader()), 8)
}

/// Returns a replica with a service of each family, one web server each.
pub fn replica_harness() -> Harness<Replica> {
    let service = |number: usize, peers: Peers| replica::Service {
        address: ip(peers.server).parse().expect("an address"),
        ports: vec![80],
        servers: vec![replica::Server {
            name: format!("web{number}"),
            address: ip(peers.replica).parse().expect("an address"),
            port: None,
            mac: None,
            weight: 1,
            has_vip: false,
        }],
        first_server: number,
    };
    let services = vec![service(0, V4), service(1, V6)];
    let selection = Published::new(replica::Selection::new(&services, |_| true));
    let settings = replica::Settings {
        switches: AllowList::only(
            [V4, V6].map(|peers| ip(peers.server).parse::<IpAddr>().expect("one").into()),
        ),
        max_connections: [100_000; 2],
        hash_key: KEY,
        ..firstack_fixtures::replica(services)
    };
    let shares =
        replica::Shares { admission: Arc::default(), neighbours: Arc::new(Neighbours::default()) };
    let keys = Published::new(Keys::default());
    Harness::new(Replica::new(settings, shares, selection.reader(), keys.reader()), 1)
}
