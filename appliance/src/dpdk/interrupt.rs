//! The interrupt of a receive queue: a PCI device's signal through VFIO, or what a virtual device has in
//! its place.

use std::fs;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::error::check;
use super::port::PortInner;

/// The interrupt of a queue of a started port. It keeps the port alive.
#[derive(Debug)]
pub(super) struct Interrupt {
    inner: Arc<PortInner>,
    queue: u16,
}

impl Interrupt {
    /// To be called by [`super::Port::interrupts`] only, for a queue that exists.
    pub(super) fn new(inner: &Arc<PortInner>, queue: u16) -> Self {
        Self { inner: Arc::clone(inner), queue }
    }

    /// Returns a descriptor that is readable after an interrupt, and whether its count is to be read
    /// to make it unreadable again; `None` if the queue has none, or shares it with other interrupts
    /// of the device, as it does without VFIO.
    pub(super) fn descriptor(&self) -> Option<(OwnedFd, bool)> {
        // SAFETY: the port and the queue exist; DPDK returns a descriptor or -1.
        let number =
            unsafe { dpdk_sys::rte_eth_dev_rx_intr_ctl_q_get_fd(self.inner.id, self.queue) };
        if number < 0 {
            return None;
        }
        let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
        let (is_counter, is_packets) =
            (target.ends_with("anon_inode:[eventfd]"), target.starts_with("/dev/net/tun"));
        if !is_counter && !is_packets {
            return None;
        }
        // A counter tells nothing unless the device is told to interrupt.
        if is_counter && !(self.enable() && self.disable()) {
            return None;
        }
        // SAFETY: the descriptor is open: the port, which `self` keeps alive, closes it at its stop.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        Some((borrowed.try_clone_to_owned().ok()?, is_counter))
    }

    /// Makes the device interrupt when it has received. Returns whether it can.
    pub(super) fn enable(&self) -> bool {
        // SAFETY: the port and the queue exist.
        check(unsafe { dpdk_sys::rte_eth_dev_rx_intr_enable(self.inner.id, self.queue) }).is_ok()
    }

    /// Ends the interrupts. Returns whether that was possible.
    pub(super) fn disable(&self) -> bool {
        // SAFETY: the port and the queue exist.
        check(unsafe { dpdk_sys::rte_eth_dev_rx_intr_disable(self.inner.id, self.queue) }).is_ok()
    }
}
