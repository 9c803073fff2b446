//! A closure that sees each burst of a receive queue before whoever polls the queue does.

use std::ffi::c_void;
use std::fmt;
use std::ptr::NonNull;
use std::slice;

use dpdk_sys::{rte_eth_rxtx_callback, rte_mbuf};

use super::error::Errno;
use super::mbuf::Mbuf;

/// What a hook calls: it is shown each received burst, may change the frames, and says how many
/// of them, from the first, are to be received; the rest go back to their pool.
trait Show: FnMut(&mut [Mbuf]) -> usize + Send {}

impl<F: FnMut(&mut [Mbuf]) -> usize + Send> Show for F {}

/// A DPDK receive callback and the closure it calls. Removed when dropped.
///
/// Invariant: `closure` came from a box, which this value owns; DPDK calls it on the queue's polls
/// alone, and the queue's one handle owns this value.
pub(super) struct Hook {
    port: u16,
    queue: u16,
    callback: NonNull<rte_eth_rxtx_callback>,
    closure: NonNull<dyn Show>,
}

// SAFETY: the closure is `Send`, and DPDK's list of callbacks belongs to no thread. The hook moves
// with its queue's handle, so that nobody polls the queue meanwhile.
unsafe impl Send for Hook {}

impl Hook {
    /// Hooks a closure into a queue.
    ///
    /// # Safety
    /// The caller holds the one handle of this queue, and keeps the hook with it.
    pub(super) unsafe fn new<F>(port: u16, queue: u16, closure: F) -> Result<Self, Errno>
    where
        F: FnMut(&mut [Mbuf]) -> usize + Send + 'static,
    {
        let closure = NonNull::from(Box::leak(Box::new(closure)));
        let parameter = closure.as_ptr().cast::<c_void>();
        // SAFETY: the port and its queue are there, and nobody polls the queue. The trampoline is
        // of the closure's type, and the closure stays where it is while the callback is there.
        let callback = unsafe {
            dpdk_sys::rte_eth_add_rx_callback(port, queue, Some(trampoline::<F>), parameter)
        };
        match NonNull::new(callback.cast_mut()) {
            Some(callback) => Ok(Self { port, queue, callback, closure }),
            None => {
                let reason = Errno::last();
                // SAFETY: DPDK has not taken it, so that nobody else has the box.
                drop(unsafe { Box::from_raw(closure.as_ptr()) });
                Err(reason)
            }
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        // SAFETY: nobody polls the queue, for its one handle is in use here: once removed, the
        // callback is not called again. Its memory is DPDK's, to be freed by who added it; the
        // closure's is the box made in `new`. A callback that DPDK does not know was never
        // called; both are then left alone.
        unsafe {
            let callback = self.callback.as_ptr();
            if dpdk_sys::rte_eth_remove_rx_callback(self.port, self.queue, callback) == 0 {
                dpdk_sys::rte_free(callback.cast());
                drop(Box::from_raw(self.closure.as_ptr()));
            }
        }
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("port", &self.port).field("queue", &self.queue).finish()
    }
}

/// Calls the closure that `parameter` points at. A panic in it ends the process: there is no way
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
    // SAFETY: DPDK shows the first `count` pointers of the poller's array: frames that belong to
    // whoever receives them, whole chains, as `Mbuf` has it, which is a transparent pointer. The
    // poller sees none before this returns. The parameter is the closure of this type that
    // `Hook::new` gave, called by nobody else at the time.
    let (frames, closure) = unsafe {
        let frames = slice::from_raw_parts_mut(mbufs.cast::<Mbuf>(), usize::from(count));
        (frames, &mut *parameter.cast::<F>())
    };
    let kept = closure(frames).min(usize::from(count));
    // SAFETY: what is past the kept ones is not received by anybody, and given back once.
    unsafe {
        dpdk_sys::rte_pktmbuf_free_bulk(mbufs.add(kept), u32::from(count) - kept as u32);
    }
    kept as u16
}
