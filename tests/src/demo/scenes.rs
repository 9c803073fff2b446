//! The parts of the demonstration, in the order in which they run.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;

use super::capture::{Captured, Captures};
use super::client::{Burst, OpenConnections, burst};
use super::proof;
use super::report::{Report, median, ms, saved};
use super::table::{Row, top_verdicts};
use super::world::{BUSY, World};
use crate::lab::{Curl, Family, Fetched, RaceCapture, Result};
use crate::processes::Configuration;

/// Connections of the race; each failure gets half of them.
const RACES: usize = 20;
/// Connections of the race over IPv6.
const RACES_V6: usize = 10;
/// Concurrent short connections.
const AT_A_TIME: usize = 40;
/// Longest time until a replica wins connections again after it was out of service or busy. Probes
/// are sent every 2 s, and several have to be answered; then it also has to win a race.
const RECOVERY: Duration = Duration::from_secs(60);

/// (a) Measures without firstack. Returns a row of the last table for each family.
pub fn without(report: &mut Report, families: &[Family]) -> Result<Vec<Row>> {
    report.heading("Without firstack (medians of 5)");
    let world = World::direct()?;
    let (mut lines, mut failed, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let origin = world.origin();
    let replicas = world.topology().replicas().iter().map(|place| (place, Family::V4));
    for (place, family) in families.iter().map(|family| (origin, *family)).chain(replicas) {
        let (good, bad) = world.fetch_many(place.web(family), "1MB", 5);
        failed.extend(bad);
        let connect = median(good.iter().map(|fetched| fetched.connect));
        let download = median(good.iter().map(|fetched| fetched.total));
        let name = format!("{} at its own address, {family}", place.site);
        lines.push(vec![name, ms(connect), ms(download)]);
        if place.site == origin.site {
            let name = "without firstack".into();
            rows.push(Row { name, family, connect, download, ..Row::default() });
        }
    }
    report.table(&["server", "connect", "1 MB"], &lines);
    print_failures(report, &failed);
    report.claim(failed.is_empty(), "every server responded every time");
    if let Some(row) = rows.first_mut() {
        let (fetched, _) = large(&world, report, "100 MB from the origin: ")?;
        row.large = Some(fetched.total);
        let burst = short(&world, super::FEWER)?;
        let count = (burst.successes(), burst.failed.len());
        row.short = Some(count);
        print_failures(report, &burst.failed);
        let text = format!("{} short connections to the origin, {} failed", count.0, count.1);
        report.claim(count == (super::FEWER, 0), &text);
    }
    Ok(rows)
}

/// Fetches the service's large file over IPv4 and compares it. Returns the result, and the SHA-256 of
/// the server's file.
fn large(world: &World, report: &mut Report, prefix: &str) -> Result<(Fetched, String)> {
    let curl = Curl::to(world.service(Family::V4), "100MB").limit(Duration::from_secs(60));
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
fn short(world: &World, count: usize) -> Result<Burst> {
    let (_, bytes) = world.file("4KB")?;
    burst(world.client(), world.service(Family::V4), ("4KB", &bytes), count, AT_A_TIME)
}

fn print_failures(report: &Report, failed: &[String]) {
    for failure in failed.iter().take(5) {
        report.line(&format!("          {failure}"));
    }
}

/// The parts with firstack in one configuration.
#[derive(Debug)]
pub struct Scenes<'a> {
    world: &'a mut World,
    report: &'a mut Report,
    configuration: Configuration,
    before: &'a [Row],
    rows: Vec<Row>,
    races: RaceCapture,
    /// Connections that the client has opened. Each one is a race.
    connections: usize,
}

impl<'a> Scenes<'a> {
    /// Creates the parts, in a network where every site works. `before` was measured without firstack.
    pub fn new(
        world: &'a mut World,
        report: &'a mut Report,
        configuration: Configuration,
        before: &'a [Row],
    ) -> Result<Self> {
        let races = RaceCapture::start(world.lab(), world.topology())?;
        let rows = Vec::new();
        Ok(Self { world, report, configuration, before, rows, races, connections: 0 })
    }

    /// Returns a row of the last table for each family.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        self.rows
    }

    fn heading(&self, text: &str) {
        self.report.heading(&format!("Configuration {}: {text}", self.configuration));
    }

    /// Makes one connection, captured on both sides of the gateway.
    pub fn first(&mut self, directory: &Path) -> Result<Captured> {
        self.heading("the first connection");
        let captures = Captures::start(self.world.lab(), self.world.topology(), directory)?;
        let fetched = self.world.fetch(self.world.service(Family::V4), "/")?;
        self.connections += 1;
        // The losers' SYN/ACKs are still on their way.
        proof::rest(self.world)?;
        captures.complete(&self.gateway()?)?;
        let text = format!("won by {}, connect {}", fetched.site, ms(fetched.connect));
        self.report.claim(fetched.status == 200, &text);
        self.report.timing(fetched.site == "replica1", "replica1 is the nearest");
        Ok(captures.stop())
    }

    /// (b) The race, with every site in service.
    pub fn race(&mut self, family: Family) -> Result<()> {
        let count = if family == Family::V4 { RACES } else { RACES_V6 };
        self.heading(&format!("{count} connections for 1 MB, {family}"));
        let good = self.fetch(family, "1MB", count);
        let before = self.before.iter().find(|row| row.family == family);
        let before = before.cloned().unwrap_or_default();
        let line = |name: String, fetched: &str, connect: Duration, total: Duration| {
            let saved = [saved(before.connect, connect), saved(before.download, total)];
            let [sooner, faster] = saved;
            vec![name, fetched.to_string(), ms(connect), sooner, ms(total), faster]
        };
        let numbered = good.iter().enumerate();
        let mut lines: Vec<_> = numbered
            .map(|(n, one)| line((n + 1).to_string(), &one.site, one.connect, one.total))
            .collect();
        let connect = median(good.iter().map(|fetched| fetched.connect));
        let download = median(good.iter().map(|fetched| fetched.total));
        lines.push(line("median".into(), "", connect, download));
        self.report.table(&["", "winner", "connect", "saved", "1 MB", "saved"], &lines);
        self.claim_answers(&good, count, &[]);
        self.time_winner(&good, "replica1");
        let text = format!("connect {} instead of {}", ms(connect), ms(before.connect));
        let sooner = connect < before.connect;
        self.report.timing(sooner, &format!("connections are established sooner: {text}"));
        let times = before.download.as_secs_f64() / download.as_secs_f64();
        let text = format!("1 MB arrives {times:.1} times as fast as from the origin");
        self.report.timing(times > 2.0, &text);
        let name = self.configuration.to_string();
        self.rows.push(Row { name, family, connect, download, ..Row::default() });
        Ok(())
    }

    /// Repeats the race over IPv6, if that is among the families, and notes the gateway's most
    /// frequent verdicts in each family.
    pub fn ipv6(&mut self, families: &[Family]) -> Result<()> {
        let after_v4 = self.gateway()?;
        if let Some(row) = self.rows.last_mut() {
            row.packets = Some(top_verdicts(&Snapshot::default(), &after_v4));
        }
        if families.contains(&Family::V6) {
            self.race(Family::V6)?;
            let both = self.gateway()?;
            if let Some(row) = self.rows.last_mut() {
                row.packets = Some(top_verdicts(&after_v4, &both));
            }
        }
        Ok(())
    }

    fn gateway(&self) -> Result<Snapshot> {
        self.world.processes()?.gateway().stats()
    }

    /// (c) Kills the nearest replica: first its web server, then its appliance too.
    pub fn killed(&mut self) -> Result<()> {
        self.heading("the nearest replica is killed (kill -9)");
        self.world.kill_server(1)?;
        let good = self.fetch(Family::V4, "1MB", RACES / 2);
        self.report.line("  its web server has stopped; the kernel sends RSTs:");
        self.claim_answers(&good, RACES / 2, &["replica1"]);
        self.time_winner(&good, "replica2");
        self.world.kill_appliance(1)?;
        let good = self.fetch(Family::V4, "1MB", RACES / 2);
        self.report.line("  its appliance has stopped too; nothing responds:");
        self.claim_answers(&good, RACES / 2, &["replica1"]);
        self.time_winner(&good, "replica2");
        Ok(())
    }

    /// (d) Makes replica 2 busy, with as many open connections as its limit allows.
    pub fn busy(&mut self) -> Result<()> {
        self.heading("replica2 is busy");
        let limit = BUSY as usize;
        let (client, service) = (self.world.client(), self.world.service(Family::V4));
        let (open, opened) = OpenConnections::open_at(client, service, "replica2", limit)?;
        self.connections += opened;
        let winners = list(&open.sites);
        let text = format!("{limit} connections are open, the most that it accepts: {winners}");
        self.report.claim(open.count() == limit, &text);
        let before = self.replica2()?.verdict("busy");
        let good = self.fetch(Family::V4, "1MB", RACES / 2);
        // Replica 1 is out of service, replica 2 busy.
        self.claim_answers(&good, RACES / 2, &["replica1", "replica2"]);
        let dropped = self.replica2()?.verdict("busy") - before;
        let text = format!("replica2 dropped {dropped} copies because it was busy (op 408)");
        self.report.claim(dropped > 0, &text);
        drop(open);
        self.report.line("  these connections are closed:");
        self.wait_for("replica2")?;
        let good = self.fetch(Family::V4, "1MB", 3);
        self.claim_answers(&good, 3, &["replica1"]);
        self.time_winner(&good, "replica2");
        Ok(())
    }

    fn replica2(&self) -> Result<Snapshot> {
        self.world.processes()?.replica(2).stats()
    }

    /// Starts the killed replica again.
    pub fn revived(&mut self) -> Result<()> {
        self.heading("the nearest replica is started again");
        self.world.revive(1)?;
        self.wait_for("replica1")?;
        let good = self.fetch(Family::V4, "1MB", 3);
        self.claim_answers(&good, 3, &[]);
        self.time_winner(&good, "replica1");
        Ok(())
    }

    /// Connects until this site wins.
    fn wait_for(&mut self, site: &str) -> Result<()> {
        let (start, mut won) = (Instant::now(), false);
        while !won && start.elapsed() < RECOVERY {
            self.connections += 1;
            won = self.world.fetch(self.world.service(Family::V4), "/")?.site == site;
            if !won {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let text = format!("{site} wins again, after {}", ms(start.elapsed()));
        self.report.claim(won, &text);
        Ok(())
    }

    /// (e) Makes a large download, compared at both ends.
    pub fn large(&mut self) -> Result<()> {
        self.heading("100 MB");
        let (fetched, expected) = large(self.world, self.report, "")?;
        self.connections += 1;
        let received = fetched.sha256.unwrap_or_default();
        self.report.table(
            &["end", "SHA-256"],
            &[
                vec![format!("{}, on disk", fetched.site), expected],
                vec!["client, received".into(), received],
            ],
        );
        if let Some(row) = self.rows.last_mut() {
            row.large = Some(fetched.total);
        }
        Ok(())
    }

    /// (f) Makes many short connections, `AT_A_TIME` of them concurrently.
    pub fn many(&mut self, count: usize) -> Result<()> {
        self.heading(&format!(
            "{count} short connections, {AT_A_TIME} concurrent, each body compared"
        ));
        let burst = short(self.world, count)?;
        self.connections += count;
        let quantiles = [0.5, 0.99, 1.0].map(|share| ms(burst.quantile(share)));
        self.report.table(
            &["complete", "failed", "median", "99 %", "longest", "per second"],
            &[vec![
                burst.successes().to_string(),
                burst.failed.len().to_string(),
                quantiles[0].clone(),
                quantiles[1].clone(),
                quantiles[2].clone(),
                format!("{:.0}", burst.successes() as f64 / burst.total.as_secs_f64()),
            ]],
        );
        self.report.line(&format!("  won by {}", list(&burst.answered)));
        print_failures(self.report, &burst.failed);
        let all = burst.failed.is_empty() && burst.successes() == count;
        self.report.claim(all, "every connection received the whole file");
        if let Some(row) = self.rows.last_mut() {
            row.short = Some((burst.successes(), burst.failed.len()));
        }
        Ok(())
    }

    /// (g) Shows the counters and checks them.
    pub fn counters(&mut self) -> Result<()> {
        self.heading("counters");
        proof::counters(self.world, self.report, self.connections)?;
        proof::winners(self.world, self.report, &self.races)
    }

    /// Checks the counters like [`Scenes::counters`], and shows fewer of them.
    pub fn sums(&mut self) -> Result<()> {
        self.heading("counters");
        proof::sums(self.world, self.report, self.connections)?;
        proof::winners(self.world, self.report, &self.races)
    }

    /// Replays the captured connection.
    pub fn explain(&mut self, captured: &Captured) -> Result<()> {
        self.heading("the first connection, explained (firstack replay --explain)");
        proof::explain(self.world, self.report, captured)
    }

    /// Stops firstack by SIGTERM.
    pub fn end(&mut self) -> Result<()> {
        self.heading("shutdown (SIGTERM)");
        proof::end(self.world, self.report)
    }

    /// Fetches a file from the service `count` times, and prints failures.
    fn fetch(&mut self, family: Family, name: &str, count: usize) -> Vec<Fetched> {
        let (good, failed) = self.world.fetch_many(self.world.service(family), name, count);
        self.connections += count;
        print_failures(self.report, &failed);
        good
    }

    /// Claims that all `count` connections succeeded, and that none was won by a site in `absent`.
    fn claim_answers(&mut self, good: &[Fetched], count: usize, absent: &[&str]) {
        let sites = sites(good);
        let failed = count - good.len();
        let holds = failed == 0 && !absent.iter().any(|site| sites.contains_key(*site));
        let won = list(&sites);
        let download = ms(median(good.iter().map(|fetched| fetched.total)));
        let text =
            format!("{count} connections, {failed} failed, won by {won}; 1 MB in {download}");
        self.report.claim(holds, &text);
    }

    /// Prints whether the nearest site has won all.
    fn time_winner(&self, good: &[Fetched], site: &str) {
        let sites = sites(good);
        let all = sites.len() == 1 && sites.contains_key(site);
        self.report.timing(all, &format!("{site}, the nearest in service, won all"));
    }
}

/// Counts the connections that each site won.
fn sites(good: &[Fetched]) -> BTreeMap<String, usize> {
    let mut sites = BTreeMap::new();
    for fetched in good {
        *sites.entry(fetched.site.clone()).or_default() += 1;
    }
    sites
}

/// Returns the counts as text, such as "replica1 19, origin 1".
fn list(counts: &BTreeMap<String, usize>) -> String {
    let one = |(name, count): (&String, &usize)| format!("{name} {count}");
    let all: Vec<_> = counts.iter().map(one).collect();
    if all.is_empty() { "none".into() } else { all.join(", ") }
}
