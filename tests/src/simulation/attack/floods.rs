//! The moves that flood: SYNs with tags at the switch, copies at the replicas.

use std::net::{IpAddr, SocketAddr};

use firstack_packets::{Body, ethernet_frame};

use super::packets::{Forged, SYN, from_router, tag};
use super::{FIRST_INSIDER, stranger};
use crate::simulation::address::{CLIENTS, HOST, ORIGIN, PORT, REPLICAS, Site, address, mac};
use crate::simulation::world::World;

/// A VLAN that nobody uses.
const VLAN: u16 = 666;
/// Number of the first address in the honest clients' prefix in whose name the switch is flooded.
pub(super) const FIRST_VICTIM: u8 = FIRST_INSIDER + 40;

impl World {
    /// Sends a tagged SYN of a forged client to the switch.
    fn tagged(&mut self, client: SocketAddr, isn: u32) {
        let options = tag(&self.plan, &mut self.rng);
        let syn = Forged::new((client, self.service(0)), SYN, (isn, 0)).options(options);
        self.strike(0, ORIGIN, false, syn.frame(from_router(ORIGIN)));
    }

    pub(super) fn random_prefix(&mut self, step: u32) {
        let client = SocketAddr::new(stranger(self.plan.family, u64::from(step)), 1_024);
        self.tagged(client, step);
    }

    pub(super) fn victim_prefix(&mut self, step: u32) {
        let number = FIRST_VICTIM + (step % 100) as u8;
        let host: IpAddr = address(self.plan.family, CLIENTS, number);
        self.tagged(SocketAddr::new(host, 1_024 + (step / 100) as u16), step);
    }

    /// Sends a copy with a forged outer source to a replica.
    pub(super) fn copy(&mut self, ends: (SocketAddr, SocketAddr), isn: u32, site: Site) {
        let options = tag(&self.plan, &mut self.rng);
        let syn = Forged::new(ends, SYN, (isn, 0)).options(options);
        let tunnel = (self.service(0).ip(), self.tunnel_address(site));
        self.strike(0, site, false, syn.tunnelled(tunnel, from_router(site)));
    }

    /// Returns the address where a replica gets its copies.
    fn tunnel_address(&self, site: Site) -> IpAddr {
        address(self.plan.family, site, crate::simulation::address::TUNNEL)
    }

    pub(super) fn forged_copy(&mut self, step: u32, acknowledged: bool) {
        let host = stranger(self.plan.family, u64::from(step % 200));
        let client = SocketAddr::new(host, 1_024 + (step / 200) as u16);
        for site in REPLICAS..self.plan.sites() {
            self.copy((client, self.service(0)), step, site);
            if acknowledged {
                self.blind_acknowledgement(client, step, site);
            }
        }
    }

    /// Sends a SYN with a forged signature on another VLAN, from a MAC address of its own.
    pub(super) fn other_vlan(&mut self, step: u32) {
        let client = SocketAddr::new(stranger(self.plan.family, u64::from(step)), 1_024);
        let options = tag(&self.plan, &mut self.rng);
        let syn = Forged::new((client, self.service(step as usize % 2)), SYN, (step, 0));
        let macs = (mac(ORIGIN, HOST), mac(ORIGIN, 0x77));
        let mut frame = firstack_packets::Frame::new(macs, Body::Ip(syn.options(options).ip()));
        frame.vlans.push((0x8100, VLAN));
        self.strike(0, ORIGIN, false, frame.bytes());
    }

    /// Sends fragments of strangers, and of nobody's packets, through gateway and switch.
    pub(super) fn fragments(&mut self, step: u32) {
        let family = self.plan.family;
        let client = address(family, CLIENTS, HOST + (step % 3) as u8);
        let (from, port) =
            (stranger(family, u64::from(step)), self.rng.pick(&[(1, 22), (1, PORT)]));
        let ends = (SocketAddr::new(from, port), SocketAddr::new(client, 1_024 + step as u16));
        let mut whole = Forged::new(ends, super::packets::ACK, (step, 0));
        whole.data = vec![0x55; 64];
        for (site, to) in [(CLIENTS, client), (ORIGIN, self.service(0).ip())] {
            let mut packet = whole.ip();
            (packet.destination, packet.id) = (to, step);
            let mut later = packet.clone();
            if packet.piece(0, 48).is_some() && later.piece(48, 36).is_some() {
                let first = self.rng.chance(500);
                let pieces = [first.then_some(packet), Some(later)];
                for piece in pieces.into_iter().flatten() {
                    self.strike(0, site, false, ethernet_frame(from_router(site), &piece.bytes()));
                }
            }
        }
    }
}
