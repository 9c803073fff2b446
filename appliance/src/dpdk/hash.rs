//! DPDK's own hash table, which benchmarks compare the translation table with. The data path does
//! without it.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Arc;

use super::eal::{Eal, Runtime, c_string};
use super::error::{Errno, Error};

/// Bytes of a key.
pub const HASH_KEY: usize = 16;

/// The most keys in one lookup.
pub const HASH_BULK: usize = 64;

/// The most NUMA nodes that are asked for their memory.
const NODES: i32 = 32;

/// A table of DPDK's (`rte_hash`), with its default hash function: CRC on x86-64. It maps keys to
/// positions, the caller's index into whatever belongs to a key. It is one thread's.
#[derive(Debug)]
pub struct HashTable {
    table: NonNull<dpdk_sys::rte_hash>,
    _runtime: Arc<Runtime>,
}

impl HashTable {
    /// A table of at most `entries` keys, in DPDK's memory.
    ///
    /// # Errors
    /// A name that is taken, or too little memory.
    pub fn new(eal: &Eal, name: &str, entries: u32) -> Result<Self, Error> {
        let c_name = c_string(name)?;
        // SAFETY: the name is NUL-terminated and copied; DPDK is initialised while `eal` stands.
        let table =
            unsafe { dpdk_sys::firstack_hash_create(c_name.as_ptr(), entries, HASH_KEY as u32) };
        let table = NonNull::new(table).ok_or_else(|| Error::HashTable {
            name: name.to_owned(),
            entries,
            reason: Errno::last(),
        })?;
        Ok(Self { table, _runtime: Arc::clone(&eal.runtime) })
    }

    /// Adds a key; its position, the old one when it is there. `None` when the table is full.
    pub fn add(&mut self, key: &[u8; HASH_KEY]) -> Option<u32> {
        // SAFETY: the table stands while `self` does, nobody else uses it meanwhile, and the key
        // is as long as the table's keys.
        let position = unsafe { dpdk_sys::rte_hash_add_key(self.table.as_ptr(), pointer(key)) };
        u32::try_from(position).ok()
    }

    /// Takes a key out; the position that it had.
    pub fn remove(&mut self, key: &[u8; HASH_KEY]) -> Option<u32> {
        // SAFETY: as in `add`.
        let position = unsafe { dpdk_sys::rte_hash_del_key(self.table.as_ptr(), pointer(key)) };
        u32::try_from(position).ok()
    }

    /// Finds keys, [`HASH_BULK`] at most; the position of each, negative for one that is not there.
    #[inline]
    pub fn lookup_bulk<const N: usize>(&self, keys: &[&[u8; HASH_KEY]; N]) -> [i32; N] {
        const { assert!(0 < N && N <= HASH_BULK) };
        let mut positions = [-1; N];
        // SAFETY: the table stands while `self` does; references to arrays are pointers to the
        // keys' bytes, `N` of them, which DPDK only reads; it writes `N` positions.
        let status = unsafe {
            dpdk_sys::rte_hash_lookup_bulk(
                self.table.as_ptr(),
                keys.as_ptr().cast_mut().cast(),
                N as u32,
                positions.as_mut_ptr(),
            )
        };
        debug_assert_eq!(status, 0);
        positions
    }
}

impl Drop for HashTable {
    fn drop(&mut self) {
        // SAFETY: made by `rte_hash_create`, freed once; DPDK is not cleaned up before `_runtime`.
        unsafe { dpdk_sys::rte_hash_free(self.table.as_ptr()) };
    }
}

fn pointer(key: &[u8; HASH_KEY]) -> *const c_void {
    key.as_ptr().cast()
}

impl Eal {
    /// Bytes of DPDK's memory that are in use.
    pub fn bytes_in_use(&self) -> usize {
        let of = |node| {
            let mut stats = dpdk_sys::rte_malloc_socket_stats::default();
            // SAFETY: DPDK is initialised while `self` stands, and only writes the structure; it
            // refuses nodes that it does not have.
            let status = unsafe { dpdk_sys::rte_malloc_get_socket_stats(node, &raw mut stats) };
            if status == 0 { stats.heap_allocsz_bytes } else { 0 }
        };
        (0..NODES).map(of).sum()
    }
}
