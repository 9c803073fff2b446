//! The web servers whose SYN/ACKs pass through the replica.

use std::collections::HashMap;
use std::net::IpAddr;

use super::settings::Service;

/// Which web servers' SYN/ACKs have been seen. Under A they may take another path.
#[derive(Debug)]
pub(super) struct Answering(HashMap<IpAddr, bool>);

impl Answering {
    /// None of the web servers has been seen.
    pub(super) fn new(services: &[Service]) -> Self {
        let servers = services.iter().flat_map(|service| &service.servers);
        Self(servers.map(|server| (server.address, false)).collect())
    }

    /// Notes a SYN/ACK of a web server.
    pub(super) fn note(&mut self, server: IpAddr) {
        // Never allocates: all web servers have been entered.
        if let Some(seen) = self.0.get_mut(&server) {
            *seen = true;
        }
    }

    /// Returns whether a SYN/ACK of this web server has been seen.
    pub(super) fn has(&self, server: IpAddr) -> bool {
        self.0.get(&server).copied().unwrap_or_default()
    }
}
