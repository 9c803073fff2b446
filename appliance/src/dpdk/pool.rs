//! Pools of mbufs, for receiving and for new frames.

use std::ptr::NonNull;
use std::sync::{Arc, PoisonError};

use arrayvec::ArrayVec;
use pipeline::packet::buffer::Pool;

use super::eal::{Eal, RawPool, Runtime, c_string};
use super::error::{Errno, Error};
use super::mbuf::Mbuf;

/// The usual data room of a buffer in bytes.
pub const DEFAULT_DATA_ROOM: u16 = 2048;

/// The number of buffers that a handle takes from the pool at once.
pub const STASH: usize = 32;

/// A pool of buffers, all of one size. It exists until DPDK is cleaned up.
#[derive(Debug)]
pub struct MbufPool {
    raw: RawPool,
    data_room: u16,
    runtime: Arc<Runtime>,
}

impl MbufPool {
    /// Creates a pool of `count` buffers (a power of two less one wastes least memory), each with
    /// `data_room` bytes for a frame and DPDK's headroom before them. Each core caches up to
    /// `cache` free buffers, or fewer where DPDK allows fewer. The memory is on NUMA node `socket`,
    /// or anywhere. `name` must be unique and at most 25 bytes long.
    ///
    /// # Errors
    /// If memory is short, or the name is in use or too long.
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
        // SAFETY: the EAL runs while `eal` exists; DPDK copies the NUL-terminated name.
        let pool = unsafe {
            dpdk_sys::rte_pktmbuf_pool_create(c_name.as_ptr(), count, cache, 0, room, socket)
        };
        let pool = NonNull::new(pool).ok_or_else(|| failed(Errno::last()))?;
        let raw = RawPool { pool, size: count };
        let runtime = Arc::clone(&eal.runtime);
        runtime.pools.lock().unwrap_or_else(PoisonError::into_inner).push(raw);
        Ok(Self { raw, data_room, runtime })
    }

    /// Returns the number of buffers in the pool, without those in a handle's stash or posted for
    /// receiving by a port.
    pub fn available(&self) -> u32 {
        self.raw.available()
    }

    /// Returns the number of buffers of the pool.
    pub fn size(&self) -> u32 {
        self.raw.size
    }

    /// Returns the data room of a buffer in bytes.
    pub fn data_room(&self) -> u16 {
        self.data_room
    }

    /// Creates a handle to allocate from, one per worker. Dropping it returns its stash to the
    /// pool.
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

/// One worker's allocator of a pool: frames come from a small stash that is refilled in bulk.
#[derive(Debug)]
pub struct PoolHandle {
    stash: ArrayVec<Mbuf, STASH>,
    raw: RawPool,
    data_room: u16,
    _runtime: Arc<Runtime>,
}

impl PoolHandle {
    /// Fills the empty stash; with a single buffer if the pool is nearly empty.
    #[cold]
    fn refill(&mut self) {
        debug_assert!(self.stash.is_empty());
        for count in [STASH, 1] {
            // SAFETY: the stash is empty and has room for `STASH` pointers from its start; `Mbuf`
            // is a transparent pointer to an mbuf. The pool exists while the runtime is held. On
            // success all `count` are new single-segment mbufs that have no other owner; on failure
            // none is written.
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
