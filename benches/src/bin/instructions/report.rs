//! The changes from the accepted counts to the current ones.

use std::fmt::Write as _;

use super::baseline::Baseline;

/// Changes below this many per cent are not shown.
const NOTHING: f64 = 0.5;

/// The result of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It changed by this many per cent.
    Moved(f64),
    /// It increased by this many per cent, which is a regression.
    Regressed(f64),
    /// Not in the baseline.
    New,
    /// Only in the baseline.
    Gone,
}

struct Row<'a> {
    name: &'a str,
    accepted: Option<f64>,
    counted: Option<f64>,
    fate: Fate,
}

/// The comparison.
pub(crate) struct Report<'a> {
    rows: Vec<Row<'a>>,
    accepted: &'a Baseline,
    counted: &'a Baseline,
    threshold: f64,
}

impl<'a> Report<'a> {
    /// Compares counts. An increase of more than `threshold` per cent is a regression.
    pub(crate) fn new(accepted: &'a Baseline, counted: &'a Baseline, threshold: f64) -> Self {
        let names = accepted.instructions.keys().chain(counted.instructions.keys());
        let mut names: Vec<&str> = names.map(String::as_str).collect();
        names.sort_unstable();
        names.dedup();
        let row = |name| {
            let of = |baseline: &Baseline| baseline.instructions.get(name).copied();
            let (accepted, counted) = (of(accepted), of(counted));
            let fate = match (accepted, counted) {
                (Some(before), Some(now)) => match (now / before - 1.0) * 100.0 {
                    percent if percent > threshold => Fate::Regressed(percent),
                    percent => Fate::Moved(percent),
                },
                (None, _) => Fate::New,
                (_, None) => Fate::Gone,
            };
            Row { name, accepted, counted, fate }
        };
        Self { rows: names.into_iter().map(row).collect(), accepted, counted, threshold }
    }

    /// Returns whether every case is in both, and none regressed.
    pub(crate) fn passes(&self) -> bool {
        self.rows.iter().all(|row| matches!(row.fate, Fate::Moved(_)))
    }

    /// Formats the changes, or all cases, the worst first, with the result in the last line.
    pub(crate) fn text(&self, all: bool) -> String {
        let mut text = String::new();
        let mut shown: Vec<&Row<'_>> = self.rows.iter().filter(|row| all || row.moved()).collect();
        shown.sort_by(|a, b| b.weight().total_cmp(&a.weight()));
        if !shown.is_empty() {
            text += &format!("{:32} {:>10} {:>10} {:>8}\n", "instructions", "accepted", "now", "");
        }
        for row in shown {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}", row.text());
        }
        let (was, is) = (&self.accepted.tools, &self.counted.tools);
        if was != is {
            text += &format!(
                "The accepted counts are of {}, {}, {};\nhere are {}, {}, {}: counts may differ for that.\n",
                was.architecture, was.rustc, was.valgrind, is.architecture, is.rustc, is.valgrind
            );
        }
        text + &self.verdict()
    }

    fn verdict(&self) -> String {
        let count = |fate: fn(&Fate) -> bool| self.rows.iter().filter(|r| fate(&r.fate)).count();
        let regressed = count(|fate| matches!(fate, Fate::Regressed(_)));
        let unknown = count(|fate| matches!(fate, Fate::New | Fate::Gone));
        let (cases, threshold) = (self.rows.len(), self.threshold);
        if self.passes() || threshold.is_infinite() {
            return format!(
                "instructions: {cases} cases, none above the accepted by {threshold} %\n"
            );
        }
        format!(
            "instructions: REGRESSION: {regressed} of {cases} cases take over {threshold} % more than \
             accepted, {unknown} are in one of the lists alone.\nIf that is meant: \
             scripts/accept-baseline, and commit what it writes.\n"
        )
    }
}

impl Row<'_> {
    fn moved(&self) -> bool {
        !matches!(self.fate, Fate::Moved(percent) if percent.abs() < NOTHING)
    }

    fn weight(&self) -> f64 {
        match self.fate {
            Fate::Moved(percent) | Fate::Regressed(percent) => percent,
            Fate::New | Fate::Gone => f64::INFINITY,
        }
    }

    fn text(&self) -> String {
        let number = |count: Option<f64>| count.map_or("-".to_owned(), |n| format!("{n:.1}"));
        let change = match self.fate {
            Fate::Moved(percent) => format!("{percent:+7.1} %"),
            Fate::Regressed(percent) => format!("{percent:+7.1} %  REGRESSION"),
            Fate::New => "      new: not accepted yet".to_owned(),
            Fate::Gone => "      gone: accepted, but not counted".to_owned(),
        };
        let (accepted, counted) = (number(self.accepted), number(self.counted));
        format!("{:32} {accepted:>10} {counted:>10} {change}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::baseline::Tools;
    use super::*;

    fn baseline(rustc: &str, counts: &[(&str, f64)]) -> Baseline {
        let tools =
            Tools { architecture: String::new(), rustc: rustc.to_owned(), valgrind: String::new() };
        let instructions = counts.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Baseline { tools, instructions }
    }

    #[test]
    fn more_than_the_threshold_fails_and_less_is_shown() {
        let accepted = baseline("1", &[("a", 100.0), ("b", 100.0), ("c", 100.0)]);
        let within = baseline("1", &[("a", 104.9), ("b", 50.0), ("c", 100.1)]);
        let report = Report::new(&accepted, &within, 5.0);
        assert!(report.passes());
        let text = report.text(false);
        assert!(text.contains("+4.9 %") && text.contains("-50.0 %"), "{text}");
        assert!(!text.contains("\nc "), "{text}");
        assert!(report.text(true).contains("\nc "));
        let above = baseline("1", &[("a", 105.1), ("b", 50.0), ("c", 100.0)]);
        let report = Report::new(&accepted, &above, 5.0);
        assert!(!report.passes());
        assert!(report.text(false).contains("+5.1 %  REGRESSION"));
    }

    #[test]
    fn cases_that_only_one_side_has_fail() {
        let (one, two) = (baseline("1", &[("a", 1.0)]), baseline("1", &[("a", 1.0), ("b", 1.0)]));
        assert!(!Report::new(&one, &two, 5.0).passes());
        assert!(!Report::new(&two, &one, 5.0).passes());
        assert!(Report::new(&two, &two, 5.0).passes());
    }

    #[test]
    fn another_compiler_is_named() {
        let (old, new) = (baseline("rustc 1", &[]), baseline("rustc 2", &[]));
        assert!(Report::new(&old, &new, 5.0).text(false).contains("rustc 1"));
        assert!(!Report::new(&new, &new, 5.0).text(false).contains("rustc"));
    }
}
