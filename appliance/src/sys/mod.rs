//! The machine: huge pages, memory that outlives a process, CPU features, thread primitives.

pub mod cpu;
pub mod descriptors;
pub mod dumps;
pub mod hugepages;
pub mod interface;
pub mod kept_memory;
pub mod notify;
pub mod sync;
