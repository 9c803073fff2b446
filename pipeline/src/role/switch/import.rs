//! Taking over the connections of another process.

use std::net::IpAddr;

use super::Phase;
use super::affinity::{Affinity, Pair};
use super::settings::ServiceState;
use crate::policy::services::Services;
use crate::table::{Adopt, Entry};
use crate::wire::family::{Endpoint, Family};

/// A switch that takes connections over.
pub(super) struct Adopting<'a, O> {
    pub(super) services: &'a Services,
    pub(super) states: &'a mut [ServiceState],
    pub(super) owns: O,
}

impl<O> Adopting<'_, O> {
    fn service<F: Family>(&self, to: Endpoint<F>) -> Option<usize> {
        self.services.find(to.address.into(), to.port).map(usize::from)
    }
}

impl<F: Family, O: Fn(IpAddr) -> bool> Adopt<Pair<F>, Phase, Affinity> for Adopting<'_, O> {
    fn owns(&self, client: IpAddr) -> bool {
        (self.owns)(client)
    }

    fn accept(&self, key: &Pair<F>, _phase: Phase, affinity: Affinity) -> Option<Affinity> {
        let [client, to] = *key;
        let servers = self.states[self.service(to)?].servers.len();
        let is_known = usize::from(affinity.server) < servers;
        (is_known && client.address != F::UNSPECIFIED).then_some(affinity)
    }

    /// Notes that the packets of the entry's server pass the switch, if its answer has.
    fn adopted(&mut self, entry: &Entry<Pair<F>, Phase, Affinity>) {
        if entry.value.server_seen()
            && let Some(service) = self.service(entry.key[1])
        {
            self.states[service].note_heard(entry.value.server, entry.seen());
        }
    }
}
