//! `allowed_clients` of a switch and of a replica: whose SYNs are copied, or accepted.

use std::net::IpAddr;

use ipnet::IpNet;

use super::gateway::{ServiceAddress, any_or_prefix};
use super::reader::{Found, Section};
use super::{schema, value};

/// Reads the key `allowed_clients` of a section: prefixes of clients; an empty list allows all.
pub(super) fn allowed_clients(section: &Section<'_>) -> Option<Vec<Found<IpNet>>> {
    let entries = section.set("allowed_clients", usize::MAX, schema::ONE_PREFIX, any_or_prefix)?;
    let good = any_alone(section, "allowed_clients", &entries);
    let prefix = |found: Found<ServiceAddress>| match found.value {
        ServiceAddress::Any => None,
        ServiceAddress::Prefix(prefix) => {
            Some(Found { value: prefix, at: found.at, given: found.given })
        }
    };
    good.then(|| entries.into_iter().filter_map(prefix).collect())
}

/// Returns whether a list has "any" alone or not at all; notes a mistake otherwise.
pub(super) fn any_alone(
    section: &Section<'_>,
    name: &str,
    entries: &[Found<ServiceAddress>],
) -> bool {
    let any = entries.iter().position(|entry| entry.value == ServiceAddress::Any);
    let Some(i) = any.filter(|_| entries.len() > 1) else { return true };
    let message = "\"any\" holds all others; expected it alone or not at all";
    section.error(entries[i].at, &format!("{name}[{i}]"), message.to_owned());
    false
}

/// Notes clients of a family that no service has. A client and its service are of the same family.
pub(super) fn check_families(
    section: &Section<'_>,
    allowed_clients: &[Found<IpNet>],
    services: impl Iterator<Item = IpAddr> + Clone,
) {
    for (i, clients) in allowed_clients.iter().enumerate() {
        let address = clients.value.addr();
        if services.clone().all(|service| service.is_ipv4() != address.is_ipv4()) {
            let message = format!(
                "{} is {}, but no service is; expected clients of a service's family",
                value::shown_prefix(clients.value),
                value::family(address)
            );
            section.error(clients.at, &format!("allowed_clients[{i}]"), message);
        }
    }
}
