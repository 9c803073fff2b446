//! Health checks as `firstack stats` shows them.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Health, State, Target};

/// The health of a probed server at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetStats {
    /// The server's name.
    pub name: String,
    /// The address that is probed.
    pub address: SocketAddr,
    /// The path of an HTTP check; `None` for a TCP check.
    pub path: Option<String>,
    /// Whether it counts as up.
    pub state: State,
    /// Whether it says that it is busy.
    pub busy: bool,
    /// The last result, in words.
    pub reason: String,
    /// Probes that succeeded.
    pub successes: u64,
    /// Probes that failed.
    pub failures: u64,
    /// Duration of the last successful probe in microseconds.
    pub round_trip_us: Option<u64>,
}

impl TargetStats {
    pub(super) fn new(target: &Target, health: &Health) -> Self {
        Self {
            name: target.name.clone(),
            address: target.address,
            path: target.http.as_ref().map(|http| http.path.clone()),
            state: health.state(),
            busy: health.busy(),
            reason: health.reason(),
            successes: health.successes(),
            failures: health.failures(),
            round_trip_us: health.round_trip().map(|time| time.as_micros() as u64),
        }
    }
}

/// Formats the server on one line, without a newline.
impl fmt::Display for TargetStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, address, path, successes, failures, reason, .. } = self;
        let state = if self.busy { "busy" } else { self.state.name() };
        let check = match path {
            None => format!("tcp://{address}"),
            Some(path) => format!("http://{address}{path}"),
        };
        write!(f, "{name:<24} {check:<36} {state:<8} {successes:>8} ok {failures:>8} failed")?;
        match self.round_trip_us {
            Some(us) => write!(f, " {:>9.2} ms", us as f64 / 1000.0)?,
            None => write!(f, " {:>9}   ", "-")?,
        }
        write!(f, "  {reason}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_one_line_and_one_object() {
        let stats = TargetStats {
            name: "shop/web1".to_owned(),
            address: "[2001:db8::1]:80".parse().unwrap(),
            path: Some("/health".to_owned()),
            state: State::Up,
            busy: true,
            reason: "HTTP 503".to_owned(),
            successes: 12,
            failures: 3,
            round_trip_us: Some(420),
        };
        let words = stats.to_string();
        let words: Vec<_> = words.split_whitespace().collect();
        let expected =
            "shop/web1 http://[2001:db8::1]:80/health busy 12 ok 3 failed 0.42 ms HTTP 503";
        assert_eq!(words.join(" "), expected);
        let json = serde_json::to_string(&stats).unwrap();
        assert!(json.contains(r#""state":"up","busy":true,"reason":"HTTP 503""#), "{json}");
        assert_eq!(serde_json::from_str::<TargetStats>(&json).unwrap(), stats);
        let down = TargetStats { state: State::Down, busy: false, path: None, ..stats };
        assert!(down.to_string().contains("tcp://[2001:db8::1]:80"));
        assert!(down.to_string().contains(" down "));
    }
}
