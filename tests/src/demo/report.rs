//! What the demonstration prints: headings, tables, and claims that hold or FAILED.

use std::io::Write;
use std::time::Duration;

/// Collects claims while it prints.
#[derive(Debug, Default)]
pub struct Report {
    claims: usize,
    failed: Vec<String>,
}

impl Report {
    /// Prints a line at once; a reader that has gone is no reason to fail.
    pub fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Begins a part.
    pub fn heading(&self, text: &str) {
        self.line(&format!("\n{text}\n{}", "-".repeat(text.chars().count())));
    }

    /// Prints a table: the first column to the left, figures to the right.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        for line in layout(head, rows) {
            self.line(&line);
        }
    }

    /// Says that something is so, or that it FAILED.
    pub fn claim(&mut self, holds: bool, text: &str) {
        self.claims += 1;
        if holds {
            self.line(&format!("  ok      {text}"));
        } else {
            self.failed.push(text.to_string());
            self.line(&format!("  FAILED  {text}"));
        }
    }

    /// Says that something is so which depends on how fast this machine is: it is no claim, for a
    /// busy one is late.
    pub fn timing(&self, holds: bool, text: &str) {
        let mark = if holds { "timely" } else { "late  " };
        self.line(&format!("  {mark}  {text}"));
    }

    /// Prints what all came to; `true` when every claim held.
    pub fn conclude(&self) -> bool {
        self.line(&self.conclusion());
        self.failed.is_empty()
    }

    fn conclusion(&self) -> String {
        if self.failed.is_empty() {
            return format!("All {} claims held.", self.claims);
        }
        let failed = self.failed.iter().map(|text| format!("\n  FAILED  {text}"));
        let count = self.failed.len();
        format!("FAILED: {count} of {} claims{}", self.claims, failed.collect::<String>())
    }
}

fn layout(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head: Vec<_> = head.iter().map(|cell| (*cell).to_string()).collect();
    let all: Vec<_> = std::iter::once(&head).chain(rows).collect();
    let width = |column: usize| {
        let cells = all.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("   ")).trim_end().to_string()
    };
    all.iter().map(line).collect()
}

/// A time in milliseconds: "12.3 ms".
#[must_use]
pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// The share of a time that is saved: "24 %".
#[must_use]
pub fn saved(before: Duration, now: Duration) -> String {
    format!("{:.0} %", 100.0 * (1.0 - now.as_secs_f64() / before.as_secs_f64()))
}

/// The one in the middle; zero of none.
#[must_use]
pub fn median(times: impl IntoIterator<Item = Duration>) -> Duration {
    let mut times: Vec<_> = times.into_iter().collect();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["origin".into(), "100.0 ms".into()], vec!["r1".into(), "9 ms".into()]];
        let lines = layout(&["server", "connect"], &rows);
        assert_eq!(lines, ["  server    connect", "  origin   100.0 ms", "  r1           9 ms"]);
    }

    #[test]
    fn the_conclusion_names_what_failed() {
        let mut report = Report { claims: 2, failed: Vec::new() };
        assert_eq!(report.conclusion(), "All 2 claims held.");
        report.failed.push("this one".into());
        assert_eq!(report.conclusion(), "FAILED: 1 of 2 claims\n  FAILED  this one");
    }

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let times = [9, 1, 5].map(Duration::from_millis);
        assert_eq!(median(times), Duration::from_millis(5));
        assert_eq!(median([]), Duration::ZERO);
        assert_eq!(ms(Duration::from_micros(12_345)), "12.3 ms");
        let times = [100, 76].map(Duration::from_millis);
        assert_eq!(saved(times[0], times[1]), "24 %");
    }
}
