//! Web servers with prescribed behaviour, run in the thread of the test that probes them.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::{Change, Http, Prober, Settings, Target};

pub(super) const SETTINGS: Settings = Settings {
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    rise: 2,
    fall: 3,
};
/// Time between two steps, by the test's clock.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// The longest wait for the answers of a step, in real time.
const GRACE: Duration = Duration::from_millis(1);

/// The behaviour of a server towards a connection.
#[derive(Clone, Debug)]
pub(super) enum Behaviour {
    /// Accepts it and sends nothing.
    Silent,
    /// Closes it at once.
    Close,
    /// Answers a whole request with this, and closes.
    Say(Vec<u8>),
    /// Answers with this, one byte every given number of rounds.
    Trickle(Vec<u8>, usize),
    /// Answers with this, then with one byte for ever.
    Endless(Vec<u8>),
}

pub(super) fn say(status: u16) -> Behaviour {
    Behaviour::Say(format!("HTTP/1.1 {status} Thus\r\nContent-Length: 0\r\n\r\n").into_bytes())
}

#[derive(Debug)]
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    said: usize,
    /// Rounds since the connection was accepted.
    rounds: usize,
    closed: bool,
}

/// One web server.
#[derive(Debug)]
pub(super) struct Server {
    listener: TcpListener,
    pub behaviour: Behaviour,
    connections: Vec<Connection>,
    pub accepted: usize,
}

impl Server {
    pub fn new(behaviour: Behaviour) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), behaviour).unwrap()
    }

    /// Creates a server on IPv6; `None` on a host without it.
    pub fn v6(behaviour: Behaviour) -> Option<Self> {
        Self::at(Ipv6Addr::LOCALHOST.into(), behaviour)
    }

    fn at(address: IpAddr, behaviour: Behaviour) -> Option<Self> {
        let listener = TcpListener::bind((address, 0)).ok()?;
        listener.set_nonblocking(true).unwrap();
        Some(Self { listener, behaviour, connections: Vec::new(), accepted: 0 })
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Returns the number of connections that the other end has not closed.
    pub fn open(&self) -> usize {
        self.connections.iter().filter(|connection| !connection.closed).count()
    }

    pub fn serve(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            stream.set_nonblocking(true).unwrap();
            self.accepted += 1;
            let (request, said, rounds, closed) = (Vec::new(), 0, 0, false);
            self.connections.push(Connection { stream, request, said, rounds, closed });
        }
        let behaviour = &self.behaviour;
        self.connections.retain_mut(|connection| connection.serve(behaviour));
    }
}

impl Connection {
    /// Serves the connection once. Returns whether it stays open.
    fn serve(&mut self, behaviour: &Behaviour) -> bool {
        self.rounds += 1;
        let mut part = [0; 1024];
        match self.stream.read(&mut part) {
            Ok(0) => self.closed = true,
            Ok(count) => self.request.extend_from_slice(&part[..count]),
            Err(error) => self.closed |= error.kind() != ErrorKind::WouldBlock,
        }
        let requested = self.request.ends_with(b"\r\n\r\n");
        match behaviour {
            Behaviour::Close => false,
            Behaviour::Say(text) if requested => {
                self.say(text);
                false
            }
            Behaviour::Trickle(text, rounds)
                if requested && self.rounds.is_multiple_of(*rounds) =>
            {
                text.get(self.said).is_some_and(|byte| self.say(&[*byte]).is_some())
            }
            Behaviour::Endless(text) if requested => {
                if self.said == 0 {
                    self.say(text);
                }
                while self.say(&[b'x'; 4096]).is_some() {}
                true
            }
            _ => true,
        }
    }

    fn say(&mut self, text: &[u8]) -> Option<usize> {
        let count = self.stream.write(text).ok()?;
        self.said += count;
        Some(count)
    }
}

pub(super) fn tcp(address: SocketAddr) -> Target {
    Target { name: address.to_string(), address, http: None }
}

pub(super) fn http(address: SocketAddr, tells_busy: bool) -> Target {
    let (host, path) = ("www.example".to_owned(), "/health".to_owned());
    Target { http: Some(Http { host, path, tells_busy }), ..tcp(address) }
}

/// A prober, its servers, and a clock that advances in ticks.
#[derive(Debug)]
pub(super) struct Setup {
    pub prober: Prober,
    pub servers: Vec<Server>,
    pub now: Instant,
    /// Steps of the prober so far.
    pub steps: usize,
}

impl Setup {
    pub fn new(servers: Vec<Server>, targets: Vec<Target>) -> Self {
        let now = Instant::now();
        Self { prober: Prober::new(SETTINGS, targets, now), servers, now, steps: 0 }
    }

    /// Creates a setup with one server and an HTTP check.
    pub fn with_http_check(behaviour: Behaviour, tells_busy: bool) -> Self {
        let server = Server::new(behaviour);
        let targets = vec![http(server.address(), tells_busy)];
        Self::new(vec![server], targets)
    }

    pub fn step(&mut self) -> Vec<Change> {
        self.steps += 1;
        let changes = self.prober.step(self.now).collect();
        self.servers.iter_mut().for_each(Server::serve);
        changes
    }

    /// Steps until this much time has passed.
    pub fn run(&mut self, time: Duration) -> Vec<Change> {
        let end = self.now + time;
        let mut changes = Vec::new();
        while self.now < end {
            changes.append(&mut self.step());
            self.prober.wait(GRACE);
            self.now += TICK;
        }
        changes
    }

    /// Returns the state, busyness and reason of the only target after one probe.
    pub fn first_result(&mut self) -> (super::State, bool, String) {
        while self.prober.health(0).successes() + self.prober.health(0).failures() == 0 {
            self.run(TICK);
        }
        let health = self.prober.health(0);
        (health.state(), health.busy(), health.reason())
    }
}
