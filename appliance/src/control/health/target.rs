//! The state of a server, derived from the results of its probes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Settings;
use super::probe::{Failure, Success};

/// Whether a server is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No probe has succeeded yet, and too few have failed; counts as up.
    #[default]
    Unknown,
    /// The server is up.
    Up,
    /// The server is down.
    Down,
}

impl State {
    /// Returns the name used in counters and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// The state of a server and the results of its probes.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: State,
    busy: bool,
    /// Consecutive results that contradict the state.
    against: u8,
    last: Option<Result<Success, Failure>>,
    successes: u64,
    failures: u64,
    round_trip: Option<Duration>,
}

impl Health {
    /// Returns the state.
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns whether the server may get connections: unless it is known to be down.
    pub fn is_up(&self) -> bool {
        self.state != State::Down
    }

    /// Returns whether the server's last answer was that it is busy. Only a server that counts as
    /// up is busy.
    pub fn busy(&self) -> bool {
        self.busy
    }

    /// Returns the number of probes that succeeded.
    pub fn successes(&self) -> u64 {
        self.successes
    }

    /// Returns the number of probes that failed.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Returns the duration of the last successful probe, from its start to the answer. It is as
    /// precise as the steps are frequent.
    pub fn round_trip(&self) -> Option<Duration> {
        self.round_trip
    }

    /// Returns the last result, in words.
    pub fn reason(&self) -> String {
        match &self.last {
            None => "not probed yet".to_owned(),
            Some(Ok(success)) => success.to_string(),
            Some(Err(failure)) => failure.to_string(),
        }
    }

    pub(super) fn record(
        &mut self,
        result: Result<Success, Failure>,
        took: Option<Duration>,
        settings: &Settings,
    ) {
        let (counter, opposite, enough) = match (&result, self.state) {
            (Ok(_), State::Unknown) => (&mut self.successes, Some(State::Up), 1),
            (Ok(_), State::Down) => (&mut self.successes, Some(State::Up), settings.rise),
            (Ok(_), State::Up) => (&mut self.successes, None, 0),
            (Err(_), State::Unknown | State::Up) => {
                (&mut self.failures, Some(State::Down), settings.fall)
            }
            (Err(_), State::Down) => (&mut self.failures, None, 0),
        };
        *counter += 1;
        match opposite {
            None => self.against = 0,
            Some(opposite) => {
                self.against = self.against.saturating_add(1);
                if self.against >= enough {
                    (self.state, self.against) = (opposite, 0);
                }
            }
        }
        // A failed probe says nothing about being busy as long as the server counts as up.
        self.busy = match &result {
            _ if self.state == State::Down => false,
            Ok(success) => success.busy(),
            Err(_) => self.busy,
        };
        self.round_trip = took.filter(|_| result.is_ok()).or(self.round_trip);
        self.last = Some(result);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: Settings = Settings {
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 3,
    };

    /// Returns a letter for the state after each result: `+` is a success, `b` a busy one, `-` a
    /// failure.
    fn states(results: &str) -> String {
        let mut health = Health::default();
        let letter = |result| {
            let result = match result {
                '+' => Ok(Success::Status(204)),
                'b' => Ok(Success::Busy(503)),
                _ => Err(Failure::Refused),
            };
            health.record(result, None, &SETTINGS);
            match (health.state(), health.busy()) {
                (State::Unknown, _) => '?',
                (State::Up, false) => 'u',
                (State::Up, true) => 'B',
                (State::Down, false) => 'd',
                (State::Down, true) => '!',
            }
        };
        results.chars().map(letter).collect()
    }

    #[test]
    fn rise_and_fall_are_counted_in_a_row() {
        assert_eq!(states("+--+---++"), "uuuuuuddu");
        assert_eq!(states("--+"), "??u");
        assert_eq!(states("---+-++"), "??ddddu");
        assert_eq!(states("---++--+---"), "??dduuuuuud");
    }

    #[test]
    fn a_server_is_busy_by_its_last_answer_while_it_is_up() {
        assert_eq!(states("b+b-b"), "BuBBB");
        assert_eq!(states("b---b+b"), "BBBdduB");
        assert_eq!(states("---bb"), "??ddB");
    }

    #[test]
    fn one_result_is_enough_where_one_is_asked_for() {
        let settings = Settings { rise: 1, fall: 1, ..SETTINGS };
        let mut health = Health::default();
        assert!(health.is_up());
        health.record(Err(Failure::Refused), None, &settings);
        assert_eq!((health.state(), health.is_up()), (State::Down, false));
        assert_eq!(health.reason(), "connection refused");
        health.record(Ok(Success::Connected), Some(Duration::from_micros(7)), &settings);
        assert_eq!((health.state(), health.successes(), health.failures()), (State::Up, 1, 1));
        health.record(Err(Failure::Refused), None, &settings);
        assert_eq!(health.round_trip(), Some(Duration::from_micros(7)));
    }

    proptest! {
        #[test]
        fn a_state_changes_only_by_enough_results_in_a_row(
            results in "[+-]{0,40}",
            rise in 1..5u8,
            fall in 1..5u8,
        ) {
            let settings = Settings { rise, fall, ..SETTINGS };
            let mut health = Health::default();
            for (number, result) in results.char_indices() {
                let from = health.state();
                let failed = result == '-';
                let success = if failed { Err(Failure::Refused) } else { Ok(Success::Connected) };
                health.record(success, None, &settings);
                let row = results[..=number].chars().rev().take_while(|r| *r == result).count();
                let enough = match (from, failed) {
                    (State::Unknown, false) => 1,
                    (_, false) => rise,
                    (_, true) => fall,
                };
                let to = if failed { State::Down } else { State::Up };
                let reached = row >= usize::from(enough);
                let expected = if reached { to } else { from };
                prop_assert_eq!(health.state(), expected, "{} at {}", results, number);
            }
        }
    }
}
