//! The emulator at work: sockets, the clock, signals.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::time::TimeSpec;

use super::capture::Capture;
use super::config::{ConfigError, WanConfig};
use super::counters::Report;
use super::emulator::Emulator;
use super::port::{BATCH, Pool, Port};

/// Batches read from one port before the others have their turn.
const TURNS: usize = 4;
/// Rest after a round that brought few frames: under load they are then handled in batches,
/// and a 2-core machine keeps its time for the rest of the laboratory.
const REST: Duration = Duration::from_micros(50);
/// A round that brings as many frames as this is followed by the next one at once.
const FULL_ROUND: usize = 32;

/// Why the emulator could not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum WanError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A raw socket.
    #[error("interface {interface}: {source}")]
    Interface {
        /// The interface.
        interface: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A capture file.
    #[error("capture {path}: {source}")]
    Capture {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Polling, timers, signals.
    #[error("{0}")]
    System(#[from] Errno),
}

/// A port's socket and its capture.
struct Station {
    interface: String,
    port: Port,
    capture: Option<(PathBuf, Capture)>,
}

impl Station {
    fn record(&mut self, seen: Duration, frame: &[u8]) -> Result<(), WanError> {
        match &mut self.capture {
            Some((path, capture)) => capture
                .write(seen, frame)
                .map_err(|source| WanError::Capture { path: path.clone(), source }),
            None => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), WanError> {
        match &mut self.capture {
            Some((path, capture)) => {
                capture.flush().map_err(|source| WanError::Capture { path: path.clone(), source })
            }
            None => Ok(()),
        }
    }
}

/// Runs an emulator until SIGINT, SIGTERM or for so long; `ready` is called once it is up.
///
/// Call it from a process's only thread: it blocks both signals for the calling thread.
pub fn run(
    config: &WanConfig,
    longest: Duration,
    ready: impl FnOnce(),
) -> Result<Report, WanError> {
    config.check()?;
    let stations = open(config)?;
    let macs: Vec<_> = stations.iter().map(|station| station.port.mac()).collect();
    let emulator = Emulator::new(config, &macs)?;
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    signals.thread_block()?;
    let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
    // A nanosecond instead of the usual 50 us: releases shall be on time.
    set_timerslack(1)?;
    let start = Instant::now();
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut wan = Running { emulator, stations, pool: Pool::default(), start, since_1970 };
    ready();
    wan.work(&signals, longest)?;
    wan.finish()
}

fn open(config: &WanConfig) -> Result<Vec<Station>, WanError> {
    let mut stations = Vec::new();
    for described in &config.ports {
        let interface = described.interface.clone();
        let port = Port::open(&interface)
            .map_err(|source| WanError::Interface { interface: interface.clone(), source })?;
        let capture = match &described.pcap {
            Some(path) => {
                let file = Capture::create(path, described.pcap_snaplen)
                    .map_err(|source| WanError::Capture { path: path.clone(), source })?;
                Some((path.clone(), file))
            }
            None => None,
        };
        stations.push(Station { interface, port, capture });
    }
    Ok(stations)
}

struct Running {
    emulator: Emulator,
    stations: Vec<Station>,
    pool: Pool,
    start: Instant,
    since_1970: Duration,
}

impl Running {
    fn work(&mut self, signals: &SignalFd, longest: Duration) -> Result<(), WanError> {
        let mut last_round = 0;
        loop {
            let now = self.start.elapsed();
            if now >= longest {
                return Ok(());
            }
            let next = self.emulator.next_event().unwrap_or(longest).min(longest);
            if last_round == 0 && next.saturating_sub(now) > Duration::from_millis(100) {
                self.stations.iter_mut().try_for_each(Station::flush)?;
            }
            if (1..FULL_ROUND).contains(&last_round) {
                std::thread::sleep(REST.min(next.saturating_sub(now)));
            }
            let readable = self.wait(signals, next)?;
            if readable.signal {
                return Ok(());
            }
            last_round = 0;
            for at in readable.ports {
                last_round += self.receive(at)?;
            }
            self.emulator.advance(self.start.elapsed());
            self.send()?;
        }
    }

    /// Sleeps until a frame or a signal comes, or something is due.
    fn wait(&self, signals: &SignalFd, until: Duration) -> Result<Readable, WanError> {
        let ports = self.stations.iter().map(|station| station.port.as_fd());
        let all = ports.chain([signals.as_fd()]);
        let mut polled: Vec<_> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = TimeSpec::from_duration(until.saturating_sub(self.start.elapsed()));
        match ppoll(&mut polled, Some(timeout), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut ready = polled.iter().map(|fd| fd.any().unwrap_or(false));
        let flags: Vec<_> = ready.by_ref().take(self.stations.len()).collect();
        let ports = (0..flags.len()).filter(|at| flags[*at]).collect();
        Ok(Readable { ports, signal: ready.next().unwrap_or(false) })
    }

    /// Hands what waits at a port to the router; returns how many frames there were.
    fn receive(&mut self, at: usize) -> Result<usize, WanError> {
        let Self { emulator, stations, pool, start, since_1970 } = self;
        let mut batch = Vec::with_capacity(BATCH);
        let mut total = 0;
        for _ in 0..TURNS {
            let station = &mut stations[at];
            let received =
                station.port.receive(pool, |frame| batch.push(frame)).map_err(|source| {
                    WanError::Interface { interface: station.interface.clone(), source }
                })?;
            let now = start.elapsed();
            emulator.port_counters(at).truncated += received.truncated;
            for frame in batch.drain(..) {
                station.record(*since_1970 + now, &frame)?;
                emulator.receive(at, frame, now);
            }
            total += received.taken;
            if received.taken < BATCH {
                break;
            }
        }
        Ok(total)
    }

    fn send(&mut self) -> Result<(), WanError> {
        let seen = self.since_1970 + self.start.elapsed();
        for (at, station) in self.stations.iter_mut().enumerate() {
            let outbox = self.emulator.outbox(at);
            if outbox.is_empty() {
                continue;
            }
            for frame in outbox.iter() {
                station.record(seen, frame)?;
            }
            let refused = station.port.send(outbox, &mut self.pool);
            self.emulator.port_counters(at).send_failed += refused;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, WanError> {
        for (at, station) in self.stations.iter_mut().enumerate() {
            station.flush()?;
            self.emulator.port_counters(at).socket_dropped += station.port.dropped_by_kernel();
        }
        Ok(self.emulator.report())
    }
}

struct Readable {
    ports: Vec<usize>,
    signal: bool,
}
