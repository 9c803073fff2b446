//! The demonstration: races for the nearest replica with real TCP, printed as a report.
//!
//! [`run`] is the work of `firstack-demo`. [`world`] is the network; [`scenes`] has the parts, in the
//! order in which they run; [`client`] makes many connections; [`capture`] captures one for
//! `firstack replay`; [`table`] is the summary; [`report`] prints.

pub mod capture;
pub mod client;
mod proof;
pub mod report;
pub mod scenes;
pub mod table;
pub mod world;

use std::path::Path;
use std::time::Instant;

use crate::lab::{Family, Result};
use crate::processes::Configuration;
use report::Report;
use scenes::Scenes;
use table::Row;
use world::{DELAYS, World};

/// Short connections in configuration A.
const MANY: usize = 2000;
/// Short connections without firstack, and in the other configurations.
const FEWER: usize = 300;

/// Runs the demonstration in these configurations and families; IPv4 must be among them. Returns
/// `true` if every claim held. Captures of configuration A are written to `captures`.
pub fn run(captures: &Path, configurations: &[Configuration], families: &[Family]) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::default();
    report.line("firstack: the server whose SYN/ACK arrives first wins the TCP connection.");
    report.line("Real curl, nginx and kernel TCP; four firstack processes on DPDK.");
    report.line("One-way delays between the sites, in milliseconds:");
    let row = |(a, b, delay): &(_, _, f64)| vec![format!("{a} - {b}"), format!("{delay:.0}")];
    report.table(&["", ""], &DELAYS.iter().map(row).collect::<Vec<_>>());

    let before = scenes::without(&mut report, families)?;
    let mut rows = before.clone();
    for configuration in configurations {
        rows.extend(match configuration {
            Configuration::A => full(captures, families, &mut report, &before)?,
            other => shorter(*other, families, &mut report, &before)?,
        });
    }
    report.heading("All together (medians; shares saved of the time without firstack)");
    table::print(&report, rows);
    report.line("");
    let all = report.conclude();
    if configurations.contains(&Configuration::A) {
        report.line(&format!("Captures: {}", captures.display()));
    }
    report.line(&format!("The demonstration took {:.0} s.", start.elapsed().as_secs_f64()));
    Ok(all)
}

/// Runs all parts in configuration A, with a capture and its replay.
fn full(
    captures: &Path,
    families: &[Family],
    report: &mut Report,
    before: &[Row],
) -> Result<Vec<Row>> {
    let mut world = World::with_firstack(Configuration::A, families, Some(captures))?;
    let mut scenes = Scenes::new(&mut world, report, Configuration::A, before)?;
    let captured = scenes.first(captures)?;
    scenes.race(Family::V4)?;
    scenes.killed()?;
    scenes.busy()?;
    scenes.revived()?;
    scenes.large()?;
    scenes.many(MANY)?;
    scenes.ipv6(families)?;
    scenes.counters()?;
    scenes.explain(&captured)?;
    scenes.end()?;
    Ok(scenes.rows())
}

/// Runs the parts that differ between configurations.
fn shorter(
    configuration: Configuration,
    families: &[Family],
    report: &mut Report,
    before: &[Row],
) -> Result<Vec<Row>> {
    let mut world = World::with_firstack(configuration, families, None)?;
    let mut scenes = Scenes::new(&mut world, report, configuration, before)?;
    scenes.race(Family::V4)?;
    scenes.large()?;
    scenes.many(FEWER)?;
    scenes.ipv6(families)?;
    scenes.killed()?;
    scenes.revived()?;
    scenes.sums()?;
    scenes.end()?;
    Ok(scenes.rows())
}
