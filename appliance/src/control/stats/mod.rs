//! The counters of a process: collected from the workers, shown as text and as JSON.

mod fields;
mod kept;
mod memory;
mod quantile;
mod share;
mod snapshot;
mod text;

pub use fields::Field;
pub(crate) use fields::documented;
pub use kept::KeptStats;
pub use memory::{AnswerStats, MemoryAnswer, MemoryStats, RaceStats, SiteStats};
pub(super) use quantile::quantile;
pub use share::ShareStats;
pub(crate) use snapshot::limited_by_prefix;
pub use snapshot::{
    Named, Neighbour, PortStats, ResponderStats, SideStats, Snapshot, TableStats, VerdictStats,
    WorkerStats,
};
