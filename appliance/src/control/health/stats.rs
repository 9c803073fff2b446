//! Health checks as `firstack stats` shows them.

use std::fmt;
use std::net::SocketAddr;

use super::{Health, State, Target};
use crate::control::stats::documented;

documented! {
    /// The health of a probed server at one moment.
    pub struct TargetStats {
        name: String = "" "The server's name.",
        address: Option<SocketAddr> = "" "The address that is probed.",
        path: Option<String> = "" "The path of an HTTP check; null for a TCP check.",
        state: State = "" "Whether the server counts as up: unknown, up or down.",
        busy: bool = "" "Whether the server says that it is busy.",
        reason: String = "" "The last result, in words.",
        successes: u64 = "probes" "Probes that succeeded.",
        failures: u64 = "probes" "Probes that failed.",
        round_trip_us: Option<u64> = "microseconds" "Duration of the last successful probe; null before the first.",
    }
}

impl TargetStats {
    pub(super) fn new(target: &Target, health: &Health) -> Self {
        Self {
            name: target.name.clone(),
            address: Some(target.address),
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
        let address = address.map_or(String::new(), |address| address.to_string());
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
            address: "[2001:db8::1]:80".parse().ok(),
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
