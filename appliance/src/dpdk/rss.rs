//! Receive side scaling (RSS): what a port offers, the request to it, and its report.
//!
//! Packets belong to workers by the client's address alone, which is the source on one side of the
//! appliance and the destination on the other. A port hashes that address alone, or everything it can under
//! a key that lets only that address count (`datapath::rss::toeplitz`). The report shows what a port does;
//! packets on the wrong worker are handed over in software.

use dpdk_sys::{
    FIRSTACK_RSS_IP as IP, FIRSTACK_RSS_L3_DST_ONLY_BIT, FIRSTACK_RSS_L3_SRC_ONLY_BIT,
    FIRSTACK_RSS_SCTP as SCTP, FIRSTACK_RSS_TCP as TCP, FIRSTACK_RSS_UDP as UDP, rte_eth_dev_info,
    rte_eth_rss_conf, rte_eth_rss_reta_entry64,
};
use pipeline::wire::family::Version;

use super::error::{Errno, check};

/// The hash functions that restrict the others to one address.
const ONLY: u64 = 1 << FIRSTACK_RSS_L3_SRC_ONLY_BIT | 1 << FIRSTACK_RSS_L3_DST_ONLY_BIT;

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
    pub(super) fn only(self) -> u64 {
        match self {
            Self::Source => 1 << FIRSTACK_RSS_L3_SRC_ONLY_BIT,
            Self::Destination => 1 << FIRSTACK_RSS_L3_DST_ONLY_BIT,
        }
    }
}

/// The way in which a port can be told to hash one address alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneAddress {
    /// By hash functions of its configuration (mlx5, hns3, cnxk).
    Functions,
    /// By flow rules once it is started ([`super::Port::hash_one_address`]; ice, iavf).
    Rules,
    /// It cannot, for this reason.
    No(&'static str),
}

/// What a port offers for the distribution of packets, before it is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssOffer {
    /// Entries of the table that maps hashes to queues (RETA); 0 if it has none, or hashes no IP.
    pub entries: u16,
    /// How it hashes one address alone.
    pub one_address: OneAddress,
}

impl RssOffer {
    pub(super) fn new(info: &rte_eth_dev_info, driver: &str, field: RssField) -> Self {
        let offered = info.flow_type_rss_offloads;
        let one_address = match driver {
            _ if offered & field.only() != 0 => OneAddress::Functions,
            "net_ice" | "net_iavf" => OneAddress::Rules,
            "net_i40e" => {
                OneAddress::No("the card has one choice of hashed fields for all its ports")
            }
            _ => OneAddress::No("the port cannot hash one address alone"),
        };
        let hashes = offered & (IP | TCP) != 0 && info.max_rx_queues > 1;
        Self { entries: if hashes { info.reta_size } else { 0 }, one_address }
    }
}

/// The RSS that is requested of a port.
#[derive(Clone, Copy)]
pub struct Rss<'a> {
    /// The Toeplitz key, a secret. Ports use its first 40 or 52 bytes.
    pub key: &'a [u8],
    /// The client's address.
    pub field: RssField,
    /// Whether the port is to hash this address alone by hash functions, instead of all that it can.
    pub one_address: bool,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for Rss<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rss = f.debug_struct("Rss");
        rss.field("field", &self.field).field("one_address", &self.one_address);
        rss.finish_non_exhaustive()
    }
}

/// The fields that a port hashes.
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
    /// The fields that the port hashes.
    pub scope: RssScope,
    /// DPDK's hash function bits (`RTE_ETH_RSS_*`) in force.
    pub functions: u64,
    /// Whether the port has confirmed the fields and the key as requested.
    pub verified: bool,
    /// Why it is less than requested, or not verified.
    pub note: Option<&'static str>,
    /// Entries of the table that maps hashes to queues (RETA); 0 if it cannot be set.
    pub entries: u16,
    /// Whether the port marks each packet that it has hashed.
    pub marks: bool,
}

impl RssReport {
    /// Checks that the port hashes TCP over this family as requested.
    ///
    /// # Errors
    /// The reason in words.
    pub fn hashes(&self, family: Version) -> Result<(), &'static str> {
        if self.scope == RssScope::Off || !self.verified {
            return Err(self.note.unwrap_or("not verified"));
        }
        match (family, self.functions & tcp_over(family)) {
            (Version::V4, 0) => Err("the port does not hash TCP over IPv4"),
            (Version::V6, 0) => Err("the port does not hash TCP over IPv6"),
            _ => Ok(()),
        }
    }
}

/// Returns the hash functions of which one suffices for TCP over a family. Most drivers that have the
/// first hash all packets by it; i40e hashes TCP by the second alone.
fn tcp_over(family: Version) -> u64 {
    match family {
        Version::V4 => dpdk_sys::FIRSTACK_RSS_IPV4 | dpdk_sys::FIRSTACK_RSS_IPV4_TCP,
        Version::V6 => dpdk_sys::FIRSTACK_RSS_IPV6 | dpdk_sys::FIRSTACK_RSS_IPV6_TCP,
    }
}

/// Returns the hash functions that a driver is asked for, beside one address alone. i40e hashes no TCP that
/// is not asked for by name, and puts all of it in one queue; hns3 likewise, with one address alone.
/// Others add the ports by that name: mlx5 and cnxk to one address alone. iavf on E810 cards hashes the
/// number of the protocol as well, before the addresses. By the names of IP they all hash TCP.
fn functions(driver: &str, one_address: bool) -> u64 {
    match driver {
        "net_iavf" => IP,
        _ if one_address && !driver.starts_with("net_hns3") => IP,
        _ => IP | TCP | UDP | SCTP,
    }
}

/// Returns whether a port that was asked for some functions, and reports others, hashes TCP as asked. Some
/// drivers leave functions out of their report (ice and iavf those of fragments); what they do
/// with such packets shows when they arrive.
fn hashes_as_asked(asked: u64, seen: u64) -> bool {
    let tcp = |family| (asked & tcp_over(family) == 0) == (seen & tcp_over(family) == 0);
    // What is asked for by the name of TCP must be there by that name.
    let named = asked & !seen & TCP & !dpdk_sys::FIRSTACK_RSS_IPV6_TCP_EX == 0;
    asked & ONLY == seen & ONLY && named && tcp(Version::V4) && tcp(Version::V6)
}

/// The RSS that a port will be configured with; no functions means no RSS.
#[derive(Clone)]
pub(super) struct RssPlan {
    pub(super) functions: u64,
    pub(super) key: Box<[u8]>,
    field: RssField,
    note: Option<&'static str>,
    entries: u16,
    marks: bool,
}

/// Keeps the key out of logs.
impl std::fmt::Debug for RssPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { functions, key: _, field, note, entries, marks } = self;
        let mut plan = f.debug_struct("RssPlan");
        plan.field("functions", functions).field("field", field).field("note", note);
        plan.field("entries", entries).field("marks", marks).finish_non_exhaustive()
    }
}

impl RssPlan {
    /// Returns the best that a port with `info` can do with `rx_queues` queues.
    pub(super) fn new(
        wanted: Option<Rss<'_>>,
        rx_queues: u16,
        info: &rte_eth_dev_info,
        driver: &str,
    ) -> Self {
        let entries = info.reta_size;
        let marks = info.rx_offload_capa & dpdk_sys::FIRSTACK_RX_RSS_HASH != 0;
        let off = |field, note| Self {
            functions: 0,
            key: Box::default(),
            field,
            note: Some(note),
            entries,
            marks,
        };
        let Some(Rss { key, field, one_address }) = wanted else {
            return off(RssField::Source, "not requested");
        };
        if rx_queues < 2 {
            return off(field, "single receive queue");
        }
        // A port that states no length is given no key: DPDK 24.11 refuses any.
        let Some(key) = key.get(..usize::from(info.hash_key_size)) else {
            return off(field, "the port's RSS key is longer than the given one");
        };
        let only = if one_address { field.only() } else { 0 };
        let functions = info.flow_type_rss_offloads & (functions(driver, only != 0) | only);
        if functions & !ONLY == 0 {
            return off(field, "the port cannot hash IP addresses");
        }
        let note = match key {
            [] => Some("the port states no length of an RSS key"),
            _ if functions & only != only => Some("the port cannot hash one address alone"),
            _ => None,
        };
        Self { functions, key: key.into(), field, note, entries, marks }
    }

    /// Makes a started port hash by this plan. Its number of queues must be the same.
    pub(super) fn apply(&self, port: u16) -> Result<(), Errno> {
        let mut key = self.key.clone();
        #[allow(clippy::needless_update, reason = "DPDK 24.11 has one field more")]
        let mut conf = rte_eth_rss_conf {
            rss_key: pointer(&mut key),
            rss_key_len: key.len() as u8,
            rss_hf: self.functions,
            ..rte_eth_rss_conf::default()
        };
        // SAFETY: the port exists. DPDK reads the structure and the key, and keeps neither.
        check(unsafe { dpdk_sys::rte_eth_dev_rss_hash_update(port, &raw mut conf) }).map(drop)
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
        if !hashes_as_asked(self.functions, seen.rss_hf) {
            self.report(seen.rss_hf, false, Some("the port hashes other fields than requested"))
        } else if key[..self.key.len()] != *self.key {
            self.report(seen.rss_hf, false, Some("the port uses another RSS key"))
        } else {
            self.report(seen.rss_hf, self.note.is_none(), self.note)
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
        RssReport { scope, functions, verified, note, entries: self.entries, marks: self.marks }
    }
}

/// Returns a key as DPDK wants it: null if there is none.
pub(super) fn pointer(key: &mut [u8]) -> *mut u8 {
    if key.is_empty() { std::ptr::null_mut() } else { key.as_mut_ptr() }
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

    const SOURCE: RssField = RssField::Source;
    const DESTINATION: RssField = RssField::Destination;

    fn info(offered: u64, key_size: u8) -> rte_eth_dev_info {
        rte_eth_dev_info {
            flow_type_rss_offloads: offered,
            hash_key_size: key_size,
            reta_size: 128,
            max_rx_queues: 8,
            ..rte_eth_dev_info::default()
        }
    }

    fn plan(offered: u64, key_size: u8, queues: u16, one_address: bool) -> RssPlan {
        plan_of("net_mlx5", offered, key_size, queues, one_address)
    }

    fn plan_of(
        driver: &str,
        offered: u64,
        key_size: u8,
        queues: u16,
        one_address: bool,
    ) -> RssPlan {
        let rss = Rss { key: &[0x6d; 52], field: DESTINATION, one_address };
        RssPlan::new(Some(rss), queues, &info(offered, key_size), driver)
    }

    #[test]
    fn one_address_alone_if_it_is_asked_for() {
        let offered = IP | TCP | DESTINATION.only() | SOURCE.only();
        let one = plan(offered, 52, 4, true);
        assert_eq!(
            one.functions,
            IP | DESTINATION.only(),
            "by the name of TCP it hashes ports, too"
        );
        let hns3 = plan_of("net_hns3_vf", offered, 52, 4, true);
        assert_eq!(hns3.functions, IP | TCP | DESTINATION.only());
        assert_eq!(one.key.len(), 52);
        let report = one.report(one.functions, true, None);
        assert_eq!(report.scope, RssScope::Address(DESTINATION));
        let both = plan(offered, 52, 4, false);
        assert_eq!((both.functions, both.note), (IP | TCP, None));
        assert_eq!(both.report(both.functions, true, None).scope, RssScope::Ports);
        assert!(plan(IP | TCP, 52, 4, true).note.is_some());
    }

    #[test]
    fn tcp_and_udp_are_asked_for_by_name() {
        let offered = IP | TCP | UDP | SCTP | ONLY;
        let i40e = plan_of("net_i40e", offered, 52, 2, false);
        assert_eq!(i40e.functions, IP | TCP | UDP | SCTP);
        assert_eq!(plan_of("net_iavf", offered, 52, 2, false).functions, IP);
    }

    #[test]
    fn a_port_that_states_no_length_of_a_key_is_given_none_and_not_relied_on() {
        let plan = plan(IP | TCP, 0, 2, false);
        assert!(plan.key.is_empty() && plan.functions != 0 && plan.note.is_some());
    }

    #[test]
    fn off_when_it_cannot_work() {
        let note = |offered, key_size, queues| plan(offered, key_size, queues, false).note;
        assert_eq!(note(IP, 40, 1), Some("single receive queue"));
        assert_eq!(note(IP, 64, 2), Some("the port's RSS key is longer than the given one"));
        assert_eq!(note(0, 40, 2), Some("the port cannot hash IP addresses"));
        assert_eq!(note(ONLY, 40, 2), Some("the port cannot hash IP addresses"));
    }

    #[test]
    fn what_a_port_says_of_fragments_does_not_matter() {
        let (v4, v6) = (dpdk_sys::FIRSTACK_RSS_IPV4, dpdk_sys::FIRSTACK_RSS_IPV6);
        let asked = IP | TCP | UDP;
        // As ice and iavf report.
        assert!(hashes_as_asked(asked, v4 | v6 | TCP | UDP));
        assert!(hashes_as_asked(asked, asked) && hashes_as_asked(v4, v4));
        // As i40e would, if TCP were not asked for, or not given.
        assert!(!hashes_as_asked(asked, IP));
        assert!(!hashes_as_asked(asked, v4 | TCP & !tcp_over(Version::V6)));
        assert!(!hashes_as_asked(asked | SOURCE.only(), asked));
        assert!(!hashes_as_asked(asked, asked | DESTINATION.only()));
        assert!(!hashes_as_asked(v4 | v6, v4));
    }

    #[test]
    fn only_what_is_verified_is_relied_on_and_each_family_by_itself() {
        let plan = plan(IP | TCP, 40, 2, false);
        let report = |functions, verified| plan.report(functions, verified, None);
        for family in [Version::V4, Version::V6] {
            assert_eq!(report(plan.functions, true).hashes(family), Ok(()));
            assert!(report(plan.functions, false).hashes(family).is_err());
            assert!(report(0, true).hashes(family).is_err());
        }
        let v4 = report(tcp_over(Version::V4), true);
        assert!(v4.hashes(Version::V4).is_ok() && v4.hashes(Version::V6).is_err());
    }

    #[test]
    fn one_address_is_offered_by_functions_by_rules_or_not_at_all() {
        let offer = |offered, driver| RssOffer::new(&info(offered, 40), driver, SOURCE);
        let mlx5 = offer(IP | TCP | ONLY, "mlx5_pci");
        assert_eq!(mlx5, RssOffer { entries: 128, one_address: OneAddress::Functions });
        assert_eq!(offer(IP | DESTINATION.only(), "net_ice").one_address, OneAddress::Rules);
        assert_eq!(offer(IP | TCP, "net_iavf").one_address, OneAddress::Rules);
        for driver in ["net_i40e", "net_e1000_igb"] {
            assert!(matches!(offer(IP | TCP, driver).one_address, OneAddress::No(_)), "{driver}");
        }
        assert_eq!(offer(0, "net_e1000_em").entries, 0);
    }
}
