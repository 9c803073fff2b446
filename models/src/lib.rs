//! The state that firstack's threads share, compiled with loom's atomics, locks and threads instead
//! of the standard library's. Loom runs a model repeatedly until it has tried every order of the
//! threads' steps, and every value that a load may return.
//!
//! The files are those of the product, included by path; they take their thread primitives from a
//! `sync` module, which is replaced here. The queue between two workers cannot be included, because
//! it is `rtrb`'s and does not know loom. It is replaced by [`handoff::ring`], a bounded queue
//! under a lock. So these models check what is built on the queues, not the queues themselves.

pub mod sync;

/// The path at which the appliance's files find [`sync`].
pub mod sys {
    pub use crate::sync;
}

#[path = "../../pipeline/src/shared.rs"]
pub mod shared;

/// The appliance's handoff, with another queue.
pub mod handoff {
    #[path = "../../../appliance/src/datapath/handoff/queues.rs"]
    pub mod queues;
    pub mod ring;
}
