//! Clients on threads of this process in another network namespace: many connections of the kernel's
//! TCP at little cost.

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

/// Time-out of one step of a connection. A lost SYN costs a second or two, a busy machine more.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Runs `work` on a thread in a network namespace. Threads that it starts are in it too.
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

/// The results of many short connections.
#[derive(Debug, Clone, Default)]
pub struct Burst {
    /// Complete responses with the correct body, by site.
    pub answered: BTreeMap<String, usize>,
    /// The errors of the others, one line each.
    pub failed: Vec<String>,
    /// Times of the complete ones, from connect to the last byte, in ascending order.
    pub times: Vec<Duration>,
    /// Times of the complete ones until they were connected, in ascending order.
    pub connect_times: Vec<Duration>,
    /// From the first start to the last end.
    pub total: Duration,
}

impl Burst {
    /// Returns the number of complete responses.
    #[must_use]
    pub fn successes(&self) -> usize {
        self.times.len()
    }

    /// Returns the time within which this share of them, 0 to 1, was complete.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        quantile(&self.times, share)
    }

    /// Returns the time within which this share of the complete ones was connected.
    #[must_use]
    pub fn connect_quantile(&self, share: f64) -> Duration {
        quantile(&self.connect_times, share)
    }
}

fn quantile(times: &[Duration], share: f64) -> Duration {
    let rank = (times.len() as f64 * share).ceil().max(1.0) as usize;
    times.get(rank - 1).copied().unwrap_or_default()
}

/// Makes `count` connections from `from` to the web server at `to`, `at_a_time` of them concurrently.
/// Each one requests a file and compares it byte by byte.
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

/// Makes connections like [`burst`], as long as `goes_on` returns `true` before each one.
pub fn burst_while(
    from: &Place,
    to: SocketAddr,
    (file, expected): (&str, &[u8]),
    at_a_time: usize,
    goes_on: impl Fn() -> bool + Sync,
) -> Result<Burst> {
    let request = format!("GET /{file} HTTP/1.0\r\nHost: {to}\r\n\r\n");
    let start = Instant::now();
    let one_thread = || {
        let mut own = Burst::default();
        while goes_on() {
            let begun = Instant::now();
            match exchange(to, &request, expected) {
                Ok((site, connected)) => {
                    own.times.push(begun.elapsed());
                    own.connect_times.push(connected);
                    *own.answered.entry(site).or_default() += 1;
                }
                Err(error) => own.failed.push(error),
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
                all.connect_times.extend(own.connect_times);
                all.failed.extend(own.failed);
                for (site, count) in own.answered {
                    *all.answered.entry(site).or_default() += count;
                }
            }
            all
        })
    })?;
    all.total = start.elapsed();
    all.times.sort();
    all.connect_times.sort();
    Ok(all)
}

/// Connects, requests a file and compares it. Returns the site that responded, and the time until it
/// was connected.
fn exchange(
    address: SocketAddr,
    request: &str,
    expected: &[u8],
) -> Result<(String, Duration), String> {
    let begun = Instant::now();
    let mut stream = connect(address)?;
    let connected = begun.elapsed();
    Ok((compare(&mut stream, request, expected)?, connected))
}

/// Requests a file on an open connection, which the server then closes, and compares it byte by byte.
/// Returns the site that responded.
pub fn download(stream: &mut TcpStream, (file, expected): (&str, &[u8])) -> Result<String> {
    let request = format!("GET /{file} HTTP/1.0\r\nHost: lab\r\n\r\n");
    compare(stream, &request, expected).map_err(LabError::Topology)
}

fn compare(stream: &mut TcpStream, request: &str, expected: &[u8]) -> Result<String, String> {
    let step = |step: &str, error: std::io::Error| format!("{step}: {error}");
    stream.write_all(request.as_bytes()).map_err(|error| step("request", error))?;
    let mut response = Vec::with_capacity(expected.len() + 512);
    stream.read_to_end(&mut response).map_err(|error| step("response", error))?;
    let (site, body) = read_head(&response).ok_or("the response is not HTTP 200")?;
    if response[body..] == *expected {
        Ok(site)
    } else {
        let bytes = response.len() - body;
        Err(format!("a wrong body of {bytes} bytes, expected {}, from {site}", expected.len()))
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect_timeout(&address, MAX_WAIT);
    let stream = stream.map_err(|error| format!("connect: {error}"))?;
    let timeout = Some(MAX_WAIT);
    let set = stream.set_read_timeout(timeout).and_then(|()| stream.set_write_timeout(timeout));
    set.map_err(|error| format!("connect: {error}"))?;
    Ok(stream)
}

/// Returns the site that responded and the offset of the body, if the status is 200.
fn read_head(response: &[u8]) -> Option<(String, usize)> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&response[..end]).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?;
    let site = lines.find_map(|line| line.strip_prefix("X-Site: "))?;
    (status == "200").then(|| (site.to_string(), end + 4))
}

/// Connects from a given port, which may be in use with another destination.
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
        let timeout = TimeVal::new(MAX_WAIT.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &timeout)?;
        setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
        let own = SocketAddr::new(own, port);
        bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(TcpStream::from(socket))
    };
    within(&from.host, open)?
        .map_err(|error| LabError::Topology(format!("connect from port {port} to {to}: {error}")))
}

/// Requests `/` on an open connection, which stays open unless `close` is set. Returns the site that
/// responded.
pub fn request(stream: &mut TcpStream, close: bool) -> Result<String> {
    let version = if close { "1.0" } else { "1.1" };
    let request = format!("GET / HTTP/{version}\r\nHost: lab\r\n\r\n");
    let site = request_once(stream, &request).map_err(LabError::Topology)?;
    if close {
        let end = stream.read(&mut [0]);
        if !matches!(end, Ok(0)) {
            return Err(LabError::Topology(format!("expected the end of the stream, not {end:?}")));
        }
    }
    Ok(site)
}

/// Connections that stay open until this value is dropped.
#[derive(Debug)]
pub struct OpenConnections {
    streams: Vec<TcpStream>,
    /// Connections per site that responded.
    pub sites: BTreeMap<String, usize>,
}

impl OpenConnections {
    /// Opens `count` connections, one after another, and requests `/` on each.
    pub fn open(from: &Place, to: SocketAddr, count: usize) -> Result<Self> {
        let request = format!("GET / HTTP/1.1\r\nHost: {to}\r\n\r\n");
        let opened = within(&from.host, || {
            let open = |_| open_one(to, &request);
            (0..count).map(open).collect::<Result<Vec<_>, _>>()
        })?;
        let mut all = Self { streams: Vec::new(), sites: BTreeMap::new() };
        for (stream, site) in opened.map_err(LabError::Topology)? {
            all.streams.push(stream);
            *all.sites.entry(site).or_default() += 1;
        }
        Ok(all)
    }

    /// Opens connections one after another until `site` has won `count` of them, for a minute at most.
    /// Those stay open. Also returns the number of all that were opened.
    pub fn open_at(
        from: &Place,
        to: SocketAddr,
        site: &str,
        count: usize,
    ) -> Result<(Self, usize)> {
        let (start, mut opened) = (Instant::now(), 0);
        let mut all = Self { streams: Vec::new(), sites: BTreeMap::new() };
        while all.count() < count && start.elapsed() < MAX_WAIT {
            opened += 1;
            let mut one = Self::open(from, to, 1)?;
            if one.sites.contains_key(site) {
                all.streams.append(&mut one.streams);
                *all.sites.entry(site.into()).or_default() += 1;
            }
        }
        Ok((all, opened))
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn count(&self) -> usize {
        self.streams.len()
    }
}

fn open_one(address: SocketAddr, request: &str) -> Result<(TcpStream, String), String> {
    let mut stream = connect(address)?;
    let site = request_once(&mut stream, request)?;
    Ok((stream, site))
}

fn request_once(stream: &mut TcpStream, request: &str) -> Result<String, String> {
    stream.write_all(request.as_bytes()).map_err(|error| format!("request: {error}"))?;
    let mut response = Vec::new();
    let mut part = [0; 2048];
    // The body is one line that ends with \n only; lines of the head end with \r\n.
    while !response.ends_with(b"\n") || response.ends_with(b"\r\n") {
        match stream.read(&mut part).map_err(|error| format!("response: {error}"))? {
            0 => return Err("the response is incomplete".into()),
            length => response.extend_from_slice(&part[..length]),
        }
    }
    read_head(&response).map(|(site, _)| site).ok_or_else(|| "the response is not HTTP 200".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_counts_if_it_is_complete_with_status_200() {
        let response = b"HTTP/1.1 200 OK\r\nX-Site: replica1\r\n\r\nbody";
        assert_eq!(read_head(response), Some(("replica1".into(), 37)));
        assert_eq!(read_head(&response[..34]), None);
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
