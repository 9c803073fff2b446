//! The hosts of a plan and their sites.

use super::address::{
    self, CLIENTS, HOST, Mac, ORIGIN, PORT, REPLICAS, SERVICE, SOURCE, Site, address,
};
use super::client::Client;
use super::host::Host;
use super::plan::{Nanos, Plan};
use super::rng::Rng;
use super::roles;
use super::server::Server;
use super::variety::Source;

/// A host.
pub(super) enum Node {
    /// A client.
    Client(Client),
    /// A server.
    Server(Server),
}

/// A host at its site.
pub(super) struct Seat {
    pub(super) site: Site,
    pub(super) node: Node,
    /// Time of its next wake-up, if any.
    pub(super) wake: Option<Nanos>,
}

impl Node {
    /// Returns the TCP host.
    pub(super) fn host(&mut self) -> &mut Host {
        match self {
            Node::Client(client) => &mut client.host,
            Node::Server(server) => &mut server.host,
        }
    }

    /// Returns its MAC address.
    pub(super) fn mac(&self) -> Mac {
        match self {
            Node::Client(client) => client.host.mac,
            Node::Server(server) => server.host.mac,
        }
    }

    /// Returns whether the host has finished.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Node::Client(client) => client.is_done(),
            Node::Server(server) => server.is_done(),
        }
    }
}

/// Returns all hosts, clients first: a client's number is the index of its seat.
pub(super) fn seats(plan: &Plan, rng: &mut Rng) -> Vec<Seat> {
    let mut seats = Vec::new();
    let mut seat = |site, node| seats.push(Seat { site, node, wake: None });
    for number in 0..plan.clients {
        seat(CLIENTS, Node::Client(Client::new(plan, number, rng)));
    }
    let origins = (0..plan.services).flat_map(|s| (0..plan.origins).map(move |at| (s, at)));
    for (service, at) in origins {
        let first = HOST + SERVICE * service as u8;
        let (own, name) = (first + at as u8, (5 * service + at) as u8);
        let mut bears = vec![address::service(plan.family, service)];
        if at > 0 {
            bears.push(address(plan.family, ORIGIN, own));
        } else if service == 0 && plan.tunnels.source != Source::Service {
            bears.push(address(roles::outer(plan), ORIGIN, SOURCE));
        }
        let server = Server::new(plan, (ORIGIN, own, &bears), (plan.origin, PORT), name, rng);
        seat(ORIGIN, Node::Server(server));
    }
    for (number, replica) in plan.replicas.iter().enumerate() {
        let (site, does) = (REPLICAS + number, (replica.behaviour, replica.port.unwrap_or(PORT)));
        for at in 0..replica.servers {
            let (own, name) = (HOST + at as u8, (10 + 3 * number + at) as u8);
            let mut bears = vec![address(plan.family, site, own)];
            if replica.has_vip {
                bears.extend((0..plan.services).map(|s| address::service(plan.family, s)));
            }
            seat(site, Node::Server(Server::new(plan, (site, own, &bears), does, name, rng)));
        }
    }
    seats
}
