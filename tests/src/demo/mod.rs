//! The demonstration: races for the nearest replica with real TCP, told as a report.
//!
//! [`run`] is what `firstack-demo` does; [`world`] is the network, [`scenes`] are the parts in
//! the order in which they are told, [`client`] makes many connections, [`capture`] keeps one
//! for `firstack replay`, [`report`] prints.

pub mod capture;
pub mod client;
mod proof;
pub mod report;
pub mod scenes;
pub mod world;

use std::path::Path;
use std::time::Instant;

use crate::lab::Result;
use report::Report;
use world::{DELAYS, World};

/// Tells the whole story; `true` when every claim held. Captures go to a directory.
pub fn run(captures: &Path) -> Result<bool> {
    let start = Instant::now();
    let mut report = Report::default();
    report.line("firstack: every TCP connection goes to the replica that answers first.");
    report.line("Real curl and nginx, the kernel's own TCP, four firstack processes on DPDK.");
    report.line("One-way delays between the sites, in milliseconds:");
    let row = |(a, b, delay): &(_, _, f64)| vec![format!("{a} - {b}"), format!("{delay:.0}")];
    report.table(&["", ""], &DELAYS.iter().map(row).collect::<Vec<_>>());

    let before = scenes::without(&mut report)?;
    let mut world = World::with_firstack(captures)?;
    let mut scenes = scenes::Scenes::new(&mut world, &mut report, before);
    let captured = scenes.first(captures)?;
    scenes.race()?;
    scenes.killed()?;
    scenes.busy()?;
    scenes.revived()?;
    scenes.large()?;
    scenes.many()?;
    scenes.counters()?;
    scenes.explain(&captured)?;
    scenes.end()?;
    drop(world);
    report.line("");
    let all = report.conclude();
    report.line(&format!("Captures: {}", captures.display()));
    report.line(&format!("The demonstration took {:.0} s.", start.elapsed().as_secs_f64()));
    Ok(all)
}
