//! `allowed_clients` of all roles: whose SYNs are raced, copied, or accepted.

use std::net::IpAddr;

use ipnet::IpNet;

use super::gateway::{ServiceAddress, prefixes_or_any};
use super::reader::{Found, Section};
use super::value;

/// Reads a list of prefixes of clients; an empty list allows all.
pub(super) fn allowed_clients(section: &Section<'_>, name: &str) -> Option<Found<Vec<IpNet>>> {
    let Found { value: entries, at, given } = prefixes_or_any(section, name)?;
    let good = any_alone(section, name, &entries);
    let prefix = |entry| match entry {
        ServiceAddress::Any => None,
        ServiceAddress::Prefix(prefix) => Some(prefix),
    };
    good.then(|| Found { value: entries.into_iter().filter_map(prefix).collect(), at, given })
}

/// Returns whether a list has "any" alone or not at all; notes a mistake otherwise.
pub(super) fn any_alone(section: &Section<'_>, name: &str, entries: &[ServiceAddress]) -> bool {
    let any = entries.iter().position(|entry| *entry == ServiceAddress::Any);
    let Some(i) = any.filter(|_| entries.len() > 1) else { return true };
    let message = "\"any\" holds all others; expected it alone or not at all";
    section.error(section.entry_at(name, i), &format!("{name}[{i}]"), message.to_owned());
    false
}

/// Notes clients of a family that no service has. A client and its service are of the same family.
pub(super) fn check_families(
    section: &Section<'_>,
    allowed_clients: &[IpNet],
    services: impl Iterator<Item = IpAddr> + Clone,
) {
    for (i, clients) in allowed_clients.iter().enumerate() {
        let address = clients.addr();
        if services.clone().all(|service| service.is_ipv4() != address.is_ipv4()) {
            let message = format!(
                "{} is {}, but no service is; expected clients of a service's family",
                value::shown_prefix(*clients),
                value::family(address)
            );
            let at = section.entry_at("allowed_clients", i);
            section.error(at, &format!("allowed_clients[{i}]"), message);
        }
    }
}
