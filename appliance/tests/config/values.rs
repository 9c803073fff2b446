//! The values of an accepted file: defaults, devices, addresses, order.

use std::path::Path;
use std::time::Duration;

use firstack::config::{
    Bus, Config, Configuration, Content, Delivery, Device, Health, MacAddress, Poll, Role,
    ServiceAddress, StoreServer, Tunnel, TunnelFormat, TunnelPeer,
};

use crate::{SERVICE, accepted, refused};

#[test]
fn workers_that_rest_may_share_a_cpu() {
    let config = accepted("gateway", &format!("worker.cores = [0, 1, 0]\n{SERVICE}"));
    assert_eq!(config.worker.cores, [0, 1, 0]);
}

#[test]
fn a_gateway_with_nothing_but_what_is_required_has_the_defaults() {
    let config = accepted("gateway", SERVICE);
    assert_eq!(config.eal.file_prefix, "firstack-gateway");
    assert!(config.eal.args.is_empty());
    assert_eq!(config.ports.inside.rx_descriptors, 1024);
    assert_eq!(config.ports.outside.tx_descriptors, 1024);
    assert_eq!((config.worker.cores.as_slice(), config.worker.burst), (&[0][..], 32));
    assert_eq!(config.worker.poll, Poll::Adaptive);
    assert_eq!((config.memory.mbufs, config.memory.max_frame), (16384, 2048));
    assert_eq!((config.table.max_connections, config.table.max_connections_v6), (65536, 65536));
    assert!(config.table.keep);
    assert_eq!(config.table.directory.to_str(), Some("/dev/shm/firstack-gateway.tables"));
    assert_eq!(config.timeouts.racing, Duration::from_secs(40));
    assert_eq!(config.timeouts.established, Duration::from_secs(2 * 3600 + 4 * 60));
    assert_eq!(config.timeouts.closing, Duration::from_secs(240));
    assert_eq!(config.timeouts.race_window, Duration::from_secs(5));
    assert_eq!(config.timeouts.reuse_after, Duration::from_secs(5));
    assert_eq!(config.timeouts.tag_backoff, Duration::from_secs(600));
    assert_eq!((config.tag.kind, config.tag.exid), (253, 0x4e52));
    assert_eq!((config.tag.keys, config.tag.require_signature), (None, false));
    let tunnel = Tunnel { format: TunnelFormat::Ipip, path_mtu: 1500, peers: Vec::new() };
    assert_eq!(config.tunnel, tunnel);
    let [interval, timeout] = [2, 1].map(Duration::from_secs);
    assert_eq!(config.health, Health { interval, timeout, rise: 2, fall: 3 });
    assert_eq!(config.control.socket.to_str(), Some("/run/firstack/gateway.sock"));
    assert_eq!(config.log.level, tracing::Level::INFO);
    let Role::Gateway(gateway) = config.role else { panic!("{:?}", config.role) };
    assert_eq!((gateway.configuration, gateway.share), (Configuration::A, None));
    let [service] = &gateway.services[..] else { panic!("{:?}", gateway.services) };
    assert_eq!(service.name, "any");
    assert_eq!(service.address, ServiceAddress::Any);
    assert_eq!(service.ports, [80, 443]);
    assert_eq!(service.allowed_replicas, ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
}

#[test]
fn tables_are_kept_by_the_file_prefix_or_where_the_file_says() {
    let table = |keys: &str| accepted("gateway", &format!("{keys}\n{SERVICE}")).table;
    let directory = |keys: &str| table(keys).directory.to_str().unwrap().to_owned();
    assert_eq!(directory("eal.file_prefix = \"gw-2\""), "/dev/shm/gw-2.tables");
    assert_eq!(directory("table.directory = \"/mnt/tables\""), "/mnt/tables");
    assert!(!table("table.keep = false").keep);
}

#[test]
fn a_gateway_shares_through_the_store_that_is_named() {
    let share = |keys: &str| {
        let text = format!("[gateway.share]\n{keys}\n{SERVICE}");
        let Role::Gateway(gateway) = accepted("gateway", &text).role else { panic!("{keys}") };
        gateway.share.unwrap()
    };
    let defaults = share(r#"server = "192.0.2.5:6379""#);
    assert_eq!((defaults.user, defaults.password_file, defaults.database), (None, None, 0));
    assert_eq!((defaults.interval, defaults.prefix.as_str()), (Duration::from_secs(5), "firstack"));
    for (text, host) in [
        ("192.0.2.5:6379", "192.0.2.5"),
        ("store.example:6379", "store.example"),
        ("[2001:db8::5]:6379", "2001:db8::5"),
        ("[::1]:6379", "::1"),
    ] {
        let server = share(&format!("server = {text:?}")).server;
        assert_eq!(server, StoreServer::Tcp(host.to_owned(), 6379));
        assert_eq!(server.to_string(), text);
    }
    let socket = share("server = \"/run/redis/redis.sock\"").server;
    assert_eq!(socket, StoreServer::Unix("/run/redis/redis.sock".into()));
    let long = format!("/{}", "a".repeat(107));
    for (text, what) in [
        ("2001:db8::5:6379", "lacks the brackets of IPv6, [2001:db8::5]:6379"),
        ("[192.0.2.5]:6379", "has no host that could be one"),
        (":6379", "has no host that could be one"),
        ("a b:6379", "has no host that could be one"),
        ("store:0", "has no port from 1 to 65535"),
        ("store:+1", "has no port from 1 to 65535"),
        ("store:65536", "has no port from 1 to 65535"),
        ("/run/", "is a directory"),
        (&long, "has 108 bytes, 107 are the most of a socket's path"),
    ] {
        let section = format!("[gateway.share]\nserver = {text:?}\n");
        let errors = refused("gateway", &format!("{section}{SERVICE}"));
        assert!(errors.contains("gateway.share.server: ") && errors.contains(what), "{errors}");
    }
}

#[test]
fn the_most_specific_service_comes_first_and_replicas_have_its_family() {
    let config = accepted(
        "gateway",
        r#"
        [[gateway.service]]
        address = "any"
        allowed_replicas = ["any"]
        [[gateway.service]]
        address = "203.0.113.0/24"
        allowed_replicas = ["any"]
        [[gateway.service]]
        address = "203.0.113.80"
        allowed_replicas = ["any"]
        ports = [443]
        [[gateway.service]]
        address = "203.0.113.10"
        allowed_replicas = ["any"]
        [[gateway.service]]
        address = "203.0.113.80"
        allowed_replicas = ["any"]
        ports = [8443, 80]
        "#,
    );
    let Role::Gateway(gateway) = config.role else { panic!("{:?}", config.role) };
    let names: Vec<_> = gateway.services.iter().map(|service| service.name.as_str()).collect();
    let expected =
        ["203.0.113.80:443", "203.0.113.10", "203.0.113.80:8443", "203.0.113.0/24", "any"];
    assert_eq!(names, expected);
    assert_eq!(gateway.services[0].allowed_replicas, ["0.0.0.0/0".parse().unwrap()]);
    assert_eq!(gateway.services[2].allowed_replicas, ["0.0.0.0/0".parse().unwrap()]);
    assert!(gateway.services[3].address.contains("203.0.113.7".parse().unwrap()));
    assert!(!gateway.services[3].address.contains("203.0.114.7".parse().unwrap()));
    assert!(gateway.services[4].address.contains("2001:db8::7".parse().unwrap()));
}

#[test]
fn who_may_win_has_to_be_said_and_any_host_is_warned_of() {
    let warnings = |allowed: &str| {
        let service = format!("address = \"any\"\nname = \"web\"\nallowed_replicas = {allowed}\n");
        let text = format!("{SERVICE}ports = [8443]\n[[gateway.service]]\n{service}");
        accepted("gateway", &text.replacen("\"any\"]", "\"198.51.100.0/24\"]", 1)).warnings()
    };
    assert!(warnings(r#"["198.51.100.0/24", "2001:db8::/32"]"#).is_empty());
    for open in [r#"["any"]"#, r#"["198.51.100.0/24", "0.0.0.0/0"]"#] {
        let warnings = warnings(open);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("gateway.service \"web\": with allowed_replicas"));
    }
    let errors = refused("gateway", "[[gateway.service]]\naddress = \"any\"\n");
    let expected = "f.toml:4: gateway.service[0].allowed_replicas: missing; expected a list of";
    assert!(errors.starts_with(expected), "{errors}");
}

#[test]
fn a_switch_with_nothing_but_what_is_required_has_the_defaults() {
    let config = accepted(
        "switch",
        "[[switch.service]]\naddress = \"203.0.113.10\"\n[[switch.service.server]]\n",
    );
    assert_eq!(config.control.socket.to_str(), Some("/run/firstack/switch.sock"));
    let Role::Switch(switch) = config.role else { panic!("{:?}", config.role) };
    assert_eq!((switch.max_copies, switch.fan_out_rate, switch.fan_out_burst), (8, 5000, 10_000));
    assert_eq!(switch.fan_out_total, 250_000);
    assert_eq!((switch.fan_out_prefix_v4, switch.fan_out_prefix_v6), (24, 48));
    assert!(switch.allowed_clients.is_empty() && switch.tunnel_probes);
    let [service] = &switch.services[..] else { panic!("{:?}", switch.services) };
    assert_eq!((service.name.as_str(), service.content), ("203.0.113.10", Content::Static));
    assert_eq!((service.source, service.ports.as_slice()), (service.address, &[80, 443][..]));
    assert!(service.replicas.is_empty());
    let [server] = &service.servers[..] else { panic!("{:?}", service.servers) };
    assert_eq!((server.name.as_str(), server.delivery), ("inside", Delivery::None));
    assert_eq!((server.weight, server.enabled, &server.check), (1, true, &None));
}

#[test]
fn servers_of_a_switch_are_reached_as_they_say() {
    let config = accepted(
        "switch",
        r#"
        [[switch.service]]
        address = "203.0.113.10"
        source = "192.0.2.1"
        [[switch.service.replica]]
        address = "198.51.100.1"
        enabled = false
        [[switch.service.server]]
        delivery = "direct"
        mac = "02:00:00:00:00:AB"
        weight = 100
        [[switch.service.server]]
        name = "far"
        delivery = "tunnel"
        address = "198.51.100.20"
        enabled = false
        "#,
    );
    let Role::Switch(switch) = config.role else { panic!("{:?}", config.role) };
    let service = &switch.services[0];
    assert_eq!(service.replicas[0].name, "198.51.100.1");
    assert_eq!((service.replicas[0].enabled, &service.replicas[0].check), (false, &None));
    let direct = &service.servers[0];
    assert_eq!(direct.name, "02:00:00:00:00:ab");
    assert_eq!(direct.delivery, Delivery::Direct(MacAddress([2, 0, 0, 0, 0, 0xab])));
    assert_eq!(service.servers[1].delivery, Delivery::Tunnel("198.51.100.20".parse().unwrap()));
}

#[test]
fn a_replica_with_nothing_but_what_is_required_has_the_defaults() {
    let config = accepted(
        "replica",
        r#"
        table.max_connections = 100
        [replica]
        switches = ["203.0.113.0/24", "203.0.114.1"]
        [[replica.service]]
        address = "203.0.113.10"
        [[replica.service.server]]
        address = "198.51.100.10"
        [[replica.service.server]]
        address = "198.51.100.10"
        port = 8080
        "#,
    );
    let Role::Replica(replica) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(replica.name, None);
    assert_eq!(replica.switches[1], "203.0.114.1/32".parse().unwrap());
    assert_eq!(replica.tunnel_addresses, ["198.51.100.10".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((replica.busy_connections, replica.busy_syn_rate), (10000, 10000));
    assert!(!replica.drained && replica.direct && replica.allowed_clients.is_empty());
    assert_eq!((replica.syn_ack_retransmits, replica.syn_ack_repair_rate), (0, 20));
    assert_eq!((replica.busy_file, replica.busy_check), (None, None));
    let servers = &replica.services[0].servers;
    assert_eq!((servers[0].name.as_str(), servers[0].port), ("198.51.100.10", None));
    assert_eq!((servers[1].name.as_str(), servers[1].port), ("198.51.100.10:8080", Some(8080)));
    assert_eq!((servers[0].mac, servers[0].weight), (None, 1));
    assert_eq!((&servers[0].check, servers[0].has_vip), (&None, false));
}

#[test]
fn a_gateway_runs_the_configuration_that_it_is_told() {
    for (name, expected) in
        [("A", Configuration::A), ("B", Configuration::B), ("C", Configuration::C)]
    {
        let text = format!("gateway.configuration = {name:?}\n{SERVICE}");
        let Role::Gateway(gateway) = accepted("gateway", &text).role else { panic!("{text}") };
        assert_eq!(gateway.configuration, expected);
    }
}

#[test]
fn tunnels_have_the_form_of_the_longest_prefix() {
    let config = accepted(
        "gateway",
        r#"
        [tunnel]
        format = "gre"
        path_mtu = 9216
        [[tunnel.peer]]
        prefix = "0.0.0.0/0"
        format = "gue"
        [[tunnel.peer]]
        prefix = "198.51.100.10"
        format = "ipip"
        [[tunnel.peer]]
        prefix = "2001:db8::/32"
        format = "gre"
        [[gateway.service]]
        address = "any"
        allowed_replicas = ["any"]
        "#,
    );
    assert_eq!((config.tunnel.format, config.tunnel.path_mtu), (TunnelFormat::Gre, 9216));
    let peers = [
        ("198.51.100.10/32", TunnelFormat::Ipip),
        ("2001:db8::/32", TunnelFormat::Gre),
        ("0.0.0.0/0", TunnelFormat::Gue),
    ];
    let peer = |(prefix, format): (&str, _)| TunnelPeer { prefix: prefix.parse().unwrap(), format };
    assert_eq!(config.tunnel.peers, peers.map(peer));
}

#[test]
fn tunnels_to_more_peers_than_are_looked_through_are_refused() {
    let file = |peers: u32| {
        let mut text = SERVICE.to_owned();
        for peer in 0..peers {
            let prefix = std::net::Ipv4Addr::from(0x0a00_0000 + peer);
            text.push_str(&format!("[[tunnel.peer]]\nprefix = \"{prefix}\"\nformat = \"gue\"\n"));
        }
        text
    };
    assert_eq!(accepted("gateway", &file(1024)).tunnel.peers.len(), 1024);
    let errors = refused("gateway", &file(1025));
    let expected = "tunnel.peer: has 1025 entries; expected 0 to 1024 [[tunnel.peer]] sections";
    assert!(errors.contains(expected), "{errors}");
}

#[test]
fn signatures_are_made_by_gateways_and_required_by_others() {
    let keys = "tag.keys = \"/etc/firstack/keys\"\n";
    let gateway = accepted("gateway", &format!("{keys}tag.require_signature = false\n{SERVICE}"));
    assert_eq!(gateway.tag.keys.as_deref(), Some(Path::new("/etc/firstack/keys")));
    assert!(!gateway.tag.require_signature);
    let service = "[[switch.service]]\naddress = \"203.0.113.10\"\n[[switch.service.server]]\n";
    let switch = accepted("switch", &format!("{keys}tag.require_signature = true\n{service}"));
    assert!(switch.tag.require_signature && switch.tag.keys.is_some());
    // The gateway's error is about the role, whether it has keys or not.
    let file = format!("{keys}tag.require_signature = true\n{SERVICE}");
    assert!(refused("gateway", &file).contains("true is for a switch or a replica"));
}

#[test]
fn clients_are_listed_where_not_all_of_them_count() {
    let config = accepted(
        "switch",
        r#"
        [switch]
        allowed_clients = ["198.18.0.0/16", "198.19.0.1"]
        tunnel_probes = false
        [[switch.service]]
        address = "203.0.113.10"
        [[switch.service.server]]
        "#,
    );
    let Role::Switch(switch) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(
        switch.allowed_clients,
        ["198.18.0.0/16", "198.19.0.1/32"].map(|net| net.parse().unwrap())
    );
    assert!(!switch.tunnel_probes);
}

#[test]
fn a_replica_does_as_it_is_told() {
    let config = accepted(
        "replica",
        r#"
        table.max_connections = 1000
        table.max_connections_v6 = 500
        [replica]
        switches = ["203.0.113.1"]
        allowed_clients = ["198.18.0.0/16"]
        busy_connections = 1000
        syn_ack_retransmits = 5
        syn_ack_repair_rate = 0
        busy_file = "/run/firstack/busy"
        [[replica.service]]
        address = "203.0.113.10"
        [[replica.service.server]]
        address = "198.51.100.10"
        has_vip = true
        "#,
    );
    assert_eq!((config.table.max_connections, config.table.max_connections_v6), (1000, 500));
    let Role::Replica(replica) = config.role else { panic!("{:?}", config.role) };
    assert_eq!(replica.allowed_clients, ["198.18.0.0/16".parse().unwrap()]);
    assert_eq!((replica.syn_ack_retransmits, replica.busy_connections), (5, 1000));
    assert_eq!(replica.syn_ack_repair_rate, 0);
    assert_eq!(replica.busy_file.as_deref(), Some(Path::new("/run/firstack/busy")));
    assert!(replica.services[0].servers[0].has_vip);
}

fn device(text: &str) -> Result<Device, String> {
    let file = format!(
        "role = \"gateway\"\nport.outside.device = \"net_null1\"\nport.inside.device = {text:?}\n\
         memory.mbufs = 65536\n{SERVICE}"
    );
    match Config::parse("f.toml", &file) {
        Ok(config) => Ok(config.ports.inside.device),
        Err(errors) => Err(errors.to_string()),
    }
}

#[test]
fn devices_are_named_as_dpdk_names_them() {
    let pci = device("3B:00.1,dv_flow_en=0").unwrap();
    assert_eq!(pci.to_string(), "0000:3b:00.1,dv_flow_en=0");
    assert_eq!((pci.name.as_str(), pci.bus), ("0000:3b:00.1", Bus::Pci));
    let packet = device("net_af_packet_wan,iface=eth0,blocksz=4096").unwrap();
    assert_eq!(packet.to_string(), "net_af_packet_wan,iface=eth0,blocksz=4096");
    assert_eq!(packet.bus, Bus::Virtual { driver: "net_af_packet" });
    assert_eq!(packet.argument("blocksz"), Some("4096"));
    for good in [
        "net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap",
        "net_pcap1,iface=lo",
        "net_tap0",
        "net_af_xdp0,iface=eth0",
        "net_ring0",
        "net_memif0,role=client",
        "0001:ff:1f.7",
    ] {
        assert_eq!(device(good).unwrap().to_string(), good);
    }
}

#[test]
fn what_is_no_device_is_refused_with_the_reason() {
    for (bad, reason) in [
        ("", "is empty"),
        ("eth0", "is not a device name"),
        ("0000:03:20.0", "is not a device name"),
        ("0000:03:00.8", "is not a device name"),
        ("0000:03:+1.0", "is not a device name"),
        ("net_bonding0", "has an unknown driver"),
        ("net_tap", "lacks a number after the driver, as in net_tap0"),
        ("net_tap-0", "has a name that is not net_tap with a number"),
        ("net_af_packet0", "lacks the driver argument iface="),
        ("net_af_xdp0,iface=", "lacks the driver argument iface="),
        ("net_pcap0,tx_pcap=o", "lacks the driver argument iface= or rx_pcap= or"),
        ("net_tap0,", "has an empty driver argument"),
        ("net_tap0, iface=x", "contains a blank"),
        ("net_null1", "is port.inside's"),
    ] {
        let errors = device(bad).expect_err(bad);
        assert!(errors.contains(reason), "{bad}: {errors}");
    }
}
