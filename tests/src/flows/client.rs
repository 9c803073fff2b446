//! The clients.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{CHUNK, Kind, PAUSE, RECORD, content, is_content, prepare, record, request};
use crate::demo::client::within;
use crate::lab::{LabError, Namespace, Result};

/// The longest time that a step of a connection may take: a SYN that is lost four times takes 15 s.
const MAX_WAIT: Duration = Duration::from_secs(90);
/// Connections that are opened at a time.
const AT_A_TIME: usize = 32;
/// Threads that open and close short connections.
const RACERS: usize = 4;

/// Connections that stay open, and others that come and go meanwhile.
#[derive(Debug)]
pub struct Flows {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    flows: Mutex<Vec<Flow>>,
    /// The short connections that have ended well, and the errors of the others.
    races: AtomicUsize,
    failed: Mutex<Vec<String>>,
    races_end: AtomicBool,
    stop: AtomicBool,
}

/// What became of the connections.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Connections that stayed open.
    pub connections: usize,
    /// Those of them by the number of the site that served them.
    pub sites: BTreeMap<u8, usize>,
    /// Why those that were lost were lost.
    pub lost: Vec<String>,
    /// The longest time for which a client that the server sends to all the time heard nothing.
    pub longest_gap: Duration,
    /// Short connections that have ended well.
    pub races: usize,
    /// The errors of the others.
    pub failed_races: Vec<String>,
}

impl Flows {
    /// Opens so many connections, of all lasting kinds in turn, and keeps opening short ones. A chunk
    /// is uploaded once in `pace`.
    pub fn open(from: &Namespace, to: SocketAddr, count: usize, pace: Duration) -> Result<Self> {
        super::allow(count).map_err(|error| LabError::Topology(format!("sockets: {error}")))?;
        let next = AtomicUsize::new(0);
        let open_some = || {
            let mut flows = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= count {
                    return Ok(flows);
                }
                let kind = Kind::LASTING[number % Kind::LASTING.len()];
                flows.push(Flow::open(to, kind, number as u32)?);
            }
        };
        let opened: std::io::Result<Vec<Vec<Flow>>> = within(from, || {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(open_some)).collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                };
                threads.into_iter().map(join).collect()
            })
        })?;
        let opened = opened
            .map_err(|error| LabError::Topology(format!("open a connection to {to}: {error}")))?;
        let flows = Mutex::new(opened.into_iter().flatten().collect());
        let shared = Arc::new(Shared { flows, ..Shared::default() });
        let serving = Arc::clone(&shared);
        let mut threads = vec![std::thread::spawn(move || serving.serve(pace))];
        // A thread inherits the namespace of the one that starts it.
        threads.extend(within(from, || {
            let race = |_| {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || shared.race(to))
            };
            (0..RACERS).map(race).collect::<Vec<_>>()
        })?);
        Ok(Self { shared, threads })
    }

    /// Waits until every client that the server sends to all the time has heard of it, or has lost its
    /// connection. Returns whether all came to be so within a time.
    #[must_use]
    pub fn all_are_heard(&self, within: Duration) -> bool {
        let start = Instant::now();
        let is_heard = |flow: &Flow| {
            !flow.kind.is_heard() || flow.last > start || matches!(flow.state, State::Lost(_))
        };
        loop {
            if self.shared.flows().iter().all(is_heard) {
                return true;
            }
            if start.elapsed() > within {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns the longest time for which a client that the server sends to all the time heard nothing,
    /// since this was last asked for.
    #[must_use]
    pub fn take_longest_gap(&self) -> Duration {
        let mut flows = self.shared.flows();
        let taken = flows.iter_mut().map(|flow| std::mem::take(&mut flow.longest_gap));
        taken.max().unwrap_or_default()
    }

    /// Waits until so many more short connections have ended, well or not.
    #[must_use]
    pub fn races_go_on(&self, more: usize, within: Duration) -> bool {
        let ended = || self.shared.races.load(Relaxed) + self.shared.failures().len();
        let (start, wanted) = (Instant::now(), ended() + more);
        while ended() < wanted {
            if start.elapsed() > within {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        true
    }

    /// Closes all connections and says what became of them.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.shared.races_end.store(true, Relaxed);
        for racer in self.threads.drain(1..) {
            let _ = racer.join();
        }
        self.shared.flows().iter_mut().for_each(Flow::close);
        let start = Instant::now();
        while start.elapsed() < MAX_WAIT && self.shared.flows().iter().any(Flow::is_open) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let flows = self.shared.flows();
        let mut report = Report {
            connections: flows.len(),
            races: self.shared.races.load(Relaxed),
            failed_races: self.shared.failures().clone(),
            ..Report::default()
        };
        for flow in flows.iter() {
            *report.sites.entry(flow.site).or_default() += 1;
            report.longest_gap = report.longest_gap.max(flow.longest_gap);
            let how = match &flow.state {
                State::Done => continue,
                State::Lost(how) => how.as_str(),
                State::Open | State::Closing => "no end",
            };
            let Flow { kind, site, received, sent, .. } = flow;
            report.lost.push(format!("{kind:?} of {site}, {received} in, {sent} out: {how}"));
        }
        drop(flows);
        report
    }
}

impl Drop for Flows {
    fn drop(&mut self) {
        self.shared.races_end.store(true, Relaxed);
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn flows(&self) -> MutexGuard<'_, Vec<Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self) -> MutexGuard<'_, Vec<String>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, pace: Duration) {
        let mut due = Instant::now();
        while !self.stop.load(Relaxed) {
            let is_due = Instant::now() >= due;
            if is_due {
                due = Instant::now() + pace;
            }
            self.flows().iter_mut().for_each(|flow| flow.step(is_due));
            std::thread::sleep(PAUSE);
        }
    }

    fn race(&self, to: SocketAddr) {
        let mut seed = 0;
        while !self.races_end.load(Relaxed) {
            seed += 1;
            match one_race(to, seed) {
                Ok(()) => drop(self.races.fetch_add(1, Relaxed)),
                Err(error) => self.failures().push(error.to_string()),
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn one_race(to: SocketAddr, seed: u32) -> std::io::Result<()> {
    let mut stream = connect(to)?;
    stream.write_all(&request(Kind::Short, seed))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    match answer.get(1..) == Some(&record(0, 0, true)[..]) {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("a wrong answer {answer:?}"))),
    }
}

fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, MAX_WAIT)?;
    stream.set_read_timeout(Some(MAX_WAIT))?;
    stream.set_write_timeout(Some(MAX_WAIT))?;
    Ok(stream)
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Open,
    Closing,
    Done,
    Lost(String),
}

#[derive(Debug)]
struct Flow {
    stream: TcpStream,
    kind: Kind,
    seed: u32,
    site: u8,
    state: State,
    /// The end of what has come, which may be the server's record.
    rest: Vec<u8>,
    /// Bytes of content that have come and were right.
    received: u64,
    sent: u64,
    last: Instant,
    longest_gap: Duration,
}

impl Flow {
    fn open(to: SocketAddr, kind: Kind, seed: u32) -> std::io::Result<Self> {
        let mut stream = connect(to)?;
        stream.write_all(&request(kind, seed))?;
        let mut site = [0];
        stream.read_exact(&mut site)?;
        prepare(&stream)?;
        Ok(Self {
            stream,
            kind,
            seed,
            site: site[0],
            state: State::Open,
            rest: Vec::new(),
            received: 0,
            sent: 0,
            last: Instant::now(),
            longest_gap: Duration::ZERO,
        })
    }

    fn is_open(&self) -> bool {
        matches!(self.state, State::Open | State::Closing)
    }

    fn close(&mut self) {
        if self.state == State::Open {
            self.state = match self.stream.shutdown(Shutdown::Write) {
                Ok(()) => State::Closing,
                Err(error) => State::Lost(error.to_string()),
            };
        }
    }

    fn step(&mut self, is_due: bool) {
        if !self.is_open() {
            return;
        }
        if let Err(error) = self.read() {
            self.state = State::Lost(error.to_string());
            return;
        }
        if is_due && self.kind == Kind::Upload && self.state == State::Open {
            match self.stream.write(&content(self.seed, self.sent, CHUNK)) {
                Ok(count) => self.sent += count as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => self.state = State::Lost(error.to_string()),
            }
        }
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.end(),
                Ok(count) => self.take(&buffer[..count])?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let now = Instant::now();
        if self.kind.is_heard() {
            self.longest_gap = self.longest_gap.max(now - self.last);
        }
        self.last = now;
        self.rest.extend(bytes);
        let certain = self.rest.len().saturating_sub(RECORD);
        if !is_content(self.seed, self.received, &self.rest[..certain]) {
            return Err(std::io::Error::other("a wrong byte"));
        }
        self.rest.drain(..certain);
        self.received += certain as u64;
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        let expected = record(self.received, self.sent, true);
        match self.state == State::Closing && self.rest == expected {
            true => self.state = State::Done,
            false => return Err(std::io::Error::other("an early end, or a wrong record")),
        }
        Ok(())
    }
}
