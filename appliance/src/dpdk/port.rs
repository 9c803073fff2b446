//! A network port: found by its device, configured, started and stopped, with its counters.

use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use super::eal::{Eal, Runtime, c_string};
use super::error::{Errno, Error, check};
use super::flow::{self, RefusedRule};
use super::interrupt::Interrupt;
use super::pool::MbufPool;
use super::queue::{RxQueue, TxQueue};
use super::rss::{self, Rss, RssField, RssOffer, RssPlan, RssReport};
use super::setup::{Plan, PortConfig, PortReport};
use crate::sys::interface;

/// A port, exclusively owned. It is stopped and closed when it and all its queues are dropped.
#[derive(Debug)]
pub struct Port {
    inner: Arc<PortInner>,
    plan: Option<Plan>,
    started: bool,
    _one_thread: PhantomData<Cell<()>>,
}

/// The part of a port that its queues share.
#[derive(Debug)]
pub(super) struct PortInner {
    pub(super) id: u16,
    device: String,
    runtime: Arc<Runtime>,
    /// Whether the port was made promiscuous, and was not before.
    made_promiscuous: AtomicBool,
}

/// The queues of a started port, and a report of its setup.
#[derive(Debug)]
pub struct Started {
    /// The receive queues, in order.
    pub rx: Vec<RxQueue>,
    /// The transmit queues, in order.
    pub tx: Vec<TxQueue>,
    /// The setup that the port has, which may be less than its configuration.
    pub report: PortReport,
}

/// The state of a port's link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Whether the link is up.
    pub up: bool,
    /// The speed; `None` if the port does not know it.
    pub megabits_per_second: Option<u32>,
    /// Whether the link is full duplex.
    pub full_duplex: bool,
}

/// A port's counters since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Packets received.
    pub ipackets: u64,
    /// Packets sent.
    pub opackets: u64,
    /// Bytes received.
    pub ibytes: u64,
    /// Bytes sent.
    pub obytes: u64,
    /// Packets lost because a receive queue was full.
    pub imissed: u64,
    /// Packets received with errors.
    pub ierrors: u64,
    /// Packets that failed to be sent.
    pub oerrors: u64,
    /// Packets lost because the pool was empty.
    pub rx_nombuf: u64,
}

impl Port {
    /// Finds the port of a device: a PCI address (`0000:01:00.0`), or a virtual device with its
    /// parameters (`net_pcap0,rx_pcap=in.pcap,tx_pcap=out.pcap`), which is created unless the EAL's
    /// arguments have created it.
    ///
    /// # Errors
    /// If there is no such device, its parameters are wrong, or it is in use.
    pub fn by_device(eal: &Eal, device: &str) -> Result<Self, Error> {
        let name = device.split(',').next().unwrap_or_default();
        let id = match find(name)? {
            Some(id) => id,
            None => {
                probe(eal, device)?;
                find(name)?.ok_or_else(|| Error::NoPort { device: device.to_owned() })?
            }
        };
        let mut taken = eal.runtime.ports.lock().unwrap_or_else(PoisonError::into_inner);
        if !taken.insert(id) {
            return Err(Error::PortTaken { device: name.to_owned() });
        }
        drop(taken);
        let runtime = Arc::clone(&eal.runtime);
        let made_promiscuous = AtomicBool::new(false);
        let inner = PortInner { id, device: name.to_owned(), runtime, made_promiscuous };
        let inner = Arc::new(inner);
        Ok(Self { inner, plan: None, started: false, _one_thread: PhantomData })
    }

    /// Returns the device's name.
    pub fn device(&self) -> &str {
        &self.inner.device
    }

    /// Returns DPDK's number of the port, as in [`super::Mbuf::port`].
    pub fn id(&self) -> u16 {
        self.inner.id
    }

    /// Configures the stopped port to receive into `pool`, as far as it supports the configuration;
    /// [`Started::report`] shows how far.
    ///
    /// # Errors
    /// If the port is started, or refuses.
    pub fn configure(&mut self, config: &PortConfig<'_>, pool: &MbufPool) -> Result<(), Error> {
        if self.started {
            return Err(self.inner.state("be configured", "it is started"));
        }
        self.plan = None;
        let mut plan = Plan::new(config, &self.inner.info()?, pool.data_room());
        let (id, conf) = (self.inner.id, plan.conf());
        // SAFETY: the port exists and is stopped; DPDK copies the structure, and the key that it
        // points to is never freed.
        let status = unsafe {
            dpdk_sys::rte_eth_dev_configure(id, plan.rx_queues, plan.tx_queues, &raw const conf)
        };
        self.inner.done("be configured with the wanted queues, MTU and offloads", status)?;
        self.inner.set_up_queues(&mut plan, pool)?;
        // Some ports accept the MTU only this way: those over a kernel interface set the kernel's.
        // It is not set beyond a port's stated limits, which may be too low.
        if plan.mtu_refused.is_none() {
            // SAFETY: the port exists, is configured and stopped.
            let status = unsafe { dpdk_sys::rte_eth_dev_set_mtu(id, plan.mtu) };
            plan.mtu_refused = check(status).err();
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Starts the configured port in promiscuous mode, if it has one.
    ///
    /// # Errors
    /// If the port is not configured, is started already, or refuses.
    pub fn start(&mut self) -> Result<Started, Error> {
        if self.started {
            return Err(self.inner.state("start", "it is started"));
        }
        let Some(plan) = &self.plan else {
            return Err(self.inner.state("start", "it is not configured"));
        };
        let id = self.inner.id;
        // Before the start, by which DPDK ends the mode that an operator or another process has set.
        let kernels = self.interface().and_then(interface::name);
        let was = kernels.is_some_and(|name| interface::is_promiscuous(&name) == Some(true));
        if was {
            // So that it does not end it: another process may be forwarding by it.
            // SAFETY: the port exists.
            unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) };
        }
        // SAFETY: the port exists, and it and all its queues are set up.
        self.inner.done("start", unsafe { dpdk_sys::rte_eth_dev_start(id) })?;
        self.started = true;
        // SAFETY: the port exists.
        let promiscuous = check(unsafe { dpdk_sys::rte_eth_promiscuous_enable(id) }).is_ok();
        self.inner.made_promiscuous.store(promiscuous && !was, Relaxed);
        let report = self.inner.report(plan, promiscuous)?;
        let rx = (0..plan.rx_queues).map(|queue| RxQueue::new(&self.inner, queue)).collect();
        let tx = (0..plan.tx_queues).map(|queue| TxQueue::new(&self.inner, queue)).collect();
        Ok(Started { rx, tx, report })
    }

    /// Returns whether this process made the port promiscuous, and will end that.
    pub fn made_promiscuous(&self) -> bool {
        self.inner.made_promiscuous.load(Relaxed)
    }

    /// Sets whether this process ends promiscuous mode when it stops the port: not if it hands the
    /// mode over to another process, and if it got it from one.
    pub fn set_made_promiscuous(&self, made: bool) {
        self.inner.made_promiscuous.store(made, Relaxed);
    }

    /// Returns whether the port is started.
    pub fn is_started(&self) -> bool {
        self.started
    }

    /// Sets the RSS table of the started port, which has as many entries as
    /// [`super::RssReport::entries`]. Returns whether the port has accepted it, by reading it back.
    ///
    /// # Errors
    /// If the port is not started, or refuses.
    pub fn set_table(&mut self, queues: &[u16]) -> Result<bool, Error> {
        if !self.started {
            return Err(self.inner.state("set its RSS table", "it is not started"));
        }
        let step = "take a table from hashes to queues";
        let failed = |reason| Error::Port { device: self.inner.device.clone(), step, reason };
        rss::set_table(self.inner.id, queues).map_err(failed)
    }

    /// Returns what the port offers for the distribution of packets by one address, before it is
    /// configured.
    ///
    /// # Errors
    /// If the port does not report it.
    pub fn rss_offer(&self, field: RssField) -> Result<RssOffer, Error> {
        let info = self.inner.info()?;
        Ok(RssOffer::new(&info, &driver_name(&info), field))
    }

    /// Makes the started port hash one IP address alone, by flow rules.
    ///
    /// # Errors
    /// If the port refuses a rule that is needed. Other rules may be set by then.
    pub fn hash_one_address(&mut self, field: RssField) -> Result<(), RefusedRule> {
        flow::hash_one_address(self.inner.id, field)
    }

    /// Makes the started port, which has a plan with RSS, hash by another key and without flow rules.
    ///
    /// # Errors
    /// If the port is not started, or refuses.
    pub fn set_rss(&mut self, rss: Rss<'_>) -> Result<RssReport, Error> {
        let Some(plan) = self.plan.as_mut().filter(|_| self.started) else {
            return Err(self.inner.state("set its RSS", "it is not started"));
        };
        flow::clear(self.inner.id);
        let info = self.inner.info()?;
        plan.rss = RssPlan::new(Some(rss), plan.rx_queues, &info, &driver_name(&info));
        let applied = plan.rss.apply(self.inner.id);
        applied.map_err(|reason| self.inner.failed("take another RSS key", reason))?;
        Ok(plan.rss.verify(self.inner.id))
    }

    /// Stops the port. Its queues must have been dropped. It can be started again.
    ///
    /// # Errors
    /// If a queue's handle still exists, or the port refuses.
    pub fn stop(&mut self) -> Result<(), Error> {
        if Arc::get_mut(&mut self.inner).is_none() {
            return Err(self.inner.state("stop", "its queues are in use"));
        }
        self.inner.end_promiscuous();
        // SAFETY: the port exists, and with no queue's handle left no thread polls it.
        let status = unsafe { dpdk_sys::rte_eth_dev_stop(self.inner.id) };
        self.inner.done("stop", status)?;
        self.started = false;
        Ok(())
    }

    /// Stops and closes the port. Its queues must have been dropped. Frames waiting to be sent are
    /// dropped, and all its buffers return to their pool.
    ///
    /// # Errors
    /// As for [`Port::stop`]; the port is then closed with the last of its queues.
    pub fn close(mut self) -> Result<(), Error> {
        self.stop()
    }

    /// Returns the port's MAC address.
    ///
    /// # Errors
    /// If the port does not report it.
    pub fn mac(&self) -> Result<[u8; 6], Error> {
        let mut mac = dpdk_sys::rte_ether_addr::default();
        // SAFETY: the port exists; DPDK writes the structure it is given.
        let status = unsafe { dpdk_sys::rte_eth_macaddr_get(self.inner.id, &raw mut mac) };
        self.inner.done("read its MAC address", status)?;
        Ok(mac.addr_bytes)
    }

    /// Returns the link's state without waiting for it.
    ///
    /// # Errors
    /// If the port does not report it.
    pub fn link(&self) -> Result<LinkStatus, Error> {
        let mut link = dpdk_sys::firstack_link::default();
        // SAFETY: the port exists; the shim writes the structure it is given.
        let status = unsafe { dpdk_sys::firstack_link_get(self.inner.id, &raw mut link) };
        self.inner.done("read its link state", status)?;
        let speed = link.megabits_per_second;
        Ok(LinkStatus {
            up: link.up != 0,
            megabits_per_second: (speed != 0 && speed != u32::MAX).then_some(speed),
            full_duplex: link.full_duplex != 0,
        })
    }

    /// Takes the port's link down, or brings it up again, where its driver can.
    ///
    /// # Errors
    /// If the driver cannot.
    pub fn set_link(&self, up: bool) -> Result<(), Error> {
        let (id, step) =
            (self.inner.id, if up { "bring its link up" } else { "take its link down" });
        // SAFETY: the port exists.
        let status = unsafe {
            match up {
                true => dpdk_sys::rte_eth_dev_set_link_up(id),
                false => dpdk_sys::rte_eth_dev_set_link_down(id),
            }
        };
        self.inner.done(step, status)
    }

    /// Returns the number of the kernel interface below the port; `None` if it has none.
    pub fn interface(&self) -> Option<u32> {
        self.inner.info().ok().map(|info| info.if_index).filter(|number| *number > 0)
    }

    /// Returns whether the port has this driver.
    pub(super) fn has_driver(&self, driver: &str) -> bool {
        self.inner.info().is_ok_and(|info| driver_name(&info) == driver)
    }

    /// Returns the number of the kernel interface below a port of this driver; `None` for another
    /// driver.
    ///
    /// # Errors
    /// If the port does not report it.
    pub(super) fn kernel_interface(&self, driver: &str) -> Result<Option<u32>, Error> {
        let info = self.inner.info()?;
        Ok((driver_name(&info) == driver && info.if_index > 0).then_some(info.if_index))
    }

    /// Returns the receive interrupts of all queues of the started port; none if it has not been asked
    /// for them.
    pub(super) fn interrupts(&self) -> impl Iterator<Item = Interrupt> {
        let planned = self.plan.as_ref().filter(|plan| plan.interrupts && self.started);
        let queues = 0..planned.map_or(0, |plan| plan.rx_queues);
        queues.map(|queue| Interrupt::new(&self.inner, queue))
    }

    /// Returns the port's counters.
    ///
    /// # Errors
    /// If the port does not report them.
    pub fn stats(&self) -> Result<PortStats, Error> {
        let mut stats = dpdk_sys::rte_eth_stats::default();
        // SAFETY: the port exists; DPDK writes the structure it is given.
        let status = unsafe { dpdk_sys::rte_eth_stats_get(self.inner.id, &raw mut stats) };
        self.inner.done("read its counters", status)?;
        Ok(PortStats {
            ipackets: stats.ipackets,
            opackets: stats.opackets,
            ibytes: stats.ibytes,
            obytes: stats.obytes,
            imissed: stats.imissed,
            ierrors: stats.ierrors,
            oerrors: stats.oerrors,
            rx_nombuf: stats.rx_nombuf,
        })
    }
}

/// Returns the driver in a port's information; empty if it is missing.
pub(super) fn driver_name(info: &dpdk_sys::rte_eth_dev_info) -> String {
    match info.driver_name.is_null() {
        true => String::new(),
        // SAFETY: not null, so it is the NUL-terminated name of a loaded driver, which DPDK keeps.
        false => unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned(),
    }
}

/// Makes DPDK look for a device or create it.
fn probe(_eal: &Eal, device: &str) -> Result<(), Error> {
    let devargs = c_string(device)?;
    let device = device.to_owned();
    // SAFETY: the EAL runs while `_eal` exists; DPDK copies the NUL-terminated string.
    match check(unsafe { dpdk_sys::rte_dev_probe(devargs.as_ptr()) }) {
        Ok(_) => Ok(()),
        // DPDK's error if no bus accepts the name.
        Err(reason) if reason.code() == libc::EFAULT => Err(Error::NoDriver { device }),
        Err(reason) => Err(Error::NoDevice { device, reason }),
    }
}

/// Returns the number of the port with this name.
fn find(name: &str) -> Result<Option<u16>, Error> {
    // DPDK names PCI devices with their domain, which operators may leave out if it is zero.
    for name in [name.to_owned(), format!("0000:{name}")] {
        let c_name = c_string(&name)?;
        let mut id = 0;
        // SAFETY: DPDK reads the NUL-terminated name and writes the number.
        let status =
            unsafe { dpdk_sys::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut id) };
        if status == 0 {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

impl PortInner {
    /// Returns the error of an operation that is not possible in the port's state.
    fn state(&self, step: &'static str, why: &'static str) -> Error {
        Error::State { device: self.device.clone(), step, why }
    }

    /// Returns the error in a status of DPDK, if there is one.
    fn done(&self, step: &'static str, status: i32) -> Result<(), Error> {
        check(status).map(drop).map_err(|reason| self.failed(step, reason))
    }

    /// Returns the error of an operation that failed.
    pub(super) fn failed(&self, step: &'static str, reason: Errno) -> Error {
        Error::Port { device: self.device.clone(), step, reason }
    }

    /// Takes promiscuous mode back, which would outlive the process on a kernel interface.
    fn end_promiscuous(&self) {
        if self.made_promiscuous.swap(false, Relaxed) {
            // SAFETY: the port exists.
            let status = unsafe { dpdk_sys::rte_eth_promiscuous_disable(self.id) };
            if let Err(reason) = check(status) {
                tracing::debug!(device = self.device, %reason, "cannot end promiscuous mode");
            }
        }
    }

    fn info(&self) -> Result<dpdk_sys::rte_eth_dev_info, Error> {
        let mut info = dpdk_sys::rte_eth_dev_info::default();
        // SAFETY: the port exists; DPDK writes the structure it is given.
        let status = unsafe { dpdk_sys::rte_eth_dev_info_get(self.id, &raw mut info) };
        self.done("read its capabilities", status)?;
        Ok(info)
    }

    /// Returns whether the port says that it takes VLAN tags off received frames.
    fn strips_vlan(&self) -> bool {
        // SAFETY: the port exists.
        let status = unsafe { dpdk_sys::rte_eth_dev_get_vlan_offload(self.id) };
        u32::try_from(status).is_ok_and(|bits| bits & dpdk_sys::FIRSTACK_VLAN_STRIPS != 0)
    }

    /// Returns the NUMA node, or -1 in DPDK's unsigned form.
    fn socket(&self) -> u32 {
        // SAFETY: reads one integer of an existing port.
        unsafe { dpdk_sys::rte_eth_dev_socket_id(self.id) as u32 }
    }

    fn set_up_queues(&self, plan: &mut Plan, pool: &MbufPool) -> Result<(), Error> {
        // SAFETY: the port exists; DPDK adjusts the two numbers.
        let status = unsafe {
            dpdk_sys::rte_eth_dev_adjust_nb_rx_tx_desc(
                self.id,
                &raw mut plan.rx_descriptors,
                &raw mut plan.tx_descriptors,
            )
        };
        // A port without limits takes the numbers as they are.
        if status != -libc::ENOTSUP {
            self.done("adjust its descriptors", status)?;
        }
        let socket = self.socket();
        for queue in 0..plan.rx_queues {
            let (count, none) = (plan.rx_descriptors, std::ptr::null());
            // SAFETY: the port is configured with that many queues; the pool exists as long as the
            // EAL, which the port holds. A null configuration selects the port's default.
            let status = unsafe {
                dpdk_sys::rte_eth_rx_queue_setup(self.id, queue, count, socket, none, pool.as_ptr())
            };
            self.done("set up a receive queue", status)?;
        }
        for queue in 0..plan.tx_queues {
            let (count, none) = (plan.tx_descriptors, std::ptr::null());
            // SAFETY: as for the receive queues.
            let status =
                unsafe { dpdk_sys::rte_eth_tx_queue_setup(self.id, queue, count, socket, none) };
            self.done("set up a transmit queue", status)?;
        }
        Ok(())
    }

    /// Reports how far the started port fulfils its plan.
    fn report(&self, plan: &Plan, promiscuous: bool) -> Result<PortReport, Error> {
        let info = self.info()?;
        let mut mtu = 0;
        // SAFETY: the port exists; DPDK writes the number.
        self.done("read its MTU", unsafe { dpdk_sys::rte_eth_dev_get_mtu(self.id, &raw mut mtu) })?;
        Ok(PortReport {
            driver: driver_name(&info),
            socket: i32::try_from(self.socket()).ok().map(i32::unsigned_abs),
            rx_queues: plan.rx_queues,
            tx_queues: plan.tx_queues,
            rx_descriptors: plan.rx_descriptors,
            tx_descriptors: plan.tx_descriptors,
            mtu,
            mtu_refused: plan.mtu_refused,
            scatter: plan.rx_offloads & dpdk_sys::FIRSTACK_RX_SCATTER != 0,
            multi_segment: plan.tx_offloads & dpdk_sys::FIRSTACK_TX_MULTI_SEGS != 0,
            checksums: plan.rx_offloads & dpdk_sys::FIRSTACK_RX_CHECKSUMS != 0,
            strips_vlan: self.strips_vlan(),
            interrupts: plan.interrupts,
            promiscuous,
            rss: plan.rss.verify(self.id),
        })
    }
}

impl Drop for PortInner {
    fn drop(&mut self) {
        self.end_promiscuous();
        // SAFETY: the last holder, port or queue, is gone, so no thread uses the port any more.
        // Stopping a stopped port is harmless; a closed port returns all its buffers.
        let (stopped, closed) =
            unsafe { (dpdk_sys::rte_eth_dev_stop(self.id), dpdk_sys::rte_eth_dev_close(self.id)) };
        for status in [stopped, closed] {
            if let Err(reason) = check(status) {
                tracing::warn!(device = self.device, %reason, "cannot stop and close port");
            }
        }
        self.runtime.ports.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}
