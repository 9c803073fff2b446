//! The demonstration: races for the nearest replica with real TCP, printed as a report.
//!
//! [`run`] is the work of `firstack-demo`. [`world`] is the network; [`measure`] is what is measured
//! with and without firstack; [`scenes`] has the parts with firstack; [`load`] has connections during
//! a kill; [`client`] makes many connections; [`capture`] captures one for `firstack replay`;
//! [`table`] is the summary; [`report`] prints.

pub mod capture;
pub mod client;
pub mod load;
pub mod measure;
mod proof;
pub mod report;
pub mod scenes;
pub mod table;
pub mod world;

use std::path::Path;
use std::time::Instant;

use crate::lab::{Family, Geometry, Result, SWITCH_BESIDE_ORIGIN, SWITCH_NEAR_CLIENTS, Site};
use crate::processes::{Configuration, ProcessOptions};
use measure::FEWER;
use report::Report;
use scenes::Scenes;
use table::{Race, Row};
use world::World;

/// Short connections in configuration A.
const MANY: usize = 2000;

/// Runs the demonstration in these configurations and families; IPv4 must be among them. Returns
/// `true` if every claim held. Captures of configuration A are written to `captures`.
pub fn run(captures: &Path, configurations: &[Configuration], families: &[Family]) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::default();
    report.line("firstack: the server whose SYN/ACK arrives first wins the TCP connection.");
    report.line("Real curl, nginx and kernel TCP; four firstack processes on DPDK.");
    report.line("One-way delays between the sites in milliseconds. The switch is at the origin.");
    delays(&report, SWITCH_BESIDE_ORIGIN);

    let before = measure::without(&mut report, families)?;
    let mut rows = before.clone();
    for configuration in configurations {
        rows.extend(patent(*configuration, families, &mut report, &before)?);
        rows.extend(match configuration {
            Configuration::A => full(captures, families, &mut report, &before)?,
            other => shorter(*other, families, &mut report, &before)?,
        });
    }
    if let Some(configuration) = configurations.first() {
        near_clients(*configuration, &mut report, &before)?;
    }
    report.heading("All together (medians)");
    table::print(&mut report, &rows);
    report.line("");
    let all = report.conclude();
    if configurations.contains(&Configuration::A) {
        report.line(&format!("Captures: {}", captures.display()));
    }
    report.line(&format!("The demonstration took {:.0} s.", start.elapsed().as_secs_f64()));
    Ok(all)
}

fn delays(report: &Report, geometry: Geometry) {
    let name = |site: Site| match site {
        Site::Origin if geometry.behind_switch > 0.0 => "switch".to_string(),
        site => site.to_string(),
    };
    let row = |a: String, b: String, delay: f64| vec![format!("{a} - {b}"), format!("{delay:.0}")];
    let mut rows: Vec<_> =
        geometry.delays.iter().map(|(a, b, delay)| row(name(*a), name(*b), *delay)).collect();
    if geometry.behind_switch > 0.0 {
        rows.push(row("switch".into(), "origin".into(), geometry.behind_switch));
    }
    report.table(&["", ""], &rows);
}

/// Measures the patent's race alone. Beside the origin it is lost by every replica.
fn patent(
    configuration: Configuration,
    families: &[Family],
    report: &mut Report,
    before: &[Row],
) -> Result<Vec<Row>> {
    let families = families.to_vec();
    let options = ProcessOptions { configuration, families, ..ProcessOptions::patent() };
    let mut world = World::with_firstack(SWITCH_BESIDE_ORIGIN, options.clone(), None)?;
    let mut scenes = Scenes::new(&mut world, report, configuration, before)?;
    scenes.patent(&options.families, SWITCH_BESIDE_ORIGIN)?;
    scenes.many(Race::Patent, FEWER)?;
    scenes.sums()?;
    scenes.end()?;
    Ok(scenes.rows())
}

/// Shows the patent's race alone where a replica wins it: the switch is far from the origin.
fn near_clients(configuration: Configuration, report: &mut Report, before: &[Row]) -> Result<()> {
    report.heading("The switch at an exchange point near the clients");
    delays(report, SWITCH_NEAR_CLIENTS);
    let options = ProcessOptions { configuration, ..ProcessOptions::patent() };
    let mut world = World::with_firstack(SWITCH_NEAR_CLIENTS, options, None)?;
    let mut scenes = Scenes::new(&mut world, report, configuration, before)?;
    scenes.patent(&[Family::V4], SWITCH_NEAR_CLIENTS)?;
    scenes.sums()?;
    scenes.end()
}

/// Runs all parts with direct copies in configuration A, with a capture and its replay.
fn full(
    captures: &Path,
    families: &[Family],
    report: &mut Report,
    before: &[Row],
) -> Result<Vec<Row>> {
    let options = ProcessOptions { families: families.to_vec(), ..ProcessOptions::default() };
    let mut world = World::with_firstack(SWITCH_BESIDE_ORIGIN, options, Some(captures))?;
    let mut scenes = Scenes::new(&mut world, report, Configuration::A, before)?;
    let captured = scenes.first(captures)?;
    scenes.learn(families)?;
    for family in families {
        scenes.race(*family)?;
    }
    scenes.large()?;
    scenes.many(Race::Direct, MANY)?;
    scenes.killed(families)?;
    scenes.busy()?;
    scenes.revived()?;
    scenes.counters()?;
    scenes.explain(&captured)?;
    scenes.end()?;
    Ok(scenes.rows())
}

/// Runs the parts with direct copies that differ between configurations.
fn shorter(
    configuration: Configuration,
    families: &[Family],
    report: &mut Report,
    before: &[Row],
) -> Result<Vec<Row>> {
    let families = families.to_vec();
    let options = ProcessOptions { configuration, families, ..ProcessOptions::default() };
    let mut world = World::with_firstack(SWITCH_BESIDE_ORIGIN, options.clone(), None)?;
    let mut scenes = Scenes::new(&mut world, report, configuration, before)?;
    scenes.learn(&options.families)?;
    for family in &options.families {
        scenes.race(*family)?;
    }
    scenes.large()?;
    scenes.many(Race::Direct, FEWER)?;
    scenes.killed(&options.families)?;
    scenes.revived()?;
    scenes.sums()?;
    scenes.end()?;
    Ok(scenes.rows())
}
