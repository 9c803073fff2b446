//! What firstack's threads share, compiled with loom's atomics, locks and threads instead of the
//! standard library's: loom runs a model again and again, until it has tried every order in which
//! its threads' steps can happen, and every value that a load may then see.
//!
//! The files are the appliance's own, taken in by their paths. What they use of threads comes from
//! `crate::sync`, which is another here. The queue between two workers is the one thing that is
//! not the appliance's own: that is `rtrb`'s, which knows nothing of loom. Its place is taken by
//! [`handoff::ring`], a bounded queue under a lock; so these models are about what is built on
//! the queues, not about their innards.

pub mod sync;

/// Where the appliance's files look for [`sync`].
pub mod sys {
    pub use crate::sync;
}

#[path = "../../pipeline/src/shared.rs"]
pub mod shared;

/// The appliance's `handoff`, with another queue.
pub mod handoff {
    #[path = "../../../appliance/src/datapath/handoff/queues.rs"]
    pub mod queues;
    pub mod ring;
}
