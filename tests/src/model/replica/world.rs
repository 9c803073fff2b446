//! A replica whose services have one web server each: there is nothing to select.

use std::net::SocketAddr;

use pipeline::base::time::Ticks;
use pipeline::role::replica::{Server, Service, Settings};

use crate::model::world::{CLIENTS, FIRST_V6, PEERS, PEERS_V6, only, path, peers};

/// Number of services per family. Their web servers: one that shares the tunnel address and has to
/// be resolved; one with a port and a MAC address; one that has the service's address; one that is
/// down; one that has to be resolved and is no tunnel endpoint.
pub const SERVICES: usize = 5;

/// Returns V of this service, of the client's family.
pub fn service(client: SocketAddr, number: usize) -> SocketAddr {
    host(peers(client)[0], number)
}

/// Returns R of this service.
pub fn server_of(client: SocketAddr, number: usize) -> SocketAddr {
    let mut server = host(peers(client)[4], number);
    if number == 1 {
        server.set_port(8080);
    }
    server
}

fn host(like: SocketAddr, number: usize) -> SocketAddr {
    let mut host = like;
    let last = 10 * (number as u8 + 1);
    match like {
        SocketAddr::V4(v4) => {
            let [a, b, c, _] = v4.ip().octets();
            host.set_ip([a, b, c, last].into());
        }
        SocketAddr::V6(v6) => {
            let mut segments = v6.ip().segments();
            // In hexadecimal digits: 10, 20, 30.
            segments[7] = 0x10 * (number as u16 + 1);
            host.set_ip(segments.into());
        }
    }
    host
}

/// Returns the settings, with the number of connections that make it busy, and the capacity for
/// each family.
pub fn settings(busy_connections: usize, max_connections: usize) -> Settings {
    let mut services = Vec::new();
    for client in [CLIENTS[0], CLIENTS[FIRST_V6]] {
        for number in 0..SERVICES {
            let server = server_of(client, number);
            services.push(Service {
                address: service(client, number).ip(),
                ports: vec![80],
                retired: false,
                first_server: services.len(),
                servers: vec![Server {
                    name: format!("server {number}"),
                    address: server.ip(),
                    port: (number == 1).then_some(server.port()),
                    mac: (1..4).contains(&number).then_some([2, 0, 0, 0, 2, number as u8]),
                    weight: u32::from(number != 3),
                    has_vip: number == 2,
                }],
            });
        }
    }
    Settings {
        switches: only(&["203.0.113.10/32", "2001:db8:10::10/128"]),
        // All clients except the last of each family.
        allowed_clients: only(&[
            "198.18.1.0/24",
            "198.18.2.0/29",
            "2001:db8:1::/48",
            "2001:db8:2::/125",
        ]),
        tunnel_addresses: vec![PEERS[4].ip(), PEERS_V6[4].ip()],
        path: path(),
        busy_connections,
        busy_syn_rate: 6,
        max_connections: [max_connections; 2],
        timeouts: [30, 7440, 120].map(Ticks::from_secs),
        ..firstack_fixtures::replica(services)
    }
}
