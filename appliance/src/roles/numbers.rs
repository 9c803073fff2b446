//! The numbers of services and servers, which entries of connections refer to, across changes of the
//! configuration: no number changes its meaning while a connection may use it.
//!
//! - A service keeps its number as long as its name and address stay. Under another name, the same
//!   address and a port that it had make it the same service.
//! - A service that leaves the file stays as a retired one, with its old data: no connection begins at
//!   it, and those that it has go on. So does the part of a switch's or replica's service whose ports
//!   no service has any more.
//! - A server keeps its number within its service by where it is, not by its name. One that leaves the
//!   file stays, without new clients.
//!
//! Numbers are few. Beyond [`MOST_SERVICES`] and [`MOST_SERVERS`] the one that was retired first is
//! reused: by then thousands of services, or hundreds of servers of one service, have left the file.

use std::net::IpAddr;

use pipeline::wire::ethernet::Mac;
use serde::{Deserialize, Serialize};

/// The most services, retired ones included. A file has 1024 at most.
pub const MOST_SERVICES: usize = 4096;
/// The most servers of a service, retired ones included: an entry has 8 bits for the number. A file has
/// 64 at most.
pub const MOST_SERVERS: usize = 256;

/// The services of a role by number, with the servers of each by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    services: Vec<Service>,
    /// How often they were changed: the age of what is retired.
    changes: u32,
}

/// A service that has a number, or wants one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its address or prefix, or "any".
    pub address: String,
    /// Its ports.
    pub ports: Vec<u16>,
    /// The change by which it left the file; `None`: the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<u32>,
    /// The prefixes from which replicas may answer (gateway).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_replicas: Vec<String>,
    /// The outer source of its tunnels (switch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Its servers (switch, replica).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Server>,
}

/// A server of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The change by which it left the file; `None`: the file has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired: Option<u32>,
}

/// Where a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// Behind the inside port, the only one there.
    Inside,
    /// At this MAC address.
    Mac(Mac),
    /// At the MAC address of this address.
    Neighbour(IpAddr),
    /// At the end of a tunnel.
    Tunnel(IpAddr),
    /// A web server of a replica.
    Web {
        /// Its address.
        address: IpAddr,
        /// Its port; `None`: the one that the client connects to.
        port: Option<u16>,
        /// Its MAC address; `None`: resolved.
        mac: Option<Mac>,
        /// Whether it has the service's address too.
        has_vip: bool,
    },
}

impl Place {
    /// Returns whether a server here is the same one as there.
    pub fn is_same(self, other: Self) -> bool {
        match (self, other) {
            (Self::Web { address, port, .. }, Self::Web { address: a, port: p, .. }) => {
                (address, port) == (a, p)
            }
            _ => self == other,
        }
    }
}

/// What the entries of a role's connections refer to by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entries {
    /// The service (gateway).
    Services,
    /// The server within the service that has the connection's address and port (switch).
    Servers,
    /// Nothing: they have the server's address (replica).
    Nothing,
}

/// Why numbers cannot be found that keep their meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "service {service}: its port {port} of {address} was service {earlier}'s, whose servers are \
     numbered otherwise, and connections to it refer to them; name the service {earlier}, or leave the \
     port to it"
)]
pub struct Conflict {
    /// The service.
    pub service: String,
    /// Its address.
    pub address: String,
    /// The port.
    pub port: u16,
    /// The service that had the port.
    pub earlier: String,
}

impl Numbers {
    /// Returns the services by number, retired ones included.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Returns the number of the service that the file has under this name.
    pub fn number_of(&self, name: &str) -> Option<usize> {
        self.services.iter().position(|known| known.retired.is_none() && known.name == name)
    }

    /// Returns the numbers for the services of a changed file, whose names all differ.
    ///
    /// # Errors
    /// The ports that cannot go from one service to another while connections refer to them.
    pub fn assigned(&self, wanted: &[Service], entries: Entries) -> Result<Self, Vec<Conflict>> {
        let mut change = Assignment {
            before: self,
            now: self.changes + 1,
            services: self.services.clone(),
            taken: vec![None; self.services.len()],
            entries,
            conflicts: Vec::new(),
        };
        change.match_known(wanted);
        change.add_new(wanted);
        change.retire(wanted);
        change.fill(wanted);
        let Assignment { now, services, conflicts, .. } = change;
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let changes = if services == self.services { self.changes } else { now };
        Ok(Self { services, changes })
    }

    /// Returns the service that has an address and port, be it a retired one.
    fn owner(&self, address: &str, port: u16) -> Option<usize> {
        let has = |known: &Service| known.address == address && known.ports.contains(&port);
        let find = |retired| {
            let fits = |known: &Service| known.retired.is_some() == retired && has(known);
            self.services.iter().position(fits)
        };
        find(false).or_else(|| find(true))
    }
}

/// Numbers while they are assigned.
struct Assignment<'a> {
    before: &'a Numbers,
    /// The number of this change.
    now: u32,
    services: Vec<Service>,
    /// By number: which of the wanted services has it.
    taken: Vec<Option<usize>>,
    entries: Entries,
    conflicts: Vec<Conflict>,
}

impl Assignment<'_> {
    /// Finds the numbers of services that have one.
    fn match_known(&mut self, wanted: &[Service]) {
        type Rule = fn(&Service, &Service) -> bool;
        let same_name: Rule =
            |known, own| (&known.name, &known.address) == (&own.name, &own.address);
        let renamed: Rule = |known, own| {
            known.address == own.address && known.ports.iter().any(|port| own.ports.contains(port))
        };
        let rules = [same_name, renamed];
        for rule in rules {
            // Those that the file had until now come before those that are retired.
            for retired in [false, true] {
                for (index, own) in wanted.iter().enumerate() {
                    if self.taken.contains(&Some(index)) {
                        continue;
                    }
                    let fits = |number: &usize| {
                        let known = &self.services[*number];
                        self.taken[*number].is_none()
                            && known.retired.is_some() == retired
                            && rule(known, own)
                    };
                    if let Some(number) = (0..self.services.len()).find(fits) {
                        self.taken[number] = Some(index);
                    }
                }
            }
        }
    }

    /// Gives the others new numbers, or those that were retired first.
    fn add_new(&mut self, wanted: &[Service]) {
        for (index, own) in wanted.iter().enumerate() {
            if self.taken.contains(&Some(index)) {
                continue;
            }
            let fresh = Service { servers: Vec::new(), ..own.clone() };
            let free = (0..self.services.len()).filter(|number| {
                self.taken[*number].is_none() && self.services[*number].retired.is_some()
            });
            let oldest = free.min_by_key(|number| self.services[*number].retired);
            match oldest.filter(|_| self.services.len() >= MOST_SERVICES) {
                Some(number) => {
                    (self.services[number], self.taken[number]) = (fresh, Some(index));
                }
                None => {
                    self.services.push(fresh);
                    self.taken.push(Some(index));
                }
            }
        }
    }

    /// Retires what the file does not have any more.
    fn retire(&mut self, wanted: &[Service]) {
        let mut rests = Vec::new();
        for (number, known) in self.before.services.iter().enumerate() {
            let is_wanted = |port: &u16| {
                wanted.iter().any(|own| own.address == known.address && own.ports.contains(port))
            };
            let left: Vec<_> =
                known.ports.iter().copied().filter(|port| !is_wanted(port)).collect();
            if self.taken[number].is_none() {
                self.services[number].retired.get_or_insert(self.now);
                retire_all(&mut self.services[number].servers, self.now);
                if self.entries != Entries::Services {
                    self.services[number].ports = left;
                }
            } else if self.entries != Entries::Services && !left.is_empty() {
                // Its other ports go on with another number: entries do not refer to it.
                let mut rest = Service { ports: left, retired: Some(self.now), ..known.clone() };
                retire_all(&mut rest.servers, self.now);
                rests.push(rest);
            }
        }
        rests.into_iter().for_each(|rest| self.add_rest(rest));
    }

    /// Adds what is left of a service, in the place of one of which nothing was left already.
    fn add_rest(&mut self, rest: Service) {
        let is_empty = |number: &usize| {
            let before = &self.before.services[*number];
            before.retired.is_some() && before.ports.is_empty() && self.taken[*number].is_none()
        };
        match (0..self.before.services.len()).find(is_empty) {
            Some(number) if self.services[number].ports.is_empty() => self.services[number] = rest,
            _ => {
                self.services.push(rest);
                self.taken.push(None);
            }
        }
    }

    /// Gives each service of the file its data, and its servers their numbers.
    fn fill(&mut self, wanted: &[Service]) {
        for number in 0..self.services.len() {
            let Some(own) = self.taken[number].map(|index| &wanted[index]) else { continue };
            let mut servers = std::mem::take(&mut self.services[number].servers);
            if self.entries == Entries::Servers {
                self.take_ports(number, own, &mut servers);
            }
            retire_all(&mut servers, self.now);
            for server in &own.servers {
                place(&mut servers, server);
            }
            self.services[number] = Service { servers, retired: None, ..own.clone() };
        }
    }

    /// Takes over the servers of the services that had this one's ports.
    fn take_ports(&mut self, number: usize, own: &Service, servers: &mut Vec<Server>) {
        for &port in &own.ports {
            let Some(owner) = self.before.owner(&own.address, port).filter(|o| *o != number) else {
                continue;
            };
            let earlier = &self.before.services[owner];
            let both = servers.iter().zip(&earlier.servers);
            if both.into_iter().any(|(own, earlier)| !own.place.is_same(earlier.place)) {
                self.conflicts.push(Conflict {
                    service: own.name.clone(),
                    address: own.address.clone(),
                    port,
                    earlier: earlier.name.clone(),
                });
                continue;
            }
            servers.extend(earlier.servers.iter().skip(servers.len()).cloned());
        }
    }
}

fn retire_all(servers: &mut [Server], now: u32) {
    for server in servers {
        server.retired.get_or_insert(now);
    }
}

/// Gives a server the number that it has, or a new one, or that of the one that was retired first.
fn place(servers: &mut Vec<Server>, server: &Server) {
    if let Some(known) = servers.iter_mut().find(|known| known.place.is_same(server.place)) {
        *known = server.clone();
        return;
    }
    if servers.len() >= MOST_SERVERS {
        let retired = servers.iter_mut().filter(|known| known.retired.is_some());
        if let Some(oldest) = retired.min_by_key(|known| known.retired) {
            *oldest = server.clone();
            return;
        }
    }
    servers.push(server.clone());
}

#[cfg(test)]
mod tests;
