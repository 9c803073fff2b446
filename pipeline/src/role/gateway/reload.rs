//! A reload: the gateway goes on with other settings, and keeps its connections.
//!
//! Every field is named here, so that a new one does not compile until it is decided whether it is a
//! setting, which the successor brings, or state, which stays.

use std::mem::swap;

use super::{Common, FamilyState, Gateway};
use crate::policy::allow_list::AllowList;
use crate::wire::family::Family;

/// Lists of replicas that were allowed earlier and differ; older ones are merged.
const LISTS: usize = 4;

impl<M> Gateway<M> {
    /// Goes on with the settings of `next`. Returns the rest of it and what is not needed any more.
    pub(super) fn go_on_as(&mut self, mut next: Self) -> Self {
        let Self { common, v4, v6, lookup: _, mode: _ } = self;
        common.reload(&mut next.common);
        v4.reload(&mut next.v4, common);
        v6.reload(&mut next.v6, common);
        next
    }
}

impl Common {
    fn reload(&mut self, next: &mut Self) {
        next.counters.continue_from(&self.counters);
        let Self {
            settings,
            services,
            allowed_replicas,
            allowed_earlier,
            keys,
            counters,
            responders: _,
            backoff,
            clients: _,
            oversize: _,
            asking,
            waiting,
            left: _,
            tells: _,
            ways: _,
        } = self;
        // Entries refer to services by number.
        let known = next.settings.services.len();
        let rest = settings.services.iter().skip(known).cloned();
        next.settings.services.extend(rest.map(|mut service| {
            service.retired = true;
            service
        }));
        swap(settings, &mut next.settings);
        swap(services, &mut next.services);
        swap(allowed_replicas, &mut next.allowed_replicas);
        remember(allowed_earlier, &mut next.allowed_replicas, allowed_replicas);
        swap(keys, &mut next.keys);
        swap(counters, &mut next.counters);
        if backoff.longest() != settings.timeouts.tag_backoff {
            backoff.set_longest(settings.timeouts.tag_backoff);
        }
        asking.reload(&mut next.asking);
        if waiting.capacity() < next.waiting.capacity() {
            swap(waiting, &mut next.waiting);
        }
    }
}

/// Remembers which replicas were allowed: their connections go on.
fn remember(earlier: &mut Vec<AllowList>, list: &mut AllowList, present: &AllowList) {
    if list == present || earlier.contains(list) {
        return;
    }
    if earlier.len() >= LISTS {
        let merged = AllowList::union(earlier.iter());
        earlier.clear();
        earlier.push(merged);
    }
    earlier.push(std::mem::replace(list, AllowList::Any));
}

impl<F: Family> FamilyState<F> {
    fn reload(&mut self, next: &mut Self, common: &Common) {
        let Self { flows, fragments: _, preferences, lost } = self;
        flows.set_timeouts(&Self::timeouts(&common.settings.timeouts));
        lost.reload(&mut next.lost);
        if next.preferences.is_kept() && !preferences.is_kept() {
            swap(preferences, &mut next.preferences);
        }
    }
}
