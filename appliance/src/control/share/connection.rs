//! A connection to the store that no server can keep waiting or fill with data.
//!
//! Commands are encoded and replies decoded by the crate `redis`; its own connection would read a
//! reply of any length, for as long as bytes come. Here a reply is read to its end first, within
//! bounds: those of what the commands of [`store`](super::store) can return.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use redis::{ConnectionLike, RedisError, RedisResult, Value};

use super::entry::{LONGEST_FIELD, LONGEST_VALUE};
use crate::config::StoreServer;

/// The time for connecting, and for all replies to one pipeline of commands.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest line of a reply in bytes, such as an error.
const LONGEST_LINE: u64 = 1024;
/// The longest string in bytes. One that is longer than a value is read as far as this, so that a
/// single large value is refused alone.
const LONGEST_STRING: usize = 64 * 1024;
/// The most elements of a list: fields and values.
const LONGEST_LIST: usize = 2 * super::store::FIELDS;
/// The longest reply in bytes.
const LONGEST_REPLY: usize =
    LONGEST_STRING + super::store::FIELDS * (LONGEST_FIELD + LONGEST_VALUE + 32);
/// The most addresses of a host that are tried.
const ADDRESSES: usize = 4;

/// A stream socket.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// A socket whose reads and writes all end at one time.
#[derive(Debug)]
struct Timed {
    socket: Socket,
    until: Instant,
}

/// A connection to the store. After an error it is closed, and of no more use.
#[derive(Debug)]
pub struct Connection {
    stream: BufReader<Timed>,
    open: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// If the server cannot be reached within [`TIMEOUT`].
    pub fn open(server: &StoreServer) -> io::Result<Self> {
        let socket = match server {
            StoreServer::Unix(path) => Socket::Unix(connect_unix(path)?),
            StoreServer::Tcp(host, port) => Socket::Tcp(connect_tcp(host, *port)?),
        };
        let timed = Timed { socket, until: Instant::now() + TIMEOUT };
        Ok(Self { stream: BufReader::new(timed), open: true })
    }

    /// Sends commands and reads so many replies.
    fn ask(&mut self, commands: &[u8], count: usize) -> RedisResult<Vec<Value>> {
        if !self.open {
            return Err(io::Error::from(io::ErrorKind::NotConnected).into());
        }
        self.stream.get_mut().until = Instant::now() + TIMEOUT;
        let replies = self.ask_now(commands, count);
        if replies.is_err() {
            self.open = false;
            self.stream.get_ref().shutdown();
        }
        replies
    }

    fn ask_now(&mut self, commands: &[u8], count: usize) -> RedisResult<Vec<Value>> {
        self.stream.get_mut().write_all(commands)?;
        let mut replies = Vec::new();
        for _ in 0..count {
            let reply = read_reply(&mut self.stream)?;
            replies.push(redis::parse_redis_value(&reply)?);
        }
        Ok(replies)
    }
}

/// Connects to the first address of a host that answers. The time for resolving a name is the
/// resolver's.
fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in (host, port).to_socket_addrs()?.take(ADDRESSES) {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Connects to a Unix socket. A server that accepts nothing leaves the caller waiting when its
/// queue is full, unless the socket has a timeout for sending before it is connected.
fn connect_unix(path: &std::path::Path) -> io::Result<UnixStream> {
    use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr, sockopt};
    use nix::sys::time::{TimeVal, TimeValLike};

    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let timeout = TimeVal::milliseconds(TIMEOUT.as_millis() as i64);
    socket::setsockopt(&socket, sockopt::SendTimeout, &timeout)?;
    socket::connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &UnixAddr::new(path)?)?;
    Ok(UnixStream::from(socket))
}

impl ConnectionLike for Connection {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        self.ask(command, 1)?.pop().ok_or_else(|| broken("no reply").into())
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        Ok(self.ask(commands, offset + count)?.split_off(offset))
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        self.open
    }

    fn is_open(&self) -> bool {
        self.open
    }
}

impl Timed {
    /// Returns the time that is left.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }

    fn shutdown(&self) {
        // It is closed anyway.
        let _ = match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Both),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Both),
        };
    }
}

/// Says of a socket that would have blocked for longer that its time is over.
fn in_time<T>(result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::ErrorKind::TimedOut.into(),
        _ => error,
    })
}

impl Read for Timed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        in_time(match &mut self.socket {
            Socket::Tcp(socket) => socket.set_read_timeout(left).and_then(|()| socket.read(bytes)),
            Socket::Unix(socket) => socket.set_read_timeout(left).and_then(|()| socket.read(bytes)),
        })
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = Some(self.left()?);
        in_time(match &mut self.socket {
            Socket::Tcp(socket) => {
                socket.set_write_timeout(left).and_then(|()| socket.write(bytes))
            }
            Socket::Unix(socket) => {
                socket.set_write_timeout(left).and_then(|()| socket.write(bytes))
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Reads one reply of RESP2, the protocol's version without a greeting: a line, a string, or a list
/// of these. Refuses all that the commands in use do not return.
fn read_reply(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut reply = Vec::new();
    let list = read_item(stream, &mut reply)?;
    for _ in 0..list.unwrap_or(0) {
        if read_item(stream, &mut reply)?.is_some() {
            return Err(broken("a reply with a list in a list"));
        }
        if reply.len() > LONGEST_REPLY {
            return Err(broken("a reply that is too long"));
        }
    }
    Ok(reply)
}

/// Reads a line, or a string with its line, to the end of `reply`. Returns the length of a list,
/// whose line is all that was read of it.
fn read_item(stream: &mut impl BufRead, reply: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let start = reply.len();
    stream.by_ref().take(LONGEST_LINE).read_until(b'\n', reply)?;
    let line = &reply[start..];
    let Some(line) = line.strip_suffix(b"\r\n") else {
        return Err(match line.len() as u64 {
            LONGEST_LINE => broken("a reply with a line that is too long"),
            _ if line.ends_with(b"\n") => broken("a reply that is not understood"),
            _ => io::ErrorKind::UnexpectedEof.into(),
        });
    };
    let length = |most: usize| match std::str::from_utf8(&line[1..]).map(str::parse::<i64>) {
        Ok(Ok(-1)) => Ok(None),
        Ok(Ok(length)) => match usize::try_from(length) {
            Ok(length) if length <= most => Ok(Some(length)),
            _ => Err(broken("a reply that is too long")),
        },
        _ => Err(broken("a reply without a length")),
    };
    match line.first() {
        Some(b'+' | b'-' | b':') => Ok(None),
        Some(b'*') => length(LONGEST_LIST),
        Some(b'$') => {
            if let Some(length) = length(LONGEST_STRING)? {
                let start = reply.len();
                stream.by_ref().take(length as u64 + 2).read_to_end(reply)?;
                if reply.len() - start < length + 2 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Ok(None)
        }
        _ => Err(broken("a reply that is not understood")),
    }
}

/// Returns the reason of an error in one line of bounded length: a server may say anything.
pub fn reason(error: &RedisError) -> String {
    let shown = match error.is_timeout() {
        true => "no answer in time".to_owned(),
        false => error.to_string(),
    };
    shown.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

#[cfg(test)]
mod tests;
