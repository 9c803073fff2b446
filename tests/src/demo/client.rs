//! Clients that are threads of this process in another network namespace: many connections of
//! the kernel's own TCP at little cost.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use nix::sys::time::TimeVal;

use crate::lab::{Family, LabError, Namespace, Place, Result};

/// Time that one step of a connection may take. A lost SYN costs a second or two, a busy machine
/// more.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Does some work on a thread in a network namespace; threads that it starts are in it too.
pub fn within<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    let path = Path::new("/run/netns").join(namespace.name());
    let enter = |path: &Path| -> std::io::Result<()> {
        Ok(setns(File::open(path)?, CloneFlags::CLONE_NEWNET)?)
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            enter(&path).map_err(|source| LabError::File { path: path.clone(), source })?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What came of many short connections.
#[derive(Debug, Clone, Default)]
pub struct Burst {
    /// Complete answers with the right body, by the site that gave them.
    pub answered: BTreeMap<String, usize>,
    /// What went wrong with the others, one line each.
    pub failed: Vec<String>,
    /// Time of each that was answered, from connect to the last byte, the shortest first.
    pub times: Vec<Duration>,
    /// From the first start to the last end.
    pub total: Duration,
}

impl Burst {
    /// How many were answered.
    #[must_use]
    pub fn successes(&self) -> usize {
        self.times.len()
    }

    /// The time within which this share of them, 0 to 1, was answered.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (self.times.len() as f64 * share).ceil().max(1.0) as usize;
        self.times.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Makes connections from `from` to the web server at an address, so many at a time: each one
/// asks for a file and compares it, byte for byte, with what it has to be.
pub fn burst(
    from: &Place,
    to: SocketAddr,
    file: (&str, &[u8]),
    count: usize,
    at_a_time: usize,
) -> Result<Burst> {
    let next = AtomicUsize::new(0);
    burst_while(from, to, file, at_a_time, || next.fetch_add(1, Relaxed) < count)
}

/// The same for as long as `goes_on` says so, which is asked before each connection.
pub fn burst_while(
    from: &Place,
    to: SocketAddr,
    (file, wanted): (&str, &[u8]),
    at_a_time: usize,
    goes_on: impl Fn() -> bool + Sync,
) -> Result<Burst> {
    let request = format!("GET /{file} HTTP/1.0\r\nHost: {to}\r\n\r\n");
    let start = Instant::now();
    let one_thread = || {
        let mut own = Burst::default();
        while goes_on() {
            let begun = Instant::now();
            match exchange(to, &request, wanted) {
                Ok(site) => {
                    own.times.push(begun.elapsed());
                    *own.answered.entry(site).or_default() += 1;
                }
                Err(why) => own.failed.push(why),
            }
        }
        own
    };
    let mut all = within(&from.host, || {
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..at_a_time).map(|_| scope.spawn(one_thread)).collect();
            let mut all = Burst::default();
            for thread in threads {
                let own = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                all.times.extend(own.times);
                all.failed.extend(own.failed);
                for (site, answers) in own.answered {
                    *all.answered.entry(site).or_default() += answers;
                }
            }
            all
        })
    })?;
    all.total = start.elapsed();
    all.times.sort();
    Ok(all)
}

/// Connects, asks for a file and compares it; the site that answered.
fn exchange(address: SocketAddr, request: &str, wanted: &[u8]) -> Result<String, String> {
    compare(&mut connect(address)?, request, wanted)
}

/// Asks for a file on an open connection, which the server closes then, and compares it byte for
/// byte with what it has to be; returns the site that answered.
pub fn download(stream: &mut TcpStream, (file, wanted): (&str, &[u8])) -> Result<String> {
    let request = format!("GET /{file} HTTP/1.0\r\nHost: lab\r\n\r\n");
    compare(stream, &request, wanted).map_err(LabError::Topology)
}

fn compare(stream: &mut TcpStream, request: &str, wanted: &[u8]) -> Result<String, String> {
    let step = |step: &str, error: std::io::Error| format!("{step}: {error}");
    stream.write_all(request.as_bytes()).map_err(|error| step("request", error))?;
    let mut answer = Vec::with_capacity(wanted.len() + 512);
    stream.read_to_end(&mut answer).map_err(|error| step("answer", error))?;
    let (site, body) = read_head(&answer).ok_or("the answer is no HTTP 200")?;
    if answer[body..] == *wanted {
        Ok(site)
    } else {
        let bytes = answer.len() - body;
        Err(format!("a wrong body of {bytes} bytes instead of {} from {site}", wanted.len()))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, MAX_WAIT);
    let stream = stream.map_err(|error| format!("connect: {error}"))?;
    let patience = Some(MAX_WAIT);
    let set = stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience));
    set.map_err(|error| format!("connect: {error}"))?;
    Ok(stream)
}

/// The site that answered, and where the body begins, of an answer that says 200.
fn read_head(answer: &[u8]) -> Option<(String, usize)> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    let site = lines.find_map(|line| line.strip_prefix("X-Site: "))?;
    (status == "200").then(|| (site.to_string(), end + 4))
}

/// A connection from a port of the client's choice, which may be one that is in use already, as
/// long as the other end differs.
pub fn connect_from(from: &Place, port: u16, to: SocketAddr) -> Result<TcpStream> {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
        sockopt,
    };
    let (family, own) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, from.address_of(Family::V4)),
        SocketAddr::V6(_) => (AddressFamily::Inet6, from.address_of(Family::V6)),
    };
    let open = || -> nix::Result<TcpStream> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Stream, flags, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let patience = TimeVal::new(MAX_WAIT.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        setsockopt(&socket, sockopt::SendTimeout, &patience)?;
        let own = SocketAddr::new(own, port);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(TcpStream::from(socket))
    };
    within(&from.host, open)?
        .map_err(|error| LabError::Topology(format!("connect from port {port} to {to}: {error}")))
}

/// Asks for `/` on an open connection, which stays open unless `close` is set: the site that
/// answered.
pub fn ask(stream: &mut TcpStream, close: bool) -> Result<String> {
    let version = if close { "1.0" } else { "1.1" };
    let request = format!("GET / HTTP/{version}\r\nHost: lab\r\n\r\n");
    let site = ask_once(stream, &request).map_err(LabError::Topology)?;
    if close {
        let end = stream.read(&mut [0]);
        if !matches!(end, Ok(0)) {
            return Err(LabError::Topology(format!("expected the end, not {end:?}")));
        }
    }
    Ok(site)
}

/// Connections that are open and stay so; dropping them closes them.
#[derive(Debug)]
pub struct Held {
    streams: Vec<TcpStream>,
    /// Who answered on them, and how many.
    pub sites: BTreeMap<String, usize>,
}

impl Held {
    /// Opens so many connections, one after another, and asks for `/` on each.
    pub fn open(from: &Place, to: SocketAddr, count: usize) -> Result<Self> {
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let opened = within(&from.host, || {
            let open = |_| open_one(to, &request);
            (0..count).map(open).collect::<Result<Vec<_>, _>>()
        })?;
        let mut held = Self { streams: Vec::new(), sites: BTreeMap::new() };
        for (stream, site) in opened.map_err(LabError::Topology)? {
            held.streams.push(stream);
            *held.sites.entry(site).or_default() += 1;
        }
        Ok(held)
    }

    /// Opens connections one after another until a site has answered so many of them, for a minute
    /// at most. Those stay open; how many were opened in all.
    pub fn open_at(
        from: &Place,
        to: SocketAddr,
        site: &str,
        count: usize,
    ) -> Result<(Self, usize)> {
        let (start, mut opened) = (Instant::now(), 0);
        let mut held = Self { streams: Vec::new(), sites: BTreeMap::new() };
        while held.count() < count && start.elapsed() < MAX_WAIT {
            opened += 1;
            let mut one = Self::open(from, to, 1)?;
            if one.sites.contains_key(site) {
                held.streams.append(&mut one.streams);
                *held.sites.entry(site.into()).or_default() += 1;
            }
        }
        Ok((held, opened))
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }
}

fn open_one(address: SocketAddr, request: &str) -> Result<(TcpStream, String), String> {
    let mut stream = connect(address)?;
    let site = ask_once(&mut stream, request)?;
    Ok((stream, site))
}

fn ask_once(stream: &mut TcpStream, request: &str) -> Result<String, String> {
    stream.write_all(request.as_bytes()).map_err(|error| format!("request: {error}"))?;
    let mut answer = Vec::new();
    let mut part = [0; 2048];
    // The body is a line, the head holds none that ends this way: the answer is whole.
    while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
        match stream.read(&mut part).map_err(|error| format!("answer: {error}"))? {
            0 => return Err("the answer broke off".into()),
            length => answer.extend_from_slice(&part[..length]),
        }
    }
    read_head(&answer).map(|(site, _)| site).ok_or_else(|| "the answer is no HTTP 200".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_it_is_complete_and_says_200() {
        let answer = b"HTTP/1.1 200 OK\r\nX-Site: replica1\r\n\r\nbody";
        assert_eq!(read_head(answer), Some(("replica1".into(), 37)));
        assert_eq!(read_head(&answer[..34]), None);
        assert_eq!(read_head(b"HTTP/1.1 404 Not Found\r\nX-Site: a\r\n\r\n"), None);
        assert_eq!(read_head(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn quantiles_of_a_burst() {
        let times = (1..=100).map(Duration::from_millis).collect();
        let burst = Burst { times, ..Burst::default() };
        assert_eq!(burst.quantile(0.5), Duration::from_millis(50));
        assert_eq!(burst.quantile(1.0), Duration::from_millis(100));
        assert_eq!(Burst::default().quantile(0.5), Duration::ZERO);
    }
}
