//! The counters of a process: collected from the workers, shown as text and as JSON.

mod snapshot;
mod text;

pub use snapshot::{
    Answers, Named, Neighbour, PortStats, SideStats, Snapshot, TableStats, VerdictStats,
    WorkerStats,
};
