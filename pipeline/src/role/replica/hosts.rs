//! Whose an address is: compiled from the settings, so that no packet walks them; and which web
//! servers have been seen.

use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::Settings;
use crate::wire::ethernet::Mac;

/// What is known of a web server's address.
#[derive(Clone, Copy, Debug)]
struct WebServer {
    /// The MAC address that the configuration gives it.
    mac: Option<Mac>,
    /// Whether a SYN/ACK from it has passed. Under A they may take another path.
    answers: bool,
}

/// The addresses of the web servers, and those to which tunnels are sent.
#[derive(Debug)]
pub(super) struct Hosts {
    servers: HashMap<IpAddr, WebServer>,
    /// The outer destinations that belong to the replica.
    tunnel_addresses: HashSet<IpAddr>,
}

impl Hosts {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut servers = HashMap::new();
        for server in settings.services.iter().flat_map(|service| &service.servers) {
            // Servers at several ports have one address; the first counts.
            servers.entry(server.address).or_insert(WebServer { mac: server.mac, answers: false });
        }
        let tunnel_addresses = settings.tunnel_addresses.iter().copied().collect();
        Self { servers, tunnel_addresses }
    }

    /// Takes over what is known of web servers. Those that the settings do not name any more may have
    /// connections: they stay web servers.
    pub(super) fn inherit(&mut self, before: &Self) {
        for (address, known) in &before.servers {
            self.servers.entry(*address).or_insert(*known).answers |= known.answers;
        }
    }

    /// Returns whether a web server has this address.
    pub(super) fn is_server(&self, address: IpAddr) -> bool {
        self.servers.contains_key(&address)
    }

    /// Returns the configured MAC address of a web server.
    pub(super) fn mac(&self, server: IpAddr) -> Option<Mac> {
        self.servers.get(&server)?.mac
    }

    /// Notes a SYN/ACK from a web server.
    pub(super) fn note_syn_ack(&mut self, server: IpAddr) {
        if let Some(server) = self.servers.get_mut(&server) {
            server.answers = true;
        }
    }

    /// Returns whether a SYN/ACK from this web server has passed.
    pub(super) fn answers(&self, server: IpAddr) -> bool {
        self.servers.get(&server).is_some_and(|server| server.answers)
    }

    /// Returns whether an outer destination belongs to the replica.
    pub(super) fn is_tunnel_address(&self, address: IpAddr) -> bool {
        self.tunnel_addresses.contains(&address)
    }

    /// Returns whether this tunnel address belongs to the appliance itself: no web server has it.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        self.is_tunnel_address(address) && !self.is_server(address)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Server, Service};
    use super::*;

    #[test]
    fn a_web_server_and_a_tunnel_address_are_told_apart() {
        let ip = |text: &str| -> IpAddr { text.parse().unwrap() };
        let server = |address, port, mac| Server {
            name: "web".into(),
            address: ip(address),
            port,
            mac,
            weight: 1,
            has_vip: false,
        };
        let service = |address, servers| Service {
            address: ip(address),
            ports: vec![80],
            retired: false,
            servers,
            first_server: 0,
        };
        let mut settings = Settings::new(vec![
            service("203.0.113.10", vec![server("198.51.100.10", None, None)]),
            service(
                "2001:db8::80",
                vec![
                    server("2001:db8:30::10", Some(80), Some([2; 6])),
                    server("2001:db8:30::10", Some(81), Some([3; 6])),
                ],
            ),
        ]);
        settings.tunnel_addresses = vec![ip("198.51.100.10"), ip("198.51.100.1")];
        let hosts = Hosts::new(&settings);
        let (web, web6, own) = (ip("198.51.100.10"), ip("2001:db8:30::10"), ip("198.51.100.1"));
        assert!(hosts.is_server(web) && hosts.is_server(web6) && !hosts.is_server(own));
        assert_eq!((hosts.mac(web), hosts.mac(web6), hosts.mac(own)), (None, Some([2; 6]), None));
        assert!(hosts.is_tunnel_address(web) && hosts.is_tunnel_address(own));
        assert!(!hosts.has_address(web) && hosts.has_address(own) && !hosts.has_address(web6));
    }
}
