//! MAC addresses of the web servers, learned by ARP and shared by all workers of a replica.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::time::Ticks;
use crate::wire::arp::{self, Arp};
use crate::wire::ethernet::Mac;

/// Between two probes of an address that has not answered.
const RETRY: Ticks = Ticks::from_secs(1);
/// Between two probes of one that has.
const REFRESH: Ticks = Ticks::from_secs(30);
/// Between two looks for probes that are due.
const SCAN: Ticks = Ticks::from_millis(100);
/// The most probes that one look sends: they must fit into what leaves at once.
const PROBES: usize = 32;
/// In the upper bits: the address below is known.
const KNOWN: u64 = 1 << 48;

#[derive(Debug)]
struct Neighbour {
    address: Ipv4Addr,
    mac: AtomicU64,
    /// When to probe next, in ticks.
    next_probe: AtomicU64,
}

/// The addresses to be resolved. A known MAC address is kept until another is learned: a
/// server that is slow to answer loses no connection.
#[derive(Debug, Default)]
pub struct Neighbours {
    all: Box<[Neighbour]>,
    /// When any is to be probed again, in ticks.
    next_scan: AtomicU64,
}

impl Neighbours {
    /// None of them known yet.
    pub fn new(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Self {
        let unknown =
            |address| Neighbour { address, mac: AtomicU64::new(0), next_probe: AtomicU64::new(0) };
        Self { all: addresses.into_iter().map(unknown).collect(), next_scan: AtomicU64::new(0) }
    }

    /// The MAC address, when it is known.
    pub fn find(&self, address: Ipv4Addr) -> Option<Mac> {
        let neighbour = self.all.iter().find(|neighbour| neighbour.address == address)?;
        let value = neighbour.mac.load(Relaxed);
        let [_, _, mac @ ..] = value.to_be_bytes();
        (value & KNOWN != 0).then_some(mac)
    }

    /// Learns from an ARP packet of the inside; `true` when its sender is one of ours.
    pub fn learn(&self, arp: &Arp) -> bool {
        let Some(neighbour) = self.all.iter().find(|neighbour| neighbour.address == arp.sender)
        else {
            return false;
        };
        let [a, b, c, d, e, f] = arp.sender_mac;
        neighbour.mac.store(KNOWN | u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Relaxed);
        true
    }

    /// The probes (RFC 5227) that are due, each with the appliance's own MAC address as sender.
    /// To be asked by one worker only.
    pub fn due_probes(&self, own: Mac, now: Ticks) -> impl Iterator<Item = Arp> {
        let scan = now.0 >= self.next_scan.load(Relaxed);
        if scan {
            self.next_scan.store((now + SCAN).0, Relaxed);
        }
        let looked_at = if scan { &self.all[..] } else { &[] };
        let due = looked_at.iter().filter_map(move |neighbour| {
            if now.0 < neighbour.next_probe.load(Relaxed) {
                return None;
            }
            let known = neighbour.mac.load(Relaxed) & KNOWN != 0;
            let wait = if known { REFRESH } else { RETRY };
            neighbour.next_probe.store((now + wait).0, Relaxed);
            Some(Arp {
                operation: arp::REQUEST,
                sender_mac: own,
                sender: Ipv4Addr::UNSPECIFIED,
                target_mac: [0; 6],
                target: neighbour.address,
            })
        });
        due.take(PROBES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);

    #[test]
    fn probes_until_answered_and_then_seldom() {
        let neighbours = Neighbours::new([WEB]);
        let due = |secs| neighbours.due_probes([2; 6], Ticks::from_secs(secs)).count();
        assert_eq!((due(0), due(0), due(1), due(2)), (1, 0, 1, 1));
        assert_eq!(neighbours.find(WEB), None);
        let mut reply = neighbours.due_probes([2; 6], Ticks::from_secs(9)).next().unwrap();
        (reply.sender, reply.sender_mac) = (WEB, [4; 6]);
        assert!(neighbours.learn(&reply));
        assert_eq!(neighbours.find(WEB), Some([4; 6]));
        assert_eq!((due(10), due(11), due(40)), (1, 0, 1));
        reply.sender = Ipv4Addr::new(198, 51, 100, 11);
        assert!(!neighbours.learn(&reply));
    }
}
