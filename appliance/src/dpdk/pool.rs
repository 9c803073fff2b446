//! Pools of mbufs: what ports receive into, and where new frames come from.

use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

use arrayvec::ArrayVec;
use pipeline::packet::buffer::Pool;

use super::eal::{Eal, RawPool, Runtime, c_string};
use super::error::{Errno, Error};
use super::mbuf::Mbuf;

/// Bytes of a frame that one buffer holds unless there is a reason for another number.
pub const DEFAULT_DATA_ROOM: u16 = 2048;

/// Buffers a handle takes out of the pool at once.
pub const STASH: usize = 32;

/// A pool of buffers, all of one size. It stands until DPDK is cleaned up.
#[derive(Debug)]
pub struct MbufPool {
    raw: RawPool,
    data_room: u16,
    runtime: Arc<Runtime>,
}

impl MbufPool {
    /// Makes a pool of `count` buffers (a power of two less one wastes the least memory), each
    /// with `data_room` bytes for a frame and DPDK's headroom before them. Each core keeps up
    /// to `cache` free ones at hand, or less where DPDK allows less. The memory is on NUMA node
    /// `socket`, or anywhere. `name` is unique, and at most 25 bytes.
    ///
    /// # Errors
    /// When there is not the memory, or the name is in use or too long.
    pub fn new(
        eal: &Eal,
        name: &str,
        count: u32,
        cache: u32,
        data_room: u16,
        socket: Option<u32>,
    ) -> Result<Self, Error> {
        let failed = |reason| Error::Pool { name: name.to_owned(), count, data_room, reason };
        let room = data_room
            .checked_add(dpdk_sys::FIRSTACK_HEADROOM)
            .ok_or(failed(Errno::from_status(libc::EINVAL)))?;
        // A cache holds up to 1.5 times its size, and must not be able to hold the whole pool.
        let cache = cache.min(dpdk_sys::FIRSTACK_CACHE_MAX).min(count / 2);
        let socket = socket.map_or(-1, |node| node as i32);
        let c_name = c_string(name)?;
        // SAFETY: the EAL runs, as `eal` shows; the name is a NUL-terminated string that DPDK
        // copies.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket)
        };
        let pool = NonNull::new(pool).ok_or_else(|| failed(Errno::last()))?;
        let raw = RawPool { pool, size: count };
        let runtime = Arc::clone(&eal.runtime);
        runtime.pools.lock().unwrap_or_else(PoisonError::into_inner).push(raw);
        Ok(Self { raw, data_room, runtime })
    }

    /// Buffers in the pool now. Those that a handle has stashed or a port has posted for
    /// receiving are not.
    pub fn available(&self) -> u32 {
        self.raw.available()
    }

    /// Buffers in all.
    pub fn size(&self) -> u32 {
        self.raw.size
    }

    /// Bytes of a frame that one buffer holds.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// A handle to allocate from, one for each worker. What it has stashed goes back to the
    /// pool when it is dropped.
    pub fn handle(&self) -> PoolHandle {
        PoolHandle {
            stash: ArrayVec::new(),
            raw: self.raw,
            data_room: self.data_room,
            _runtime: Arc::clone(&self.runtime),
        }
    }

    pub(super) fn as_ptr(&self) -> *mut dpdk_sys::rte_mempool {
        self.raw.pool.as_ptr()
    }
}

/// One worker's way to a pool: new frames come from a small stash, refilled in bulk.
#[derive(Debug)]
pub struct PoolHandle {
    stash: ArrayVec<Mbuf, STASH>,
    raw: RawPool,
    data_room: u16,
    _runtime: Arc<Runtime>,
}

impl PoolHandle {
    /// Fills the empty stash, or when the pool is nearly empty gets a single buffer.
    #[cold]
    fn refill(&mut self) {
        debug_assert!(self.stash.is_empty());
        for count in [STASH, 1] {
            // SAFETY: the stash has room for `STASH` pointers from its start, and is empty;
            // `Mbuf` is a transparent pointer to an mbuf. The pool stands while the runtime is
            // held. On success all `count` are fresh, single-segment mbufs owned by nobody
            // else, and on failure none is written.
            unsafe {
                let slots = self.stash.as_mut_ptr().cast();
                let pool = self.raw.pool.as_ptr();
                if dpdk_sys::firstack_alloc_bulk(pool, slots, count as u32) == 0 {
                    self.stash.set_len(count);
                    return;
                }
            }
        }
    }
}

impl Pool for PoolHandle {
    type Buffer = Mbuf;

    #[inline]
    fn alloc(&mut self, len: usize) -> Option<Mbuf> {
        if len > usize::from(self.data_room) {
            return None;
        }
        if self.stash.is_empty() {
            self.refill();
        }
        let mut mbuf = self.stash.pop()?;
        mbuf.set_len(len as u16);
        Some(mbuf)
    }
}
