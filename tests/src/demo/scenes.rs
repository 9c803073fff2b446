//! The parts of the demonstration, in the order in which they are told.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use appliance::stats::Snapshot;

use super::capture::{Captured, Captures};
use super::client::{Held, burst};
use super::proof;
use super::report::{Report, median, ms};
use super::world::{BUSY, World};
use crate::lab::{Curl, Fetched, Result};

/// Connections of the race and of each mishap.
const RACES: usize = 20;
/// Short connections, and how many of them at a time.
const MANY: (usize, usize) = (2000, 40);

/// Median times of a client that asks the origin without firstack.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    connect: Duration,
    download: Duration,
}

/// (a) Without firstack.
pub fn without(report: &mut Report) -> Result<Before> {
    report.heading("Without firstack (medians of 5)");
    let world = World::direct()?;
    let mut rows = Vec::new();
    let mut before = None;
    let mut failed = Vec::new();
    for place in world.topology().servers() {
        let (good, bad) = world.fetch_many(place, "1MB", 5);
        failed.extend(bad);
        let connect = median(good.iter().map(|fetched| fetched.connect));
        let download = median(good.iter().map(|fetched| fetched.total));
        before.get_or_insert(Before { connect, download });
        let asked = format!("{} by its own address", place.site);
        rows.push(vec![asked, ms(connect), ms(download)]);
    }
    report.table(&["server", "connect", "1 MB"], &rows);
    complain(report, &failed);
    report.claim(failed.is_empty(), "every server answers every time");
    Ok(before.unwrap_or(Before { connect: Duration::ZERO, download: Duration::ZERO }))
}

fn complain(report: &Report, failed: &[String]) {
    for why in failed.iter().take(5) {
        report.line(&format!("          {why}"));
    }
}

/// The parts with firstack.
#[derive(Debug)]
pub struct Scenes<'a> {
    world: &'a mut World,
    report: &'a mut Report,
    before: Before,
    /// Connections that the client has opened, which is how many races there were.
    connections: usize,
}

impl<'a> Scenes<'a> {
    /// In a network where all is well.
    pub fn new(world: &'a mut World, report: &'a mut Report, before: Before) -> Self {
        Self { world, report, before, connections: 0 }
    }

    /// One connection, captured on both sides of the gateway.
    pub fn first(&mut self, directory: &Path) -> Result<Captured> {
        self.report.heading("With firstack: the first connection");
        let captures = Captures::start(self.world.lab(), self.world.topology(), directory)?;
        let fetched = self.world.fetch(self.world.origin(), "/")?;
        self.connections += 1;
        // The losers' acknowledgements are still on their way.
        std::thread::sleep(Duration::from_millis(300));
        let text = format!("answered by {}, connect {}", fetched.site, ms(fetched.connect));
        self.report.claim(fetched.site == "replica1", &text);
        Ok(captures.stop())
    }

    /// (b) The race: all sites are well.
    pub fn race(&mut self) -> Result<()> {
        self.report.heading("With firstack: 20 connections for 1 MB");
        let good = self.fetch("1MB", RACES);
        let saved = |before: Duration, now: Duration| {
            let share = 100.0 * (1.0 - now.as_secs_f64() / before.as_secs_f64());
            format!("{share:.0} %")
        };
        let row = |name: String, fetched: &str, connect: Duration, total: Duration| {
            let Before { connect: slow, download } = self.before;
            let figures = [ms(connect), saved(slow, connect), ms(total), saved(download, total)];
            [vec![name, fetched.to_string()], figures.into()].concat()
        };
        let numbered = good.iter().enumerate();
        let mut rows: Vec<_> = numbered
            .map(|(n, one)| row((n + 1).to_string(), &one.site, one.connect, one.total))
            .collect();
        let connect = median(good.iter().map(|fetched| fetched.connect));
        let total = median(good.iter().map(|fetched| fetched.total));
        rows.push(row("median".into(), "", connect, total));
        self.report.table(&["", "winner", "connect", "saved", "1 MB", "saved"], &rows);
        self.claim_winner(&good, RACES, "replica1");
        let sooner = connect < self.before.connect;
        let text = format!("connect {} instead of {}", ms(connect), ms(self.before.connect));
        self.report.claim(sooner, &format!("connections stand sooner: {text}"));
        let times = self.before.download.as_secs_f64() / total.as_secs_f64();
        let text = format!("1 MB arrives {times:.1} times as fast as from the origin");
        self.report.claim(times > 2.0, &text);
        Ok(())
    }

    /// (c) The nearest replica is killed: first its web server, then its appliance too.
    pub fn killed(&mut self) -> Result<()> {
        self.report.heading("The nearest replica is killed (kill -9)");
        self.world.kill_server(1)?;
        let good = self.fetch("1MB", RACES / 2);
        self.report.line("  its web server is gone, its kernel refuses:");
        self.claim_winner(&good, RACES / 2, "replica2");
        self.world.kill_appliance(1)?;
        let good = self.fetch("1MB", RACES / 2);
        self.report.line("  its appliance is gone too, it is silent:");
        self.claim_winner(&good, RACES / 2, "replica2");
        Ok(())
    }

    /// (d) The next one is busy: as many connections are held open as it may have.
    pub fn busy(&mut self) -> Result<()> {
        self.report.heading("The next replica is made busy");
        let most = BUSY as usize;
        let held = Held::open(self.world.client(), self.world.origin(), most)?;
        self.connections += most;
        let answered = list(&held.sites);
        let text = format!("{most} connections held open, all it may have: {answered}");
        self.report.claim(held.sites.get("replica2") == Some(&most), &text);
        let before = self.replica2()?.verdict("busy");
        let good = self.fetch("1MB", RACES / 2);
        self.claim_winner(&good, RACES / 2, "origin");
        let dropped = self.replica2()?.verdict("busy") - before;
        let text = format!("replica2 dropped {dropped} copies because it was busy (op 408)");
        self.report.claim(dropped >= (RACES / 2) as u64, &text);
        drop(held);
        // The FINs have to get there and back.
        std::thread::sleep(Duration::from_millis(300));
        let good = self.fetch("1MB", 3);
        self.report.line("  the held connections are closed:");
        self.claim_winner(&good, 3, "replica2");
        Ok(())
    }

    fn replica2(&self) -> Result<Snapshot> {
        self.world.fleet()?.replica(2).stats()
    }

    /// The killed replica comes back.
    pub fn revived(&mut self) -> Result<()> {
        self.report.heading("The nearest replica is started again");
        self.world.revive(1)?;
        let good = self.fetch("1MB", 3);
        self.claim_winner(&good, 3, "replica1");
        Ok(())
    }

    /// (e) A large download, compared at both ends.
    pub fn large(&mut self) -> Result<()> {
        self.report.heading("100 MB");
        let curl = Curl::new(&self.world.origin().url("100MB")).limit(Duration::from_secs(60));
        let fetched = curl.digest().run(&self.world.client().host)?;
        self.connections += 1;
        let (file, _) = self.world.file("100MB")?;
        let rate = fetched.bytes as f64 / 1e6 / fetched.total.as_secs_f64();
        let received = fetched.sha256.as_deref().unwrap_or("none");
        self.report.table(
            &["end", "SHA-256"],
            &[
                vec![format!("{}, on disk", fetched.site), file.sha256.clone()],
                vec!["client, received".into(), received.to_string()],
            ],
        );
        let took = ms(fetched.total);
        let text = format!("the same at both ends, in {took}, {rate:.0} MB/s");
        self.report.claim(received == file.sha256 && fetched.bytes == file.bytes, &text);
        Ok(())
    }

    /// (f) Many short connections at a time.
    pub fn many(&mut self) -> Result<()> {
        let (count, at_a_time) = MANY;
        self.report.heading("2,000 short connections, 40 at a time, each body compared");
        let (_, bytes) = self.world.file("4KB")?;
        let (client, origin) = (self.world.client(), self.world.origin());
        let burst = burst(client, origin, ("4KB", &bytes), count, at_a_time)?;
        self.connections += count;
        let quantiles = [0.5, 0.99, 1.0].map(|share| ms(burst.quantile(share)));
        self.report.table(
            &["complete", "failed", "half within", "99 % within", "all within", "per second"],
            &[vec![
                burst.successes().to_string(),
                burst.failed.len().to_string(),
                quantiles[0].clone(),
                quantiles[1].clone(),
                quantiles[2].clone(),
                format!("{:.0}", burst.successes() as f64 / burst.total.as_secs_f64()),
            ]],
        );
        self.report.line(&format!("  answered by {}", list(&burst.answered)));
        complain(self.report, &burst.failed);
        let all = burst.failed.is_empty() && burst.successes() == count;
        self.report.claim(all, "every connection brought the whole file, none failed");
        Ok(())
    }

    /// (g) The counters that prove it.
    pub fn counters(&mut self) -> Result<()> {
        self.report.heading("What the counters say");
        proof::counters(self.world, self.report, self.connections)
    }

    /// The captured connection, replayed.
    pub fn explain(&mut self, captured: &Captured) -> Result<()> {
        self.report.heading("The first connection, explained (firstack replay --explain)");
        proof::explain(self.world, self.report, captured)
    }

    /// Ends firstack in good order.
    pub fn end(&mut self) -> Result<()> {
        self.report.heading("The end (SIGTERM)");
        proof::end(self.world, self.report)
    }

    /// Fetches a file from the service so many times; failures are printed and counted.
    fn fetch(&mut self, name: &str, count: usize) -> Vec<Fetched> {
        let (good, failed) = self.world.fetch_many(self.world.origin(), name, count);
        self.connections += count;
        complain(self.report, &failed);
        good
    }

    fn claim_winner(&mut self, good: &[Fetched], count: usize, site: &str) {
        let mut sites = BTreeMap::new();
        for fetched in good {
            *sites.entry(fetched.site.clone()).or_default() += 1;
        }
        let failed = count - good.len();
        let holds = failed == 0 && sites.len() == 1 && sites.contains_key(site);
        let won = list(&sites);
        let download = ms(median(good.iter().map(|fetched| fetched.total)));
        let text =
            format!("{count} connections, {failed} failed, won by {won}; 1 MB in {download}");
        self.report.claim(holds, &text);
    }
}

/// "replica1 19, origin 1"; "nobody" of none.
fn list(counts: &BTreeMap<String, usize>) -> String {
    let one = |(name, count): (&String, &usize)| format!("{name} {count}");
    let all: Vec<_> = counts.iter().map(one).collect();
    if all.is_empty() { "nobody".into() } else { all.join(", ") }
}
