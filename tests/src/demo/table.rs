//! The last table: measurements without firstack and in each configuration, by family.

use std::time::Duration;

use firstack::control::stats::{SideStats, Snapshot};

use super::report::{Report, ms, saved};
use crate::lab::Family;

/// Bytes of the large download.
const LARGE: f64 = 100e6;

/// The measurements without firstack or in one configuration, in one family.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// "without firstack", or the configuration.
    pub name: String,
    /// The family.
    pub family: Family,
    /// Median time to connect.
    pub connect: Duration,
    /// Median time for 1 MB.
    pub download: Duration,
    /// Time for 100 MB.
    pub large: Option<Duration>,
    /// Short connections: complete and failed.
    pub short: Option<(usize, usize)>,
    /// The gateway's most frequent verdict for packets from its inside and its outside.
    pub packets: Option<[String; 2]>,
}

/// Prints all rows, IPv4 first. Savings are relative to the first row of the family.
pub fn print(report: &Report, mut rows: Vec<Row>) {
    rows.sort_by_key(|row| row.family);
    let head = [
        "",
        "connect",
        "saved",
        "1 MB",
        "saved",
        "100 MB",
        "MB/s",
        "short",
        "failed",
        "packets from clients",
        "packets to clients",
    ];
    let first = |family| rows.iter().find(|row: &&Row| row.family == family);
    let cells: Vec<_> = rows.iter().map(|row| cells(row, first(row.family))).collect();
    report.table(&head, &cells);
    report.line("  Packets: the gateway's most frequent verdict on each side, and its count.");
}

fn cells(row: &Row, first: Option<&Row>) -> Vec<String> {
    let none = || "-".to_string();
    let saved = |of: fn(&Row) -> Duration| match first {
        Some(first) if first.name != row.name => saved(of(first), of(row)),
        _ => none(),
    };
    let rate = |time: Duration| format!("{:.0}", LARGE / 1e6 / time.as_secs_f64());
    let (complete, failed) = row.short.unzip();
    let [inside, outside] = row.packets.clone().unwrap_or_else(|| [none(), none()]);
    let count = |count: Option<usize>| count.map_or_else(none, |count| count.to_string());
    vec![
        format!("{}, {}", row.name, row.family),
        ms(row.connect),
        saved(|row| row.connect),
        ms(row.download),
        saved(|row| row.download),
        row.large.map_or_else(none, ms),
        row.large.map_or_else(none, rate),
        count(complete),
        count(failed),
        inside,
        outside,
    ]
}

/// Returns a gateway's most frequent verdict and its count since `before`, inside first.
#[must_use]
pub fn top_verdicts(before: &Snapshot, now: &Snapshot) -> [String; 2] {
    let sides = [0, 1].map(|side| (&before.sides[side], &now.sides[side]));
    sides.map(|(before, now)| top_verdict(before, now))
}

fn top_verdict(before: &SideStats, now: &SideStats) -> String {
    let earlier = |name: &str| {
        let found = before.verdicts.iter().find(|verdict| verdict.name == name);
        found.map_or(0, |verdict| verdict.packets)
    };
    let since = now.verdicts.iter().map(|verdict| {
        (verdict.packets.saturating_sub(earlier(&verdict.name)), verdict.name.as_str())
    });
    let (count, name) = since.max().unwrap_or_default();
    format!("{name} {count}")
}

#[cfg(test)]
mod tests {
    use firstack::control::stats::VerdictStats;

    use super::*;

    #[test]
    fn top_verdict_is_counted_from_the_earlier_moment() {
        let side = |counts: [u64; 2]| SideStats {
            verdicts: ["tagged", "to_replica"]
                .into_iter()
                .zip(counts)
                .map(|(name, packets)| VerdictStats {
                    name: name.into(),
                    fate: String::new(),
                    operation: String::new(),
                    packets,
                })
                .collect(),
            ..SideStats::default()
        };
        assert_eq!(top_verdict(&side([1, 90]), &side([30, 100])), "tagged 29");
        assert_eq!(top_verdict(&SideStats::default(), &side([30, 100])), "to_replica 100");
    }

    #[test]
    fn a_row_without_figures_has_dashes() {
        let base = Row { name: "without firstack".into(), ..Row::default() };
        assert_eq!(cells(&base, Some(&base))[5..], ["-"; 6]);
        let time = Duration::from_secs(2);
        let large = Row { name: "A".into(), large: Some(time), ..base.clone() };
        assert_eq!(cells(&large, Some(&base))[5..7], ["2000.0 ms", "50"]);
    }
}
