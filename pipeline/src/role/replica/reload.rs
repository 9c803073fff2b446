//! A reload: the replica goes on with other settings, and keeps its connections at their web servers.
//!
//! Every field is named here, so that a new one does not compile until it is decided whether it is a
//! setting, which the successor brings, or state, which stays.

use std::mem::swap;

use super::{Common, FamilyState, Phase, Replica};
use crate::wire::family::Family;

impl Replica {
    /// Goes on with the settings of `next`. Returns the rest of it and what is not needed any more.
    pub(super) fn go_on_as(&mut self, mut next: Self) -> Self {
        let Self { common, v4, v6, lookup: _ } = self;
        common.reload(&mut next.common);
        v4.reload(common);
        v6.reload(common);
        next
    }
}

impl Common {
    fn reload(&mut self, next: &mut Self) {
        next.counters.continue_from(&self.counters, &next.settings.earlier_servers);
        next.hosts.inherit(&self.hosts);
        let Self {
            settings,
            services,
            hosts,
            selection,
            keys,
            signatures: _,
            syns: _,
            repairs,
            heard: _,
            oversize: _,
            admission,
            resolver,
            counters,
            lost: _,
        } = self;
        swap(settings, &mut next.settings);
        swap(services, &mut next.services);
        swap(hosts, &mut next.hosts);
        swap(selection, &mut next.selection);
        swap(keys, &mut next.keys);
        repairs.set_rate(settings.syn_ack_repair_rate);
        swap(admission, &mut next.admission);
        resolver.reload(&mut next.resolver);
        swap(counters, &mut next.counters);
    }
}

impl<F: Family> FamilyState<F> {
    fn reload(&mut self, common: &Common) {
        let Self { connections, fragments: _, translates: _ } = self;
        connections.set_timeouts(&Phase::timeouts(common.settings.timeouts));
    }
}
