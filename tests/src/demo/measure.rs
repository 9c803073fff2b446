//! Measurements: without firstack, and what all parts measure alike.

use super::client::{Burst, burst};
use super::report::{Report, median, ms};
use super::scenes::print_failures;
use super::table::{Race, Row};
use super::world::World;
use crate::lab::{Curl, Family, Fetched, Result};

/// Connections for 1 MB in each part; the failure of a replica gets half of them.
pub const RACES: usize = 20;
/// Concurrent connections for 1 MB where each takes a second.
pub const SLOW_AT_A_TIME: usize = 4;
/// Short connections without firstack, in the patent's race, and in B and C.
pub const FEWER: usize = 300;
/// Concurrent short connections.
pub const AT_A_TIME: usize = 40;

/// Measures without firstack. Returns a row of the last table for each family.
pub fn without(report: &mut Report, families: &[Family]) -> Result<Vec<Row>> {
    report.heading(&format!("Without firstack (medians of {RACES})"));
    let world = World::direct()?;
    let (mut lines, mut failed, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let origin = world.origin();
    let replicas = world.topology().replicas().iter().map(|place| (place, Family::V4));
    for (place, family) in families.iter().map(|family| (origin, *family)).chain(replicas) {
        let (good, bad) = world.fetch_many(place.web(family), "1MB", RACES, SLOW_AT_A_TIME);
        failed.extend(bad);
        let row = Row::new(Race::Without, family, &good, RACES);
        let name = format!("{} at its own address, {family}", place.site);
        lines.push(vec![name, ms(row.connect), ms(row.download)]);
        if place.site == origin.site {
            rows.push(row);
        }
    }
    report.table(&["server", "connect", "1 MB"], &lines);
    print_failures(report, &failed);
    report.claim(failed.is_empty(), "every server responded every time");
    if let Some(row) = rows.first_mut() {
        large(&world, report, "100 MB from the origin: ")?;
        let burst = short(&world, FEWER)?;
        row.add(FEWER, burst.failed.len());
        print_failures(report, &burst.failed);
        let complete = burst.successes();
        let text =
            format!("{complete} short connections to the origin, {} failed", burst.failed.len());
        report.claim(complete == FEWER && burst.failed.is_empty(), &text);
    }
    Ok(rows)
}

/// Fetches the service's large file over IPv4 and compares it. Returns the result, and the SHA-256 of
/// the server's file.
pub fn large(world: &World, report: &mut Report, prefix: &str) -> Result<(Fetched, String)> {
    let limit = std::time::Duration::from_secs(60);
    let curl = Curl::to(world.service(Family::V4), "100MB").limit(limit);
    let fetched = curl.digest().run(&world.client().host)?;
    let (file, _) = world.file("100MB")?;
    let rate = fetched.bytes as f64 / 1e6 / fetched.total.as_secs_f64();
    let took = ms(fetched.total);
    let text = format!("{prefix}identical at both ends, in {took}, {rate:.0} MB/s");
    let received = fetched.sha256.as_deref().unwrap_or("none");
    report.claim(received == file.sha256 && fetched.bytes == file.bytes, &text);
    let expected = file.sha256.clone();
    Ok((fetched, expected))
}

/// Makes `count` short connections over IPv4.
pub fn short(world: &World, count: usize) -> Result<Burst> {
    let (_, bytes) = world.file("4KB")?;
    burst(world.client(), world.service(Family::V4), ("4KB", &bytes), count, AT_A_TIME)
}

/// Returns consecutive connections as text, such as "3 by origin (140.6 ms), 7 by replica1 (10.5 ms)",
/// with the median time to connect of each series.
#[must_use]
pub fn series(connections: &[Fetched]) -> String {
    let same = |a: &Fetched, b: &Fetched| a.site == b.site;
    let one = |series: &[Fetched]| {
        let connect = median(series.iter().map(|fetched| fetched.connect));
        format!("{} by {} ({})", series.len(), series[0].site, ms(connect))
    };
    connections.chunk_by(same).map(one).collect::<Vec<_>>().join(", ")
}
