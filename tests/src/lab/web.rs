//! Web servers and a client for them: nginx and curl.

use std::io::{BufWriter, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::command::{line, run_within};
use super::error::{LabError, Result, at};
use super::namespace::{Lab, Namespace};
use super::process::Process;
use super::site::Place;
use super::wan::Generator;

/// Time that nginx has to come up.
const START: Duration = Duration::from_secs(60);
/// Bodies up to this size are returned.
const SMALL: u64 = 64 << 10;

/// Files that every web server offers alike.
#[derive(Debug, Clone, Default)]
pub struct Content {
    files: Vec<ContentFile>,
}

/// One of those files.
#[derive(Debug, Clone)]
pub struct ContentFile {
    /// Its name in the URL.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal.
    pub sha256: String,
    path: PathBuf,
}

impl Content {
    /// Writes files of pseudo-random bytes, by name and size, once for the laboratory.
    pub fn generate(lab: &Lab, files: &[(&str, u64)]) -> Result<Self> {
        let directory = lab.directory().join("content");
        std::fs::create_dir_all(&directory).map_err(at(&directory))?;
        let mut content = Self::default();
        for (name, bytes) in files {
            let path = directory.join(name);
            write_random(&path, *bytes).map_err(at(&path))?;
            let sha256 = sha256(&path)?;
            content.files.push(ContentFile { name: (*name).into(), bytes: *bytes, sha256, path });
        }
        Ok(content)
    }

    /// The files, in the order given.
    #[must_use]
    pub fn files(&self) -> &[ContentFile] {
        &self.files
    }

    /// Finds a file by name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&ContentFile> {
        self.files.iter().find(|file| file.name == name)
    }
}

impl ContentFile {
    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn write_random(path: &Path, bytes: u64) -> std::io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    let mut random = Generator::new(bytes);
    for _ in 0..bytes / 8 {
        out.write_all(&random.next_u64().to_le_bytes())?;
    }
    out.write_all(&random.next_u64().to_le_bytes()[..(bytes % 8) as usize])?;
    out.flush()
}

fn sha256(path: &Path) -> Result<String> {
    let words = ["sha256sum".into(), path.to_string_lossy()];
    let output = run_within(&words, Duration::from_secs(60))?.stdout;
    Ok(output.split_whitespace().next().unwrap_or_default().to_string())
}

/// nginx in a namespace, on port 80 of all its addresses.
///
/// `/` holds the site's name in a line, and every answer names the site in its header
/// `X-Site`. Dropping it ends the server.
#[derive(Debug)]
pub struct WebServer {
    process: Process,
    access_log: PathBuf,
}

impl WebServer {
    /// Starts the web server of a site.
    pub fn start(lab: &Lab, place: &Place, content: &Content) -> Result<Self> {
        Self::start_in(lab, &place.host, &place.site.name(), content)
    }

    /// Starts a web server in any namespace, under any name.
    pub fn start_in(
        lab: &Lab,
        namespace: &Namespace,
        name: &str,
        content: &Content,
    ) -> Result<Self> {
        let directory = lab.directory().join(format!("nginx-{name}"));
        let root = directory.join("root");
        std::fs::create_dir_all(&root).map_err(at(&root))?;
        let index = root.join("index.html");
        std::fs::write(&index, format!("{name}\n")).map_err(at(&index))?;
        for file in &content.files {
            let link = root.join(&file.name);
            std::fs::hard_link(&file.path, &link).map_err(at(&link))?;
        }
        let ipv6 = namespace.run(&["cat", "/proc/sys/net/ipv6/conf/all/disable_ipv6"])?;
        let configuration = directory.join("nginx.conf");
        let text = nginx_configuration(&directory, name, ipv6.stdout.trim() == "0");
        std::fs::write(&configuration, text).map_err(at(&configuration))?;
        let (directory_text, file) = (directory.to_string_lossy(), configuration.to_string_lossy());
        let words = ["nginx", "-e", "stderr", "-p", &*directory_text, "-c", &*file];
        let mut process = lab.spawn(namespace, &words)?;
        wait_for_pid_file(&mut process, &directory.join("pid"), &line(&words))?;
        Ok(Self { process, access_log: directory.join("access.log") })
    }

    /// Requests answered so far, as `client:port "request" status bytes`, one a line.
    #[must_use]
    pub fn access_log(&self) -> String {
        std::fs::read_to_string(&self.access_log).unwrap_or_default()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn nginx_configuration(directory: &Path, name: &str, ipv6: bool) -> String {
    let d = directory.display();
    let listen_ipv6 = if ipv6 { "listen [::]:80 backlog=8192;" } else { "" };
    format!(
        r#"daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {d}/pid;
error_log stderr;
events {{ worker_connections 16384; }}
http {{
    log_format plain '$remote_addr:$remote_port "$request" $status $body_bytes_sent';
    access_log {d}/access.log plain;
    client_body_temp_path {d}/body;
    proxy_temp_path {d}/proxy;
    fastcgi_temp_path {d}/fastcgi;
    uwsgi_temp_path {d}/uwsgi;
    scgi_temp_path {d}/scgi;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 1000000;
    keepalive_timeout 3600s;
    default_type application/octet-stream;
    server {{
        listen 80 backlog=8192;
        {listen_ipv6}
        root {d}/root;
        add_header X-Site {name} always;
    }}
}}
"#
    )
}

/// nginx writes its process id once it listens.
fn wait_for_pid_file(process: &mut Process, file: &Path, command: &str) -> Result<()> {
    let start = Instant::now();
    while std::fs::read_to_string(file).unwrap_or_default().trim().is_empty() {
        let (command, stderr) = (command.to_string(), process.stderr());
        if !process.is_running() {
            return Err(LabError::EndedEarly { command, stderr });
        }
        if start.elapsed() > START {
            return Err(LabError::TimedOut { command, limit: START, stderr });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// One request by curl.
#[derive(Debug, Clone)]
pub struct Curl {
    url: String,
    limit: Duration,
    sink: Sink,
    extra: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Keep,
    Digest,
    Discard,
}

/// What curl saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Fetched {
    /// HTTP status.
    pub status: u16,
    /// From the start to the end of TCP's handshake.
    pub connect: Duration,
    /// From the start to the first byte of the answer.
    pub first_byte: Duration,
    /// From the start to the end.
    pub total: Duration,
    /// Bytes of the body.
    pub bytes: u64,
    /// Address that curl believes it has talked to.
    pub remote: IpAddr,
    /// Its own port.
    pub local_port: u16,
    /// Name of the site whose web server answered (header `X-Site`), else empty.
    pub site: String,
    /// The body when it is small (64 KiB) and was not discarded.
    pub body: Vec<u8>,
    /// SHA-256 of the body, when asked for.
    pub sha256: Option<String>,
}

impl Curl {
    /// A request, to be over within 60 s.
    #[must_use]
    pub fn new(url: &str) -> Self {
        let limit = Duration::from_secs(60);
        Self { url: url.into(), limit, sink: Sink::Keep, extra: Vec::new() }
    }

    /// A request for a file of the web server at an address.
    #[must_use]
    pub fn to(address: SocketAddr, file: &str) -> Self {
        Self::new(&format!("http://{address}/{}", file.trim_start_matches('/')))
    }

    /// The time it may take.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Computes the body's SHA-256.
    #[must_use]
    pub fn digest(mut self) -> Self {
        self.sink = Sink::Digest;
        self
    }

    /// Throws the body away.
    #[must_use]
    pub fn discard(mut self) -> Self {
        self.sink = Sink::Discard;
        self
    }

    /// Connects from this port, or the first free one of the hundred after it.
    #[must_use]
    pub fn local_port(self, port: u16) -> Self {
        let ports = format!("{port}-{}", port.saturating_add(100));
        self.option("--local-port").option(&ports)
    }

    /// Connects from this address or interface.
    #[must_use]
    pub fn from(self, address: &str) -> Self {
        self.option("--interface").option(address)
    }

    /// Adds a word to curl's command line.
    #[must_use]
    pub fn option(mut self, word: &str) -> Self {
        self.extra.push(word.into());
        self
    }

    /// Makes the request from a namespace.
    pub fn run(&self, namespace: &Namespace) -> Result<Fetched> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let file = match self.sink {
            Sink::Discard => PathBuf::from("/dev/null"),
            _ => namespace.directory().join(format!("curl-{number}.body")),
        };
        let fetched = self.fetch(namespace, &file);
        if self.sink != Sink::Discard {
            let _ = std::fs::remove_file(&file);
        }
        fetched
    }

    fn fetch(&self, namespace: &Namespace, file: &Path) -> Result<Fetched> {
        const FORMAT: &str = "%{http_code} %{time_connect} %{time_starttransfer} %{time_total} \
                              %{size_download} %{remote_ip} %{local_port} %header{x-site}";
        let seconds = self.limit.as_secs_f64().to_string();
        let file_text = file.to_string_lossy();
        let mut words = vec!["curl", "-sS", "--max-time", &seconds, "-o", &*file_text];
        words.extend(["-w", FORMAT]);
        words.extend(self.extra.iter().map(String::as_str));
        words.push(&self.url);
        let output = namespace.run_within(&words, self.limit + Duration::from_secs(5))?.stdout;
        let unreadable = || LabError::Unreadable { command: line(&words), output: output.clone() };
        let mut fetched = parse(&output).ok_or_else(unreadable)?;
        if self.sink == Sink::Digest {
            fetched.sha256 = Some(sha256(file)?);
        }
        if self.sink != Sink::Discard && fetched.bytes <= SMALL {
            // curl writes no file for an empty body.
            fetched.body = std::fs::read(file).unwrap_or_default();
        }
        Ok(fetched)
    }
}

fn parse(output: &str) -> Option<Fetched> {
    let mut words = output.split_whitespace();
    let mut next = || words.next();
    let seconds = |word: &str| Duration::try_from_secs_f64(word.parse().ok()?).ok();
    Some(Fetched {
        status: next()?.parse().ok()?,
        connect: seconds(next()?)?,
        first_byte: seconds(next()?)?,
        total: seconds(next()?)?,
        bytes: next()?.parse().ok()?,
        remote: next()?.parse().ok()?,
        local_port: next()?.parse().ok()?,
        site: next().unwrap_or_default().to_string(),
        body: Vec::new(),
        sha256: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_curl_are_read() {
        let read = parse("200 0.080123 0.160500 0.160700 9 203.0.113.10 40001 origin").unwrap();
        assert_eq!((read.status, read.bytes, read.local_port), (200, 9, 40001));
        assert_eq!(read.connect, Duration::from_micros(80_123));
        assert_eq!(read.site, "origin");
        assert_eq!(parse("200 0.1 0.1 0.1 9 203.0.113.10 40001 ").unwrap().site, "");
        assert_eq!(parse("000"), None);
    }
}
