//! One probe: a non-blocking connection, from its first packet to the answer.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrStorage};

use super::http::{self, Line, NEEDED};

/// The reason why a probe failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The connection was refused.
    #[error("connection refused")]
    Refused,
    /// The connection was not established in time.
    #[error("timed out")]
    TimedOut,
    /// The connection was established, but no answer came in time.
    #[error("timed out after connecting")]
    NoAnswer,
    /// The connection was closed before an answer.
    #[error("closed without an answer")]
    Closed,
    /// The answer was not HTTP/1.
    #[error("not an HTTP answer")]
    Garbage,
    /// The status code is not a success.
    #[error("HTTP {0}")]
    Status(u16),
    /// This host could not open a socket.
    #[error("no socket: {}", .0.desc().to_lowercase())]
    NoSocket(Errno),
    /// The network or this host's kernel reported an error.
    #[error("{}", .0.desc().to_lowercase())]
    Network(Errno),
}

impl Failure {
    fn from_io(error: &io::Error) -> Self {
        match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
            Errno::ECONNREFUSED => Self::Refused,
            Errno::ETIMEDOUT => Self::TimedOut,
            errno => Self::Network(errno),
        }
    }

    /// Converts an error of an established connection, where a reset counts as closed.
    fn after_connecting(error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Self::Closed,
            ErrorKind::TimedOut => Self::NoAnswer,
            _ => Self::from_io(error),
        }
    }
}

/// The way in which a probe succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Success {
    Connected,
    Status(u16),
    Busy(u16),
}

impl Success {
    pub fn busy(self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

impl fmt::Display for Success {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connected => write!(f, "connected"),
            Self::Status(code) | Self::Busy(code) => write!(f, "HTTP {code}"),
        }
    }
}

/// The answer to a probe, before it is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Connected,
    Status(u16),
}

impl Answer {
    /// Evaluates an answer. 429 Too Many Requests and 503 Service Unavailable are a success if
    /// `tells_busy` is set: the server is up and busy.
    pub fn judge(self, tells_busy: bool) -> Result<Success, Failure> {
        match self {
            Self::Connected => Ok(Success::Connected),
            Self::Status(code @ 200..=399) => Ok(Success::Status(code)),
            Self::Status(code @ (429 | 503)) if tells_busy => Ok(Success::Busy(code)),
            Self::Status(code) => Err(Failure::Status(code)),
        }
    }
}

/// Opens a socket and starts to connect.
pub(super) fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket::socket(family, SockType::Stream, flags, None).map_err(Failure::NoSocket)?;
    match socket::connect(fd.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) | Err(Errno::EINPROGRESS | Errno::EINTR) => Ok(fd.into()),
        Err(Errno::ECONNREFUSED) => Err(Failure::Refused),
        Err(error) => Err(Failure::Network(error)),
    }
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Connecting,
    /// The request is being sent; the number of bytes sent.
    Asking(usize),
    /// The answer is being read; its beginning, and the number of bytes read.
    Reading([u8; NEEDED], usize),
}

/// A probe in progress. Its socket is closed when it is dropped.
#[derive(Debug)]
pub(super) struct Probe {
    /// The target's index.
    pub target: usize,
    pub stream: TcpStream,
    pub started: Instant,
    pub deadline: Instant,
    phase: Phase,
}

impl Probe {
    pub fn new(target: usize, stream: TcpStream, started: Instant, deadline: Instant) -> Self {
        Self { target, stream, started, deadline, phase: Phase::Connecting }
    }

    /// Returns the event that the probe waits for.
    pub fn events(&self) -> PollFlags {
        match self.phase {
            Phase::Connecting | Phase::Asking(_) => PollFlags::POLLOUT,
            Phase::Reading(..) => PollFlags::POLLIN,
        }
    }

    /// Returns the failure if the probe's time is over now.
    pub fn too_late(&self) -> Failure {
        match self.phase {
            Phase::Connecting => Failure::TimedOut,
            Phase::Asking(_) | Phase::Reading(..) => Failure::NoAnswer,
        }
    }

    /// Advances the probe as far as possible without blocking. Returns the result once there is
    /// one.
    pub fn advance(&mut self, request: Option<&[u8]>) -> Option<Result<Answer, Failure>> {
        match self.go_on(request) {
            Ok(answer) => answer.map(Ok),
            Err(failure) => Some(Err(failure)),
        }
    }

    fn go_on(&mut self, request: Option<&[u8]>) -> Result<Option<Answer>, Failure> {
        loop {
            let next = match self.phase {
                Phase::Connecting => {
                    self.check_connected()?;
                    match request {
                        None => return Ok(Some(Answer::Connected)),
                        Some(_) => Phase::Asking(0),
                    }
                }
                Phase::Asking(sent) => match request.and_then(|request| request.get(sent..)) {
                    None | Some([]) => Phase::Reading([0; NEEDED], 0),
                    Some(rest) => match unless_waiting(self.stream.write(rest))? {
                        None => return Ok(None),
                        Some(count) => Phase::Asking(sent + count),
                    },
                },
                Phase::Reading(mut line, filled) => {
                    match unless_waiting(self.stream.read(&mut line[filled..]))? {
                        None => return Ok(None),
                        Some(0) => return Err(Failure::Closed),
                        Some(count) => match http::status(&line[..filled + count]) {
                            Line::More => Phase::Reading(line, filled + count),
                            Line::Status(code) => return Ok(Some(Answer::Status(code))),
                            Line::Garbage => return Err(Failure::Garbage),
                        },
                    }
                }
            };
            self.phase = next;
        }
    }

    fn check_connected(&self) -> Result<(), Failure> {
        match self.stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(Failure::from_io(&error)),
        }
        // If no process listens on a port of this host, the kernel may choose that port for this
        // end of the connection, and TCP then connects the socket with itself.
        let ends = (self.stream.local_addr().ok(), self.stream.peer_addr().ok());
        if ends.0 == ends.1 { Err(Failure::Refused) } else { Ok(()) }
    }
}

/// Returns the number of bytes transferred, or `None` if the call would block.
fn unless_waiting(result: io::Result<usize>) -> Result<Option<usize>, Failure> {
    match result {
        Ok(count) => Ok(Some(count)),
        // Interrupted before anything was transferred: the socket is still ready, and is looked at
        // again.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(error) => Err(Failure::after_connecting(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_said_in_words() {
        let cases = [
            (Failure::Network(Errno::EHOSTUNREACH), "no route to host"),
            (Failure::Network(Errno::ENETUNREACH), "network is unreachable"),
            (Failure::NoSocket(Errno::EMFILE), "no socket: too many open files"),
            (Failure::Status(500), "HTTP 500"),
            (Failure::from_io(&io::Error::from_raw_os_error(libc::ETIMEDOUT)), "timed out"),
        ];
        for (failure, text) in cases {
            assert_eq!(failure.to_string(), text);
        }
    }

    #[test]
    fn statuses_are_judged_by_what_is_asked() {
        let judge = |code, tells_busy| Answer::Status(code).judge(tells_busy);
        for code in [200, 204, 301, 399] {
            assert_eq!(judge(code, false), Ok(Success::Status(code)));
            assert_eq!(judge(code, true), Ok(Success::Status(code)));
        }
        for code in [100, 199, 400, 404, 500, 999] {
            assert_eq!(judge(code, true), Err(Failure::Status(code)));
        }
        for code in [429, 503] {
            assert_eq!(judge(code, true), Ok(Success::Busy(code)));
            assert_eq!(judge(code, false), Err(Failure::Status(code)));
        }
    }
}
