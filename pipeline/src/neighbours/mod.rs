//! MAC addresses of the servers behind an appliance, learned by ARP and neighbour discovery and
//! shared by all its workers; and the appliance's own answers to who asks for it.

mod answer;
mod probe;

use std::net::IpAddr;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, AtomicUsize};

use hashbrown::HashMap;

use crate::base::time::Ticks;
use crate::packet::buffer::Buffer;
use crate::packet::view::{Kind, Packet};
use crate::wire::arp::Arp;
use crate::wire::ethernet::Mac;
use crate::wire::family::Version;
use crate::wire::nd::{Message, What};

pub use answer::{Answer, answer};
pub use probe::Probe;

/// Between two probes of an address that has not answered.
const RETRY: Ticks = Ticks::from_secs(1);
/// From an answer to the next probe.
const REFRESH: Ticks = Ticks::from_secs(30);
/// Between two looks for probes that are due.
const SCAN: Ticks = Ticks::from_millis(100);
/// The most probes that one look sends: they must fit into what leaves at once.
const PROBES: usize = 32;

/// In the bits above the MAC address: it is known.
const KNOWN: u64 = 1 << 48;
/// Above that: how many probes in a row it has not answered since it was known.
const UNANSWERED: u64 = 1 << 49;
/// So many are too many.
const GIVEN_UP: u64 = 3;

#[derive(Debug)]
struct Neighbour {
    address: IpAddr,
    /// MAC address, [`KNOWN`], [`UNANSWERED`]: in one word, so that an answer that one worker
    /// sees cannot be lost to another one giving up.
    state: AtomicU64,
    /// When to probe next, in ticks.
    next_probe: AtomicU64,
}

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The address.
    pub address: IpAddr,
    /// The MAC address last learned.
    pub mac: Option<Mac>,
    /// Whether it still counts: packets are sent to it.
    pub known: bool,
}

/// The addresses to be resolved. One is asked for each second until it answers, and then seldom;
/// a known one that leaves three probes in a row unanswered is unknown again.
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Sorted, each once.
    all: Box<[Neighbour]>,
    /// Where in it an address is.
    index: HashMap<IpAddr, usize>,
    /// When any is to be probed again, in ticks.
    next_scan: AtomicU64,
    /// The one to begin with then, so that none has to wait for the others for ever.
    first: AtomicUsize,
    /// See [`Neighbours::changes`].
    changes: AtomicU64,
}

impl Neighbours {
    /// None of them known yet. An address may be given more than once.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut addresses: Vec<IpAddr> = addresses.into_iter().collect();
        addresses.sort_unstable();
        addresses.dedup();
        let index = addresses.iter().enumerate().map(|(at, &address)| (address, at)).collect();
        let unknown = |address| Neighbour {
            address,
            state: AtomicU64::new(0),
            next_probe: AtomicU64::new(0),
        };
        Self { all: addresses.into_iter().map(unknown).collect(), index, ..Self::default() }
    }

    /// The MAC address, while it is known.
    #[inline]
    pub fn find(&self, address: IpAddr) -> Option<Mac> {
        let state = self.get(address)?.state.load(Relaxed);
        (state & KNOWN != 0).then_some(mac_of(state))
    }

    /// Whether the MAC address is known.
    pub fn is_known(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// What is known of each, in the order of the addresses.
    pub fn list(&self) -> impl Iterator<Item = Resolution> {
        self.all.iter().map(|neighbour| {
            let state = neighbour.state.load(Relaxed);
            let mac = mac_of(state);
            let known = state & KNOWN != 0;
            Resolution { address: neighbour.address, mac: (mac != [0; 6]).then_some(mac), known }
        })
    }

    /// Changes whenever a MAC address that was not known is learned.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    #[inline]
    fn get(&self, address: IpAddr) -> Option<&Neighbour> {
        self.index.get(&address).map(|&at| &self.all[at])
    }

    /// Learns from a packet that came in by the inside: ARP, neighbour advertisement or
    /// solicitation. `true` when it tells where one of the addresses is.
    pub fn learn<B: Buffer>(&self, packet: &Packet<B>, now: Ticks) -> bool {
        let told = match (packet.view.kind, packet.view.version) {
            (Kind::Arp, _) => Arp::parse(packet.ip())
                .map(|arp| (IpAddr::from(arp.sender), Some(arp.sender_mac), true)),
            (Kind::Icmp, Version::V6) => {
                Message::parse(packet.ip()).map(|message| match message.what {
                    What::Solicitation => (message.source.into(), message.mac, true),
                    What::Advertisement { overrides, .. } => {
                        (message.target.into(), message.mac, overrides)
                    }
                })
            }
            _ => None,
        };
        let Some((address, Some(mac), overrides)) = told else { return false };
        let Some(neighbour) = self.get(address) else { return false };
        is_station(mac) && self.store(neighbour, mac, overrides, now)
    }

    /// `false` when what is known stays: a proxy's answer does not take the place of another.
    fn store(&self, neighbour: &Neighbour, mac: Mac, overrides: bool, now: Ticks) -> bool {
        let [a, b, c, d, e, f] = mac;
        let new = KNOWN | u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let replaced = neighbour.state.fetch_update(Relaxed, Relaxed, |old| {
            let differs = old & KNOWN != 0 && mac_of(old) != mac;
            (overrides || !differs).then_some(new)
        });
        let Ok(old) = replaced else { return false };
        neighbour.next_probe.store((now + REFRESH).0, Relaxed);
        if old & KNOWN == 0 {
            self.changes.fetch_add(1, Release);
        }
        true
    }

    /// The probes that are due; what has not answered for too long becomes unknown. `own` is the
    /// MAC address of the inside. To be asked by one worker only.
    pub fn due_probes(&self, own: Mac, now: Ticks) -> impl Iterator<Item = Probe> {
        let scan = now.0 >= self.next_scan.load(Relaxed);
        if scan {
            self.next_scan.store((now + SCAN).0, Relaxed);
        }
        let count = self.all.len();
        let first = self.first.load(Relaxed);
        let looked_at = if scan { first..first + count } else { 0..0 };
        let due = looked_at.filter_map(move |number| {
            let neighbour = &self.all[number % count];
            if !neighbour.is_due(now) {
                return None;
            }
            self.first.store((number + 1) % count, Relaxed);
            Some(Probe::new(own, neighbour.address))
        });
        due.take(PROBES)
    }
}

impl Neighbour {
    /// Whether it is to be probed now; if so, notes that it is.
    fn is_due(&self, now: Ticks) -> bool {
        let state = self.state.load(Relaxed);
        if now.0 < self.next_probe.load(Relaxed) {
            return false;
        }
        if state & KNOWN != 0 {
            let tag_backoffs = state / UNANSWERED == GIVEN_UP;
            let next = if tag_backoffs { state % KNOWN } else { state + UNANSWERED };
            if self.state.compare_exchange(state, next, Relaxed, Relaxed).is_err() {
                // It has answered just now.
                return false;
            }
        }
        self.next_probe.store((now + RETRY).0, Relaxed);
        true
    }
}

fn mac_of(state: u64) -> Mac {
    let [_, _, mac @ ..] = state.to_be_bytes();
    mac
}

/// Whether it is the address of one station: no group, and not the one that stands for none.
fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

#[cfg(test)]
mod tests;
