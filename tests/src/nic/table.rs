//! What was seen, card by card and case by case.

use std::fmt;

/// One case on one card.
#[derive(Clone, Debug)]
pub struct Row {
    /// The card.
    pub card: String,
    /// The case.
    pub case: &'static str,
    /// What was seen, or what went wrong.
    pub seen: Result<String, String>,
}

/// All rows.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// In the order in which they were made.
    pub rows: Vec<Row>,
}

impl Table {
    /// Returns whether every case passed, and there was one.
    #[must_use]
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.seen.is_ok())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, text) = match &self.seen {
            Ok(text) => ("ok", text),
            Err(text) => ("FAILED", text),
        };
        write!(f, "{:<11} {:<11} {mark:<7} {text}", self.card, self.case)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| writeln!(f, "{row}"))?;
        let failed = self.rows.iter().filter(|row| row.seen.is_err()).count();
        writeln!(f, "\n{} cases, {failed} failed", self.rows.len())
    }
}
