//! The control socket: a line of JSON in, a line of JSON out.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::control::stats::Snapshot;

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_millis(500);
/// The longest request in bytes.
const LONGEST: usize = 4096;

/// What can be asked of a running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase")]
pub enum Command {
    /// All counters.
    Stats,
    /// Whatever is named takes no new connection any more; the others go on (op 404).
    Drain {
        /// A server or replica of a switch, or a web server of a replica; without it the whole
        /// replica.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// It takes new connections again.
    Undrain {
        /// As for [`Command::Drain`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Name>,
    },
    /// A replica counts as busy whatever its load (op 406).
    Busy,
    /// A replica is busy by its load alone again.
    Unbusy,
    /// The key file is read again.
    Reload,
}

/// What an operator calls a server or replica, such as "shop/web1": one printable word of ASCII,
/// so that it can stand in a log as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The most characters: more than the names of a service and one of its servers have.
    pub const LONGEST: usize = 200;

    /// The name.
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

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// The counters.
    Stats(Box<Snapshot>),
    /// Done; what is the case now.
    Done(String),
    /// Not done, and why.
    Error(String),
}

/// Why a socket does not serve.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process answers there.
    #[error("{0}: another process answers on this control socket")]
    InUse(PathBuf),
    /// Something else is there.
    #[error("{0}: there is a file of another kind where the control socket should be")]
    Occupied(PathBuf),
    /// It cannot be used.
    #[error("control socket {path}: {source}")]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer is none.
    #[error("control socket {path}: the answer cannot be read: {source}")]
    Answer {
        /// Its path.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// The listening end, removed from the file system when dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Listens, for the owner alone. A socket that a dead process left behind is replaced.
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
        // Under another name until it is for the owner alone.
        let early = path.with_extension("new");
        let _ = std::fs::remove_file(&early);
        let listener = UnixListener::bind(&early).map_err(failed)?;
        let owner_only = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&early, owner_only).map_err(failed)?;
        std::fs::rename(&early, path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves those who have called since; never waits for long.
    pub fn serve(&self, mut answer: impl FnMut(Command) -> Answer) {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Err(error) = serve_one(stream, &mut answer) {
                tracing::debug!("control socket: {error}");
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
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let answer = match parse(&read_request(&mut stream)?) {
        Ok(command) => answer(command),
        Err(error) => Answer::Error(format!("the request cannot be read: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Reads up to a newline, for no longer than twice [`PATIENCE`] however slowly it comes. What is
/// there by then is all there is.
fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let (start, mut line, mut part) = (Instant::now(), Vec::new(), [0; 256]);
    while !line.contains(&b'\n') && line.len() <= LONGEST && start.elapsed() < PATIENCE {
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

/// The command in a request; what comes after its line is nobody's.
fn parse(request: &[u8]) -> Result<Command, String> {
    let line = request.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if line.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    serde_json::from_slice(line).map_err(|error| error.to_string())
}

/// Asks a running process.
pub fn ask(path: &Path, command: Command) -> Result<Answer, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let unreadable = |source| Error::Answer { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(10 * PATIENCE)).map_err(failed)?;
    let mut request = serde_json::to_string(&command).map_err(unreadable)?;
    request.push('\n');
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(unreadable)
}

#[cfg(test)]
mod tests;
