//! Who there is, and the roles as the tests launch them.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use pipeline::configuration::A;
use pipeline::limiter::Limit;
use pipeline::neighbours::Neighbours;
use pipeline::role::gateway::{self, Gateway, Timeouts};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::services::Scope;
use pipeline::stage::tag;
use pipeline::time::Ticks;

const fn at(address: [u8; 4], port: u16) -> SocketAddrV4 {
    let [a, b, c, d] = address;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), port)
}

/// Client endpoints. Most tests use the first three.
pub const CLIENTS: [SocketAddrV4; 12] = [
    at([198, 18, 1, 10], 40000),
    at([198, 18, 1, 10], 40001),
    at([198, 18, 2, 7], 40000),
    at([198, 18, 2, 8], 40000),
    at([198, 18, 2, 9], 40000),
    at([198, 18, 2, 10], 40000),
    at([198, 18, 2, 11], 1024),
    at([198, 18, 2, 11], 1025),
    at([198, 18, 2, 11], 1026),
    at([198, 18, 2, 11], 1027),
    at([198, 18, 2, 11], 1028),
    at([198, 18, 2, 11], 65535),
];

/// Whom a client may ask, and who may answer.
pub const PEERS: [SocketAddrV4; 7] = [
    // Two servers of the first service, with one address.
    at([203, 0, 113, 10], 80),
    at([203, 0, 113, 10], 443),
    // The server of the second service, which takes replicas from anywhere.
    at([192, 0, 2, 80], 80),
    // A port of the first server that is no service.
    at([203, 0, 113, 10], 8080),
    // Two replicas that the first service permits.
    at([198, 51, 100, 10], 80),
    at([198, 51, 100, 11], 8080),
    // A stranger to the first service.
    at([198, 18, 99, 1], 80),
];

/// Initial sequence numbers: few, so that they recur, and at the edge.
pub const ISNS: [u32; 3] = [u32::MAX, 0, 7000];

const HASH_KEY: (u64, u64) = (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210);

/// What a gateway before [`PEERS`] is told.
pub fn gateway(max_connections: usize, timeouts: Timeouts) -> gateway::Settings {
    let net = |text: &str| text.parse().expect("a prefix");
    let service = |scope: &str, ports: &[u16], replicas: &[&str]| gateway::Service {
        scope: Scope::Prefix(net(scope)),
        ports: ports.to_vec(),
        replicas: replicas.iter().map(|text| net(text)).collect(),
    };
    gateway::Settings {
        services: vec![
            service("203.0.113.0/24", &[80, 443], &["198.51.100.0/24", "203.0.113.200/32"]),
            service("192.0.2.80/32", &[80], &[]),
        ],
        tag: tag::Format::default(),
        timeouts,
        max_connections,
        hash_key: HASH_KEY,
    }
}

impl super::Rig<Gateway<A>> {
    /// A gateway with these settings.
    pub fn gateway(settings: gateway::Settings) -> Self {
        Self::new(Gateway::new(settings), 0)
    }
}

/// The most copies that the switch makes of a start packet.
const COPIES: usize = 3;

impl super::Rig<Switch> {
    /// A rig for a switch of this world.
    pub fn switch(switch: Switch) -> Self {
        Self::new(switch, COPIES)
    }
}

/// A switch before four services: with replicas and two servers, dynamic with one server behind
/// the port, without an enabled server, and without a live replica.
pub fn switch() -> Switch {
    let server =
        |name: &str, delivery, weight| switch::Server { name: name.to_owned(), delivery, weight };
    let service = |host, replicable, replicas: &[u8], servers, first_server| switch::Service {
        address: Ipv4Addr::new(203, 0, 113, host),
        ports: vec![80, 443],
        replicable,
        source: Ipv4Addr::new(203, 0, 113, host),
        replicas: replicas
            .iter()
            .enumerate()
            .map(|(number, &host)| (Ipv4Addr::new(198, 51, 100, host), number))
            .collect(),
        servers,
        first_server,
    };
    let direct = || server("direct", Delivery::Direct([2, 0, 0, 0, 1, 1]), 1);
    let tunnel = || server("tunnel", Delivery::Tunnel(Ipv4Addr::new(10, 0, 0, 2)), 1);
    Switch::new(switch::Settings {
        services: vec![
            service(10, true, &[10, 11, 12, 13], vec![direct(), tunnel()], 0),
            service(20, false, &[10], vec![server("one", Delivery::None, 1)], 2),
            service(30, true, &[10], vec![server("off", Delivery::None, 0)], 3),
            service(40, true, &[], vec![server("far", tunnel().delivery, 1)], 4),
        ],
        tag: tag::Format::default(),
        max_copies: COPIES,
        fan_out: Limit {
            rate: COPIES as u64,
            burst: 2 * COPIES as u64,
            prefix_v4: 24,
            prefix_v6: 48,
        },
        replicas: 4,
        servers: 5,
    })
}

/// A replica of 203.0.113.10 with two web servers: one that shares the tunnel address and whose
/// MAC address is learned, one with an address, a port and a MAC address of its own.
pub fn replica() -> Replica {
    let web = Ipv4Addr::new(198, 51, 100, 10);
    let server = |name: &str, address, port, mac| replica::Server {
        name: name.to_owned(),
        address,
        port,
        mac,
        weight: 1,
    };
    let second = Ipv4Addr::new(198, 51, 100, 20);
    let settings = replica::Settings {
        services: vec![replica::Service {
            address: Ipv4Addr::new(203, 0, 113, 10),
            ports: vec![80],
            servers: vec![
                server("one", web, None, None),
                server("two", second, Some(8080), Some([2, 0, 0, 0, 2, 2])),
            ],
            first_server: 0,
        }],
        switches: vec!["203.0.113.10/32".parse().expect("a prefix")],
        tunnel_addresses: vec![web, Ipv4Addr::new(198, 51, 100, 5)],
        tag: tag::Format::default(),
        busy_connections: 4,
        busy_syn_rate: 8,
        max_connections: 16,
        timeouts: [Ticks::from_secs(30), Ticks::from_secs(7440), Ticks::from_secs(10)],
        macs: [[2, 0, 0, 0, 9, 1], [2, 0, 0, 0, 9, 2]],
        probes: true,
        hash_key: HASH_KEY,
    };
    Replica::new(settings, Arc::default(), Arc::new(Neighbours::new([web])))
}
