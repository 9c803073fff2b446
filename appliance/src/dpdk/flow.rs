//! Flow rules (rte_flow) that make a port hash one IP address alone, for ports whose configuration cannot.
//!
//! In DPDK 22.11 and 24.11 the drivers of E810 cards (ice) and of their virtual functions (iavf) accept
//! such rules: a pattern of header types without values, and an RSS action with hash functions but without
//! a key and queues, so that the port's own are used. ice needs a DDP package for it, and iavf a host that
//! lets it choose. This was read in the drivers' sources, and not seen on a card. i40e has such rules
//! as well, but one register for the fields of all ports of a card; igb, ixgbe and igc have none.

use std::ffi::{CStr, c_void};
use std::ptr;

use dpdk_sys::{
    RTE_ETH_HASH_FUNCTION_DEFAULT, RTE_FLOW_ACTION_TYPE_END, RTE_FLOW_ACTION_TYPE_RSS,
    RTE_FLOW_ITEM_TYPE_END, RTE_FLOW_ITEM_TYPE_ETH, RTE_FLOW_ITEM_TYPE_IPV4,
    RTE_FLOW_ITEM_TYPE_IPV6, rte_flow_action, rte_flow_action_rss, rte_flow_attr, rte_flow_error,
    rte_flow_item, rte_flow_item_type,
};

use super::error::Errno;
use super::rss::RssField;

/// A rule: the packets that it is for.
struct Rule {
    /// The pattern, as testpmd writes it.
    name: &'static str,
    /// The header type behind Ethernet.
    header: rte_flow_item_type,
    /// The hash function of these packets.
    function: u64,
}

/// The rules. They hold for TCP and UDP as well: the drivers' own rules for these would hash the protocol's
/// number before the address, and thus shift it.
const RULES: [Rule; 2] = [
    Rule {
        name: "eth / ipv4",
        header: RTE_FLOW_ITEM_TYPE_IPV4,
        function: dpdk_sys::FIRSTACK_RSS_IPV4,
    },
    Rule {
        name: "eth / ipv6",
        header: RTE_FLOW_ITEM_TYPE_IPV6,
        function: dpdk_sys::FIRSTACK_RSS_IPV6,
    },
];

/// A rule that a port has refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rule `{rule}`: {reason}{}", .words.as_ref().map_or(String::new(), |words| format!(" ({words})")))]
pub struct RefusedRule {
    /// The rule's pattern, as testpmd writes it.
    pub rule: &'static str,
    /// DPDK's error.
    pub reason: Errno,
    /// What the driver says of it.
    pub words: Option<String>,
}

/// Sets the rules on a started port. That a rule is accepted does not prove that the card follows it, as
/// ice accepts any; where packets arrive does.
pub(super) fn hash_one_address(port: u16, field: RssField) -> Result<(), RefusedRule> {
    RULES.iter().try_for_each(|rule| rule.create(port, field))
}

impl Rule {
    fn create(&self, port: u16, field: RssField) -> Result<(), RefusedRule> {
        let mut attributes = rte_flow_attr::default();
        attributes.set_ingress(1);
        let item = |type_| rte_flow_item {
            type_,
            spec: ptr::null(),
            last: ptr::null(),
            mask: ptr::null(),
        };
        let pattern = [RTE_FLOW_ITEM_TYPE_ETH, self.header, RTE_FLOW_ITEM_TYPE_END].map(item);
        let rss = rte_flow_action_rss {
            func: RTE_ETH_HASH_FUNCTION_DEFAULT,
            level: 0,
            types: self.function | field.only(),
            key_len: 0,
            queue_num: 0,
            key: ptr::null(),
            queue: ptr::null(),
        };
        let actions = [
            rte_flow_action { type_: RTE_FLOW_ACTION_TYPE_RSS, conf: (&raw const rss).cast() },
            rte_flow_action { type_: RTE_FLOW_ACTION_TYPE_END, conf: ptr::null::<c_void>() },
        ];
        let mut error = rte_flow_error::default();
        // SAFETY: the port exists. Pattern and actions end with their END, and like the attributes are read
        // during the call only; DPDK writes the error. The rule is the port's until it is closed.
        let flow = unsafe {
            dpdk_sys::rte_flow_create(
                port,
                &raw const attributes,
                pattern.as_ptr(),
                actions.as_ptr(),
                &raw mut error,
            )
        };
        if !flow.is_null() {
            return Ok(());
        }
        let reason = Errno::last();
        // SAFETY: DPDK and drivers set the message to null or to a literal.
        let words = (!error.message.is_null()).then(|| unsafe { CStr::from_ptr(error.message) });
        let words = words.map(|words| words.to_string_lossy().into_owned());
        Err(RefusedRule { rule: self.name, reason, words })
    }
}

/// Removes all rules of a started port.
pub(super) fn clear(port: u16) {
    let mut error = rte_flow_error::default();
    // SAFETY: the port exists; DPDK writes the error. A port without rules may refuse, which changes nothing.
    unsafe { dpdk_sys::rte_flow_flush(port, &raw mut error) };
}
