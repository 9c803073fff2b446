//! Basic types: time, values that the control thread publishes to workers, prefetching.

pub mod prefetch;
pub mod published;
mod sync;
pub mod time;
