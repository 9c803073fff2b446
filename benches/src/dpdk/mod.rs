//! Wraps the parts of DPDK that only benchmarks use: its hash table, memory statistics, and receive
//! callbacks that generate packets.
//!
//! This is the benchmarks' only unsafe code. It relies on [`Eal`] (DPDK is initialised while one
//! exists), on [`RxQueue`] (the queue's only handle) and on the layout of [`Mbuf`] (a transparent
//! pointer to an mbuf that it owns).
//!
//! [`Eal`]: firstack::dpdk::Eal
//! [`Mbuf`]: firstack::dpdk::Mbuf
//! [`RxQueue`]: firstack::dpdk::RxQueue

mod callback;
mod hash;

use std::ffi::NulError;
use std::io;

use firstack::dpdk::Eal;

pub use callback::RxCallback;
pub use hash::{HASH_BULK, HASH_KEY, HashTable};

/// Maximum number of NUMA nodes whose memory is counted.
const NODES: i32 = 32;

/// An error of DPDK in a benchmark.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name for DPDK contains a NUL byte.
    #[error(transparent)]
    Nul(#[from] NulError),
    /// A hash table could not be created.
    #[error("table {name}: cannot create it for {entries} entries: {reason}")]
    HashTable {
        /// The table's name.
        name: String,
        /// The number of entries requested.
        entries: u32,
        /// DPDK's reason.
        reason: io::Error,
    },
    /// A receive callback could not be added.
    #[error("port {port}, queue {queue}: cannot add a receive callback: {reason}")]
    Callback {
        /// DPDK's number of the port.
        port: u16,
        /// The queue's number at its port.
        queue: u16,
        /// DPDK's reason.
        reason: io::Error,
    },
}

/// Returns the calling thread's `rte_errno`.
fn last_error() -> io::Error {
    // SAFETY: reads a thread-local integer; needs no initialised EAL.
    io::Error::from_raw_os_error(unsafe { dpdk_sys::firstack_errno() })
}

/// Returns how many bytes of DPDK's memory are in use.
pub fn bytes_in_use(_eal: &Eal) -> usize {
    let on_node = |node| {
        let mut stats = dpdk_sys::rte_malloc_socket_stats::default();
        // SAFETY: DPDK is initialised while `_eal` exists, and only writes the structure; it
        // refuses nodes that it does not have.
        let status = unsafe { dpdk_sys::rte_malloc_get_socket_stats(node, &raw mut stats) };
        if status == 0 { stats.heap_allocsz_bytes } else { 0 }
    };
    (0..NODES).map(on_node).sum()
}
