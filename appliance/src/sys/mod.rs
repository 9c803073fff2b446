//! The machine: huge pages, CPU features, thread primitives.

pub mod cpu;
pub mod descriptors;
pub mod dumps;
pub mod hugepages;
pub mod interface;
pub mod notify;
pub mod sync;
