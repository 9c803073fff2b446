//! The tables that outlive the process, as text and as JSON.

use std::fmt;

use pipeline::table::Imported;

use super::documented;
use crate::keep::Adopted;

documented! {
    /// The tables that outlive the process, and what became of those of the process before.
    pub struct KeptStats {
        directory: String = "" "Their directory.",
        generation: u64 = "" "How many processes have had tables there, this one included.",
        adopted: u64 = "connections" "Connections of the process before that were taken over at the start.",
        torn: u64 = "connections" "Entries that it had not finished changing; they were put back as they were, and count elsewhere, too.",
        expired: u64 = "connections" "Connections whose time-out had passed.",
        invalid: u64 = "connections" "Entries that were dropped because they hold what no process writes.",
        unplaced: u64 = "connections" "Connections that were dropped because the new table is smaller and full.",
        refused: Vec<String> = "" "Why tables were not taken over, such as --forget or another layout; empty if all were, or there were none.",
        took_ms: u64 = "milliseconds" "The time that it took to take them over.",
    }
}

impl KeptStats {
    /// Returns what is shown of tables in a directory.
    pub fn new(directory: String, generation: u64, adopted: &Adopted) -> Self {
        let Imported { adopted: connections, torn, expired, invalid, unplaced, .. } =
            adopted.entries;
        Self {
            directory,
            generation,
            adopted: connections,
            torn,
            expired,
            invalid,
            unplaced,
            refused: adopted.refused.clone(),
            took_ms: adopted.took.as_millis() as u64,
        }
    }
}

impl fmt::Display for KeptStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { directory, generation, adopted, torn, expired, invalid, unplaced, .. } = self;
        writeln!(
            f,
            "tables kept in {directory}, generation {generation}: {adopted} connections taken over \
             in {} ms, {torn} torn, {expired} expired, {invalid} invalid, {unplaced} unplaced",
            self.took_ms
        )?;
        self.refused.iter().try_for_each(|why| writeln!(f, "tables not taken over: {why}"))
    }
}
