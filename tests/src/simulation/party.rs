//! The hosts of a plan, and where each one sits.

use super::address::{
    self, CLIENTS, HOST, Mac, ORIGIN, PORT, REPLICAS, SERVICE, SOURCE, Site, address,
};
use super::client::Client;
use super::dice::Dice;
use super::host::Host;
use super::plan::{Nanos, Plan};
use super::roles;
use super::server::Server;
use super::variety::Source;

/// A host, whatever it is.
pub(super) enum Party {
    /// A client.
    Client(Client),
    /// A server.
    Server(Server),
}

/// A host at its site.
pub(super) struct Seat {
    pub(super) site: Site,
    pub(super) party: Party,
    /// When it is to be woken.
    pub(super) wake: Option<Nanos>,
}

impl Party {
    /// The host itself.
    pub(super) fn host(&mut self) -> &mut Host {
        match self {
            Party::Client(client) => &mut client.host,
            Party::Server(server) => &mut server.host,
        }
    }

    /// Its MAC address.
    pub(super) fn mac(&self) -> Mac {
        match self {
            Party::Client(client) => client.host.mac,
            Party::Server(server) => server.host.mac,
        }
    }

    /// Whether nothing is left for it to do.
    pub(super) fn is_done(&self) -> bool {
        match self {
            Party::Client(client) => client.is_done(),
            Party::Server(server) => server.is_done(),
        }
    }
}

/// Everyone, clients first: a client's number is that of its seat.
pub(super) fn seats(plan: &Plan, dice: &mut Dice) -> Vec<Seat> {
    let mut seats = Vec::new();
    let mut seat = |site, party| seats.push(Seat { site, party, wake: None });
    for number in 0..plan.clients {
        seat(CLIENTS, Party::Client(Client::new(plan, number, dice)));
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
        let server = Server::new(plan, (ORIGIN, own, &bears), (plan.origin, PORT), name, dice);
        seat(ORIGIN, Party::Server(server));
    }
    for (number, replica) in plan.replicas.iter().enumerate() {
        let (site, does) = (REPLICAS + number, (replica.manner, replica.port.unwrap_or(PORT)));
        for at in 0..replica.servers {
            let (own, name) = (HOST + at as u8, (10 * (number + 1) + at) as u8);
            let mut bears = vec![address(plan.family, site, own)];
            if replica.bears_service {
                bears.extend((0..plan.services).map(|s| address::service(plan.family, s)));
            }
            seat(site, Party::Server(Server::new(plan, (site, own, &bears), does, name, dice)));
        }
    }
    seats
}
