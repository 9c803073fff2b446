//! A reload: the switch goes on with other settings, and keeps its connections at their servers.
//!
//! Every field is named here, so that a new one does not compile until it is decided whether it is a
//! setting, which the successor brings, or state, which stays.

use std::collections::BTreeSet;
use std::mem::swap;

use super::settings::{FORMER_REPLICAS, ServiceState};
use super::{Common, FamilyState, Switch};
use crate::base::time::Ticks;
use crate::wire::family::Family;

impl Switch {
    /// Goes on with the settings of `next`. Returns the rest of it and what is not needed any more.
    pub(super) fn go_on_as(&mut self, mut next: Self, now: Ticks) -> Self {
        let Self { common, v4, v6, lookup: _ } = self;
        common.reload(&mut next.common, now);
        v4.reload(common);
        v6.reload(common);
        next
    }
}

impl Common {
    fn reload(&mut self, next: &mut Self, now: Ticks) {
        let earlier = [&next.settings.earlier_replicas, &next.settings.earlier_servers];
        next.counters.continue_from(&self.counters, earlier);
        next.inherit_services(self, now);
        let Self {
            settings,
            services,
            states,
            own,
            tracks_inside,
            selection,
            keys,
            signatures: _,
            limiter,
            signed_limiter,
            icmp_copy_limiter,
            raced_under_b: _,
            unknown_errors: _,
            oversize: _,
            probes,
            resolver,
            counters,
            left: _,
        } = self;
        let firsts: Vec<_> = states.iter().map(|state| state.first_replica).collect();
        swap(settings, &mut next.settings);
        swap(services, &mut next.services);
        swap(states, &mut next.states);
        swap(own, &mut next.own);
        swap(tracks_inside, &mut next.tracks_inside);
        swap(selection, &mut next.selection);
        swap(keys, &mut next.keys);
        for limiter in [limiter, signed_limiter, icmp_copy_limiter] {
            limiter.set_limit(settings.fan_out, now);
        }
        let services = firsts.into_iter().zip(states.iter().map(|state| state.first_replica));
        probes.reload(&mut next.probes, settings, services, now);
        resolver.reload(&mut next.resolver);
        swap(counters, &mut next.counters);
    }

    /// Takes over what the switch has found out about its services and their servers. A service is
    /// known by its number, and by its address and ports: they may have moved to another one.
    fn inherit_services(&mut self, before: &Self, now: Ticks) {
        let stored_until = now + self.settings.timeouts.established;
        let earlier = &before.settings.services;
        let services = self.settings.services.iter().enumerate();
        for (state, (number, service)) in self.states.iter_mut().zip(services) {
            let is_same = earlier.get(number).is_some_and(|e| e.address == service.address);
            if is_same {
                state.go_on_from(&before.states[number]);
            }
            let at_port = |port: &u16| before.services.find(service.address, *port);
            let others = service.ports.iter().filter_map(at_port).map(usize::from);
            let same: BTreeSet<_> = others.chain(is_same.then_some(number)).collect();
            for other in same {
                state.inherit(&before.states[other], stored_until);
            }
        }
        // Fragments refer to services by number, and are remembered for a while.
        let known = self.states.len();
        if let Some(rest) = before.states.get(known..).filter(|rest| !rest.is_empty()) {
            self.states = self.states.iter().chain(rest).cloned().collect();
        }
    }
}

impl ServiceState {
    /// Goes on as the same service did: with the next explorers, and with the replicas that may have
    /// connections.
    fn go_on_from(&mut self, before: &Self) {
        self.next_explorer = before.next_explorer;
        let gone = before.replicas.iter().chain(&before.former_replicas);
        for tunnel in gone {
            let is_known = self.replicas.contains(tunnel) || self.former_replicas.contains(tunnel);
            if !is_known && self.former_replicas.len() < FORMER_REPLICAS {
                self.former_replicas.push(*tunnel);
            }
        }
    }

    /// Takes over what is known of the servers of the same address. Their numbers are the same.
    fn inherit(&mut self, before: &Self, stored_until: Ticks) {
        if let Some(gone) = before.servers.get(self.servers.len()..).filter(|gone| !gone.is_empty())
        {
            // Entries refer to servers by number.
            self.servers = self.servers.iter().chain(gone).copied().collect();
            self.heard = self.heard.iter().copied().chain(gone.iter().map(|_| None)).collect();
        }
        for (own, heard) in self.heard.iter_mut().zip(&before.heard) {
            *own = (*own).max(*heard);
        }
        self.was_selected |= before.was_selected;
        let unstored = match before.has_affinity() {
            true => before.unstored,
            // Its only server has connections without entries.
            false => before.was_selected.then_some(stored_until),
        };
        self.unstored = self.unstored.max(unstored.filter(|_| self.has_affinity()));
    }
}

impl<F: Family> FamilyState<F> {
    fn reload(&mut self, common: &Common) {
        let Self { affinities, fragments: _ } = self;
        affinities.set_timeouts(&common.settings.timeouts.by_phase());
    }
}
