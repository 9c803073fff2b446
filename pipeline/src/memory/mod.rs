//! What a gateway remembers of the replicas of its services, and whom it asks because of it
//! (docs/protocol.md, "Direct copies").
//!
//! A worker reports each race that it opens and each SYN/ACK that could have won ([`Report`]). The
//! control thread feeds the reports to the [`Memory`], which ranks the replicas and publishes a
//! [`Plan`] for each service and family. A worker reads the plans once a burst. Reports and plans
//! are all that crosses threads; a worker never waits, and a report that does not fit its queue is
//! lost and counted.
//!
//! The memory takes its time from its caller, so a replay is deterministic.

mod family;
mod history;
mod keeper;
mod plan;
mod policy;
mod rejected;
mod report;
mod site;
mod smoothed;
#[cfg(test)]
mod tests;

pub use history::{Answer, Race};
pub use keeper::{Learned, Memory, Remembered, ServiceSettings, Shown};
pub use plan::{Candidate, DIRECT, Plan, Plans, SITES, Why};
pub use policy::Policy;
pub use report::{Event, Report, Reports, ReportsReader, reports};
