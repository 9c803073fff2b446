//! The appliance's roles, each in its own worker between two ports.

use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};

use crossbeam::utils::CachePadded;
use firstack::control::memory::Remembering;
use firstack::datapath::clock::{Clock, SteadyClock, monotonic};
use firstack::datapath::handoff::Handoff;
use firstack::datapath::rss::toeplitz::Toeplitz;
use firstack::datapath::rss::{RetaMap, RssCheck};
use firstack::datapath::slot::Taker;
use firstack::datapath::worker::{Idle, Parts, Queues, Worker};
use firstack::dpdk::{Mbuf, cycles};
use firstack_benches::{BURST, direct};
use pipeline::base::published::Published;
use pipeline::memory::{Plans, Policy};
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::Role;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{self, Gateway};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::stage::sign::Keys;
use pipeline::wire::family::Version;

use crate::frames::{LOSERS, REPLICA, SERVER, ip};
use crate::lab::{Ends, Lab};
use crate::system_under_test::Driven;

/// Entries of the table that distributes clients over workers.
pub const ENTRIES: u16 = 128;
const KEY: (u64, u64) = (0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
const WEB_SERVERS: [[u8; 6]; 2] = [[2, 0, 0, 0, 1, 1], [2, 0, 0, 0, 1, 2]];

fn address(endpoint: &str) -> IpAddr {
    // The endpoints are constants of this program.
    ip(endpoint).parse().unwrap_or_else(|_| unreachable!("{endpoint} has an address"))
}

/// Returns a role in the appliance's worker, as `firstack run` creates it for one core.
pub fn driven<R: Role>(lab: &Lab, ends: Ends, role: R, copies: usize) -> Option<Driven<R>> {
    Some(one_of(lab, ends, role, copies, (Handoff::new(1, 1).pop()?, 1)))
}

/// Returns a role in the appliance's worker, as `firstack run` creates it for one of several cores.
pub fn one_of<R: Role>(
    lab: &Lab,
    ends: Ends,
    role: R,
    copies: usize,
    (handoff, workers): (Handoff<Mbuf>, u16),
) -> Driven<R> {
    let Ends { rx: [rx0, rx1], tx: [tx0, tx1] } = ends;
    let queues = |rx, tx| Queues {
        rx: Some(rx),
        tx: Some(tx),
        tx_worker: 0,
        rss_check: RssCheck::untrusted(),
    };
    let counters = role.counters();
    let worker = Worker::new(Parts {
        role,
        successors: Taker::none(),
        queues: [queues(rx0, tx0), queues(rx1, tx1)],
        pool: lab.pool.handle(),
        handoff,
        reta: RetaMap::new(workers, ENTRIES, Toeplitz::default()),
        clock: SteadyClock::new(Clock::new(cycles(), lab.eal.cycles_per_second()), monotonic()),
        idle: Idle::Busy,
        burst: BURST,
        copies,
        stop: Arc::new(CachePadded::new(AtomicBool::new(false))),
        stopped: Arc::new(Barrier::new(1)),
        pulse: Default::default(),
        says_goodbye: Arc::default(),
    });
    Driven { worker, counters }
}

/// Returns a gateway whose table holds this many IPv4 connections.
pub fn gateway<C: Mode>(connections: usize) -> Gateway<C> {
    let keys = Published::new(Keys::default()).reader();
    Gateway::new(gateway_settings(connections, &Policy::default()), keys)
}

/// Returns a gateway whose races have this many direct copies each, and the memory that its reports
/// go to. The gateway's plan stays as it is, so that the memory does not change that number.
pub fn direct_gateway<C: Mode>(connections: usize, copies: u8) -> (Gateway<C>, Remembering) {
    let policy = direct::policy(copies.max(1));
    let mut plans = Plans::empty(1);
    if copies > 0 {
        plans.set(0, Version::V4, direct::plan(&policy, copies));
    }
    let settings = gateway_settings(connections, &policy);
    let mut memory = Remembering::new(vec![policy.into()], settings.path.clone());
    let plans = Published::new(plans).reader();
    let shares = gateway::Shares { plans, reports: memory.reports() };
    let keys = Published::new(Keys::default()).reader();
    (Gateway::with_memory(settings, keys, shares), memory)
}

fn gateway_settings(connections: usize, policy: &Policy) -> gateway::Settings {
    let service = gateway::Service {
        scope: Scope::Prefix(address(SERVER).into()),
        ports: vec![80],
        retired: false,
        allowed_replicas: AllowList::Any,
        policy: policy.clone(),
    };
    gateway::Settings {
        max_connections: [connections, 1],
        hash_key: KEY,
        ..firstack_fixtures::gateway(vec![service])
    }
}

/// Returns a switch with one service of two servers, with affinity, and two replicas.
pub fn switch(connections: usize) -> Switch {
    let server = |(number, mac)| switch::Server {
        name: format!("web{number}"),
        delivery: Delivery::Direct(mac),
        weight: 1,
    };
    let services = vec![switch::Service {
        address: address(SERVER),
        ports: vec![80],
        retired: false,
        replicable: true,
        source: address(SERVER),
        replicas: vec![address(REPLICA), address(LOSERS[0])],
        first_replica: 0,
        servers: WEB_SERVERS.into_iter().enumerate().map(server).collect(),
        first_server: 0,
    }];
    let selection = switch::Selection::new(&services, &switch::Liveness::default());
    let settings = switch::Settings {
        max_connections: [connections, 1],
        hash_key: KEY,
        ..firstack_fixtures::switch(services)
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(2)),
        neighbours: Arc::new(Neighbours::default()),
    };
    let (selection, keys) = (Published::new(selection), Published::new(Keys::default()));
    Switch::new(settings, shares, selection.reader(), keys.reader())
}

/// Returns a replica with one web server, which has the replica's address.
pub fn replica(connections: usize) -> Replica {
    let services = vec![replica::Service {
        address: address(SERVER),
        ports: vec![80],
        retired: false,
        servers: vec![replica::Server {
            name: "web".to_owned(),
            address: address(REPLICA),
            port: None,
            mac: Some(WEB_SERVERS[0]),
            weight: 1,
            has_vip: false,
        }],
        first_server: 0,
    }];
    let selection = Published::new(replica::Selection::new(&services, |_| true));
    let settings = replica::Settings {
        switches: AllowList::only(vec![address(SERVER).into()]),
        max_connections: [connections, 1],
        hash_key: KEY,
        ..firstack_fixtures::replica(services)
    };
    let shares =
        replica::Shares { admission: Arc::default(), neighbours: Arc::new(Neighbours::default()) };
    let keys = Published::new(Keys::default());
    Replica::new(settings, shares, selection.reader(), keys.reader())
}
