//! Foundations: time, values that the control thread publishes to workers, prefetch.

pub mod prefetch;
pub mod published;
mod sync;
pub mod time;
