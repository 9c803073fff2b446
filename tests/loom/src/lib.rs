//! The state that firstack's threads share, compiled with loom's atomics, locks and threads
//! instead of the standard library's. loom runs a model until it has tried every interleaving of
//! its threads' steps, and every value that a load may see.
//!
//! The files are the appliance's and the pipeline's own, included by path. They take atomics,
//! locks and barriers from `base::sync` and `sys::sync`, which are loom's here. The queue between two workers is
//! the exception: the appliance uses `rtrb`, which does not support loom. [`handoff::ring`], a
//! bounded queue under a lock, replaces it. These models verify what is built on the queues, not
//! the queues.

pub mod sync;

#[path = "../../../pipeline/src/base/published.rs"]
pub mod published;

/// The pipeline's `base`.
pub mod base {
    pub use crate::sync;
}

/// The appliance's `sys`.
pub mod sys {
    pub use crate::sync;
}

/// The appliance's `datapath::handoff`, over another queue.
pub mod handoff {
    #[path = "../../../../appliance/src/datapath/handoff/frame.rs"]
    pub mod frame;
    #[path = "../../../../appliance/src/datapath/handoff/queues.rs"]
    pub mod queues;
    pub mod ring;
}

/// The appliance's `datapath::slot`.
#[path = "../../../appliance/src/datapath/slot.rs"]
pub mod slot;
