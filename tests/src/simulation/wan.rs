//! The network between the sites: the laboratory's router, which answers ARP and neighbour
//! discovery, routes, delays and reorders, with duplication and paths that drop SYNs with unknown
//! options in front of it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use smoltcp::wire::ETHERNET_HEADER_LEN;

use super::address::{self, REPLICAS, ROUTER, Site, mac, prefix};
use super::log::{Log, describe};
use super::plan::{Nanos, Path, Plan};
use super::rng::Rng;
use super::segment;
use super::station::Frame;
use crate::lab::wan::{Emulator, LinkConfig, Mac, PortConfig, WanConfig};

/// The router, and the paths to it.
#[derive(Debug)]
pub struct Wan {
    router: Emulator,
    /// Of both families, by site.
    prefixes: Vec<[IpNet; 2]>,
    paths: Vec<Vec<Path>>,
    corrupted: u64,
    rng: Rng,
}

impl Wan {
    /// Creates the network of a plan.
    pub fn new(plan: &Plan, rng: &mut Rng) -> Self {
        let name = |site: Site| format!("site{site}");
        let port = |site: Site| {
            let mut port = PortConfig { name: name(site), interface: name(site), ..<_>::default() };
            for family in [plan.family, plan.family.other()] {
                let length = prefix(family, site).prefix_len();
                match IpNet::new_assert(address::address(family, site, ROUTER), length) {
                    IpNet::V4(net) => port.ipv4 = Some(net),
                    IpNet::V6(net) => port.ipv6 = Some(net),
                }
            }
            port
        };
        let sites = 0..plan.sites();
        // Replicas do not talk to each other.
        let talk = |from, to| from != to && (from < REPLICAS || to < REPLICAS);
        let pairs = sites.clone().flat_map(|from| sites.clone().map(move |to| (from, to)));
        let link = |(from, to): (Site, Site)| {
            let path = &plan.paths[from][to];
            LinkConfig {
                from: Some(name(from)),
                to: Some(name(to)),
                delay_ms: path.delay as f64 / 1e6,
                jitter_ms: path.jitter as f64 / 1e6,
                reorder: path.reorder,
                mtu: Some(path.mtu),
                ..LinkConfig::default()
            }
        };
        let config = WanConfig {
            seed: rng.next_u64(),
            ports: sites.clone().map(port).collect(),
            links: pairs.filter(|(from, to)| talk(*from, *to)).map(link).collect(),
            ..WanConfig::default()
        };
        let macs: Vec<_> = sites.clone().map(|site| Mac(mac(site, ROUTER))).collect();
        let router = Emulator::new(&config, &macs).expect("a sound configuration");
        Self {
            router,
            prefixes: sites
                .map(|site| [plan.family, plan.family.other()].map(|of| prefix(of, site)))
                .collect(),
            paths: plan.paths.clone(),
            corrupted: plan.corrupted,
            rng: Rng::new(rng.next_u64()),
        }
    }

    /// Accepts a frame from a site.
    pub fn receive(&mut self, from: Site, frame: Frame, now: Nanos, log: &mut Log) {
        let site = |to: &IpAddr| {
            let all = &self.prefixes;
            all.iter().position(|own| own.iter().any(|prefix| prefix.contains(to)))
        };
        let to = segment::addresses(&frame).and_then(|(_, to)| site(&to));
        let at = Duration::from_nanos(now);
        let Some(to) = to.filter(|to| *to != from) else {
            return self.router.receive(from, frame, at);
        };
        let path = self.paths[from][to];
        let unusual = || segment::read(&frame).is_some_and(|s| s.is_syn() && s.unusual_option);
        if path.drops_options && unusual() {
            log.note(now, "wan", || format!("drops for its option {}", describe(&frame)));
        } else if self.rng.chance(path.loss) {
            log.note(now, "wan", || format!("loses {}", describe(&frame)));
        } else {
            if self.rng.chance(path.duplicated) {
                log.note(now, "wan", || format!("duplicates {}", describe(&frame)));
                self.router.receive(from, frame.clone(), at);
            }
            self.router.receive(from, frame, at);
        }
    }

    /// Changes the delay between two sites, in both directions.
    pub fn set_delay(&mut self, one: Site, other: Site, delay: Nanos) {
        for (from, to) in [(one, other), (other, one)] {
            self.router.set_delay(from, to, Duration::from_nanos(delay));
        }
    }

    /// Advances to `now`. Returns the frames that arrive at the sites.
    pub fn advance(&mut self, now: Nanos, log: &mut Log) -> Vec<(Site, Frame)> {
        self.router.advance(Duration::from_nanos(now));
        let mut arrived = Vec::new();
        for site in 0..self.prefixes.len() {
            for mut frame in self.router.outbox(site).drain(..) {
                if self.rng.chance(self.corrupted) && segment::addresses(&frame).is_some() {
                    let bit = self.rng.size(8 * ETHERNET_HEADER_LEN, 8 * frame.len() - 1);
                    log.note(now, "wan", || format!("bit {bit} of {}", describe(&frame)));
                    frame[bit / 8] ^= 1 << (bit % 8);
                }
                arrived.push((site, frame));
            }
        }
        arrived
    }

    /// Returns the time of the next arrival.
    #[must_use]
    pub fn next_event(&self) -> Option<Nanos> {
        self.router.next_event().map(|at| at.as_nanos() as Nanos)
    }
}
