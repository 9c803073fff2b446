//! DPDK's own hash table, which the benchmark `table` compares with the connection table.

use std::ffi::{CString, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use firstack::dpdk::Eal;

use super::{Error, last_error};

/// Bytes of a key.
pub const HASH_KEY: usize = 16;

/// The most keys in one lookup.
pub const HASH_BULK: usize = 64;

/// A hash table of DPDK (`rte_hash`) with its default hash function: CRC on x86-64. It maps keys to
/// positions; the caller stores a key's value at that index. For one thread only.
#[derive(Debug)]
pub struct HashTable<'eal> {
    table: NonNull<dpdk_sys::rte_hash>,
    _eal: PhantomData<&'eal Eal>,
}

impl<'eal> HashTable<'eal> {
    /// Creates a table for at most `entries` keys, in DPDK's memory.
    ///
    /// # Errors
    /// If the name is taken or contains a NUL byte, or if memory is short.
    pub fn new(_eal: &'eal Eal, name: &str, entries: u32) -> Result<Self, Error> {
        let c_name = CString::new(name)?;
        // SAFETY: the name is NUL-terminated and copied; DPDK is initialised while `_eal` exists.
        let table =
            unsafe { dpdk_sys::firstack_hash_create(c_name.as_ptr(), entries, HASH_KEY as u32) };
        let table = NonNull::new(table).ok_or_else(|| Error::HashTable {
            name: name.to_owned(),
            entries,
            reason: last_error(),
        })?;
        Ok(Self { table, _eal: PhantomData })
    }

    /// Adds a key and returns its position, the present one if the key is there already. Returns
    /// `None` if the table is full.
    pub fn add(&mut self, key: &[u8; HASH_KEY]) -> Option<u32> {
        // SAFETY: the table exists while `self` does, `self` is borrowed exclusively, and the key
        // is as long as the table's keys.
        let position = unsafe { dpdk_sys::rte_hash_add_key(self.table.as_ptr(), pointer(key)) };
        u32::try_from(position).ok()
    }

    /// Removes a key and returns the position that it had.
    pub fn remove(&mut self, key: &[u8; HASH_KEY]) -> Option<u32> {
        // SAFETY: as in `add`.
        let position = unsafe { dpdk_sys::rte_hash_del_key(self.table.as_ptr(), pointer(key)) };
        u32::try_from(position).ok()
    }

    /// Finds up to [`HASH_BULK`] keys. Returns the position of each, negative for a key that is not
    /// in the table.
    #[inline]
    pub fn lookup_bulk<const N: usize>(&self, keys: &[&[u8; HASH_KEY]; N]) -> [i32; N] {
        const { assert!(0 < N && N <= HASH_BULK) };
        let mut positions = [-1; N];
        // SAFETY: the table exists while `self` does; references to arrays are pointers to the
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

impl Drop for HashTable<'_> {
    fn drop(&mut self) {
        // SAFETY: created by `rte_hash_create`, freed once; DPDK is not cleaned up while the `Eal`
        // is borrowed.
        unsafe { dpdk_sys::rte_hash_free(self.table.as_ptr()) };
    }
}

fn pointer(key: &[u8; HASH_KEY]) -> *const c_void {
    key.as_ptr().cast()
}
