//! The control thread of an appliance: drains, takes servers out of service and back, monitors
//! tunnels, and changes keys.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::base::published::Published;
use pipeline::counters::EarlierNumbers;
use pipeline::role::replica::{self, Admission};
use pipeline::role::switch::{self, Liveness, TunnelHealth};
use pipeline::stage::sign::Keys;

use super::address::{CLIENTS, Site};
use super::plan::Plan;
use super::variety::Signing;

/// The first signing key, and its successor.
const KEYS: [(u8, [u8; 16]); 2] = [(3, [0x33; 16]), (9, [0x99; 16])];

/// The controls of an appliance.
pub struct Controls {
    /// The keys that sign or verify tags.
    pub keys: Published<Keys>,
    /// Its servers and replicas.
    pub members: Members,
}

/// Servers and replicas of an appliance, as its control thread knows them.
pub enum Members {
    /// None.
    None,
    /// At a switch.
    Switch {
        /// The selection that workers read.
        selection: Published<switch::Selection>,
        /// The configured services.
        services: Vec<switch::Service>,
        /// Members in service.
        alive: Liveness,
        /// Health of tunnels.
        tunnels: Arc<TunnelHealth>,
        /// The replicas by their numbers in a configuration that lacks none.
        numbers: Vec<usize>,
    },
    /// At a replica.
    Replica {
        /// What workers read.
        selection: Published<replica::Selection>,
        /// Who there is.
        services: Vec<replica::Service>,
        /// Servers that are up.
        up: Vec<bool>,
        /// Its admission flags.
        admission: Arc<Admission>,
    },
}

impl Controls {
    /// Goes on with the controls of a changed configuration: who was taken out of service, and which
    /// keys there are, is the operator's word.
    pub fn reload(&mut self, next: Self) {
        next.keys.publish(Keys::clone(&self.keys.current()));
        let before = std::mem::replace(self, next);
        match (&mut self.members, before.members) {
            (
                Members::Switch { selection, services, alive, tunnels, numbers },
                Members::Switch { alive: was, tunnels: before, numbers: known, .. },
            ) => {
                let place = |number: &usize| known.iter().position(|earlier| earlier == number);
                let earlier = EarlierNumbers::new(numbers.iter().map(place));
                tunnels.inherit(&before, &earlier);
                alive.servers = was.servers;
                alive.replicas = (0..numbers.len()).map(|at| tunnels.is_alive(at)).collect();
                selection.publish(switch::Selection::new(services, alive));
            }
            (
                Members::Replica { selection, services, up, admission },
                Members::Replica { up: was, admission: before, .. },
            ) => {
                *up = was;
                admission.dead.store(before.dead.load(Relaxed), Relaxed);
                admission.busy.store(before.busy.load(Relaxed), Relaxed);
                selection.publish(replica::Selection::new(services, |number| up[number]));
            }
            _ => {}
        }
    }

    /// Drains or undrains a replica.
    pub fn turnabout(&self) {
        if let Members::Replica { admission, .. } = &self.members {
            admission.dead.store(!admission.dead.load(Relaxed), Relaxed);
        }
    }

    /// Takes a server out of service, or back, for all services.
    pub fn flip(&mut self, server: usize) {
        match &mut self.members {
            Members::None => {}
            Members::Switch { selection, services, alive, .. } => {
                for service in services.iter() {
                    let up = &mut alive.servers[service.first_server + server];
                    *up = !*up;
                }
                selection.publish(switch::Selection::new(services, alive));
            }
            Members::Replica { selection, services, up, .. } => {
                for service in services.iter() {
                    let up = &mut up[service.first_server + server];
                    *up = !*up;
                }
                selection.publish(replica::Selection::new(services, |number| up[number]));
            }
        }
    }

    /// Updates the members that get copies from the tunnels' health.
    pub fn look(&mut self) {
        let Members::Switch { selection, services, alive, tunnels, .. } = &mut self.members else {
            return;
        };
        let now: Vec<_> = (0..alive.replicas.len()).map(|at| tunnels.is_alive(at)).collect();
        if now != alive.replicas {
            alive.replicas = now;
            selection.publish(switch::Selection::new(services, alive));
        }
    }
}

/// Returns the keys of a site's appliance, before or after the change.
#[must_use]
pub fn keys(plan: &Plan, site: Site, changed: bool) -> Keys {
    let signs = site == CLIENTS;
    let [old, new] = KEYS;
    match plan.signing {
        Signing::Not => Keys::default(),
        Signing::Missing { .. } if signs => Keys::default(),
        Signing::Missing { .. } | Signing::Signed => Keys::new([old], signs.then_some(old.0)),
        Signing::Rotated { .. } if changed => Keys::new([new], signs.then_some(new.0)),
        Signing::Rotated { after: None, .. } => Keys::new(KEYS, signs.then_some(old.0)),
        Signing::Rotated { .. } => Keys::new([old], signs.then_some(old.0)),
    }
}
