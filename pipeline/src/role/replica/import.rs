//! Taking over the connections of another process.

use std::net::IpAddr;

use super::Phase;
use super::connection::Connection;
use super::heard::Heard;
use crate::base::time::Ticks;
use crate::table::{Adopt, Entry};
use crate::wire::family::{Endpoint, Family};

/// A replica that takes connections over.
pub(super) struct Adopting<'a, O> {
    pub(super) heard: &'a mut Heard,
    pub(super) translates: &'a mut bool,
    pub(super) owns: O,
    pub(super) now: Ticks,
}

impl<F: Family, O: Fn(IpAddr) -> bool> Adopt<Endpoint<F>, Phase, Connection<F>>
    for Adopting<'_, O>
{
    fn owns(&self, client: IpAddr) -> bool {
        (self.owns)(client)
    }

    fn accept(
        &self,
        client: &Endpoint<F>,
        _phase: Phase,
        connection: Connection<F>,
    ) -> Option<Connection<F>> {
        let ends = [client.address, connection.server.address, connection.replica.address];
        ends.iter().all(|&address| address != F::UNSPECIFIED).then_some(connection)
    }

    fn adopted(&mut self, entry: &Entry<Endpoint<F>, Phase, Connection<F>>) {
        let connection = &entry.value;
        let next = connection.next_configuration.get();
        *self.translates |= connection.configuration.replica_translates()
            || next.is_some_and(|configuration| configuration.replica_translates());
        if entry.state() == Phase::Established {
            self.heard.restore(entry.seen(), self.now);
        }
    }
}
