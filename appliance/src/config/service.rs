//! What the services of all roles have in common: names, addresses and ports, and checks for
//! conflicts.

use std::collections::HashMap;
use std::hash::Hash;

use super::reader::{Found, Section};
use super::value;

/// The keys that services of all roles have: `name` as given by the file, `address`, `ports`.
pub(super) struct Head<A> {
    pub address: Found<A>,
    pub ports: Vec<Found<u16>>,
    pub name: Option<Found<String>>,
}

/// Reads the head of a service. All keys are read before a missing one ends it.
pub(super) fn head<A>(
    section: &Section<'_>,
    address: impl Fn(&toml::de::DeValue<'_>) -> value::Parsed<A>,
) -> Option<Head<A>> {
    let address = section.found("address", address);
    let ports = section.ports();
    let name = section.optional("name", value::label);
    Some(Head { address: address?, ports: ports?, name: name? })
}

/// Returns the ports of a service without their positions.
pub(super) fn numbers(ports: &[Found<u16>]) -> Vec<u16> {
    ports.iter().map(|port| port.value).collect()
}

/// Notes each address and port that two services share, at the later one.
pub(super) fn check_claims<'s, A: Clone + Eq + Hash + 's>(
    services: impl Iterator<Item = (&'s Section<'s>, &'s Head<A>)>,
    show: impl Fn(&A) -> String,
) {
    let mut claims: HashMap<(A, u16), (&Section<'_>, usize)> = HashMap::new();
    for (section, head) in services {
        for (i, port) in head.ports.iter().enumerate() {
            let claim = (head.address.value.clone(), port.value);
            let Some((first, at)) = claims.get(&claim) else {
                let at = if port.given { port.at } else { head.address.at };
                claims.insert(claim, (section, at));
                continue;
            };
            let message = format!(
                "{} port {} is also claimed by {} on line {}; expected one service for it",
                show(&head.address.value),
                port.value,
                first.path(),
                section.line(*at),
            );
            match port.given {
                true => section.error(port.at, &format!("ports[{i}]"), message),
                false => section.error(head.address.at, "address", message),
            }
        }
    }
}

/// Returns the names of the services: their own, else the address, with the first port where the
/// address is ambiguous. Notes duplicate names.
pub(super) fn service_names<'s, A: 's>(
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
        let first = head.ports.first().map(|port| port.value).filter(|_| shared);
        let default = show(&head.address.value, first);
        names.take(section, head.name.clone(), default)
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
        name: Option<Found<String>>,
        default: String,
    ) -> String {
        let Found { value: name, at, given } =
            name.unwrap_or(Found { value: default, at: section.at(), given: false });
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
