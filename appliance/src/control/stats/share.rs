//! The store through which gateways share what they have learned, as text and as JSON.

use std::fmt;

use super::documented;

documented! {
    /// The store through which gateways share what they have learned.
    pub struct ShareStats {
        server: String = "" "The store's server.",
        state: String = "" "connecting, connected or away.",
        since_ms: u64 = "milliseconds" "How long it has been so.",
        why: String = "" "Why it is away.",
        imported: u64 = "sites" "Sites that were new here and came from other gateways.",
        exported: u64 = "entries" "Entries written, those that were written again included.",
        refused: u64 = "entries" "Entries of other hosts that were refused, each time that they were read.",
    }
}

impl fmt::Display for ShareStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server, state, since_ms, why, imported, exported, refused } = self;
        let seconds = *since_ms as f64 / 1000.0;
        write!(f, "store {server}: {state} since {seconds:.1} s")?;
        if !why.is_empty() {
            write!(f, " ({why})")?;
        }
        writeln!(f, ", {imported} sites imported, {exported} entries exported, {refused} refused")
    }
}
