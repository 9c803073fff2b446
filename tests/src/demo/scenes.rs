//! The parts of the demonstration with firstack.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;

use super::capture::{Captured, Captures};
use super::client::OpenConnections;
use super::load;
use super::measure::{self, AT_A_TIME, RACES, SLOW_AT_A_TIME};
use super::proof;
use super::report::{Report, median, ms, saved};
use super::table::{Race, Row};
use super::world::{BUSY, World};
use crate::lab::{Family, Fetched, Geometry, RaceCapture, Result};
use crate::processes::Configuration;

/// The first connections of a gateway: more than it needs to have asked both replicas directly.
const WARM_UP: usize = 24;
/// Longest time until a replica wins connections after it was unknown, out of service or busy. Probes
/// are sent every 2 s, and several have to be answered; then it also has to win a race.
const RECOVERY: Duration = Duration::from_secs(60);

pub(super) fn print_failures(report: &Report, failed: &[String]) {
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

    /// Returns the rows of the last table that were measured here.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        self.rows
    }

    fn heading(&self, text: &str) {
        self.report.heading(&format!("Configuration {}: {text}", self.configuration));
    }

    /// Makes two connections, captured on both sides of the gateway: one when nothing is known of
    /// replicas, and one when both have answered.
    pub fn first(&mut self, directory: &Path) -> Result<Captured> {
        self.heading("the first two connections");
        let captures = Captures::start(self.world.lab(), self.world.topology(), directory)?;
        for _ in 0..2 {
            let fetched = self.world.fetch(self.world.service(Family::V4), "/")?;
            self.connections += 1;
            // The losers' SYN/ACKs are still on their way.
            proof::rest(self.world)?;
            let text = format!("won by {}, connect {}", fetched.site, ms(fetched.connect));
            self.report.claim(fetched.status == 200, &text);
        }
        captures.complete(&self.gateway()?)?;
        Ok(captures.stop())
    }

    /// Races without direct copies, with every site in service, in each family.
    pub fn patent(&mut self, families: &[Family], geometry: Geometry) -> Result<()> {
        self.heading("the patent's race alone (direct = 0)");
        let times = [1, 2].map(|number| format!("{:.0} ms", geometry.replica_answers(number)));
        let origin = geometry.origin_answers();
        self.report.line(&format!(
            "  by way of the switch replicas answer after {}, the origin after {origin:.0} ms",
            times.join(" and ")
        ));
        for family in families {
            let good = self.measure(Race::Patent, *family, SLOW_AT_A_TIME);
            let wins = [1, 2].iter().any(|number| geometry.replica_answers(*number) < origin);
            self.time_winner(&good, if wins { "replica1" } else { "origin" });
        }
        Ok(())
    }

    /// Makes the first connections of a gateway in each family, until it has asked every replica
    /// directly and the nearest wins.
    pub fn learn(&mut self, families: &[Family]) -> Result<()> {
        self.heading("the first connections");
        for family in families {
            let first = self.fetch(*family, "/", WARM_UP, 1);
            self.report.line(&format!("  {family}: {}", measure::series(&first)));
            let text = format!("the first {WARM_UP} connections over {family} are complete");
            self.report.claim(first.len() == WARM_UP, &text);
            self.wait_for(*family, "replica1")?;
        }
        Ok(())
    }

    /// Races with direct copies, with every site in service.
    pub fn race(&mut self, family: Family) -> Result<()> {
        self.heading(&format!("{RACES} connections for 1 MB, {family}"));
        let good = self.measure(Race::Direct, family, 1);
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
        self.time_winner(&good, "replica1");
        let text = format!("connect {} instead of {}", ms(connect), ms(before.connect));
        let sooner = connect < before.connect / 2;
        self.report.timing(sooner, &format!("connections are established sooner: {text}"));
        let times = before.download.as_secs_f64() / download.as_secs_f64();
        let text = format!("1 MB arrives {times:.1} times as fast as from the origin");
        self.report.timing(times > 2.0, &text);
        Ok(())
    }

    /// Fetches 1 MB from the service and adds a row to the last table. Returns the connections.
    fn measure(&mut self, race: Race, family: Family, at_a_time: usize) -> Vec<Fetched> {
        let good = self.fetch(family, "1MB", RACES, at_a_time);
        self.claim_answers(&good, RACES, &[]);
        self.add_row(Row::new(race, family, &good, RACES));
        good
    }

    fn add_row(&mut self, row: Row) {
        self.rows.push(Row { configuration: Some(self.configuration), ..row });
    }

    fn gateway(&self) -> Result<Snapshot> {
        self.world.processes()?.gateway().stats()
    }

    /// Kills the nearest replica while connections are made: first its web server, whose kernel then
    /// sends RSTs, then its appliance, so that nothing responds.
    pub fn killed(&mut self, families: &[Family]) -> Result<()> {
        self.heading("the nearest replica is killed (kill -9) during a run");
        let run = load::kill_nearest(self.world, families, RACES / 2)?;
        self.connections += run.connections;
        self.report.line(&format!(
            "  {} connections were in progress when it was killed; {} of them failed",
            run.in_progress, run.interrupted
        ));
        for (family, good, failed) in run.after {
            print_failures(self.report, &failed);
            let count = good.len() + failed.len();
            self.report.line(&format!("  connections that were opened after that, {family}:"));
            self.claim_answers(&good, count, &["replica1"]);
            self.time_winner(&good, "replica2");
            self.add_row(Row::new(Race::Killed, family, &good, count));
        }
        Ok(())
    }

    /// Makes replica 2 busy, with as many open connections as its limit allows.
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
        let good = self.fetch(Family::V4, "1MB", RACES / 2, SLOW_AT_A_TIME);
        // Replica 1 is out of service, replica 2 busy.
        self.claim_answers(&good, RACES / 2, &["replica1", "replica2"]);
        let dropped = self.replica2()?.verdict("busy") - before;
        let text = format!("replica2 dropped {dropped} copies because it was busy (op 408)");
        self.report.claim(dropped > 0, &text);
        drop(open);
        self.report.line("  these connections are closed:");
        self.wait_for(Family::V4, "replica2")?;
        let good = self.fetch(Family::V4, "1MB", 3, 1);
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
        self.wait_for(Family::V4, "replica1")?;
        let good = self.fetch(Family::V4, "1MB", 3, 1);
        self.claim_answers(&good, 3, &[]);
        self.time_winner(&good, "replica1");
        Ok(())
    }

    /// Connects until this site wins.
    fn wait_for(&mut self, family: Family, site: &str) -> Result<()> {
        let (start, mut won) = (Instant::now(), false);
        while !won && start.elapsed() < RECOVERY {
            self.connections += 1;
            won = self.world.fetch(self.world.service(family), "/")?.site == site;
            if !won {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        let text = format!("{site} wins, after {}", ms(start.elapsed()));
        self.report.claim(won, &text);
        Ok(())
    }

    /// Makes a large download, compared at both ends.
    pub fn large(&mut self) -> Result<()> {
        self.heading("100 MB");
        let (fetched, expected) = measure::large(self.world, self.report, "")?;
        self.connections += 1;
        let received = fetched.sha256.unwrap_or_default();
        self.report.table(
            &["end", "SHA-256"],
            &[
                vec![format!("{}, on disk", fetched.site), expected],
                vec!["client, received".into(), received],
            ],
        );
        Ok(())
    }

    /// Makes many short connections, `AT_A_TIME` of them concurrently.
    pub fn many(&mut self, race: Race, count: usize) -> Result<()> {
        self.heading(&format!(
            "{count} short connections, {AT_A_TIME} concurrent, each body compared"
        ));
        let burst = measure::short(self.world, count)?;
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
        let own = |row: &&mut Row| (row.race, row.family) == (race, Family::V4);
        if let Some(row) = self.rows.iter_mut().find(own) {
            row.add(count, burst.failed.len());
        }
        Ok(())
    }

    /// Shows the counters and checks them.
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

    /// Replays the captured connections.
    pub fn explain(&mut self, captured: &Captured) -> Result<()> {
        self.heading("the first two connections, explained (firstack replay --explain)");
        proof::explain(self.world, self.report, captured)
    }

    /// Stops firstack by SIGTERM.
    pub fn end(&mut self) -> Result<()> {
        self.heading("shutdown (SIGTERM)");
        proof::end(self.world, self.report)
    }

    /// Fetches a file from the service `count` times, and prints failures.
    fn fetch(
        &mut self,
        family: Family,
        name: &str,
        count: usize,
        at_a_time: usize,
    ) -> Vec<Fetched> {
        let service = self.world.service(family);
        let (good, failed) = self.world.fetch_many(service, name, count, at_a_time);
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

    /// Prints whether the site whose answer is due first has won all.
    fn time_winner(&self, good: &[Fetched], site: &str) {
        let sites = sites(good);
        let all = sites.len() == 1 && sites.contains_key(site);
        self.report.timing(all, &format!("{site}, whose answer is due first, won all"));
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
