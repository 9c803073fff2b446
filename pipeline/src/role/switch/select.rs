//! The selection of servers for clients (op 314), and of replicas for copies (op 312). The control
//! thread makes it whenever a server or replica goes down or comes back; the workers read it.

use super::settings::{Server, Service};
use crate::policy::maglev::{Maglev, PUBLIC_KEY};
use crate::wire::family::{Endpoint, Family};

/// The servers and replicas that are alive, by their numbers among all configured. One beyond the
/// end of a list is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Liveness {
    /// Whether each replica gets copies.
    pub replicas: Vec<bool>,
    /// Whether each server gets new connections.
    pub servers: Vec<bool>,
}

/// The selection of all services.
#[derive(Debug)]
pub struct Selection(Box<[Selected]>);

/// The selection of one service.
#[derive(Debug)]
struct Selected {
    servers: Servers,
    /// Whether each server gets new connections, by its number within the service.
    takes: Box<[bool]>,
    /// The replicas that get copies, by their numbers within the service.
    replicas: Box<[u16]>,
}

#[derive(Debug)]
enum Servers {
    None,
    One(usize),
    Several(Maglev),
}

impl Selection {
    /// Makes the selection among the servers and replicas that are alive, under the public key.
    pub fn new(services: &[Service], liveness: &Liveness) -> Self {
        Self::keyed(services, liveness, PUBLIC_KEY)
    }

    /// Makes the selection under a key, which all switches of a site have in common.
    pub fn keyed(services: &[Service], liveness: &Liveness, key: (u64, u64)) -> Self {
        Self(services.iter().map(|service| Selected::new(service, liveness, key)).collect())
    }

    /// Returns the server of a service for a new connection of this client, by its number within
    /// the service; `None` when none is alive.
    #[inline]
    pub(super) fn server<F: Family>(&self, service: usize, client: Endpoint<F>) -> Option<usize> {
        match &self.0.get(service)?.servers {
            Servers::None => None,
            Servers::One(server) => Some(*server),
            Servers::Several(table) => Some(table.select(client.address.into(), client.port)),
        }
    }

    /// Returns whether a server gets new connections.
    pub(super) fn takes(&self, service: usize, server: usize) -> bool {
        self.0
            .get(service)
            .and_then(|selected| selected.takes.get(server))
            .is_some_and(|takes| *takes)
    }

    /// Returns the replicas of a service that get copies, by their numbers within the service.
    pub(super) fn replicas(&self, service: usize) -> &[u16] {
        self.0.get(service).map_or(&[], |selected| &selected.replicas)
    }
}

impl Selected {
    fn new(service: &Service, liveness: &Liveness, key: (u64, u64)) -> Self {
        let is = |all: &[bool], number: usize| all.get(number).copied().unwrap_or(true);
        let numbered = (service.first_server..).zip(&service.servers);
        let weight = |(number, server): (usize, &Server)| match is(&liveness.servers, number) {
            true if !service.retired => server.weight,
            _ => 0,
        };
        let weights: Vec<u32> = numbered.map(weight).collect();
        let mut live = weights.iter().enumerate().filter(|(_, weight)| **weight > 0);
        let servers = match (live.next(), live.next()) {
            (None, _) => Servers::None,
            (Some((only, _)), None) => Servers::One(only),
            _ => {
                let names = service.servers.iter().map(|server| server.name.as_str());
                Maglev::keyed(names.zip(weights.iter().copied()), key)
                    .map_or(Servers::None, Servers::Several)
            }
        };
        let replica = |number: &u16| {
            let number = service.first_replica + usize::from(*number);
            !service.retired && is(&liveness.replicas, number)
        };
        Self {
            servers,
            takes: weights.iter().map(|weight| *weight > 0).collect(),
            replicas: (0..service.replicas.len() as u16).filter(replica).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::role::switch::{Delivery, Server};
    use crate::testing::endpoint;
    use crate::wire::family::V4;

    fn service(weights: &[u32]) -> Service {
        let server = |(number, weight): (usize, &u32)| Server {
            name: format!("web{number}"),
            delivery: Delivery::Direct([2; 6]),
            weight: *weight,
        };
        Service {
            address: [203, 0, 113, 10].into(),
            ports: vec![80],
            retired: false,
            replicable: true,
            source: [203, 0, 113, 10].into(),
            replicas: vec![[198, 51, 100, 10].into(), [198, 51, 100, 20].into()],
            first_replica: 1,
            servers: weights.iter().enumerate().map(server).collect(),
            first_server: 2,
        }
    }

    fn shares(selection: &Selection, servers: usize) -> Vec<usize> {
        let mut shares = vec![0; servers];
        for port in 1..=3000 {
            let client = Endpoint::<V4>::new([198, 18, 1, 10].into(), port);
            if let Some(server) = selection.server(0, client) {
                shares[server] += 1;
            }
        }
        shares
    }

    #[test]
    fn live_servers_share_the_clients_by_weight() {
        let services = [service(&[1, 2, 3, 0])];
        let all = shares(&Selection::new(&services, &Liveness::default()), 4);
        assert!((400..600).contains(&all[0]) && (1400..1600).contains(&all[2]), "{all:?}");
        assert_eq!(all[3], 0);
        let alive =
            Liveness { servers: vec![true, true, true, true, false], ..Liveness::default() };
        let selection = Selection::new(&services, &alive);
        let left = shares(&selection, 4);
        assert!((900..1100).contains(&left[0]) && left[2] == 0, "{left:?}");
        let takes: Vec<_> = (0..5).map(|server| selection.takes(0, server)).collect();
        assert_eq!(takes, [true, true, false, false, false]);
    }

    #[test]
    fn a_single_live_server_takes_all_and_without_one_none_is_selected() {
        let services = [service(&[1, 1])];
        let with = |servers: [bool; 2]| {
            let servers = [&[true; 2][..], &servers].concat();
            Selection::new(&services, &Liveness { servers, ..Liveness::default() })
        };
        assert_eq!(shares(&with([false, true]), 2), [0, 3000]);
        assert_eq!(shares(&with([false, false]), 2), [0, 0]);
        let client = endpoint::<V4>("198.18.1.10:40000");
        assert_eq!(with([true, true]).server(9, client), None);
    }

    #[test]
    fn live_replicas_keep_their_numbers() {
        let services = [service(&[1])];
        let with = |replicas: &[bool]| {
            let alive = Liveness { replicas: replicas.to_vec(), servers: Vec::new() };
            Selection::new(&services, &alive).replicas(0).to_vec()
        };
        assert_eq!(with(&[false, true, true]), [0, 1]);
        assert_eq!(with(&[true, false, true]), [1]);
        assert_eq!(with(&[true, false]), [1]);
        assert_eq!(with(&[]), [0, 1]);
    }
}
