//! The setup of a port: its configuration, reduced to what the port supports.

use dpdk_sys::{rte_eth_conf, rte_eth_dev_info};

use super::error::Errno;
use super::port::driver_name;
use super::rss::{self, Rss, RssPlan, RssReport};

/// Bytes of an Ethernet header.
const ETHERNET_HEADER: u32 = 14;

/// Bytes by which a frame exceeds its MTU if the port does not state them: header and checksum.
const USUAL_OVERHEAD: u32 = ETHERNET_HEADER + 4;

/// The configuration that is requested of a port.
#[derive(Clone, Copy, Debug)]
pub struct PortConfig<'a> {
    /// The number of receive queues and of transmit queues: one of each per worker.
    pub queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// The longest frame in bytes, without the checksum: 1514 for an MTU of 1500.
    pub max_frame: u32,
    /// The distribution of packets over receive queues; `None` for a single queue.
    pub rss: Option<Rss<'a>>,
    /// Whether to ask for the checksum flags of received packets, if the port has them for IPv4 and
    /// TCP.
    pub checksums: bool,
    /// Whether to ask for interrupts of the receive queues. Some ports that have none refuse to be
    /// configured, or to start.
    pub interrupts: bool,
}

/// The setup of a started port, to be compared with its configuration.
#[derive(Clone, Debug)]
pub struct PortReport {
    /// The DPDK driver.
    pub driver: String,
    /// The NUMA node of the device, if it has one.
    pub socket: Option<u32>,
    /// The number of receive queues.
    pub rx_queues: u16,
    /// The number of transmit queues.
    pub tx_queues: u16,
    /// Descriptors of each receive queue.
    pub rx_descriptors: u16,
    /// Descriptors of each transmit queue.
    pub tx_descriptors: u16,
    /// The MTU in bytes.
    pub mtu: u16,
    /// Why the port refused the MTU that `max_frame` needs, if it did. Many virtual devices have no
    /// MTU to set and still carry any frame.
    pub mtu_refused: Option<Errno>,
    /// Whether the port can receive a long frame into several buffers. Some virtual devices do so
    /// without stating it.
    pub scatter: bool,
    /// Whether the port states that it can send frames of several segments. Some virtual devices do
    /// so without stating it.
    pub multi_segment: bool,
    /// Whether the port marks received packets whose checksums are right.
    pub checksums: bool,
    /// Whether the port takes VLAN tags off received frames although it is not asked to.
    pub strips_vlan: bool,
    /// Whether the receive queues have been asked for interrupts; [`super::Port::rx_events`] has them.
    pub interrupts: bool,
    /// Whether the port is promiscuous: receives frames to other MAC addresses.
    pub promiscuous: bool,
    /// The distribution of packets over the receive queues.
    pub rss: RssReport,
}

/// The setup that a port will be configured with.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) rx_queues: u16,
    pub(super) tx_queues: u16,
    pub(super) rx_descriptors: u16,
    pub(super) tx_descriptors: u16,
    pub(super) mtu: u16,
    pub(super) mtu_refused: Option<Errno>,
    pub(super) rx_offloads: u64,
    pub(super) tx_offloads: u64,
    pub(super) rss: RssPlan,
    pub(super) interrupts: bool,
}

impl Plan {
    /// Returns as much of `config` as a port with `info` supports.
    pub(super) fn new(config: &PortConfig<'_>, info: &rte_eth_dev_info, data_room: u16) -> Self {
        let rx_queues = config.queues.clamp(1, info.max_rx_queues.max(1));
        // Without scattering, a frame must fit into one buffer.
        let scatters = info.rx_offload_capa & dpdk_sys::FIRSTACK_RX_SCATTER != 0;
        let longest = if scatters { u32::MAX } else { data_room.into() };
        let driver = driver_name(info);
        let rss = RssPlan::new(config.rss, rx_queues, info, &driver);
        // The port marks each packet that it has hashed.
        let hash = if rss.functions == 0 { 0 } else { dpdk_sys::FIRSTACK_RX_RSS_HASH };
        let checksums = if config.checksums { checksums(info, &driver) } else { 0 };
        let (mtu, fits) = mtu(config.max_frame.min(longest), info);
        Self {
            rx_queues,
            tx_queues: config.queues.clamp(1, info.max_tx_queues.max(1)),
            rx_descriptors: config.rx_descriptors,
            tx_descriptors: config.tx_descriptors,
            mtu,
            mtu_refused: (!fits).then(|| Errno::from_status(libc::ERANGE)),
            rx_offloads: info.rx_offload_capa & (dpdk_sys::FIRSTACK_RX_SCATTER | hash) | checksums,
            tx_offloads: info.tx_offload_capa & dpdk_sys::FIRSTACK_TX_MULTI_SEGS,
            rss,
            interrupts: config.interrupts,
        }
    }

    /// Returns the configuration in DPDK's form.
    pub(super) fn conf(&self) -> rte_eth_conf {
        let mut conf = rte_eth_conf::default();
        conf.rxmode.mtu = u32::from(self.mtu);
        conf.rxmode.offloads = self.rx_offloads;
        conf.txmode.offloads = self.tx_offloads;
        conf.intr_conf.set_rxq(self.interrupts.into());
        if self.rss.functions != 0 {
            // DPDK keeps the pointer and uses it whenever the port starts, so these few bytes are
            // leaked.
            let key = Box::leak(self.rss.key.clone());
            conf.rxmode.mq_mode = dpdk_sys::RTE_ETH_MQ_RX_RSS;
            conf.rx_adv_conf.rss_conf.rss_hf = self.rss.functions;
            conf.rx_adv_conf.rss_conf.rss_key_len = key.len() as u8;
            conf.rx_adv_conf.rss_conf.rss_key = rss::pointer(key);
        }
        conf
    }
}

/// Returns the receive offloads that verify checksums: those of IPv4 and TCP together, or none. Ports
/// of virtual machines, such as virtio, offer that of TCP alone. What it means there is that the host may
/// leave checksums unfinished, which no frame that is forwarded may have. vmxnet3 and netvsc offer both,
/// and may mean the same.
fn checksums(info: &rte_eth_dev_info, driver: &str) -> u64 {
    let all = dpdk_sys::FIRSTACK_RX_CHECKSUMS;
    let may_be_unfinished = matches!(driver, "net_vmxnet3" | "net_netvsc");
    if info.rx_offload_capa & all == all && !may_be_unfinished { all } else { 0 }
}

/// Returns the MTU for frames of `max_frame` bytes, limited to what the port supports, and whether
/// it is the full one.
fn mtu(max_frame: u32, info: &rte_eth_dev_info) -> (u16, bool) {
    let largest = u32::from(info.max_mtu);
    let overhead = match info.max_rx_pktlen.checked_sub(largest) {
        Some(overhead) if info.max_mtu != u16::MAX && overhead > 0 => overhead,
        _ => USUAL_OVERHEAD,
    };
    let ceiling = largest.min(info.max_rx_pktlen.saturating_sub(overhead));
    let wanted = max_frame.saturating_sub(ETHERNET_HEADER);
    let mtu = wanted.min(ceiling).max(u32::from(info.min_mtu));
    // At most `max_mtu`, unless a port states a minimum above its maximum.
    (u16::try_from(mtu).unwrap_or(u16::MAX), mtu == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(max_mtu: u16, max_rx_pktlen: u32) -> rte_eth_dev_info {
        rte_eth_dev_info { min_mtu: 68, max_mtu, max_rx_pktlen, ..rte_eth_dev_info::default() }
    }

    #[test]
    fn the_mtu_is_cut_to_the_ports_limits() {
        assert_eq!(mtu(1514, &info(9702, 9728)), (1500, true));
        assert_eq!(mtu(9014, &info(u16::MAX, u32::MAX)), (9000, true));
        assert_eq!(mtu(9014, &info(1500, 1518)), (1500, false));
        assert_eq!(mtu(1514, &info(u16::MAX, 1514)), (1496, false));
        assert_eq!(mtu(10, &info(1500, 1518)), (68, false));
    }

    fn config() -> PortConfig<'static> {
        PortConfig {
            queues: 4,
            rx_descriptors: 512,
            tx_descriptors: 512,
            max_frame: 1514,
            rss: None,
            checksums: true,
            interrupts: true,
        }
    }

    #[test]
    fn what_a_port_does_not_offer_is_not_asked_for() {
        use dpdk_sys::{
            FIRSTACK_RX_CHECKSUMS as CHECKSUMS, FIRSTACK_RX_SCATTER as SCATTER,
            FIRSTACK_TX_MULTI_SEGS as MULTI_SEGS,
        };
        let tcp_alone = CHECKSUMS & CHECKSUMS.wrapping_neg() ^ CHECKSUMS;
        let all = u64::MAX;
        for (rx, tx, expected) in [
            (0, 0, (0, 0)),
            (SCATTER, !MULTI_SEGS, (SCATTER, 0)),
            (CHECKSUMS, MULTI_SEGS, (CHECKSUMS, MULTI_SEGS)),
            (tcp_alone | SCATTER, 0, (SCATTER, 0)),
            // No VLAN tag is taken off, and no checksum computed, whatever is offered.
            (all, all, (CHECKSUMS | SCATTER, MULTI_SEGS)),
        ] {
            let mut info = info(9000, 9018);
            (info.rx_offload_capa, info.tx_offload_capa) = (rx, tx);
            let plan = Plan::new(&config(), &info, 2048);
            assert_eq!((plan.rx_offloads, plan.tx_offloads), expected, "{rx:#x} {tx:#x}");
            let conf = plan.conf();
            assert_eq!((conf.rxmode.offloads, conf.intr_conf.rxq()), (expected.0, 1));
            let plain = PortConfig { checksums: false, interrupts: false, ..config() };
            let plan = Plan::new(&plain, &info, 2048);
            assert_eq!(plan.rx_offloads, expected.0 & !CHECKSUMS);
            assert_eq!(plan.conf().intr_conf.rxq(), 0);
        }
    }

    #[test]
    fn queues_are_cut_to_the_ports_number() {
        let mut info = info(1500, 1518);
        info.max_rx_queues = 1;
        info.max_tx_queues = 8;
        let plan = Plan::new(&config(), &info, 2048);
        assert_eq!((plan.rx_queues, plan.tx_queues), (1, 4));
    }
}
