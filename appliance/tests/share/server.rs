//! The server of the Debian package redis-server, for the time of a test.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use firstack::config::StoreServer;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{NamedTempFile, TempDir};

/// How long a test waits for what must come true: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A running server, which keeps nothing on disk. It is killed when dropped.
pub struct Server {
    directory: TempDir,
    arguments: Vec<String>,
    port: u16,
    child: Child,
}

/// While this lives, the server is stopped.
pub struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        kill(self.0, Signal::SIGCONT).unwrap();
    }
}

impl Server {
    /// Starts a server on a Unix socket.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_on(0, arguments)
    }

    /// Starts a server on a Unix socket and on a port of the loopback interface.
    pub fn start_tcp() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self::start_on(free, &[])
    }

    fn start_on(port: u16, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        let child = spawn(&directory, port, &arguments);
        let mut server = Self { directory, arguments, port, child };
        server.wait();
        server
    }

    /// Starts the server again after [`Server::kill`].
    pub fn restart(&mut self) {
        self.child = spawn(&self.directory, self.port, &self.arguments);
        self.wait();
    }

    fn wait(&mut self) {
        let start = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "redis-server has ended: {ended:?}");
            assert!(start.elapsed() < PATIENCE, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Returns the server as configured by its socket.
    pub fn unix(&self) -> StoreServer {
        StoreServer::Unix(self.socket())
    }

    /// Returns the server as configured by its port.
    pub fn tcp(&self) -> StoreServer {
        StoreServer::Tcp("localhost".to_owned(), self.port)
    }

    /// Connects to it with the crate's own client.
    pub fn client(&self) -> redis::Connection {
        let address = format!("redis+unix://{}", self.socket().display());
        redis::Client::open(address).unwrap().get_connection().unwrap()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Stops it: it hangs, and its sockets stay.
    pub fn stop(&self) -> Stopped {
        let pid = Pid::from_raw(self.child.id() as i32);
        kill(pid, Signal::SIGSTOP).unwrap();
        Stopped(pid)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(directory: &TempDir, port: u16, arguments: &[String]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--unixsocket", "store", "--save", "", "--appendonly", "no"]);
    command.arg("--dir").arg(directory.path()).args(arguments);
    command.current_dir(directory.path());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.spawn().unwrap_or_else(|error| {
        panic!("redis-server: {error}; `scripts/setup redis-server` installs it")
    })
}

/// Returns a protected file with this text.
pub fn secret(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o600)).unwrap();
    file
}

/// All lines that this process has logged.
pub struct Log(Mutex<Vec<u8>>);

impl Log {
    /// Returns the lines about the state of a server.
    pub fn about(&self, server: &Server) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let (socket, lines) = (server.socket().display().to_string(), text.lines());
        lines.filter(|line| line.contains(&socket)).map(str::to_owned).collect()
    }
}

/// Collects what is logged from now on.
pub fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    struct Writer(&'static Log);
    impl Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    LOG.get_or_init(|| {
        let writer = || Writer(log());
        tracing_subscriber::fmt().with_ansi(false).with_writer(writer).init();
        Log(Mutex::new(Vec::new()))
    })
}
