//! MAC addresses of the servers behind an appliance, learned by ARP and neighbour discovery and
//! shared by all workers; and answers to requests for the appliance's own addresses.

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

/// The time between two probes for an address that has not answered.
const RETRY: Ticks = Ticks::from_secs(1);
/// The time from an answer to the next probe.
const REFRESH: Ticks = Ticks::from_secs(30);
/// Instead of the time of the next probe, for an address that nobody has asked for yet.
const NOT_WANTED: u64 = u64::MAX;
/// The time between two scans for probes that are due.
const SCAN: Ticks = Ticks::from_millis(100);
/// The most probes sent by one scan: they must fit into one transmit burst.
const PROBES: usize = 32;

/// A bit above the MAC address: the MAC address is known.
const KNOWN: u64 = 1 << 48;
/// The unit of a counter above that: probes in a row without an answer since the MAC address became
/// known.
const UNANSWERED: u64 = 1 << 49;
/// After this number of unanswered probes in a row the MAC address is unknown again.
const MAX_UNANSWERED: u64 = 3;

#[derive(Debug)]
struct Neighbour {
    address: IpAddr,
    /// MAC address, [`KNOWN`] and [`UNANSWERED`] in one word, so that an answer that one worker
    /// receives is not lost when another worker changes the state.
    state: AtomicU64,
    /// When the next probe is due, in ticks; or [`NOT_WANTED`].
    next_probe: AtomicU64,
}

/// The state of an address in [`Neighbours`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// The address.
    pub address: IpAddr,
    /// The MAC address last learned.
    pub mac: Option<Mac>,
    /// Whether the MAC address is in use: false once probes have gone unanswered.
    pub known: bool,
}

/// The addresses to be resolved, and their MAC addresses.
///
/// An address is probed every second until it answers, and then every 30 s. A known one that leaves
/// three probes in a row unanswered becomes unknown again.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::neighbours::{Answer, Neighbours, answer};
/// use pipeline::packet::buffer::{HeapBuffer, HeapPool};
/// use pipeline::packet::view::Packet;
///
/// let (own, server) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0x50]);
/// let address = "198.51.100.10".parse().unwrap();
/// let neighbours = Neighbours::new([address]);
/// assert_eq!(neighbours.find(address), None);
///
/// // The first probe is due at once.
/// let probe = neighbours.due_probes(own, Ticks(0)).next().unwrap();
/// let mut frame = vec![0; probe.len()];
/// probe.emit(&mut frame);
///
/// // The server answers as the appliance would for its own address.
/// let request = Packet::new(HeapBuffer::new(&frame));
/// let reply = answer(&request, server, |target| target == address, &mut HeapPool::default());
/// let Answer::Made(reply) = reply else { panic!() };
/// assert!(neighbours.learn(&Packet::new(reply), Ticks(0)));
/// assert_eq!(neighbours.find(address), Some(server));
/// ```
#[derive(Debug, Default)]
pub struct Neighbours {
    /// Sorted by address, without duplicates.
    all: Box<[Neighbour]>,
    /// The index into `all` by address.
    index: HashMap<IpAddr, usize>,
    /// When to scan for due probes next, in ticks.
    next_scan: AtomicU64,
    /// Where the next scan begins, so that a scan that stops early starves no address.
    first: AtomicUsize,
    /// See [`Neighbours::changes`].
    changes: AtomicU64,
}

impl Neighbours {
    /// Returns the addresses, all of them unknown. Duplicates are allowed.
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::with_optional(addresses, [])
    }

    /// Returns the addresses, all of them unknown, where those in `optional` are not probed before
    /// they are wanted ([`Neighbours::want`]). Duplicates are allowed; an address in both is not
    /// optional.
    pub fn with_optional(
        addresses: impl IntoIterator<Item = IpAddr>,
        optional: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let wanted = addresses.into_iter().map(|address| (address, 0));
        let mut all: Vec<_> =
            wanted.chain(optional.into_iter().map(|address| (address, NOT_WANTED))).collect();
        // The first of each address is the wanted one, if there is one.
        all.sort_unstable();
        all.dedup_by_key(|(address, _)| *address);
        let index = all.iter().enumerate().map(|(at, &(address, _))| (address, at)).collect();
        let unknown = |(address, next_probe)| Neighbour {
            address,
            state: AtomicU64::new(0),
            next_probe: AtomicU64::new(next_probe),
        };
        Self { all: all.into_iter().map(unknown).collect(), index, ..Self::default() }
    }

    /// Has an address resolved from now on, if it is an optional one that was not wanted yet.
    #[cold]
    pub fn want(&self, address: IpAddr) {
        if let Some(neighbour) = self.get(address) {
            let _ = neighbour.next_probe.compare_exchange(NOT_WANTED, 0, Relaxed, Relaxed);
        }
    }

    /// Returns the MAC address of an address, while it is known.
    #[inline]
    pub fn find(&self, address: IpAddr) -> Option<Mac> {
        let state = self.get(address)?.state.load(Relaxed);
        (state & KNOWN != 0).then_some(mac_of(state))
    }

    /// Returns whether the MAC address of an address is known.
    pub fn is_known(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// Returns the state of all addresses that are wanted, in ascending order of the addresses.
    pub fn list(&self) -> impl Iterator<Item = Resolution> {
        self.all.iter().filter(|neighbour| neighbour.is_wanted()).map(|neighbour| {
            let state = neighbour.state.load(Relaxed);
            let mac = mac_of(state);
            let known = state & KNOWN != 0;
            Resolution { address: neighbour.address, mac: (mac != [0; 6]).then_some(mac), known }
        })
    }

    /// Returns a number that changes whenever a MAC address that was unknown is learned.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Acquire)
    }

    #[inline]
    fn get(&self, address: IpAddr) -> Option<&Neighbour> {
        self.index.get(&address).map(|&at| &self.all[at])
    }

    /// Learns a MAC address from ARP, a neighbour advertisement or a neighbour solicitation.
    /// Returns whether the packet contains the MAC address of one of the addresses, and it was
    /// stored.
    pub fn learn<B: Buffer>(&self, packet: &Packet<B>, now: Ticks) -> bool {
        let learned = match (packet.view.kind, packet.view.version) {
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
        let Some((address, Some(mac), overrides)) = learned else { return false };
        let Some(neighbour) = self.get(address) else { return false };
        neighbour.is_wanted() && is_station(mac) && self.store(neighbour, mac, overrides, now)
    }

    /// Sets the MAC address that an earlier process has learned. It is in use at once, and probed at
    /// once: one that does not answer becomes unknown again as any other.
    pub fn restore(&self, address: IpAddr, mac: Mac) {
        if let Some(neighbour) = self.get(address).filter(|_| is_station(mac)) {
            self.store(neighbour, mac, true, Ticks(0));
            neighbour.next_probe.store(0, Relaxed);
        }
    }

    /// Stores a MAC address. Returns `false`, and changes nothing, when another one is known and
    /// the advertisement does not override it (RFC 4861, section 7.2.5).
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

    /// Returns the probes that are due, at most 32. Addresses that have left too many unanswered
    /// become unknown. `own` is the MAC address of the inside port. Must be called by one worker
    /// only.
    pub fn due_probes(&self, own: Mac, now: Ticks) -> impl Iterator<Item = Probe> {
        let scan = now.0 >= self.next_scan.load(Relaxed);
        if scan {
            self.next_scan.store((now + SCAN).0, Relaxed);
        }
        let count = self.all.len();
        let first = self.first.load(Relaxed);
        let scanned = if scan { first..first + count } else { 0..0 };
        let due = scanned.filter_map(move |number| {
            let neighbour = &self.all[number % count];
            if !neighbour.take_due(now) {
                return None;
            }
            self.first.store((number + 1) % count, Relaxed);
            Some(Probe::new(own, neighbour.address))
        });
        due.take(PROBES)
    }
}

impl Neighbour {
    fn is_wanted(&self) -> bool {
        self.next_probe.load(Relaxed) != NOT_WANTED
    }

    /// Returns whether a probe is due; if so, schedules the next one.
    fn take_due(&self, now: Ticks) -> bool {
        let state = self.state.load(Relaxed);
        if now.0 < self.next_probe.load(Relaxed) {
            return false;
        }
        if state & KNOWN != 0 {
            let is_lost = state / UNANSWERED == MAX_UNANSWERED;
            let next = if is_lost { state % KNOWN } else { state + UNANSWERED };
            if self.state.compare_exchange(state, next, Relaxed, Relaxed).is_err() {
                // An answer has just been learned.
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

/// Returns whether a MAC address belongs to one station: it is neither a group address nor all
/// zeros.
fn is_station(mac: Mac) -> bool {
    mac[0] & 1 == 0 && mac != [0; 6]
}

#[cfg(test)]
mod tests;
