//! The hosts of the model tests, and the roles as the tests start them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

pub use firstack_fixtures::MACS;
use firstack_fixtures::UNLIMITED;
use pipeline::base::published::Published;
use pipeline::base::time::Ticks;
use pipeline::memory::{Plans, Reports};
use pipeline::neighbours::Neighbours;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::limiter::Limit;
use pipeline::policy::services::Scope;
use pipeline::policy::tunnel_path::TunnelPath;
use pipeline::role::gateway::mode::Mode;
use pipeline::role::gateway::{self, Gateway, Shares, Timeouts};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Delivery, Switch};
use pipeline::stage::sign::Keys;
use pipeline::wire::tunnel::Format;

use super::options::Key;

const fn v4(address: [u8; 4], port: u16) -> SocketAddr {
    let [a, b, c, d] = address;
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), port)
}

const fn v6(site: u16, host: u16, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, site, 0, 0, 0, 0, host)), port)
}

/// Client endpoints: first IPv4, then as many of IPv6. Most tests use the first three of each.
pub const CLIENTS: [SocketAddr; 24] = [
    v4([198, 18, 1, 10], 40000),
    v4([198, 18, 1, 10], 40001),
    v4([198, 18, 2, 7], 40000),
    v4([198, 18, 2, 8], 40000),
    v4([198, 18, 2, 9], 40000),
    v4([198, 18, 2, 10], 40000),
    v4([198, 18, 2, 11], 1024),
    v4([198, 18, 2, 11], 1025),
    v4([198, 18, 2, 11], 1026),
    v4([198, 18, 2, 11], 1027),
    v4([198, 18, 2, 11], 1028),
    v4([198, 18, 3, 11], 65535),
    v6(1, 0x10, 40000),
    v6(1, 0x10, 40001),
    v6(2, 0x7, 40000),
    v6(2, 0x8, 40000),
    v6(2, 0x9, 40000),
    v6(2, 0xa, 40000),
    v6(2, 0xb, 1024),
    v6(2, 0xb, 1025),
    v6(2, 0xb, 1026),
    v6(2, 0xb, 1027),
    v6(2, 0xb, 1028),
    v6(2, 0xb, 65535),
];

/// Index of the first IPv6 client in [`CLIENTS`].
pub const FIRST_V6: usize = 12;

/// The peers of an IPv4 client: servers and replicas.
pub const PEERS: [SocketAddr; 7] = [
    // Two servers of the first service, with one address.
    v4([203, 0, 113, 10], 80),
    v4([203, 0, 113, 10], 443),
    // The server of the second service, which allows all replicas.
    v4([192, 0, 2, 80], 80),
    // A port of the first server that is not a service.
    v4([203, 0, 113, 10], 8080),
    // Two replicas that the first service allows.
    v4([198, 51, 100, 10], 80),
    v4([198, 51, 100, 11], 8080),
    // A replica that the first service does not allow.
    v4([198, 18, 99, 1], 80),
];

/// The same hosts in IPv6.
pub const PEERS_V6: [SocketAddr; 7] = [
    v6(0x10, 0x10, 80),
    v6(0x10, 0x10, 443),
    v6(0x20, 0x80, 80),
    v6(0x10, 0x10, 8080),
    v6(0x30, 0x10, 80),
    v6(0x30, 0x11, 8080),
    v6(0x99, 0x1, 80),
];

/// Returns the peers of a client's family.
pub fn peers(client: SocketAddr) -> &'static [SocketAddr; 7] {
    if client.is_ipv6() { &PEERS_V6 } else { &PEERS }
}

/// Returns the address of a router, of a client's family.
pub fn router(client: SocketAddr) -> IpAddr {
    if client.is_ipv6() { v6(0xff, 1, 0).ip() } else { v4([192, 0, 2, 1], 0).ip() }
}

/// Initial sequence numbers: few, so that they recur, with edge cases.
pub const ISNS: [u32; 3] = [u32::MAX, 0, 7000];

/// The path MTU between the appliances, and the tunnel formats by peer. The longest prefix applies;
/// IP in IP is the default.
pub const MTU: u16 = 1280;
const FORMATS: [(&str, Format); 7] = [
    ("198.18.2.0/24", Format::Gre),
    ("2001:db8:2::/48", Format::Gue),
    ("198.51.100.0/24", Format::Gue),
    ("198.51.100.11/32", Format::Gre),
    ("198.18.99.0/24", Format::Gue),
    ("2001:db8:30::11/128", Format::Gue),
    ("2001:db8:99::/48", Format::Gre),
];

/// Returns the format of tunnels to this address.
pub fn format(to: IpAddr) -> Format {
    let of = |prefix: &str| prefix.parse::<ipnet::IpNet>().expect("a prefix");
    let own = FORMATS.iter().filter(|(prefix, _)| of(prefix).contains(&to));
    let longest = own.max_by_key(|(prefix, _)| of(prefix).prefix_len());
    longest.map_or(Format::Ipip, |(_, format)| *format)
}

pub(super) fn path() -> TunnelPath {
    let peers = FORMATS.map(|(prefix, format)| (prefix.parse().expect("a prefix"), format));
    TunnelPath::new(MTU, Format::Ipip, peers)
}

/// Returns the settings of a gateway for [`PEERS`] and [`PEERS_V6`].
pub fn gateway(max_connections: usize, timeouts: Timeouts) -> gateway::Settings {
    let net = |text: &str| text.parse().expect("a prefix");
    let service = |scope: &str, ports: &[u16], replicas: &[&str]| gateway::Service {
        scope: Scope::Prefix(net(scope)),
        ports: ports.to_vec(),
        retired: false,
        policy: pipeline::memory::Policy::default(),
        allowed_replicas: if replicas.is_empty() { AllowList::Any } else { only(replicas) },
    };
    let permitted =
        ["198.51.100.0/24", "203.0.113.200/32", "2001:db8:30::/64", "2001:db8:10::200/128"];
    let services = vec![
        service("203.0.113.0/24", &[80, 443], &permitted),
        service("192.0.2.80/32", &[80], &[]),
        service("2001:db8:10::/64", &[80, 443], &permitted),
        service("2001:db8:20::80/128", &[80], &[]),
    ];
    gateway::Settings {
        timeouts,
        path: path(),
        max_connections: [max_connections; 2],
        ..firstack_fixtures::gateway(services)
    }
}

/// Returns a list that allows the addresses of these prefixes only.
pub(super) fn only(prefixes: &[&str]) -> AllowList {
    AllowList::only(prefixes.iter().map(|text| text.parse().expect("a prefix")))
}

/// Returns whether a list allows an address.
pub(super) fn allows(list: &AllowList, address: IpAddr) -> bool {
    match list {
        AllowList::Any => true,
        AllowList::Only(_) => list.prefixes().iter().any(|prefix| prefix.contains(&address)),
    }
}

/// Publishes keys. The key, if there is one, signs.
pub fn keys(key: Option<Key>) -> Published<Keys> {
    Published::new(Keys::new(key, key.map(|(id, _)| id)))
}

impl<M: Mode> super::Harness<Gateway<M>> {
    /// Creates a gateway with these settings that signs with this key.
    pub fn gateway(settings: gateway::Settings, key: Option<Key>) -> Self {
        // A packet that is too big leaves in up to eight fragments.
        Self::new(Gateway::new(settings, keys(key).reader()), 8)
    }

    /// Creates a gateway that asks whom the published plans say. Nobody reads its reports.
    pub fn planned(
        settings: gateway::Settings,
        key: Option<Key>,
        plans: &Published<Plans>,
    ) -> Self {
        let shares = Shares { plans: plans.reader(), reports: Reports::ignored() };
        Self::new(Gateway::with_memory(settings, keys(key).reader(), shares), 8)
    }
}

/// Maximum number of copies that the switch makes of a SYN.
const COPIES: usize = 3;

impl super::Harness<Switch> {
    /// Creates a harness for a switch.
    pub fn switch(switch: Switch) -> Self {
        Self::new(switch, 8)
    }
}

/// Returns services of both families: with replicas and two servers; dynamic with one server behind
/// the port; without an enabled server; without a live replica; IPv6 with IPv6 replicas, and with
/// IPv4 replicas.
fn switch_services() -> Vec<switch::Service> {
    let server =
        |name: &str, delivery, weight| switch::Server { name: name.to_owned(), delivery, weight };
    let own = |host: u8| IpAddr::from([203, 0, 113, host]);
    let service =
        |address: IpAddr, source: IpAddr, replicas: Vec<IpAddr>, servers| switch::Service {
            address,
            ports: vec![80, 443],
            retired: false,
            replicable: true,
            source,
            replicas,
            first_replica: 0,
            servers,
            first_server: 0,
        };
    let direct = || server("direct", Delivery::Direct([2, 0, 0, 0, 1, 1]), 1);
    let tunnel = || server("tunnel", Delivery::Tunnel(IpAddr::from([10, 0, 0, 2])), 1);
    let near = || server("near", Delivery::Neighbour(v6(0x10, 0x55, 0).ip()), 1);
    let replicas = |hosts: &[u8]| {
        hosts.iter().map(|host| IpAddr::from([198, 51, 100, *host])).collect::<Vec<_>>()
    };
    let six = |host: u16| v6(0x10, host, 0).ip();
    let far = vec![v6(0x30, 0x10, 0).ip(), v6(0x30, 0x11, 0).ip()];
    let mut services = vec![
        service(own(10), own(10), replicas(&[10, 11, 12, 13]), vec![direct(), tunnel()]),
        service(own(20), own(20), replicas(&[10]), vec![server("one", Delivery::None, 1)]),
        service(own(30), own(30), replicas(&[10]), vec![server("off", Delivery::None, 0)]),
        service(own(40), own(40), Vec::new(), vec![server("far", tunnel().delivery, 1)]),
        service(six(0x10), six(0x10), far, vec![near(), near()]),
        service(six(0x20), own(10), replicas(&[11]), vec![tunnel()]),
    ];
    services[1].replicable = false;
    services[4].servers[1].name = "second".to_owned();
    let (mut replicas, mut servers) = (0, 0);
    for service in &mut services {
        (service.first_replica, service.first_server) = (replicas, servers);
        replicas += service.replicas.len();
        servers += service.servers.len();
    }
    services
}

/// Returns a switch for services of both families, with this key.
pub fn switch(key: Option<Key>) -> Switch {
    switch_of(key, &Published::new(switch_selection()))
}

/// Returns the selection of a [`switch`], all of whose servers and replicas are up.
pub fn switch_selection() -> switch::Selection {
    switch::Selection::new(&switch_services(), &switch::Liveness::default())
}

/// Returns a [`switch`] with a selection that others may have, too.
pub fn switch_of(key: Option<Key>, selection: &Published<switch::Selection>) -> Switch {
    let services = switch_services();
    let replicas = services.iter().map(|service| service.replicas.len()).sum();
    let default = firstack_fixtures::switch(services);
    let settings = switch::Settings {
        max_copies: COPIES,
        fan_out: Limit { rate: 1, burst: 1, ..UNLIMITED },
        path: path(),
        max_connections: [16; 2],
        timeouts: switch::Timeouts {
            opening: Ticks::from_secs(30),
            closing: Ticks::from_secs(10),
            ..default.timeouts
        },
        probes: true,
        ..default
    };
    let shares = switch::Shares {
        tunnels: Arc::new(switch::TunnelHealth::new(replicas)),
        neighbours: Arc::new(Neighbours::new([v6(0x10, 0x55, 0).ip()])),
    };
    Switch::new(settings, shares, selection.reader(), keys(key).reader())
}

/// Returns the settings of a replica of both families: 203.0.113.10 with two web servers, one that
/// shares the tunnel address and whose MAC address is learned, one with its own address, port and
/// MAC address; and the same in IPv6, where the second server has the service's address.
pub fn replica_settings() -> replica::Settings {
    let server = |name: &str, address, port, mac| replica::Server {
        name: name.to_owned(),
        address,
        port,
        mac,
        weight: 1,
        has_vip: false,
    };
    let service = |address: SocketAddr, first_server, servers| replica::Service {
        address: address.ip(),
        ports: vec![80],
        retired: false,
        servers,
        first_server,
    };
    let (web, second) = (PEERS[4].ip(), IpAddr::from([198, 51, 100, 20]));
    let (web_v6, second_v6) = (PEERS_V6[4].ip(), v6(0x30, 0x20, 0).ip());
    let mut bearer = server("four", second_v6, None, Some([2, 0, 0, 0, 2, 4]));
    bearer.has_vip = true;
    let two = server("two", second, Some(8080), Some([2, 0, 0, 0, 2, 2]));
    let services = vec![
        service(PEERS[0], 0, vec![server("one", web, None, None), two]),
        service(PEERS_V6[0], 2, vec![server("three", web_v6, None, None), bearer]),
    ];
    replica::Settings {
        switches: only(&["203.0.113.10/32", "2001:db8:10::10/128"]),
        tunnel_addresses: vec![web, IpAddr::from([198, 51, 100, 5]), web_v6, v6(0x30, 0x5, 0).ip()],
        path: path(),
        busy_connections: 7,
        busy_syn_rate: 16,
        max_connections: [16; 2],
        timeouts: [30, 7440, 10].map(Ticks::from_secs),
        probes: true,
        ..firstack_fixtures::replica(services)
    }
}

/// Returns a replica with these settings and this key. `up` tells by number which servers are up.
pub fn replica_of(
    settings: replica::Settings,
    up: impl Fn(usize) -> bool,
    key: Option<Key>,
) -> (Replica, replica::Shares) {
    let learned = settings.services.iter().flat_map(|service| &service.servers);
    let learned: Vec<_> =
        learned.filter(|server| server.mac.is_none()).map(|server| server.address).collect();
    let shares = replica::Shares {
        admission: Arc::default(),
        neighbours: Arc::new(Neighbours::new(learned)),
    };
    let selection = Published::new(replica::Selection::new(&settings.services, up));
    let keys = Published::new(Keys::new(key, None));
    let replica = Replica::new(settings, shares.clone(), selection.reader(), keys.reader());
    (replica, shares)
}

/// Returns a replica with [`replica_settings`] and this key.
pub fn replica(key: Option<Key>) -> Replica {
    replica_of(replica_settings(), |_| true, key).0
}
