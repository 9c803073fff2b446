//! What is left of a gateway, or of its services, while an operator drains them.

use super::flow::{Flow, Phase};
use super::mode::Mode;
use super::{FamilyState, Gateway};
use crate::base::time::Ticks;
use crate::wire::family::Family;

impl Phase {
    /// Returns whether an end of the gateway would end the connection, or a race in progress could
    /// still make it one.
    fn is_left(self) -> bool {
        !matches!(self, Phase::Origin | Phase::Closed | Phase::Reset)
    }
}

impl<F: Family> FamilyState<F> {
    /// Returns the service of the connection at a place of the table, if it is left, and when its last
    /// packet came; `None` if the place is free.
    fn left_at(&self, place: usize) -> Option<Option<(usize, Ticks)>> {
        let entry = self.flows.at(place)?;
        let Flow { service, .. } = entry.value;
        Some(entry.state().is_left().then(|| (service.into(), entry.seen())))
    }
}

impl<M: Mode> Gateway<M> {
    /// Counts a few of the connections that are left, if anything is drained.
    #[inline]
    pub(super) fn count_left(&mut self) {
        let Self { common, v4, v6, .. } = self;
        let first_v6 = v4.flows.extent();
        let at = |place: usize| match place.checked_sub(first_v6) {
            None => v4.left_at(place),
            Some(place) => v6.left_at(place),
        };
        common.left.step(&common.settings.drain, first_v6 + v6.flows.extent(), at);
    }
}
