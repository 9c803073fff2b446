//! The demonstration: races for the nearest replica with real TCP, told as a report.
//!
//! [`run`] is what `firstack-demo` does; [`world`] is the network, [`scenes`] are the parts in
//! the order in which they are told, [`client`] makes many connections, [`capture`] keeps one
//! for `firstack replay`, [`table`] is what all came to, [`report`] prints.

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

/// Short connections in the whole story of one configuration.
const MANY: usize = 2000;
/// Short connections without firstack, and in a configuration's shorter story.
const FEWER: usize = 300;

/// Tells the story in these configurations and families, IPv4 among them; `true` when every
/// claim held. Captures of configuration A, which is told at length, go to a directory.
pub fn run(captures: &Path, configurations: &[Configuration], families: &[Family]) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::default();
    report.line("firstack: every TCP connection goes to the replica that answers first.");
    report.line("Real curl and nginx, the kernel's own TCP, four firstack processes on DPDK.");
    report.line("One-way delays between the sites, in milliseconds:");
    let row = |(a, b, delay): &(_, _, f64)| vec![format!("{a} - {b}"), format!("{delay:.0}")];
    report.table(&["", ""], &DELAYS.iter().map(row).collect::<Vec<_>>());

    let before = scenes::without(&mut report, families)?;
    let mut rows = before.clone();
    for configuration in configurations {
        rows.extend(match configuration {
            Configuration::A => whole(captures, families, &mut report, &before)?,
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

/// Configuration A, with all mishaps, a capture and its replay.
fn whole(
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
    scenes.beside(families)?;
    scenes.counters()?;
    scenes.explain(&captured)?;
    scenes.end()?;
    Ok(scenes.rows())
}

/// Any configuration, as far as it differs from others.
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
    scenes.beside(families)?;
    scenes.killed()?;
    scenes.revived()?;
    scenes.sums()?;
    scenes.end()?;
    Ok(scenes.rows())
}
