//! The control socket: one line of JSON per request, one line of JSON per answer.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use nix::sys::stat::{Mode, fchmod};
use serde::{Deserialize, Serialize};

use crate::control::stats::{MemoryAnswer, Snapshot};

mod client;

use client::Client;

/// The longest time that each end waits for the other.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// The interval at which a socket that another process serves is tried again.
const RETRY: Duration = Duration::from_millis(20);
/// The longest request in bytes.
const LONGEST: usize = 4096;
/// The longest answer in bytes that is read: far more than the largest configuration gives.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The most clients at a time. One more takes the place of the one that has been there for longest.
const MOST_CLIENTS: usize = 32;
/// The most clients that are taken in one call.
const MOST_ACCEPTED: usize = 64;

/// A request to a running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// Returns all counters.
    Stats,
    /// Drains: no new connections are accepted, present ones continue (op 404).
    Drain {
        /// A server or replica of a switch, or a web server of a replica. `None` is the whole
        /// replica.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// Undrains: new connections are accepted again.
    Undrain {
        /// As in [`Command::Drain`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// Makes a replica count as busy whatever its load (op 406).
    Busy,
    /// Lets a replica's load decide again whether it is busy.
    Unbusy,
    /// Reads the configuration file again, and goes on with what has changed.
    Reload {
        /// Only tells what would change.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
    },
    /// Returns what a gateway remembers of replicas.
    Memory,
    /// Makes a gateway forget what it has learned of replicas.
    Forget {
        /// The service; `None` is all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// Returns why a client's connections went where they did.
    Why {
        /// The client's address.
        client: IpAddr,
        /// Its port; `None` is all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
    },
    /// Starts a new process and hands over to it. Only for root and the process's own user.
    Upgrade {
        /// The program; `None` is the one that is now where the running one was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        binary: Option<PathBuf>,
        /// The time that the new process has to be ready, in milliseconds.
        timeout: u64,
    },
}

/// An operator's name for a server or replica, such as "shop/web1": a single word of printable
/// ASCII, so that it can be logged as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The longest name in characters: longer than those of a service and a server together.
    pub const LONGEST: usize = 200;

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match (1..=Self::LONGEST).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_graphic())
        {
            true => Ok(Self(text)),
            false => Err(format!("expected a name of 1 to {} printable characters", Self::LONGEST)),
        }
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.to_owned().try_into()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The answer to a [`Command`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The counters.
    Stats(Box<Snapshot>),
    /// What is remembered, or the races of a client.
    Memory(Box<MemoryAnswer>),
    /// The command was carried out; a sentence about the result.
    Done(String),
    /// The command was refused, and the reason.
    Error(String),
    /// The command was refused because a file has mistakes: one per line.
    Invalid(String),
}

/// The reply to a [`Command`]: the answer, or that it follows.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Now(Answer),
    /// The answer is given to [`Server::answer_waiting`] later.
    Later,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self::Now(answer)
    }
}

/// An error of a control socket.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process serves the socket.
    #[error("{}: another process answers on this control socket", .0.display())]
    InUse(PathBuf),
    /// The path is taken by another kind of file.
    #[error("{}: exists and is not a socket; expected a path for the control socket", .0.display())]
    Occupied(PathBuf),
    /// No process serves the socket.
    #[error("no firstack process answers on {}; is it running?", .0.display())]
    NotRunning(PathBuf),
    /// The socket cannot be used.
    #[error("control socket {}: {source}", path.display())]
    Socket {
        /// The socket's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The answer is longer than any that firstack gives.
    #[error("control socket {}: the answer has more than {LONGEST_ANSWER} bytes", .0.display())]
    TooLong(PathBuf),
    /// The answer is not understood.
    #[error("control socket {}: cannot parse the answer: {source}", path.display())]
    Answer {
        /// The socket's path.
        path: PathBuf,
        /// The reason.
        source: serde_json::Error,
    },
}

/// The listening end. Removes the socket from the file system when dropped.
#[derive(Debug)]
pub struct Server {
    /// `None` once another process may have the path.
    listener: Option<UnixListener>,
    path: PathBuf,
    clients: Vec<Client>,
}

impl Server {
    /// Listens at `path`, accessible to the owner only. Replaces a socket that a dead process left
    /// behind.
    ///
    /// # Errors
    /// If another process serves the socket, or the path is taken or not writable.
    pub fn bind(path: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Socket { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(Error::InUse(path.to_owned()));
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed)?;
            }
            Ok(_) => return Err(Error::Occupied(path.to_owned())),
            Err(_) => {}
        }
        // Bound under another name, so that the path never names a socket that nobody serves.
        let early = path.with_extension("new");
        let _ = std::fs::remove_file(&early);
        let listener = listen_at(&early).map_err(failed)?;
        std::fs::rename(&early, path).map_err(failed)?;
        Ok(Self { listener: Some(listener), path: path.to_owned(), clients: Vec::new() })
    }

    /// Listens as [`Server::bind`] does, and gives a process that serves the socket this time to end.
    ///
    /// # Errors
    /// As for [`Server::bind`].
    pub fn bind_within(path: &Path, wait: Duration) -> Result<Self, Error> {
        let until = Instant::now() + wait;
        loop {
            match Self::bind(path) {
                Err(Error::InUse(_)) if Instant::now() < until => thread::sleep(RETRY),
                result => return result,
            }
        }
    }

    /// Stops listening, so that another process can. Clients that wait for an answer still get it.
    pub fn let_go(&mut self) {
        self.listener = None;
    }

    /// Answers the clients that were told to wait, and waits half a second at most for them to take
    /// it.
    pub fn answer_waiting(&mut self, answer: &Answer) {
        for client in self.clients.iter_mut().filter(|client| client.waits()) {
            if let Err(error) = client.give(answer) {
                tracing::debug!(%error, "control client lost");
            }
        }
    }

    /// Takes new clients, and answers those whose request has arrived. Never waits: a client that is
    /// silent, or does not read its answer, is looked at again in the next call, for half a second.
    pub fn serve<R: Into<Reply>>(&mut self, mut answer: impl FnMut(Command) -> R) {
        let mut answer = |command| answer(command).into();
        for _ in 0..MOST_ACCEPTED {
            let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) else {
                break;
            };
            match Client::new(stream) {
                Ok(client) => self.clients.push(client),
                Err(error) => tracing::debug!(%error, "control client lost"),
            }
        }
        self.clients.retain_mut(|client| match client.step(&mut answer) {
            Ok(is_waiting) => is_waiting,
            Err(error) => {
                tracing::debug!(%error, "control request failed");
                false
            }
        });
        let mut excess = self.clients.len().saturating_sub(MOST_CLIENTS);
        self.clients.retain(|client| {
            let goes = excess > 0 && !client.waits();
            excess -= usize::from(goes);
            !goes
        });
    }
}

/// Listens at a path, accessible to the owner only from the first moment: the kernel gives the file
/// the mode that its socket has when it is bound.
fn listen_at(path: &Path) -> io::Result<UnixListener> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let any = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&any, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(any.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&any, Backlog::MAXCONN)?;
    Ok(UnixListener::from(any))
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.listener.is_some() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Parses the command in a request. Bytes after its first line are ignored.
///
/// # Errors
/// What is wrong, if it is no command.
pub fn parse(request: &[u8]) -> Result<Command, String> {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Sends a command to the process that serves the socket at `path`, and returns its answer.
///
/// # Errors
/// If no process answers, or not in time, or with something else.
pub fn ask(path: &Path, command: Command) -> Result<Answer, Error> {
    ask_within(path, command, 10 * MAX_WAIT)
}

/// Sends a command as [`ask`] does, and waits this long for the answer.
///
/// # Errors
/// As for [`ask`].
pub fn ask_within(path: &Path, command: Command, wait: Duration) -> Result<Answer, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let unreadable = |source| Error::Answer { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::NotRunning(path.to_owned())
        }
        _ => failed(error),
    })?;
    stream.set_read_timeout(Some(wait)).map_err(failed)?;
    let mut request = serde_json::to_string(&command).map_err(unreadable)?;
    request.push('\n');
    stream.write_all(request.as_bytes()).map_err(failed)?;
    read_answer(stream, path)
}

/// Reads an answer of bounded length.
fn read_answer(stream: impl Read, path: &Path) -> Result<Answer, Error> {
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_ANSWER))
        .read_until(b'\n', &mut line)
        .map_err(|source| Error::Socket { path: path.to_owned(), source })?;
    if line.len() as u64 == LONGEST_ANSWER {
        return Err(Error::TooLong(path.to_owned()));
    }
    serde_json::from_slice(&line).map_err(|source| Error::Answer { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
