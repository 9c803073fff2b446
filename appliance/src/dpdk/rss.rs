//! Receive side scaling (RSS): the request to a port, and the port's report.
//!
//! Packets belong to workers by the client's address alone, which is the source on one side of the
//! appliance and the destination on the other. Few ports can be configured to hash a single address
//! (mlx5, cnxk and hns3 among those in DPDK 22.11; Intel's i40e, ice and iavf accept it in flow
//! rules only, which are not set here). The report shows what a port does; packets on the wrong
//! worker are handed over in software.

use dpdk_sys::{
    FIRSTACK_RSS_IP as IP, FIRSTACK_RSS_L3_DST_ONLY_BIT, FIRSTACK_RSS_L3_SRC_ONLY_BIT,
    FIRSTACK_RSS_TCP as TCP, FIRSTACK_RSS_UDP as UDP, rte_eth_dev_info, rte_eth_rss_conf,
    rte_eth_rss_reta_entry64,
};

use super::error::{Errno, check};

/// Bytes of the key of a port that does not state them.
const USUAL_KEY: usize = 40;

/// The address that determines the receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssField {
    /// The IP source address.
    Source,
    /// The IP destination address.
    Destination,
}

impl RssField {
    /// Returns the flag that restricts a hash function to this address.
    fn only(self) -> u64 {
        match self {
            Self::Source => 1 << FIRSTACK_RSS_L3_SRC_ONLY_BIT,
            Self::Destination => 1 << FIRSTACK_RSS_L3_DST_ONLY_BIT,
        }
    }
}

/// The RSS that is requested of a port.
#[derive(Clone, Copy)]
pub struct Rss<'a> {
    /// The Toeplitz key, a secret. Ports use its first 40 or 52 bytes.
    pub key: &'a [u8],
    /// The address to hash.
    pub field: RssField,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for Rss<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rss").field("field", &self.field).finish_non_exhaustive()
    }
}

/// The fields that determine a packet's receive queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RssScope {
    /// None that can be relied on: all packets may come on one queue.
    Off,
    /// The requested address alone.
    Address(RssField),
    /// Both IP addresses.
    Addresses,
    /// IP addresses and ports.
    Ports,
}

/// The RSS of a started port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssReport {
    /// The fields that determine the queue.
    pub scope: RssScope,
    /// DPDK's hash function bits (`RTE_ETH_RSS_*`) in force.
    pub functions: u64,
    /// Whether the port has confirmed functions and key as requested.
    pub verified: bool,
    /// Why it is less than requested, or not verified.
    pub note: Option<&'static str>,
    /// Entries of the table that maps hashes to queues (RETA); 0 if it cannot be set.
    pub entries: u16,
}

impl RssReport {
    /// Checks that the port can distribute packets by the requested address, given a table.
    ///
    /// # Errors
    /// The reason in words.
    pub fn distributes(&self) -> Result<(), &'static str> {
        match self.scope {
            RssScope::Address(_) if !self.verified => Err(self.note.unwrap_or("not verified")),
            RssScope::Address(_) if !self.entries.is_power_of_two() => {
                Err("the size of the port's RSS table is not a power of two")
            }
            RssScope::Address(_) => Ok(()),
            _ => Err(self.note.unwrap_or("the port hashes other fields")),
        }
    }
}

/// The RSS that a port will be configured with; no functions means no RSS.
#[derive(Clone)]
pub(super) struct RssPlan {
    pub(super) functions: u64,
    pub(super) key: Box<[u8]>,
    field: RssField,
    note: Option<&'static str>,
    entries: u16,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for RssPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { functions, key: _, field, note, entries } = self;
        let mut plan = f.debug_struct("RssPlan");
        plan.field("functions", functions).field("field", field).field("note", note);
        plan.field("entries", entries).finish_non_exhaustive()
    }
}

impl RssPlan {
    /// Returns the best that a port with `info` can do with `rx_queues` queues.
    pub(super) fn new(wanted: Option<Rss<'_>>, rx_queues: u16, info: &rte_eth_dev_info) -> Self {
        let entries = info.reta_size;
        let off = |field, note| Self {
            functions: 0,
            key: Box::default(),
            field,
            note: Some(note),
            entries,
        };
        let Some(Rss { key, field }) = wanted else {
            return off(RssField::Source, "not requested");
        };
        if rx_queues < 2 {
            return off(field, "single receive queue");
        }
        let key_len = match usize::from(info.hash_key_size) {
            0 => USUAL_KEY,
            len => len,
        };
        let Some(key) = key.get(..key_len) else {
            return off(field, "the port's RSS key is longer than the given one");
        };
        let offered = info.flow_type_rss_offloads;
        let (functions, note) = if offered & field.only() != 0 {
            (offered & (IP | TCP | UDP) | field.only(), None)
        } else {
            // Not TCP and UDP, because then the ports would be hashed as well.
            (offered & IP, Some("the port cannot hash a single address"))
        };
        if functions & (IP | TCP | UDP) == 0 {
            return off(field, "the port cannot hash IP addresses");
        }
        Self { functions, key: key.into(), field, note, entries }
    }

    /// Reports the RSS of the started port.
    pub(super) fn verify(&self, port: u16) -> RssReport {
        let mut report = self.report(self.functions, false, self.note);
        if self.functions == 0 {
            return report;
        }
        let mut key = [0u8; u8::MAX as usize];
        let mut seen = rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: self.key.len() as u8,
            ..rte_eth_rss_conf::default()
        };
        // SAFETY: the port exists. The key's buffer is as long as any length that DPDK can state.
        let status = unsafe { dpdk_sys::rte_eth_dev_rss_hash_conf_get(port, &raw mut seen) };
        if check(status).is_err() {
            report.note = Some("the port does not report what it hashes");
            return report;
        }
        if seen.rss_hf != self.functions {
            self.report(seen.rss_hf, false, Some("the port hashes other fields than requested"))
        } else if key[..self.key.len()] != *self.key {
            self.report(seen.rss_hf, false, Some("the port uses another RSS key"))
        } else {
            self.report(seen.rss_hf, true, self.note)
        }
    }

    fn report(&self, functions: u64, verified: bool, note: Option<&'static str>) -> RssReport {
        let scope = if functions & (IP | TCP | UDP) == 0 {
            RssScope::Off
        } else if functions & self.field.only() != 0 {
            RssScope::Address(self.field)
        } else if functions & (TCP | UDP) != 0 {
            RssScope::Ports
        } else {
            RssScope::Addresses
        };
        RssReport { scope, functions, verified, note, entries: self.entries }
    }
}

/// Sets the table of a started port that maps hashes to queues. Returns whether the port has it, by
/// reading it back.
pub(super) fn set_table(port: u16, queues: &[u16]) -> Result<bool, Errno> {
    const GROUP: usize = dpdk_sys::FIRSTACK_RETA_GROUP as usize;
    let size = queues.len() as u16;
    let group = |some: &[u16]| {
        let mut group = rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() };
        group.reta[..some.len()].copy_from_slice(some);
        group
    };
    let mut wanted: Vec<_> = queues.chunks(GROUP).map(group).collect();
    let empty = rte_eth_rss_reta_entry64 { mask: u64::MAX, ..Default::default() };
    let mut seen = vec![empty; wanted.len()];
    // SAFETY: the port exists; both arrays have a group for each 64 of `size` entries; DPDK reads
    // one and writes the other.
    let (set, got) = unsafe {
        let set = dpdk_sys::rte_eth_dev_rss_reta_update(port, wanted.as_mut_ptr(), size);
        (set, dpdk_sys::rte_eth_dev_rss_reta_query(port, seen.as_mut_ptr(), size))
    };
    check(set)?;
    check(got)?;
    let seen = seen.iter().flat_map(|group| group.reta).take(queues.len());
    Ok(seen.eq(queues.iter().copied()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(offered: u64, key_size: u8, queues: u16) -> RssPlan {
        let info = rte_eth_dev_info {
            flow_type_rss_offloads: offered,
            hash_key_size: key_size,
            ..rte_eth_dev_info::default()
        };
        let key = [0x6d; 52];
        RssPlan::new(Some(Rss { key: &key, field: RssField::Destination }), queues, &info)
    }

    #[test]
    fn one_address_alone_when_the_port_can() {
        let only = RssField::Destination.only();
        let plan = plan(IP | TCP | only | RssField::Source.only(), 52, 4);
        assert_eq!(plan.functions, IP | TCP | only);
        assert_eq!(plan.key.len(), 52);
        let scope = plan.report(plan.functions, true, None).scope;
        assert_eq!(scope, RssScope::Address(RssField::Destination));
    }

    #[test]
    fn only_what_is_verified_and_has_a_table_distributes_packets() {
        let only = RssField::Destination.only();
        let mut plan = plan(IP | TCP | only, 52, 4);
        assert!(plan.report(plan.functions, true, None).distributes().is_err());
        plan.entries = 128;
        assert_eq!(plan.report(plan.functions, true, None).distributes(), Ok(()));
        assert!(plan.report(plan.functions, false, None).distributes().is_err());
        assert!(plan.report(IP, true, None).distributes().is_err());
        plan.entries = 100;
        assert!(plan.report(plan.functions, true, None).distributes().is_err());
    }

    #[test]
    fn both_addresses_but_no_ports_otherwise() {
        let plan = plan(IP | TCP | UDP, 0, 2);
        assert_eq!(plan.functions, IP);
        assert_eq!(plan.key.len(), USUAL_KEY);
        assert_eq!(plan.report(plan.functions, true, None).scope, RssScope::Addresses);
    }

    #[test]
    fn off_when_it_cannot_work() {
        assert_eq!(plan(IP, 40, 1).note, Some("single receive queue"));
        assert_eq!(plan(IP, 64, 2).note, Some("the port's RSS key is longer than the given one"));
        assert_eq!(plan(0, 40, 2).note, Some("the port cannot hash IP addresses"));
    }
}
