//! Raw bindings to the system's DPDK, 22.11 or newer: an allow-list made with bindgen, and C
//! shims, named `firstack_*`, for the static inlines that Rust cannot call.
//!
//! Nothing here is safe to call; the appliance's `dpdk` module is the safe layer.

#![no_std]

use core::ffi::c_void;
use core::mem::{align_of, offset_of, size_of};

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::undocumented_unsafe_blocks
)]
mod bindings {
    use super::{rte_device, rte_mbuf, rte_mempool};

    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub use bindings::*;

/// A device, only ever pointed at.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct rte_device {
    opaque: [u8; 0],
}

/// A pool of mbufs, only ever pointed at.
#[allow(non_camel_case_types)]
#[repr(C)]
pub struct rte_mempool {
    opaque: [u8; 0],
}

/// One segment of a frame: the fields the data path reads and changes, the rest as padding.
///
/// Written by hand because the unions around these fields are named differently from release
/// to release while their places stay; [`layout_mismatch`] compares it with the C compiler's.
#[allow(non_camel_case_types)]
#[repr(C, align(64))]
pub struct rte_mbuf {
    /// Start of the segment's memory.
    pub buf_addr: *mut c_void,
    buf_iova: u64,
    /// Bytes from `buf_addr` to the data, that is the headroom.
    pub data_off: u16,
    /// Owners of this segment.
    pub refcnt: u16,
    /// Segments of the frame; in its first segment only.
    pub nb_segs: u16,
    /// Port that received the frame.
    pub port: u16,
    /// Offload flags.
    pub ol_flags: u64,
    packet_type: u32,
    /// Bytes of the whole frame; in its first segment only.
    pub pkt_len: u32,
    /// Bytes of data in this segment.
    pub data_len: u16,
    vlan_tci: u16,
    /// The RSS hash, in the first of the two, where `ol_flags` says that there is one.
    pub hash: [u32; 2],
    vlan_tci_outer: u16,
    /// Bytes of memory at `buf_addr`.
    pub buf_len: u16,
    /// The pool the segment goes back to.
    pub pool: *mut rte_mempool,
    /// The frame's next segment, or null.
    pub next: *mut rte_mbuf,
    rest: [u8; 56],
}

/// The first thing on which Rust's [`rte_mbuf`] and C's disagree: its name, then the size or
/// offset in bytes that Rust has, then C's. `None` when they agree.
pub fn layout_mismatch() -> Option<(&'static str, usize, usize)> {
    let mut c = firstack_layout::default();
    // SAFETY: the shim only writes the structure that it is given.
    unsafe { firstack_mbuf_layout(&raw mut c) };
    [
        ("size", size_of::<rte_mbuf>(), c.size),
        ("align", align_of::<rte_mbuf>(), c.align),
        ("buf_addr", offset_of!(rte_mbuf, buf_addr), c.buf_addr),
        ("data_off", offset_of!(rte_mbuf, data_off), c.data_off),
        ("refcnt", offset_of!(rte_mbuf, refcnt), c.refcnt),
        ("nb_segs", offset_of!(rte_mbuf, nb_segs), c.nb_segs),
        ("port", offset_of!(rte_mbuf, port), c.port),
        ("ol_flags", offset_of!(rte_mbuf, ol_flags), c.ol_flags),
        ("pkt_len", offset_of!(rte_mbuf, pkt_len), c.pkt_len),
        ("data_len", offset_of!(rte_mbuf, data_len), c.data_len),
        ("hash", offset_of!(rte_mbuf, hash), c.hash),
        ("buf_len", offset_of!(rte_mbuf, buf_len), c.buf_len),
        ("pool", offset_of!(rte_mbuf, pool), c.pool),
        ("next", offset_of!(rte_mbuf, next), c.next),
    ]
    .into_iter()
    .find(|(_, rust, c)| rust != c)
}

#[cfg(test)]
mod tests {
    #[test]
    fn rust_and_c_agree_on_the_mbuf() {
        assert_eq!(super::layout_mismatch(), None);
    }
}
