//! Gateways of one operator share what they have learned of replicas, through a store: a server of
//! Valkey or Redis.
//!
//! A thread of its own talks to the store ([`worker`]). The control thread gives it a snapshot of
//! the memory every interval, and takes what other gateways have written ([`Sharing`]); both by
//! channels of bounded length, and neither waits for the other. Packets never come near it.
//!
//! What comes from the store is foreign input: [`entry`] says what of it is accepted, and
//! [`connection`] how much of it is read. A site that was taken over is tried, and not trusted
//! before it has answered here.
//!
//! ```text
//! control thread  --snapshots, 1-->  share thread  <-->  store
//!                 <--reports, 4----
//! ```

mod connection;
pub mod entry;
mod settings;
mod store;
mod worker;

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use pipeline::base::time::Ticks;
use pipeline::memory::{Learned, Memory};

pub use self::entry::Hash;
pub use self::settings::{Password, Settings};
use self::worker::{Heard, Report, Snapshot, Worker, unix_now};
use super::stats::ShareStats;

/// Reports that wait for the control thread at most.
const REPORTS: usize = 4;

/// The control thread's side.
#[derive(Debug)]
pub struct Sharing {
    snapshots: SyncSender<Snapshot>,
    reports: Receiver<Report>,
    interval: Duration,
    /// The time of the next snapshot.
    due: Instant,
    server: String,
    /// Whether the store answers, or why not; `None` before the first report.
    state: Option<Result<(), String>>,
    /// The time of the last change of state.
    since: Instant,
    imported: u64,
    exported: u64,
    refused: u64,
    /// Exported and refused before a reload.
    earlier: [u64; 2],
}

impl Sharing {
    /// Starts the thread. It ends when the returned value is dropped; nobody waits for it.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(settings: Settings) -> io::Result<Self> {
        let (snapshots, to_worker) = sync_channel(1);
        let (from_worker, reports) = sync_channel(REPORTS);
        let (interval, server) = (settings.interval, settings.server.to_string());
        let worker = Worker::new(settings);
        let thread = std::thread::Builder::new().name("share".to_owned());
        thread.spawn(move || worker.run(&to_worker, &from_worker))?;
        let now = Instant::now();
        Ok(Self {
            snapshots,
            reports,
            interval,
            due: now,
            server,
            state: None,
            since: now,
            imported: 0,
            exported: 0,
            refused: 0,
            earlier: [0; 2],
        })
    }

    /// Counts on from what was shared with other settings.
    pub fn go_on_from(self, before: &Self) -> Self {
        let earlier = [before.earlier[0] + before.exported, before.earlier[1] + before.refused];
        Self { imported: before.imported, earlier, ..self }
    }

    /// Takes what other gateways have written, and once an interval gives the thread what was
    /// learned here. Never waits.
    pub fn step(&mut self, memory: &mut Memory, now: Ticks) {
        while let Ok(report) = self.reports.try_recv() {
            self.take(report, memory, now);
        }
        if Instant::now() < self.due {
            return;
        }
        self.due = Instant::now() + self.interval;
        // While the thread waits for the store, a snapshot that does not fit is left out.
        let _ = self.snapshots.try_send(Snapshot { sites: memory.learned(now), at: unix_now() });
    }

    fn take(&mut self, report: Report, memory: &mut Memory, now: Ticks) {
        let changed = self.state.as_ref().map(Result::is_ok) != Some(report.state.is_ok());
        if changed {
            self.since = Instant::now();
        }
        self.state = Some(report.state);
        (self.exported, self.refused) = (report.exported, report.refused);
        let unix_now = unix_now();
        for Heard { service, address, direct, at } in report.heard {
            let age = Ticks::from(Duration::from_secs(unix_now.saturating_sub(at)));
            let is_new = memory.learn(&Learned { service, address, direct, age }, now);
            self.imported += u64::from(is_new);
        }
    }

    /// Returns the state, for operators.
    pub fn stats(&self) -> ShareStats {
        let (state, why) = match &self.state {
            None => ("connecting", ""),
            Some(Ok(())) => ("connected", ""),
            Some(Err(why)) => ("away", why.as_str()),
        };
        ShareStats {
            server: self.server.clone(),
            state: state.to_owned(),
            since_ms: self.since.elapsed().as_millis() as u64,
            why: why.to_owned(),
            imported: self.imported,
            exported: self.earlier[0] + self.exported,
            refused: self.earlier[1] + self.refused,
        }
    }
}
