//! Where packet buffers can be, so that a pool cannot run dry by the way it is shared out.
//!
//! What a device holds it holds for good: a buffer for each receive descriptor, and one for each
//! transmit descriptor until that is used again. So do the caches of the cores: what one core has
//! at hand, no other can use. With too few buffers besides, nothing is left to receive into, so
//! nothing is sent, so none comes free: the port would stand still for good. Queues between workers
//! empty themselves, but are kept so short that they cannot hold all that is left.

use super::{Bus, Config, Device, Ports};

/// Frames that a worker works on at once: a burst, and what was handed to it.
const IN_WORK: usize = 2 * pipeline::packet::burst::BURST;
/// New buffers that a worker has at hand.
const STASH: usize = 32;
/// The least to be shared out, for each worker, beyond what devices hold.
const LEAST_SHARE: usize = 288;
/// Free buffers that a core keeps at hand, where there are plenty.
const CACHE: usize = 256;
/// Frames that the queues to one worker hold together, where there are plenty.
const QUEUE: usize = 2048;
/// Slots of a net_ring.
const RING: usize = 1024;

/// How a pool is shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Free buffers that each core keeps at hand; DPDK lets it be half as many again.
    pub cache: u32,
    /// Frames that the queues to each worker hold together.
    pub queue: usize,
}

/// The fewest buffers that will do for this many workers.
pub(super) fn least(ports: &Ports, workers: usize) -> usize {
    workers * (held(ports) + IN_WORK + STASH + LEAST_SHARE)
}

/// The shares of a pool as it is configured.
pub fn shares(config: &Config) -> Shares {
    let workers = config.worker.cores.len();
    of(config.memory.mbufs as usize, workers, workers * held(&config.ports))
}

/// Thirds of what devices and workers leave: for the caches, for the queues, for copies.
fn of(mbufs: usize, workers: usize, held: usize) -> Shares {
    let third = mbufs.saturating_sub(held + workers * (IN_WORK + STASH)) / 3;
    // The control thread's core has a cache as well: it starts the ports.
    let cache = (third * 2 / 3 / (workers + 1)).min(CACHE);
    Shares { cache: cache as u32, queue: (third / workers.max(1)).clamp(1, QUEUE) }
}

/// Buffers that one worker's queues of both devices hold.
fn held(ports: &Ports) -> usize {
    [&ports.inside, &ports.outside]
        .map(|port| {
            let descriptors = usize::from(port.rx_descriptors) + usize::from(port.tx_descriptors);
            match driver(&port.device) {
                // They copy.
                Some("net_af_packet" | "net_pcap" | "net_null") => 0,
                Some("net_ring") => RING,
                _ => descriptors,
            }
        })
        .iter()
        .sum()
}

fn driver(device: &Device) -> Option<&'static str> {
    match device.bus {
        Bus::Pci => None,
        Bus::Virtual { driver } => Some(driver),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that can be held at once, with all caches and queues full.
    fn at_most(shares: Shares, workers: usize, held: usize) -> usize {
        let caches = (workers + 1) * (shares.cache as usize * 3).div_ceil(2);
        let queues = if workers > 1 { workers * shares.queue } else { 0 };
        held + workers * (IN_WORK + STASH) + caches + queues
    }

    #[test]
    fn with_all_full_there_are_buffers_left() {
        for held_each in [0, 2 * RING, 2 * 2048, 2 * 65536] {
            for workers in 1..=64 {
                let held = workers * held_each;
                let least = held + workers * (IN_WORK + STASH + LEAST_SHARE);
                for mbufs in [least, least + 1000, 2 * least, 16_384 + least, 1 << 24] {
                    let shares = of(mbufs, workers, held);
                    let most = at_most(shares, workers, held);
                    // A third of the least share, for copies.
                    assert!(mbufs - most >= LEAST_SHARE / 3, "{workers} {mbufs}: {shares:?}");
                    assert!(shares.queue >= LEAST_SHARE / 3 && shares.cache >= 32, "{shares:?}");
                }
            }
        }
    }

    #[cfg(feature = "dpdk")]
    #[test]
    fn the_stash_is_the_pools() {
        assert_eq!(STASH, crate::dpdk::STASH);
    }

    #[test]
    fn with_plenty_nobody_has_less_than_he_can_use() {
        assert_eq!(of(16_384, 1, 4096), Shares { cache: 256, queue: QUEUE });
        assert_eq!(of(65_536, 4, 4 * 4096), Shares { cache: 256, queue: QUEUE });
    }
}
