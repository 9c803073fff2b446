//! The machine: huge pages, memory that outlives a process, CPU features, capabilities, interfaces and
//! who has them, threads.

pub mod capabilities;
pub mod claim;
pub mod cpu;
pub mod descriptors;
pub mod dumps;
pub mod end;
pub mod hugepages;
pub mod interface;
pub mod kept_memory;
pub mod memory;
pub mod notify;
pub mod sync;
pub mod thread;
