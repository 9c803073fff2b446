//! `[gateway.share]`: the store through which gateways share what they have learned.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Section;
use super::schema;
use super::section::section;
use super::value::{self, Parsed};

section! {
    /// The store through which gateways share what they have learned of replicas.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Share from ShareKeys in "gateway.share" {
        /// The server: Valkey, or Redis from version 6.2 on.
        server: StoreServer = Words(schema::STORE), Required,
            by |section, name| section.found(name, server);
        /// The user to authenticate as.
        user: Option<String> = LABEL, Derived("the server's default user");
        /// The file with the password.
        password_file: Option<PathBuf> = ABSOLUTE, Derived("no password");
        /// The number of the database.
        database: u16 = Integer(0, 65535), Value("0");
        /// The time from one exchange with the store to the next.
        interval: Duration = Duration, Value(r#""5s""#);
        /// What the names of the keys begin with.
        prefix: String = LABEL, Value(r#""firstack""#);
    }
}

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreServer {
    /// A host, by name or address, and a TCP port.
    Tcp(String, u16),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Formats the server as in a configuration file.
impl fmt::Display for StoreServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Reads `[gateway.share]` within the gateway's section; the value is `None` if the file has no
/// such section.
pub(super) fn read(gateway: &Section<'_>) -> Option<Option<Share>> {
    if gateway.position("share").is_none() {
        return Some(None);
    }
    let section = gateway.section("share");
    let keys = ShareKeys::read(&section);
    if let (Some(user), Some(file)) = (&keys.user, &keys.password_file)
        && user.value.is_some()
        && file.value.is_none()
    {
        let message = "is given without password_file; expected both, or neither".to_owned();
        section.error(user.at, "user", message);
    }
    keys.build().map(Some)
}

fn server(value: &DeValue<'_>) -> Parsed<StoreServer> {
    let text = value::text(value)?;
    if text.starts_with('/') {
        return match text.len() {
            ..=107 => value::file(value).map(StoreServer::Unix),
            length => Err(format!("has {length} bytes, 107 are the most of a socket's path")),
        };
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| "has no port".to_owned())?;
    let digits = !port.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit());
    let port = port.parse::<u16>().ok().filter(|port| digits && *port != 0);
    let port = port.ok_or_else(|| "has no port from 1 to 65535".to_owned())?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |host: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        (1..=253).contains(&host.len()) && host.chars().all(fits)
    };
    match inner {
        Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => {
            Ok(StoreServer::Tcp(inner.to_owned(), port))
        }
        None if is_name(host) => Ok(StoreServer::Tcp(host.to_owned(), port)),
        None if host.parse::<Ipv6Addr>().is_ok() => {
            Err(format!("lacks the brackets of IPv6, [{host}]:{port}"))
        }
        _ => Err("has no host that could be one".to_owned()),
    }
}
