//! What the services of all roles have in common: names, addresses and ports, and checks for
//! conflicts.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use super::reader::{Found, Section};

/// The keys that services of all roles have.
pub(super) struct Head<A> {
    pub address: Found<A>,
    pub ports: Found<Vec<u16>>,
    /// The name, if the file gives one.
    pub name: Found<Option<String>>,
}

impl<A: Clone> Head<A> {
    /// Collects the keys, if none of them has a mistake.
    pub fn of(
        address: &Option<Found<A>>,
        ports: &Option<Found<Vec<u16>>>,
        name: &Option<Found<Option<String>>>,
    ) -> Option<Self> {
        Some(Self { address: address.clone()?, ports: ports.clone()?, name: name.clone()? })
    }
}

/// The keys of a service of one role.
pub(super) trait ServiceKeys {
    /// The type of the service's `address`.
    type Address: Clone + Eq + Hash + Display;

    /// Reads all keys of the service.
    fn read(section: &Section<'_>) -> Self;

    /// Returns the keys that all roles have, if none of them has a mistake.
    fn head(&self) -> Option<Head<Self::Address>>;

    /// Returns an address for messages, with a port where the address is ambiguous.
    fn shown(address: &Self::Address, port: Option<u16>) -> String;
}

/// A service while it is read.
pub(super) struct Service<'s, K> {
    pub section: Section<'s>,
    pub keys: K,
    /// The name, from the file or by default; `None` if the head has a mistake.
    pub name: Option<String>,
}

/// Reads the services of a role, and checks that no two claim the same address and port or have the
/// same name.
pub(super) fn services<'s, K: ServiceKeys>(section: &Section<'s>) -> Vec<Service<'s, K>> {
    let read: Vec<_> = section
        .sections("service")
        .into_iter()
        .map(|section| {
            let keys = K::read(&section);
            let head = keys.head();
            (section, keys, head)
        })
        .collect();
    let good = || read.iter().filter_map(|(section, _, head)| Some((section, head.as_ref()?)));
    check_claims(good(), ToString::to_string);
    let mut names = names(good(), K::shown).into_iter();
    let named = |(section, keys, head): (_, _, Option<_>)| Service {
        section,
        keys,
        name: head.and_then(|_| names.next()),
    };
    read.into_iter().map(named).collect()
}

/// Returns an address for messages, with a port where the address is ambiguous.
pub(super) fn shown(address: &IpAddr, port: Option<u16>) -> String {
    match port {
        None => address.to_string(),
        Some(port) => SocketAddr::new(*address, port).to_string(),
    }
}

/// Notes each address and port that two services share, at the later one.
fn check_claims<'s, A: Clone + Eq + Hash + 's>(
    services: impl Iterator<Item = (&'s Section<'s>, &'s Head<A>)>,
    show: impl Fn(&A) -> String,
) {
    let mut claims: HashMap<(A, u16), (&Section<'_>, usize)> = HashMap::new();
    for (section, head) in services {
        for (i, port) in head.ports.value.iter().enumerate() {
            let (key, at) = match head.ports.given {
                true => (format!("ports[{i}]"), section.entry_at("ports", i)),
                false => ("address".to_owned(), head.address.at),
            };
            let claim = (head.address.value.clone(), *port);
            let Some((first, first_at)) = claims.get(&claim) else {
                claims.insert(claim, (section, at));
                continue;
            };
            let message = format!(
                "{} port {} is also claimed by {} on line {}; expected one service for it",
                show(&head.address.value),
                port,
                first.path(),
                section.line(*first_at),
            );
            section.error(at, &key, message);
        }
    }
}

/// Returns the names of the services: their own, else the address, with the first port where the
/// address is ambiguous. Notes duplicate names.
fn names<'s, A: 's>(
    services: impl Iterator<Item = (&'s Section<'s>, &'s Head<A>)> + Clone,
    show: impl Fn(&A, Option<u16>) -> String,
) -> Vec<String> {
    let mut addresses: HashMap<String, usize> = HashMap::new();
    for (_, head) in services.clone() {
        *addresses.entry(show(&head.address.value, None)).or_default() += 1;
    }
    let mut names = Names::default();
    let name = |(section, head): (&Section<'_>, &Head<A>)| {
        let address = show(&head.address.value, None);
        let shared = addresses.get(&address).is_some_and(|services| *services > 1);
        let first = head.ports.value.first().copied().filter(|_| shared);
        let default = show(&head.address.value, first);
        names.take(section, &head.name, default)
    };
    services.map(name).collect()
}

/// The names taken by the entries of one list: the line, and whether the file gives the name.
#[derive(Default)]
pub(super) struct Names(HashMap<String, (usize, bool)>);

impl Names {
    /// Returns the entry's name or its default; notes a name that another entry has. Two equal
    /// defaults belong to equal entries, which are noted elsewhere.
    pub fn take(
        &mut self,
        section: &Section<'_>,
        name: &Found<Option<String>>,
        default: String,
    ) -> String {
        let Found { value: name, at, given } = name.clone();
        let name = name.unwrap_or(default);
        match self.0.get(&name) {
            Some((_, false)) if !given => {}
            Some((first, _)) => {
                let message = format!(
                    "{name:?} is also the name on line {first}; expected a name of its own"
                );
                section.error(at, "name", message);
            }
            None => {
                self.0.insert(name.clone(), (section.line(at), given));
            }
        }
        name
    }
}

/// The values taken by the entries of one list, to note duplicates at the later entry.
pub(super) struct Once<T>(HashMap<T, usize>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Eq + Hash> Once<T> {
    /// Takes `value` for the entry; messages call it `shown`.
    pub fn take(&mut self, section: &Section<'_>, (at, key): (usize, &str), value: T, shown: &str) {
        let line = section.line(at);
        if let Some(first) = self.0.get(&value) {
            let message = format!("{shown} is also on line {first}; expected each once");
            section.error(at, key, message);
        } else {
            self.0.insert(value, line);
        }
    }
}
