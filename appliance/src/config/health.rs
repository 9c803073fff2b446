//! `[health]`, and the keys that define what is probed: `check` of replicas and servers, and
//! `busy_check` of a replica.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use toml::de::DeValue;

use super::reader::Section;
use super::section::section;
use super::value::{self, Parsed};

section! {
    /// How hosts with a check are probed.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Health from HealthKeys in "health" {
        /// Time between two probes of a host.
        interval: Duration = Duration, Value(r#""2s""#);
        /// The time within which a probe must be answered; at most `interval`.
        timeout: Duration = Duration, Value(r#""1s""#);
        /// Consecutive successes after which a host counts as up, 1 to 100.
        rise: u8 = Integer(1, 100), Value("2");
        /// Consecutive failures after which a host counts as down, 1 to 100.
        fall: u8 = Integer(1, 100), Value("3");
    }
}

/// A health check: what is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The address to connect to.
    pub target: SocketAddr,
    /// The HTTP request; with `None`, an accepted connection is enough.
    pub http: Option<HttpCheck>,
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpCheck {
    /// The Host header: the target's address, with its port unless that is 80.
    pub host: String,
    /// The path, which begins with `/` and may have a query.
    pub path: String,
}

/// The default port of an HTTP check.
const HTTP: u16 = 80;
/// The longest path in bytes: a probe is one small packet.
const LONGEST_PATH: usize = 512;

/// Reads `[health]`.
pub(super) fn read(root: &Section<'_>) -> Option<Health> {
    let section = root.section("health");
    let keys = HealthKeys::read(&section);
    let (interval, timeout) = (keys.interval.as_ref()?.value, keys.timeout.as_ref()?);
    if timeout.value > interval {
        let [shown, most] = [timeout.value, interval].map(humantime::format_duration);
        let default = if timeout.given { "" } else { "the default " };
        let message = format!(
            "{default}{shown} is longer than health.interval; expected at most {most}, so that \
             one probe ends before the next"
        );
        section.error(timeout.at, "timeout", message);
    }
    keys.build()
}

/// Parses what `check` probes.
pub(super) fn check(value: &DeValue<'_>) -> Parsed<Check> {
    match value::text(value)?.strip_prefix("tcp://") {
        Some(end) if end.contains('/') => Err("has a path, which tcp:// does without".to_owned()),
        Some(end) => Ok(Check { target: endpoint(end, None)?, http: None }),
        None if value::text(value)?.starts_with("http://") => http(value),
        None => Err("does not begin with tcp:// or http://".to_owned()),
    }
}

/// Parses an HTTP check.
pub(super) fn http(value: &DeValue<'_>) -> Parsed<Check> {
    let url = value::text(value)?.strip_prefix("http://");
    let url = url.ok_or_else(|| "does not begin with http://".to_owned())?;
    let slash = url.find('/').ok_or_else(|| "has no path, not even /".to_owned())?;
    let (end, path) = url.split_at(slash);
    let target = endpoint(end, Some(HTTP))?;
    if !path.chars().all(|c| c.is_ascii_graphic() && c != '#') {
        return Err("has a path with characters that no request can have".to_owned());
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("has a path of {} bytes, {LONGEST_PATH} are the most", path.len()));
    }
    let host = match target {
        SocketAddr::V4(target) if target.port() == HTTP => target.ip().to_string(),
        SocketAddr::V6(target) if target.port() == HTTP => format!("[{}]", target.ip()),
        target => target.to_string(),
    };
    Ok(Check { target, http: Some(HttpCheck { host, path: path.to_owned() }) })
}

/// Parses an address and a port in URL syntax. Names are not accepted: a probe checks its host, not
/// a name server.
fn endpoint(text: &str, default: Option<u16>) -> Parsed<SocketAddr> {
    let inner = text.strip_prefix('[').and_then(|text| text.split_once(']'));
    let (address, rest) = match inner {
        Some((address, rest)) => (address.parse::<Ipv6Addr>().ok().map(IpAddr::from), rest),
        None => {
            let (address, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            (address.parse::<Ipv4Addr>().ok().map(IpAddr::from), rest)
        }
    };
    let address = address.ok_or_else(|| match text.parse::<Ipv6Addr>() {
        Ok(_) => format!("lacks the brackets of IPv6, [{text}]"),
        Err(_) => "has no IP address after //".to_owned(),
    })?;
    // Probes come from this host's own network, so its loopback is allowed.
    if !address.is_loopback() {
        value::unicast(address).map_err(|what| format!("has a host that {what}"))?;
    }
    let port = match (rest.strip_prefix(':'), default) {
        (None, Some(port)) if rest.is_empty() => Some(port),
        (digits, _) => digits
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(|port| *port != 0),
    };
    let port = port.ok_or_else(|| "has no port from 1 to 65535 after the address".to_owned())?;
    Ok(SocketAddr::new(address, port))
}
