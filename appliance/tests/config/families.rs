//! IPv4 and IPv6: which addresses must be of the same family, and which need not be.

use std::net::IpAddr;

use firstack::config::{Config, Configuration, Delivery, MacAddress, Role, ServiceAddress};

use crate::{accepted, refused};

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_gateway_has_services_of_both_families() {
    let config = accepted(
        "gateway",
        r#"
        gateway.configuration = "C"
        [[gateway.service]]
        address = "203.0.113.10"
        allowed_replicas = ["198.51.100.0/24"]
        [[gateway.service]]
        address = "2001:db8::/64"
        allowed_replicas = ["any"]
        [[gateway.service]]
        address = "2001:db8::80"
        ports = [443]
        allowed_replicas = ["2001:db8:1::/48", "2001:db8:2::10"]
        [[gateway.service]]
        address = "2001:DB8:0::80"
        allowed_replicas = ["any"]
        ports = [80]
        "#,
    );
    let Role::Gateway(gateway) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(gateway.configuration, Configuration::C);
    let names: Vec<_> = gateway.services.iter().map(|service| service.name.as_str()).collect();
    let expected = ["[2001:db8::80]:443", "[2001:db8::80]:80", "2001:db8::/64", "203.0.113.10"];
    assert_eq!(names, expected);
    let [specific, other, wide, _] = &gateway.services[..] else { panic!("{names:?}") };
    assert_eq!(specific.address, ServiceAddress::Prefix("2001:db8::80/128".parse().unwrap()));
    let replicas = ["2001:db8:1::/48", "2001:db8:2::10/128"].map(|net| net.parse().unwrap());
    assert_eq!(specific.allowed_replicas, replicas);
    assert_eq!(other.allowed_replicas, ["::/0".parse().unwrap()]);
    assert!(wide.address.contains(address("2001:db8::7")));
    assert!(!wide.address.contains(address("203.0.113.10")));
}

#[test]
fn a_switch_reaches_ipv6_services_over_either_family() {
    let config = accepted(
        "switch",
        r#"
        switch.allowed_clients = ["198.18.0.0/16", "2001:db8:f::/48"]
        [[switch.service]]
        address = "2001:db8::80"
        source = "203.0.113.1"
        [[switch.service.replica]]
        address = "198.51.100.10"
        [[switch.service.server]]
        delivery = "direct"
        address = "2001:db8::81"
        [[switch.service.server]]
        delivery = "direct"
        mac = "02:00:00:00:00:02"
        [[switch.service.server]]
        delivery = "tunnel"
        address = "203.0.113.22"
        [[switch.service]]
        address = "203.0.113.10"
        source = "2001:db8::1"
        [[switch.service.replica]]
        address = "2001:db8:1::10"
        [[switch.service.server]]
        # The only server may bear the service's address and be asked for by it.
        delivery = "direct"
        address = "203.0.113.10"
        "#,
    );
    let Role::Switch(switch) = config.role else { panic!("{:?}", config.role) };
    let [v6, v4] = &switch.services[..] else { panic!("{:?}", switch.services) };
    assert_eq!((v6.name.as_str(), v6.source), ("2001:db8::80", address("203.0.113.1")));
    let servers: Vec<_> =
        v6.servers.iter().map(|server| (server.name.as_str(), server.delivery)).collect();
    let mac = MacAddress([2, 0, 0, 0, 0, 2]);
    let expected = [
        ("2001:db8::81", Delivery::Neighbour(address("2001:db8::81"))),
        ("02:00:00:00:00:02", Delivery::Direct(mac)),
        ("203.0.113.22", Delivery::Tunnel(address("203.0.113.22"))),
    ];
    assert_eq!(servers, expected);
    assert_eq!(
        (v4.source, v4.replicas[0].address),
        (address("2001:db8::1"), address("2001:db8:1::10"))
    );
    assert_eq!(v4.servers[0].delivery, Delivery::Neighbour(address("203.0.113.10")));
}

fn replica(text: &str) -> Config {
    accepted("replica", text)
}

#[test]
fn a_replica_has_servers_of_its_services_families() {
    let config = replica(
        r#"
        table.max_connections = 1000
        table.max_connections_v6 = 500
        [replica]
        switches = ["203.0.113.1", "2001:db8::/64"]
        busy_connections = 1500
        allowed_clients = ["198.18.0.0/16", "2001:db8:f::/48"]
        [[replica.service]]
        address = "203.0.113.10"
        [[replica.service.server]]
        address = "198.51.100.10"
        [[replica.service]]
        address = "2001:db8::80"
        [[replica.service.server]]
        address = "2001:db8:1::10"
        [[replica.service.server]]
        address = "2001:db8:1::10"
        port = 8080
        "#,
    );
    let Role::Replica(replica) = config.role else { panic!("{:?}", config.role) };
    let expected = ["198.51.100.10", "2001:db8:1::10"].map(address);
    assert_eq!(replica.tunnel_addresses, expected);
    assert_eq!(replica.services[1].servers[1].name, "[2001:db8:1::10]:8080");
    assert_eq!(replica.allowed_clients.len(), 2);
}

#[test]
fn copies_for_an_ipv6_service_may_come_in_ipv4_tunnels() {
    let config = replica(
        r#"
        table.max_connections = 1
        table.max_connections_v6 = 500
        [replica]
        switches = ["203.0.113.1"]
        tunnel_addresses = ["198.51.100.10"]
        busy_connections = 500
        [[replica.service]]
        address = "2001:db8::80"
        [[replica.service.server]]
        address = "2001:db8:1::10"
        "#,
    );
    let Role::Replica(replica) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(replica.tunnel_addresses, [address("198.51.100.10")]);
}

/// Returns a gateway with this path MTU.
fn narrow(configuration: &str, service: &str, path_mtu: u16, format: &str, peer: &str) -> String {
    format!(
        "gateway.configuration = {configuration:?}\ntunnel.path_mtu = {path_mtu}\n\
         tunnel.format = {format:?}\n[[gateway.service]]\naddress = {service:?}\nallowed_replicas = [\"any\"]\n{peer}"
    )
}

#[test]
fn ipv6_in_tunnels_needs_a_path_with_room_for_their_headers() {
    let peer = |prefix: &str, format: &str| {
        format!("[[tunnel.peer]]\nprefix = {prefix:?}\nformat = {format:?}\n")
    };
    let (v6, none) = ("2001:db8::80", "");
    for (format, least) in [("ipip", 1320), ("gre", 1324), ("gue", 1332)] {
        accepted("gateway", &narrow("C", v6, least, format, none));
        let errors = refused("gateway", &narrow("C", v6, least - 1, format, none));
        assert!(errors.contains(&format!("; expected at least {least}")), "{errors}");
        // A peer's format counts where its packets are IPv6.
        accepted("gateway", &narrow("C", v6, 1320, "ipip", &peer("0.0.0.0/0", format)));
        accepted("gateway", &narrow("C", v6, least, "ipip", &peer("2001:db8:1::10", format)));
    }
    let errors = refused("gateway", &narrow("C", v6, 1331, "ipip", &peer("2001:db8:1::10", "gue")));
    assert!(errors.contains("f.toml:5: tunnel.path_mtu: 1331 leaves 1279 bytes"), "{errors}");
    for (configuration, service) in [("A", v6), ("B", v6), ("C", "203.0.113.10"), ("C", "any")] {
        accepted("gateway", &narrow(configuration, service, 1280, "gue", none));
    }
}
