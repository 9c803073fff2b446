//! The demonstration's output: headings, tables, and claims that are ok or FAILED.

use std::io::Write;
use std::time::Duration;

/// Prints the output and collects failed claims.
#[derive(Debug, Default)]
pub struct Report {
    claims: usize,
    failed: Vec<String>,
}

impl Report {
    /// Prints a line and flushes it. Ignores errors, such as a closed pipe.
    pub fn line(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }

    /// Prints a heading.
    pub fn heading(&self, text: &str) {
        self.line(&format!("\n{text}\n{}", "-".repeat(text.chars().count())));
    }

    /// Prints a table: the first column left-aligned, the others right-aligned.
    pub fn table(&self, head: &[&str], rows: &[Vec<String>]) {
        for line in layout(head, rows) {
            self.line(&line);
        }
    }

    /// Prints a claim as ok or FAILED.
    pub fn claim(&mut self, holds: bool, text: &str) {
        self.claims += 1;
        if holds {
            self.line(&format!("  ok      {text}"));
        } else {
            self.failed.push(text.to_string());
            self.line(&format!("  FAILED  {text}"));
        }
    }

    /// Prints whether something that depends on this machine's speed was timely or late. It is not a
    /// claim, because it may fail on a busy machine.
    pub fn timing(&self, holds: bool, text: &str) {
        let mark = if holds { "timely" } else { "late  " };
        self.line(&format!("  {mark}  {text}"));
    }

    /// Prints the conclusion. Returns `true` if every claim held.
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

/// Returns a time in milliseconds, such as "12.3 ms".
#[must_use]
pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Returns the share of `before` that is saved, such as "24 %".
#[must_use]
pub fn saved(before: Duration, now: Duration) -> String {
    format!("{:.0} %", 100.0 * (1.0 - now.as_secs_f64() / before.as_secs_f64()))
}

/// Returns the median; zero if there are no times.
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
