//! The server of a site.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{CHUNK, EVENT, Kind, PAUSE, REQUEST, content, is_content, parse, prepare, record};
use crate::demo::client::within;
use crate::lab::{Family, LabError, Namespace, Result};

/// The most bytes that wait for a client that does not read.
const MOST_WAITING: usize = 64 << 10;

/// A server on port 80 of a namespace; dropping it ends it.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the server with this number. A download gets a chunk, and every fourth time a receiver
    /// an event, once in `pace`.
    pub fn start(at: &Namespace, number: u8, family: Family, pace: Duration) -> Result<Self> {
        let any = match family {
            Family::V4 => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 80)),
            Family::V6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80)),
        };
        let listen = || -> std::io::Result<TcpListener> {
            let listener = TcpListener::bind(any)?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = within(at, listen)?
            .map_err(|error| LabError::Topology(format!("listen on {any}: {error}")))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&listener, number, pace, &stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(listener: &TcpListener, number: u8, pace: Duration, stop: &AtomicBool) {
    let mut connections: Vec<Connection> = Vec::new();
    let (mut due, mut round) = (Instant::now(), 0u32);
    while !stop.load(Relaxed) {
        while let Ok((stream, _)) = listener.accept() {
            if prepare(&stream).is_ok() {
                connections.push(Connection::new(stream, number));
            }
        }
        let is_due = Instant::now() >= due;
        if is_due {
            (due, round) = (Instant::now() + pace, round + 1);
        }
        connections.retain_mut(|connection| connection.step(is_due.then_some(round)));
        std::thread::sleep(PAUSE);
    }
}

struct Connection {
    stream: TcpStream,
    number: u8,
    request: Vec<u8>,
    kind: Option<(Kind, u32)>,
    /// What the socket has not taken yet.
    waiting: Vec<u8>,
    sent: u64,
    received: u64,
    is_right: bool,
    has_ended: bool,
}

impl Connection {
    fn new(stream: TcpStream, number: u8) -> Self {
        Self {
            stream,
            number,
            request: Vec::new(),
            kind: None,
            waiting: Vec::new(),
            sent: 0,
            received: 0,
            is_right: true,
            has_ended: false,
        }
    }

    /// Reads and writes what there is; returns whether the connection goes on.
    fn step(&mut self, round: Option<u32>) -> bool {
        let has_ended = self.has_ended;
        if !has_ended && self.read().is_err() {
            return false;
        }
        if let (Some((kind, seed)), Some(round), false) = (self.kind, round, self.has_ended) {
            let length = match kind {
                Kind::Download => CHUNK,
                Kind::Receive if round.is_multiple_of(4) => EVENT,
                _ => 0,
            };
            if self.waiting.len() < MOST_WAITING {
                self.waiting.extend(content(seed, self.sent, length));
                self.sent += length as u64;
            }
        }
        if self.has_ended && !has_ended {
            self.waiting.extend(record(self.sent, self.received, self.is_right));
        }
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        !self.has_ended
    }

    fn read(&mut self) -> std::io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            if count == 0 {
                self.has_ended = true;
                return Ok(());
            }
            self.take(&buffer[..count]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        let missing = REQUEST - self.request.len();
        let (head, rest) = bytes.split_at(missing.min(bytes.len()));
        self.request.extend(head);
        if let (None, Some(request)) = (self.kind, self.request.first_chunk()) {
            self.kind = parse(*request);
            self.waiting.push(self.number);
            self.has_ended = self.kind.is_none_or(|(kind, _)| kind == Kind::Short);
        }
        if let Some((_, seed)) = self.kind {
            self.is_right &= is_content(seed, self.received, rest);
            self.received += rest.len() as u64;
        }
    }
}
