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
    RTE_FLOW_ITEM_TYPE_IPV6, RTE_FLOW_ITEM_TYPE_TCP, RTE_FLOW_ITEM_TYPE_UDP, rte_flow_action,
    rte_flow_action_rss, rte_flow_attr, rte_flow_error, rte_flow_item, rte_flow_item_type,
};

use super::error::Errno;
use super::rss::RssField;

/// A rule: the packets that it is for.
struct Rule {
    /// The pattern, as testpmd writes it.
    name: &'static str,
    /// The header types behind Ethernet.
    headers: &'static [rte_flow_item_type],
    /// The hash function of these packets.
    function: u64,
    /// Whether the port is of no use without it. Packets that are not TCP can be handed over.
    is_needed: bool,
}

/// The rules, in the order in which they are set.
const RULES: [Rule; 6] = {
    const V4: rte_flow_item_type = RTE_FLOW_ITEM_TYPE_IPV4;
    const V6: rte_flow_item_type = RTE_FLOW_ITEM_TYPE_IPV6;
    const TCP: rte_flow_item_type = RTE_FLOW_ITEM_TYPE_TCP;
    const UDP: rte_flow_item_type = RTE_FLOW_ITEM_TYPE_UDP;
    const fn rule(
        name: &'static str,
        headers: &'static [rte_flow_item_type],
        function: u64,
        is_needed: bool,
    ) -> Rule {
        Rule { name, headers, function, is_needed }
    }
    [
        rule("eth / ipv4 / tcp", &[V4, TCP], dpdk_sys::FIRSTACK_RSS_IPV4_TCP, true),
        rule("eth / ipv6 / tcp", &[V6, TCP], dpdk_sys::FIRSTACK_RSS_IPV6_TCP, true),
        rule("eth / ipv4 / udp", &[V4, UDP], dpdk_sys::FIRSTACK_RSS_IPV4_UDP, false),
        rule("eth / ipv6 / udp", &[V6, UDP], dpdk_sys::FIRSTACK_RSS_IPV6_UDP, false),
        rule("eth / ipv4", &[V4], dpdk_sys::FIRSTACK_RSS_IPV4, false),
        rule("eth / ipv6", &[V6], dpdk_sys::FIRSTACK_RSS_IPV6, false),
    ]
};

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

/// Sets the rules on a started port. A rule that is not needed may be refused.
pub(super) fn hash_one_address(port: u16, field: RssField) -> Result<(), RefusedRule> {
    for rule in &RULES {
        match rule.create(port, field) {
            Err(refused) if rule.is_needed => return Err(refused),
            Err(refused) => tracing::debug!(%refused, "flow rule not set"),
            Ok(()) => {}
        }
    }
    Ok(())
}

impl Rule {
    fn create(&self, port: u16, field: RssField) -> Result<(), RefusedRule> {
        let mut attributes = rte_flow_attr::default();
        attributes.set_ingress(1);
        let item = |&type_| rte_flow_item {
            type_,
            spec: ptr::null(),
            last: ptr::null(),
            mask: ptr::null(),
        };
        let headers = [RTE_FLOW_ITEM_TYPE_ETH].iter().chain(self.headers);
        let pattern: Vec<_> = headers.chain(&[RTE_FLOW_ITEM_TYPE_END]).map(item).collect();
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
