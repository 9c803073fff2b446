//! Forged "too big" errors.

use std::net::SocketAddr;

use super::packets::{ACK, Forged, from_router, too_big};
use super::stranger;
use crate::simulation::address::{CLIENTS, ORIGIN};
use crate::simulation::world::World;

/// Bytes of a quoted packet: more than a copy needs.
const QUOTED: usize = 1_000;
/// The MTU in the errors to clients: one that an IPv6 host takes, too.
const MTU: u32 = 1_280;

impl World {
    /// Sends errors about packets that nobody has sent: to a client about its connection, to the
    /// service about a stranger's.
    pub(super) fn too_big(&mut self, step: u32) {
        let talks: Vec<_> = self.attacker.talks.iter().map(|(c, talk)| (*c, *talk)).collect();
        let router = self.outsider().ip();
        if let Some((client, talk)) = talks.get(step as usize % talks.len().max(1)) {
            let sequence = self.rng.next_u64() as u32;
            let mut quoted = Forged::new((*client, talk.server), ACK, (sequence, 0));
            quoted.data = vec![0; 1_300];
            let bytes = quoted.packet()[..80].to_vec();
            let ends = (router, client.ip());
            self.strike(0, CLIENTS, false, too_big(ends, MTU, bytes, from_router(CLIENTS)));
        }
        let client = SocketAddr::new(stranger(self.plan.family, u64::from(step)), 1_024);
        let service = self.service(step as usize % 2);
        let mut quoted = Forged::new((service, client), ACK, (step, 0));
        quoted.data = vec![0; 1_400];
        let bytes = quoted.packet()[..QUOTED].to_vec();
        let frame = too_big((router, service.ip()), MTU, bytes, from_router(ORIGIN));
        self.attacker.errors[0] += frame.len() as u64 - 14;
        self.strike(0, ORIGIN, false, frame);
    }
}
