//! The control socket: a line of JSON in, a line of JSON out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::stats::Snapshot;

/// How long either end waits for the other.
const PATIENCE: Duration = Duration::from_millis(500);
/// The longest request in bytes.
const LONGEST: usize = 4096;

/// What can be asked of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Command {
    /// All counters.
    Stats,
    /// A replica takes no new connection any more; the others go on (op 404).
    Drain,
    /// A replica takes new connections again.
    Undrain,
    /// A replica counts as busy whatever its load (op 406).
    Busy,
    /// A replica is busy by its load alone again.
    Unbusy,
}

#[derive(Debug, Serialize, Deserialize)]
struct Request {
    command: Command,
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
    let line = read_request(&mut stream)?;
    let answer = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => answer(request.command),
        Err(error) => Answer::Error(format!("the request cannot be read: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    stream.write_all(text.as_bytes())
}

/// Reads up to a newline, for no longer than [`PATIENCE`] however slowly it comes.
fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let (start, mut line, mut part) = (Instant::now(), Vec::new(), [0; 256]);
    while !line.contains(&b'\n') && line.len() < LONGEST && start.elapsed() < PATIENCE {
        match stream.read(&mut part)? {
            0 => break,
            count => line.extend_from_slice(&part[..count]),
        }
    }
    Ok(line)
}

/// Asks a running process.
pub fn ask(path: &Path, command: Command) -> Result<Answer, Error> {
    let failed = |source| Error::Socket { path: path.to_owned(), source };
    let mut stream = UnixStream::connect(path).map_err(failed)?;
    stream.set_read_timeout(Some(10 * PATIENCE)).map_err(failed)?;
    let mut request = serde_json::to_string(&Request { command })
        .map_err(|source| Error::Answer { path: path.to_owned(), source })?;
    request.push('\n');
    stream.write_all(request.as_bytes()).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(|source| Error::Answer { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/control.sock");
        (directory, path)
    }

    #[test]
    fn answers_what_is_asked_and_says_what_it_cannot_read() {
        let (_directory, path) = socket();
        let server = Server::bind(&path).unwrap();
        let client = std::thread::spawn({
            let path = path.clone();
            move || {
                let drained = ask(&path, Command::Drain).unwrap();
                let mut stream = UnixStream::connect(&path).unwrap();
                stream.write_all(b"nonsense\n").unwrap();
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).unwrap();
                (drained, line)
            }
        });
        while !client.is_finished() {
            server.serve(|command| Answer::Done(format!("{command:?}")));
            std::thread::sleep(Duration::from_millis(1));
        }
        let (drained, line) = client.join().unwrap();
        assert!(matches!(drained, Answer::Done(text) if text == "Drain"));
        assert!(line.contains("cannot be read"), "{line}");
    }

    #[test]
    fn replaces_a_dead_socket_but_not_a_live_one() {
        let (_directory, path) = socket();
        let server = Server::bind(&path).unwrap();
        assert!(matches!(Server::bind(&path), Err(Error::InUse(_))));
        drop(server);
        assert!(!path.exists());
        // What a killed process leaves behind.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Server::bind(&path).unwrap());
        // A slip in the configuration costs no file.
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Server::bind(&path), Err(Error::Occupied(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
