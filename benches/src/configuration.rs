//! Roles with configurations of any size, and the packets whose cost could grow with it. Each packet
//! needs something of the configuration: a prefix list, a server, a service.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use firstack_packets::{Segment, ethernet_frame};
use ipnet::{IpNet, Ipv4Net};
use pipeline::base::published::Published;
use pipeline::memory::Policy;
use pipeline::neighbours::Neighbours;
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::gateway::mode::A;
use pipeline::role::gateway::{self, Gateway};
use pipeline::role::replica::{self, Replica};
use pipeline::role::switch::{self, Switch};
use pipeline::stage::sign::Keys;
use pipeline::stage::tag::Configuration;
use pipeline::verdict::Verdict;

use crate::Harness;
use crate::fixtures::{KEY, V4, frames, run_all, tagged};

/// The outer addresses of copies.
const SWITCH: &str = "203.0.113.10";
const TUNNEL_ADDRESS: &str = "198.51.100.1";
/// Entries of tables that new connections push others out of.
const ENTRIES: usize = 4096;

/// The size of a configuration.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Services.
    pub services: usize,
    /// Replicas, web servers or prefixes for each of them.
    pub each: usize,
}

impl Size {
    /// The sizes that are measured.
    pub const ALL: [Self; 4] = [Self::of(1, 1), Self::of(16, 16), Self::of(64, 64), Self::LARGEST];
    /// The largest.
    pub const LARGEST: Self = Self::of(1024, 64);

    const fn of(services: usize, each: usize) -> Self {
        Self { services, each }
    }

    /// The network of a service's addresses.
    fn network(service: usize) -> Ipv4Net {
        let [_, _, high, low] = (service as u32).to_be_bytes();
        Ipv4Net::new_assert(Ipv4Addr::new(100, 64 + high, low, 0), 24)
    }

    /// A server of the last service.
    fn last_server(self) -> String {
        format!("{}:80", Self::network(self.services - 1).network())
    }

    /// The address of a replica or web server. No two are neighbours, so that each is a range.
    fn host(service: usize, number: usize) -> IpAddr {
        Ipv4Addr::new(10, (service >> 2) as u8, number as u8, 2 * (service & 3) as u8 + 1).into()
    }

    fn hosts(self, service: usize) -> impl Iterator<Item = IpAddr> {
        (0..self.each).map(move |number| Self::host(service, number))
    }

    fn all_hosts(self) -> impl Iterator<Item = IpAddr> {
        (0..self.services).flat_map(move |service| self.hosts(service))
    }

    /// Returns a gateway with such services, each a prefix, and one translated connection.
    pub fn gateway(self) -> Harness<Gateway<A>> {
        let service = |number: usize| gateway::Service {
            scope: Scope::Prefix(Self::network(number).into()),
            ports: vec![80, 443],
            retired: false,
            allowed_replicas: AllowList::only(self.hosts(number).map(IpNet::from)),
            policy: Policy::default(),
        };
        let settings = gateway::Settings {
            max_connections: [ENTRIES, 1],
            hash_key: KEY,
            ..firstack_fixtures::gateway((0..self.services).map(service).collect())
        };
        let keys = Published::new(Keys::default()).reader();
        let mut harness = Harness::new(Gateway::new(settings, keys), 2);
        let (client, server) = ("198.18.200.1:40000", self.last_server());
        let replica = format!("{}:80", Self::host(self.services - 1, 0));
        let syn = Segment::syn(client, &server, 7).frame();
        run_all(&mut harness, Side::Inside, &[syn], Verdict::Tagged);
        let answer = Segment::syn_ack(&replica, client, 5, 8).frame();
        run_all(&mut harness, Side::Outside, &[answer], Verdict::ReplicaWon);
        harness
    }

    /// Returns a replica with such services, which accepts copies for each.
    pub fn replica(self) -> Harness<Replica> {
        let server = |address: IpAddr| replica::Server {
            name: address.to_string(),
            address,
            port: None,
            mac: Some([2, 0, 0, 0, 1, 1]),
            weight: 1,
            has_vip: false,
        };
        let service = |number: usize| replica::Service {
            address: Self::network(number).network().into(),
            ports: vec![80, 443],
            retired: false,
            servers: self.hosts(number).map(server).collect(),
            first_server: number * self.each,
        };
        let services: Vec<_> = (0..self.services).map(service).collect();
        // The selection of the last service is enough.
        let last = self.services - 1;
        let is_of_last = |number: usize| number / self.each == last;
        let selection = Published::new(replica::Selection::new(&services, is_of_last));
        let settings = replica::Settings {
            switches: AllowList::only(
                self.all_hosts().chain([SWITCH.parse().expect("an address")]).map(IpNet::from),
            ),
            tunnel_addresses: vec![TUNNEL_ADDRESS.parse().expect("an address")],
            max_connections: [ENTRIES, 1],
            hash_key: KEY,
            ..firstack_fixtures::replica(services)
        };
        let shares = replica::Shares {
            admission: Arc::default(),
            neighbours: Arc::new(Neighbours::default()),
        };
        let keys = Published::new(Keys::default());
        Harness::new(Replica::new(settings, shares, selection.reader(), keys.reader()), 1)
    }

    /// Returns a switch whose allowed clients are as many prefixes as such services have hosts.
    pub fn switch(self) -> Harness<Switch> {
        let server =
            switch::Server { name: "web".to_owned(), delivery: switch::Delivery::None, weight: 1 };
        let service = |number: usize| switch::Service {
            address: Self::network(number).network().into(),
            ports: vec![80, 443],
            retired: false,
            replicable: true,
            source: SWITCH.parse().expect("an address"),
            replicas: vec![TUNNEL_ADDRESS.parse().expect("an address")],
            first_replica: number,
            servers: vec![server.clone()],
            first_server: number,
        };
        let services: Vec<_> = (0..self.services).map(service).collect();
        let selection = switch::Selection::new(&services, &switch::Liveness::default());
        let settings = switch::Settings {
            allowed_clients: AllowList::only(self.all_hosts().map(IpNet::from)),
            ..firstack_fixtures::switch(services)
        };
        let shares = switch::Shares {
            tunnels: Arc::new(switch::TunnelHealth::new(self.services)),
            neighbours: Arc::new(Neighbours::default()),
        };
        let (selection, keys) = (Published::new(selection), Published::new(Keys::default()));
        Harness::new(Switch::new(settings, shares, selection.reader(), keys.reader()), 8)
    }

    /// Returns later fragments from hosts outside that are no replicas, whose first fragments did
    /// not come: [`Verdict::Fragment`] at a gateway.
    pub fn fragments(self, count: usize) -> Vec<Vec<u8>> {
        (0..count)
            .map(|number| {
                // Between the replicas' addresses.
                let [_, _, high, low] = (number as u32).wrapping_mul(40_503).to_be_bytes();
                let from = format!("10.{high}.{}.{}:80", low & 63, 2 * (low >> 6));
                let mut fragment =
                    Segment::ack(&from, "198.18.1.1:40000", 6, 8).payload(&[0; 64]).ip();
                fragment.piece(24, 40).expect("bytes of the packet");
                ethernet_frame(([2; 6], [2; 6]), &fragment.bytes())
            })
            .collect()
    }

    /// Returns SYNs to addresses of no service: [`Verdict::NoService`] at a gateway.
    pub fn foreign_syns(self, count: usize) -> Vec<Vec<u8>> {
        frames(V4, count, |client| Segment::syn(client, "9.9.9.9:80", 7).frame())
    }

    /// Returns SYNs of many clients to the last service: [`Verdict::Tagged`] at a gateway.
    pub fn syns(self, count: usize) -> Vec<Vec<u8>> {
        let server = self.last_server();
        frames(V4, count, |client| Segment::syn(client, &server, 7).frame())
    }

    /// Returns copies of SYNs of many clients to the last service: [`Verdict::CopyAccepted`] at a
    /// replica.
    pub fn copies(self, count: usize) -> Vec<Vec<u8>> {
        let server = self.last_server();
        frames(V4, count, |client| {
            tagged(client, &server, Configuration::A).tunnelled(SWITCH, TUNNEL_ADDRESS)
        })
    }

    /// Returns tagged SYNs of clients that are not allowed: [`Verdict::ClientNotAllowed`] at a
    /// switch.
    pub fn forged_syns(self, count: usize) -> Vec<Vec<u8>> {
        let server = self.last_server();
        frames(V4, count, |client| tagged(client, &server, Configuration::A).frame())
    }
}

/// Returns how many connections of a harness can be new one after the other before one recurs.
pub const fn new_connections() -> usize {
    4 * ENTRIES
}
