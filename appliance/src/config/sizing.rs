//! The division of the packet buffers, such that the pool cannot run dry by it.
//!
//! A device holds buffers permanently: one for each receive descriptor, and one for each transmit
//! descriptor until that is reused. So do the per-core caches: buffers cached by one core cannot be
//! used by another. With too few buffers beyond those, none would be left to receive into, so
//! nothing would be sent and none would be freed: the port would stall for good. Queues between
//! workers empty themselves, but are kept short enough that they cannot hold all remaining buffers.

use super::{Bus, Config, Device, Ports};

/// Frames that a worker processes at once: a burst, and the frames handed to it.
const IN_WORK: usize = 2 * pipeline::packet::burst::BURST;
/// Allocated buffers in a worker's stash.
const STASH: usize = 32;
/// The least number of buffers per worker beyond those that devices hold.
const LEAST_SHARE: usize = 288;
/// The cache of a core in buffers, if there are plenty.
const CACHE: usize = 256;
/// The capacity of all queues to one worker together in frames, if there are plenty of buffers.
const QUEUE: usize = 2048;
/// The buffers of a process, if few workers need no more.
const USUAL: usize = 16_384;
/// The usual number of buffers per worker beyond those that devices hold.
const USUAL_SHARE: usize = 2048;
/// The slots of a net_ring.
const RING: usize = 1024;

/// The division of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The cache of each core in free buffers; DPDK lets it hold half as many again.
    pub cache: u32,
    /// The capacity of all queues to one worker together, in frames.
    pub queue: usize,
}

/// Returns the fewest buffers that suffice for this many workers.
pub(super) fn least(ports: &Ports, workers: usize) -> usize {
    workers * (held(ports) + IN_WORK + STASH + LEAST_SHARE)
}

/// Returns the number of buffers for this many workers if the configuration gives none.
pub(super) fn usual(ports: &Ports, workers: usize) -> u32 {
    // At most 64 workers, whose queues have 131,072 descriptors each.
    (workers * (held(ports) + USUAL_SHARE)).max(USUAL) as u32
}

/// Returns the division of the configured pool.
pub fn shares(config: &Config) -> Shares {
    let workers = config.worker.cores.len();
    of(config.memory.mbufs as usize, workers, workers * held(&config.ports))
}

/// Divides what devices and workers leave into thirds: for the caches, for the queues, for copies.
fn of(mbufs: usize, workers: usize, held: usize) -> Shares {
    let third = mbufs.saturating_sub(held + workers * (IN_WORK + STASH)) / 3;
    // The control thread's core has a cache too: it starts the ports.
    let cache = (third * 2 / 3 / (workers + 1)).min(CACHE);
    Shares { cache: cache as u32, queue: (third / workers.max(1)).clamp(1, QUEUE) }
}

/// Returns the number of buffers that one worker's queues of both devices hold.
fn held(ports: &Ports) -> usize {
    [&ports.inside, &ports.outside]
        .map(|port| {
            let descriptors = usize::from(port.rx_descriptors) + usize::from(port.tx_descriptors);
            match driver(&port.device) {
                // These drivers copy.
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

    /// Returns the most buffers that can be held at once, with all caches and queues full.
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
                    // A third of the least share is left for copies.
                    assert!(mbufs - most >= LEAST_SHARE / 3, "{workers} {mbufs}: {shares:?}");
                    assert!(shares.queue >= LEAST_SHARE / 3 && shares.cache >= 32, "{shares:?}");
                }
            }
        }
    }

    #[test]
    fn the_usual_number_suffices_for_any_workers_and_devices() {
        let config = |device: &str, descriptors: u16, workers: usize| {
            let text = format!(
                "role = \"gateway\"\nworker.cores = {:?}\nport.inside.device = \"{device}0\"\n\
                 port.outside.device = \"{device}1\"\nport.inside.rx_descriptors = {descriptors}\n\
                 [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
                (0..workers).collect::<Vec<_>>()
            );
            Config::parse("f.toml", &text).unwrap()
        };
        for device in ["0000:03:00.", "net_null", "net_ring", "net_tap"] {
            for (descriptors, workers) in [(1024, 1), (1024, 4), (32768, 4), (64, 64), (32768, 64)]
            {
                let config = config(device, descriptors, workers);
                let mbufs = config.memory.mbufs as usize;
                let least = least(&config.ports, workers);
                assert!(mbufs >= least, "{device} {descriptors} {workers}: {mbufs} of {least}");
            }
        }
        assert_eq!(config("0000:03:00.", 1024, 1).memory.mbufs, 16_384);
        assert_eq!(config("0000:03:00.", 1024, 4).memory.mbufs, 4 * (4096 + 2048));
        assert_eq!(config("net_null", 1024, 8).memory.mbufs, 16_384);
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
