//! The control socket: one line of JSON per request, one line of JSON per answer.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::stats::{MemoryAnswer, Snapshot};

/// The longest time that each end waits for the other.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// The longest request in bytes.
const LONGEST: usize = 4096;

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
    /// Reloads the key file.
    Reload,
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
    listener: UnixListener,
    path: PathBuf,
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
        // Bound under another name until only the owner has access.
        let early = path.with_extension("new");
        let _ = std::fs::remove_file(&early);
        let listener = UnixListener::bind(&early).map_err(failed)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&early, owner_only).map_err(failed)?;
        std::fs::rename(&early, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Answers the requests of all clients that have connected since the last call. Never waits
    /// longer than a second for a client.
    pub fn serve(&self, mut answer: impl FnMut(Command) -> Answer) {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Err(error) = serve_one(stream, &mut answer) {
                tracing::debug!(%error, "control request failed");
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve_one(mut stream: UnixStream, answer: &mut impl FnMut(Command) -> Answer) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(MAX_WAIT))?;
    stream.set_write_timeout(Some(MAX_WAIT))?;
    let answer = match parse(&read_request(&mut stream)?) {
        Ok(command) => answer(command),
        Err(error) => Answer::Error(format!("cannot parse the request: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Reads up to a newline, for at most twice [`MAX_WAIT`] however slowly the bytes come. Returns
/// what has come by then.
fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let (start, mut line, mut part) = (Instant::now(), Vec::new(), [0; 256]);
    while !line.contains(&b'\n') && line.len() <= LONGEST && start.elapsed() < MAX_WAIT {
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => line.extend_from_slice(&part[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(line)
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
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let unreadable = |source| Error::Answer { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            Error::NotRunning(path.to_owned())
        }
        _ => failed(error),
    })?;
    stream.set_read_timeout(Some(10 * MAX_WAIT)).map_err(failed)?;
    let mut request = serde_json::to_string(&command).map_err(unreadable)?;
    request.push('\n');
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(unreadable)
}

#[cfg(test)]
mod tests;
