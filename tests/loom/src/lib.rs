//! The state that firstack's threads share, compiled with loom's atomics, locks and threads
//! instead of the standard library's. loom runs a model until it has tried every interleaving of
//! its threads' steps, and every value that a load may see.
//!
//! The files are the appliance's and the pipeline's own, included by path. They take atomics,
//! locks and barriers from `crate::sync`, which is loom's here. The queue between two workers is
//! the exception: the appliance uses `rtrb`, which does not support loom. [`handoff::ring`], a
//! bounded queue under a lock, replaces it. These models verify what is built on the queues, not
//! the queues.

pub mod sync;

#[path = "../../../pipeline/src/shared.rs"]
pub mod shared;

/// The appliance's `handoff`, over another queue.
pub mod handoff {
    #[path = "../../../../appliance/src/handoff/mail.rs"]
    pub mod mail;
    pub mod ring;
}
