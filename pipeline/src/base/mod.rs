//! Basic types: time, values that the control thread publishes to workers, values that outlive the
//! process, prefetching.

pub mod prefetch;
pub mod published;
pub mod stored;
mod sync;
pub mod time;
