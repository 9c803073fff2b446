//! The last table: four rows for each configuration and family.

use std::fmt;
use std::time::Duration;

use super::report::{Report, median, ms};
use crate::lab::{Family, Fetched};
use crate::processes::Configuration;

/// How the connections of a row were raced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Race {
    /// Not at all: firstack does not run.
    #[default]
    Without,
    /// By the switch's copies alone (`direct = 0`).
    Patent,
    /// With direct copies (the defaults).
    Direct,
    /// With direct copies, after the nearest replica was killed during the run.
    Killed,
}

impl fmt::Display for Race {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Without => "without firstack",
            Self::Patent => "the patent's race",
            Self::Direct => "direct copies",
            Self::Killed => "direct copies, the nearest is killed",
        })
    }
}

/// The measurements of one kind of race, in one configuration and family.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// How the connections were raced.
    pub race: Race,
    /// The configuration. Without firstack there is none.
    pub configuration: Option<Configuration>,
    /// The family.
    pub family: Family,
    /// Median time to connect.
    pub connect: Duration,
    /// Median time for 1 MB.
    pub download: Duration,
    /// Connections that were opened, of any size.
    pub connections: usize,
    /// Of these, the connections that failed.
    pub failed: usize,
}

impl Row {
    /// Creates a row from connections for 1 MB: those that are complete, and the number of all.
    #[must_use]
    pub fn new(race: Race, family: Family, good: &[Fetched], count: usize) -> Self {
        Self {
            race,
            configuration: None,
            family,
            connect: median(good.iter().map(|fetched| fetched.connect)),
            download: median(good.iter().map(|fetched| fetched.total)),
            connections: count,
            failed: count - good.len(),
        }
    }

    /// Adds connections that are not in the medians.
    pub fn add(&mut self, connections: usize, failed: usize) {
        self.connections += connections;
        self.failed += failed;
    }
}

/// Prints four rows for each configuration and family, those without firstack again in each, and
/// claims that no connection has failed.
pub fn print(report: &mut Report, rows: &[Row]) {
    let head = ["", "connect", "1 MB", "connections", "failed"];
    report.table(&head, &lines(rows));
    let failed: usize = rows.iter().map(|row| row.failed).sum();
    report.claim(failed == 0, &format!("{failed} connections failed"));
}

fn lines(rows: &[Row]) -> Vec<Vec<String>> {
    let mut groups: Vec<_> = rows
        .iter()
        .filter_map(|row| row.configuration.map(|configuration| (row.family, configuration)))
        .collect();
    groups.sort_unstable_by_key(|(family, configuration)| (*family, configuration.to_string()));
    groups.dedup();
    let mut lines = Vec::new();
    for (family, configuration) in groups {
        lines.push(vec![format!("configuration {configuration}, {family}")]);
        let is_in = |row: &&Row| {
            row.family == family && row.configuration.is_none_or(|one| one == configuration)
        };
        let mut own: Vec<_> = rows.iter().filter(is_in).collect();
        own.sort_by_key(|row| row.race);
        lines.extend(own.into_iter().map(cells));
    }
    lines
}

fn cells(row: &Row) -> Vec<String> {
    vec![
        format!("  {}", row.race),
        ms(row.connect),
        ms(row.download),
        row.connections.to_string(),
        row.failed.to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_configuration_begins_with_the_row_without_firstack() {
        let row = |race, configuration, family| Row {
            race,
            configuration,
            family,
            connect: Duration::from_micros(10_500),
            download: Duration::from_millis(70),
            connections: 20,
            failed: 0,
        };
        let (a, b) = (Some(Configuration::A), Some(Configuration::B));
        let rows = [
            row(Race::Without, None, Family::V4),
            row(Race::Direct, b, Family::V4),
            row(Race::Killed, a, Family::V4),
            row(Race::Patent, a, Family::V4),
        ];
        let lines = lines(&rows);
        let names: Vec<_> = lines.iter().map(|line| line[0].trim()).collect();
        let expected = [
            "configuration A, IPv4",
            "without firstack",
            "the patent's race",
            "direct copies, the nearest is killed",
            "configuration B, IPv4",
            "without firstack",
            "direct copies",
        ];
        assert_eq!(names, expected);
        assert_eq!(lines[1][1..], ["10.5 ms", "70.0 ms", "20", "0"]);
    }

    #[test]
    fn connections_outside_the_medians_are_counted() {
        let mut row = Row::new(Race::Direct, Family::V4, &[], 3);
        row.add(100, 1);
        assert_eq!((row.connections, row.failed), (103, 4));
    }
}
