//! What the control thread of an appliance does while its workers run: it drains, takes servers
//! out and puts them back, sees which tunnels are answered, and changes keys.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use pipeline::role::replica::{self, Gates};
use pipeline::role::switch::{self, Alive, TunnelHealth};
use pipeline::shared::Published;
use pipeline::stage::sign::Keys;

use super::address::{CLIENTS, Site};
use super::plan::Plan;
use super::variety::Signing;

/// The key that tags are signed with at first, and the one that takes its place.
const KEYS: [(u8, [u8; 16]); 2] = [(3, [0x33; 16]), (9, [0x99; 16])];

/// What can be moved of one appliance.
pub struct Controls {
    /// What tags are signed with, or judged by.
    pub keys: Published<Keys>,
    /// Who takes part.
    pub members: Members,
}

/// Who takes part at an appliance, as its control thread knows it.
pub enum Members {
    /// Nobody.
    None,
    /// At a switch.
    Switch {
        /// What workers read.
        selection: Published<switch::Selection>,
        /// Who there is.
        services: Vec<switch::Service>,
        /// Who is in.
        alive: Alive,
        /// Which tunnels are answered.
        tunnels: Arc<TunnelHealth>,
    },
    /// At a replica.
    Replica {
        /// What workers read.
        selection: Published<replica::Selection>,
        /// Who there is.
        services: Vec<replica::Service>,
        /// Which servers are up.
        up: Vec<bool>,
        /// Whether it takes start packets.
        gates: Arc<Gates>,
    },
}

impl Controls {
    /// A replica is drained, or open again.
    pub fn turnabout(&self) {
        if let Members::Replica { gates, .. } = &self.members {
            gates.dead.store(!gates.dead.load(Relaxed), Relaxed);
        }
    }

    /// A server is down, or up again: for all services.
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

    /// Sees which tunnels are answered, and who gets copies.
    pub fn look(&mut self) {
        let Members::Switch { selection, services, alive, tunnels } = &mut self.members else {
            return;
        };
        let now: Vec<_> = (0..alive.replicas.len()).map(|at| tunnels.is_alive(at)).collect();
        if now != alive.replicas {
            alive.replicas = now;
            selection.publish(switch::Selection::new(services, alive));
        }
    }
}

/// The keys that the appliance of a site has at first, or once they have changed.
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
