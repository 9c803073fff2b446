//! The thread that talks to the store. It may wait for the store; nobody waits for it.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pipeline::base::time::Ticks;
use pipeline::memory::Learned;
use pipeline::wire::family::Version;
use redis::{RedisError, RedisResult};

use super::connection::{Connection, reason};
use super::entry::{Entry, Hash, Refused};
use super::settings::Settings;
use super::store::{self, Exchanged, Own};

/// The pause after a first failure; doubled after each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The time from one line about refused entries to the next.
const REFUSED_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What was learned here, for the store.
#[derive(Debug)]
pub struct Snapshot {
    /// The sites.
    pub sites: Vec<Learned>,
    /// The time at which they were taken, in seconds since 1970.
    pub at: u64,
}

/// A site that another gateway has written.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// The number of the service.
    pub service: u16,
    /// The address that is asked.
    pub address: IpAddr,
    /// The direct time there.
    pub direct: Option<Ticks>,
    /// The last answer there, in seconds since 1970.
    pub at: u64,
}

/// The result of an exchange. Counts are those since the start, so that a lost report does no harm.
#[derive(Debug)]
pub struct Report {
    /// Whether the store answered; otherwise why not.
    pub state: Result<(), String>,
    /// What others have written.
    pub heard: Vec<Heard>,
    /// Entries written.
    pub exported: u64,
    /// Entries refused.
    pub refused: u64,
}

/// Returns the time in seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The thread's state.
pub struct Worker {
    settings: Settings,
    /// The random name of this process among gateways.
    gateway: String,
    connection: Option<Connection>,
    /// Whether the store answered the last time; `None` before the first time.
    answers: Option<bool>,
    /// The next pause.
    pause: Duration,
    /// No exchange before this time.
    not_before: Option<Instant>,
    exported: u64,
    refused: u64,
    /// Refused since the last line about it, and when that was.
    unlogged: u64,
    last_log: Option<Instant>,
}

impl Worker {
    /// Returns the state before the first exchange.
    pub fn new(settings: Settings) -> Self {
        let random = || RandomState::new().hash_one(0u8);
        Self {
            settings,
            gateway: format!("{:016x}", random()),
            connection: None,
            answers: None,
            pause: PAUSE,
            not_before: None,
            exported: 0,
            refused: 0,
            unlogged: 0,
            last_log: None,
        }
    }

    /// Makes an exchange for each snapshot, until nobody sends any.
    pub fn run(mut self, snapshots: &Receiver<Snapshot>, reports: &SyncSender<Report>) {
        while let Ok(snapshot) = snapshots.recv() {
            if self.not_before.is_some_and(|time| Instant::now() < time) {
                continue;
            }
            let report = self.turn(&snapshot);
            if let Err(TrySendError::Disconnected(_)) = reports.try_send(report) {
                return;
            }
        }
    }

    /// Makes one exchange, and logs what has changed.
    fn turn(&mut self, snapshot: &Snapshot) -> Report {
        let result = self.exchange(snapshot);
        let (state, exchanged) = match result {
            Ok(exchanged) => (Ok(()), exchanged),
            Err(error) => (Err(reason(&error)), Exchanged::default()),
        };
        self.note_state(&state);
        self.exported += exchanged.exported;
        self.refused += exchanged.refused;
        self.unlogged += exchanged.refused;
        if let Some((key, why)) = &exchanged.first_refused {
            self.log_refused(key, *why);
        }
        let hashes = &self.settings.hashes;
        let heard = exchanged.entries.iter();
        let heard = heard.filter_map(|(number, entry)| Some(heard_of(hashes.get(*number)?, entry)));
        Report { state, heard: heard.collect(), exported: self.exported, refused: self.refused }
    }

    /// Makes one exchange. A connection that the server has closed meanwhile is replaced at once.
    fn exchange(&mut self, snapshot: &Snapshot) -> RedisResult<Exchanged> {
        let own = self.own(snapshot);
        if let Some(connection) = self.connection.take() {
            match self.exchange_over(connection, &own) {
                Err(error) if is_closed(&error) => {}
                other => return other,
            }
        }
        self.exchange_over(store::connect(&self.settings)?, &own)
    }

    fn exchange_over(&mut self, mut connection: Connection, own: &Own) -> RedisResult<Exchanged> {
        let who = (self.gateway.as_str(), unix_now());
        let exchanged = store::exchange(&mut connection, &self.settings.hashes, own, who)?;
        self.connection = Some(connection);
        Ok(exchanged)
    }

    /// Returns the snapshot's sites as entries, by hash.
    fn own(&self, snapshot: &Snapshot) -> Own {
        let mut own = vec![Vec::new(); self.settings.hashes.len()];
        for site in &snapshot.sites {
            let version = Version::of(site.address);
            let is_its = |hash: &Hash| hash.service == site.service && hash.version == version;
            if let Some(number) = self.settings.hashes.iter().position(is_its) {
                own[number].push(Entry {
                    address: site.address,
                    direct_us: site.direct.map(Ticks::micros),
                    heard: snapshot.at.saturating_sub(site.age.micros() / 1_000_000),
                    gateway: self.gateway.clone(),
                });
            }
        }
        own
    }

    /// Notes whether the store answers, and logs when that changes.
    fn note_state(&mut self, state: &Result<(), String>) {
        let server = &self.settings.server;
        match state {
            Ok(()) => {
                (self.pause, self.not_before) = (PAUSE, None);
                if self.answers != Some(true) {
                    tracing::info!(%server, "store connected, sharing what is remembered");
                }
            }
            Err(reason) => {
                self.not_before = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                if self.answers != Some(false) {
                    tracing::warn!(%server, reason, "store away, sharing nothing until it is back");
                }
            }
        }
        self.answers = Some(state.is_ok());
    }

    fn log_refused(&mut self, key: &str, why: Refused) {
        if self.last_log.is_some_and(|at| at.elapsed() < REFUSED_LOG_INTERVAL) {
            return;
        }
        let refused = std::mem::take(&mut self.unlogged);
        self.last_log = Some(Instant::now());
        tracing::warn!(refused, key, %why, "entries of the store refused");
    }
}

/// Returns whether an error says that the server has closed the connection.
fn is_closed(error: &RedisError) -> bool {
    error.is_connection_dropped() || error.is_unrecoverable_error() && !error.is_timeout()
}

fn heard_of(hash: &Hash, entry: &Entry) -> Heard {
    Heard {
        service: hash.service,
        address: entry.address,
        direct: entry.direct_us.map(Ticks::from_micros),
        at: entry.heard,
    }
}
