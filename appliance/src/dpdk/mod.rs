//! The safe layer over DPDK. Apart from [`crate::sys::hugepages`], the appliance's only unsafe
//! code.
//!
//! Start with [`Eal::init`], create an [`MbufPool`], find each [`Port`] by its device, configure
//! and start it, and pass its queues to the workers launched with [`Eal::launch`].
//!
//! It is sound because of these invariants, which each unsafe block refers to:
//! - **Lifetime.** Pools, ports and queues hold the [`Eal`]'s runtime. DPDK's memory is released
//!   when the last of them is gone and every mbuf is back in its pool, otherwise at the end of the
//!   process. So no mbuf outlives its memory.
//! - **One owner.** An [`Mbuf`] is the only reference to its segments. A queue has one handle; a
//!   port stops only when the handles of its queues are gone.
//! - **Layout.** [`Eal::init`] refuses to start if Rust and C disagree about the mbuf.

mod eal;
mod error;
mod flow;
mod interrupt;
mod lcore;
mod mbuf;
mod pool;
mod port;
mod queue;
mod rss;
mod rx_event;
mod setup;

pub use eal::{Eal, EalArgs, LogLevel};
pub use error::{Errno, Error};
pub use flow::RefusedRule;
pub use lcore::{Worker, cycles};
pub use mbuf::{Mbuf, Segments};
pub use pool::{DEFAULT_DATA_ROOM, MbufPool, PoolHandle, STASH};
pub use port::{LinkStatus, Port, PortStats, Started};
pub use queue::{RxQueue, TxQueue};
pub use rss::{OneAddress, Rss, RssField, RssOffer, RssReport, RssScope};
pub use rx_event::RxEvent;
pub use setup::{PortConfig, PortReport};
