//! The two calls of the data path: receive a burst and send a burst.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::mbuf::Mbuf;
use super::port::PortInner;

/// The only handle to a receive queue. It can be moved to another thread, but not shared.
#[derive(Debug)]
pub struct RxQueue {
    queue: Queue,
}

/// The only handle to a transmit queue. It can be moved to another thread, but not shared.
#[derive(Debug)]
pub struct TxQueue {
    queue: Queue,
}

/// A queue of a port. It keeps the port alive and started: [`super::Port::stop`] refuses while it
/// exists.
#[derive(Debug)]
struct Queue {
    port: u16,
    index: u16,
    _inner: Arc<PortInner>,
    _one_thread: PhantomData<Cell<()>>,
}

impl Queue {
    /// To be called by [`super::Port::start`] only, once per start for each queue that is set up.
    fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self { port: inner.id, index, _inner: Arc::clone(inner), _one_thread: PhantomData }
    }
}

impl RxQueue {
    pub(super) fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self { queue: Queue::new(inner, index) }
    }

    /// Returns DPDK's number of the queue's port.
    pub fn port(&self) -> u16 {
        self.queue.port
    }

    /// Returns the queue's number at its port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// Receives frames into `frames`, as many as it has room for. Returns how many. Long frames may
    /// have several segments.
    #[inline]
    pub fn burst<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        self.burst_up_to(frames, N)
    }

    /// Receives at most `limit` frames, otherwise as [`RxQueue::burst`].
    #[inline]
    pub fn burst_up_to<const N: usize>(
        &mut self,
        frames: &mut ArrayVec<Mbuf, N>,
        limit: usize,
    ) -> usize {
        let len = frames.len();
        let room = u16::try_from(frames.remaining_capacity().min(limit)).unwrap_or(u16::MAX);
        // SAFETY: the queue is set up and its port started while this handle exists, and the handle
        // is the queue's only one. `room` pointers fit behind the first `len`; `Mbuf` is a
        // transparent pointer to an mbuf. DPDK writes the first `count` and gives up ownership of
        // these mbufs, whole chains.
        unsafe {
            let slots = frames.as_mut_ptr().add(len).cast();
            let count = dpdk_sys::firstack_rx_burst(self.queue.port, self.queue.index, slots, room);
            frames.set_len(len + usize::from(count));
            usize::from(count)
        }
    }
}

impl TxQueue {
    pub(super) fn new(inner: &Arc<PortInner>, index: u16) -> Self {
        Self { queue: Queue::new(inner, index) }
    }

    /// Returns the queue's number at its port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// Sends frames from the front of `frames`. Returns how many the port accepted. The others stay
    /// in `frames`, in order, for the caller to send later or to count and drop.
    #[inline]
    pub fn burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        // SAFETY: the vector owns its `len` mbufs. Those sent are no longer in it: the new length
        // counts the others, which are at the front.
        unsafe {
            let left = self.send(frames.as_mut_ptr(), frames.len());
            let sent = frames.len() - left;
            frames.set_len(left);
            sent
        }
    }

    /// Sends frames from an array, otherwise as [`TxQueue::burst`].
    #[inline]
    pub fn burst_array<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        // SAFETY: as above.
        unsafe {
            let left = self.send(frames.as_mut_ptr(), frames.len());
            let sent = frames.len() - left;
            frames.set_len(left);
            sent
        }
    }

    /// Sends frames from the front. Returns how many are left, and moves those to the front.
    ///
    /// # Safety
    /// The caller owns `len` mbufs starting at `first`. Afterwards it owns only those that are
    /// left.
    #[inline]
    unsafe fn send(&mut self, first: *mut Mbuf, len: usize) -> usize {
        let offered = u16::try_from(len).unwrap_or(u16::MAX);
        let (port, index) = (self.queue.port, self.queue.index);
        // SAFETY: the queue is set up and its port started while this handle exists, and the handle
        // is the queue's only one. The `len` mbufs, of which `offered` are passed, are transparent
        // pointers. DPDK takes ownership of the first `sent`: they are overwritten with the rest or
        // left behind it, never dropped here.
        unsafe {
            let sent = usize::from(dpdk_sys::firstack_tx_burst(port, index, first.cast(), offered));
            if sent < len {
                ptr::copy(first.add(sent), first, len - sent);
            }
            len - sent
        }
    }
}
