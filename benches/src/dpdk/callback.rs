//! A closure that sees each burst of a receive queue before its poller does.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::{rte_eth_rxtx_callback, rte_mbuf};
use firstack::dpdk::{Mbuf, RxQueue};

use super::{Error, last_error};

/// A receive callback on a queue, removed when dropped.
///
/// The closure and DPDK's record of it stay in memory for good: when the callback is removed
/// another thread may still be running it. Benchmarks add few, with little memory.
pub struct RxCallback {
    port: u16,
    queue: u16,
    callback: NonNull<rte_eth_rxtx_callback>,
}

// SAFETY: DPDK's list of callbacks belongs to no thread, and removal is all that is left to do.
unsafe impl Send for RxCallback {}
// SAFETY: a shared reference gives access to nothing.
unsafe impl Sync for RxCallback {}

impl RxCallback {
    /// Calls `closure` with each burst that is received on a queue. The closure may change the
    /// frames; it returns how many of them, from the first, the poller receives. The others go
    /// back to their pool. It runs on the thread that polls the queue. A panic in it ends the
    /// process.
    ///
    /// # Errors
    /// If DPDK has no memory, or was built without callbacks.
    pub fn add<F>(queue: &mut RxQueue, closure: F) -> Result<Self, Error>
    where
        F: FnMut(&mut [Mbuf]) -> usize + Send + 'static,
    {
        let (port, queue) = (queue.port(), queue.index());
        let closure = NonNull::from(Box::leak(Box::new(closure)));
        let parameter = closure.as_ptr().cast::<c_void>();
        // SAFETY: the port and its queue exist while the handle is borrowed, and no thread polls the
        // queue meanwhile. The trampoline is of the closure's type; the closure is never freed once
        // DPDK has it, and only the queue's poller calls it.
        let callback = unsafe {
            dpdk_sys::rte_eth_add_rx_callback(port, queue, Some(trampoline::<F>), parameter)
        };
        match NonNull::new(callback.cast_mut()) {
            Some(callback) => Ok(Self { port, queue, callback }),
            None => {
                let reason = last_error();
                // SAFETY: DPDK has not accepted the closure, so this is the only pointer to the box.
                drop(unsafe { Box::from_raw(closure.as_ptr()) });
                Err(Error::Callback { port, queue, reason })
            }
        }
    }
}

impl Drop for RxCallback {
    fn drop(&mut self) {
        // SAFETY: DPDK looks the pointer up in the queue's list and refuses one that is not there,
        // also for a port that is closed; the record is never freed, so the pointer is not reused.
        unsafe {
            let callback = self.callback.as_ptr();
            dpdk_sys::rte_eth_remove_rx_callback(self.port, self.queue, callback);
        }
    }
}

impl fmt::Debug for RxCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxCallback").field("port", &self.port).field("queue", &self.queue).finish()
    }
}

/// Calls the closure that `parameter` points at. A panic in it ends the process: it cannot unwind
/// through DPDK's frames.
extern "C" fn trampoline<F: FnMut(&mut [Mbuf]) -> usize>(
    _port: u16,
    _queue: u16,
    mbufs: *mut *mut rte_mbuf,
    count: u16,
    _room: u16,
    parameter: *mut c_void,
) -> u16 {
    if count == 0 {
        return 0;
    }
    // SAFETY: DPDK passes the first `count` pointers of the poller's array: frames that belong to
    // the receiver, whole chains, as `Mbuf` requires, which is a transparent pointer. The poller
    // sees none before this returns. The parameter is the closure of this type that
    // `RxCallback::add` passed; the queue's only poller calls it.
    let (frames, closure) = unsafe {
        let frames = slice::from_raw_parts_mut(mbufs.cast::<Mbuf>(), usize::from(count));
        (frames, &mut *parameter.cast::<F>())
    };
    let received = closure(frames).min(usize::from(count));
    // SAFETY: the poller does not receive the remaining frames, so they are freed exactly once.
    unsafe {
        dpdk_sys::rte_pktmbuf_free_bulk(mbufs.add(received), u32::from(count) - received as u32);
    }
    received as u16
}
