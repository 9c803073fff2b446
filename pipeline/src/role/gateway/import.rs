//! Taking over the connections of another process.

use std::net::IpAddr;

use super::Settings;
use super::flow::{Flow, Phase};
use crate::table::{Adopt, Entry};
use crate::wire::family::{Endpoint, Family};

/// A gateway that takes connections over.
pub(super) struct Adopting<'a, O> {
    pub(super) settings: &'a Settings,
    pub(super) owns: O,
}

impl<F: Family, O: Fn(IpAddr) -> bool> Adopt<Endpoint<F>, Phase, Flow<F>> for Adopting<'_, O> {
    fn owns(&self, client: IpAddr) -> bool {
        (self.owns)(client)
    }

    fn accept(&self, client: &Endpoint<F>, phase: Phase, mut flow: Flow<F>) -> Option<Flow<F>> {
        let is_known = usize::from(flow.service) < self.settings.services.len();
        let has_winner = !phase.is_translated() || flow.replica.address != F::UNSPECIFIED;
        let is_sound = client.address != F::UNSPECIFIED && flow.server.address != F::UNSPECIFIED;
        if !is_known || !has_winner || !is_sound {
            return None;
        }
        if phase == Phase::Racing {
            // The SYN/ACK that waited is gone: the next one from there is not a repetition.
            flow.replica = Endpoint::NONE;
        }
        Some(flow)
    }

    fn adopted(&mut self, _entry: &Entry<Endpoint<F>, Phase, Flow<F>>) {}
}
