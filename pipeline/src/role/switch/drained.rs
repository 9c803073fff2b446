//! What is left of a switch, or of its services, while an operator drains them.

use super::{FamilyState, Phase, Switch};
use crate::base::time::Ticks;
use crate::policy::services::Services;
use crate::wire::family::Family;

impl<F: Family> FamilyState<F> {
    /// Returns the service of the connection at a place of the table, if it is left, and when its last
    /// packet came; `None` if the place is free.
    fn left_at(&self, place: usize, services: &Services) -> Option<Option<(usize, Ticks)>> {
        let entry = self.affinities.at(place)?;
        if matches!(entry.state(), Phase::Closed | Phase::Reset) {
            return Some(None);
        }
        let [_, to] = entry.key;
        let service = services.find(to.address.into(), to.port);
        Some(service.map(|service| (service.into(), entry.seen())))
    }
}

impl Switch {
    /// Counts a few of the connections that are left, if anything is drained.
    #[inline]
    pub(super) fn count_left(&mut self) {
        let Self { common, v4, v6, .. } = self;
        let first_v6 = v4.affinities.extent();
        let services = &common.services;
        let at = |place: usize| match place.checked_sub(first_v6) {
            None => v4.left_at(place, services),
            Some(place) => v6.left_at(place, services),
        };
        common.left.step(&common.settings.drain, first_v6 + v6.affinities.extent(), at);
    }
}
