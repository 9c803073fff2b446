//! The data path's two calls: receive a burst, send a burst. Nothing else happens per packet.

use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::mbuf::Mbuf;
use super::port::PortInner;

/// The one handle to a receive queue. It can move to another thread, not be shared.
#[derive(Debug)]
pub struct RxQueue {
    queue: Queue,
}

/// The one handle to a transmit queue. It can move to another thread, not be shared.
#[derive(Debug)]
pub struct TxQueue {
    queue: Queue,
}

/// Keeps the port alive and, for [`super::Port::stop`] refuses meanwhile, started.
#[derive(Debug)]
struct Queue {
    port: u16,
    index: u16,
    _inner: Arc<PortInner>,
    _one_thread: PhantomData<Cell<()>>,
}

impl Queue {
    /// Only by [`super::Port::start`], once per start for each queue that is set up.
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

    /// Appends what has arrived, as far as `frames` has room; how many. Long frames may come
    /// in several segments.
    #[inline]
    pub fn burst<const N: usize>(&mut self, frames: &mut ArrayVec<Mbuf, N>) -> usize {
        self.burst_up_to(frames, N)
    }

    /// As [`RxQueue::burst`], `limit` frames at most.
    #[inline]
    pub fn burst_up_to<const N: usize>(
        &mut self,
        frames: &mut ArrayVec<Mbuf, N>,
        limit: usize,
    ) -> usize {
        let len = frames.len();
        let room = u16::try_from(frames.remaining_capacity().min(limit)).unwrap_or(u16::MAX);
        // SAFETY: the queue is set up and its port started while this handle is alive, and the
        // handle is the queue's only one. `room` pointers fit behind the first `len`; `Mbuf` is
        // a transparent pointer to an mbuf. DPDK writes the first `count` and gives away these
        // mbufs, whole chains.
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

    /// The queue's number at its port.
    pub fn index(&self) -> u16 {
        self.queue.index
    }

    /// Sends frames from the front; how many the port took. The rest stays in `frames`, in
    /// order, for the caller to send later or to count and drop.
    #[inline]
    pub fn burst(&mut self, frames: &mut Vec<Mbuf>) -> usize {
        // SAFETY: the vector's `len` mbufs are its own. What was sent is not in it any more: the
        // new length counts what was not, which is at the front.
        unsafe {
            let left = self.send(frames.as_mut_ptr(), frames.len());
            let sent = frames.len() - left;
            frames.set_len(left);
            sent
        }
    }

    /// As [`TxQueue::burst`], from an array.
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

    /// Sends frames from the front; how many are left, which it moves there.
    ///
    /// # Safety
    /// `len` mbufs of the caller's stand from `first` on. Of what is behind those that are left
    /// the caller owns nothing any more.
    #[inline]
    unsafe fn send(&mut self, first: *mut Mbuf, len: usize) -> usize {
        let offered = u16::try_from(len).unwrap_or(u16::MAX);
        let (port, index) = (self.queue.port, self.queue.index);
        // SAFETY: the queue is set up and its port started while this handle is alive, and the
        // handle is the queue's only one. The `len` mbufs, of which `offered` are shown, are
        // transparent pointers. DPDK takes over the first `sent`: they are overwritten with the
        // rest, or left behind it, never dropped here.
        unsafe {
            let sent = usize::from(dpdk_sys::firstack_tx_burst(port, index, first.cast(), offered));
            if sent < len {
                ptr::copy(first.add(sent), first, len - sent);
            }
            len - sent
        }
    }
}
