//! Target `config`: the text of a configuration.
//!
//! A rejected text's mistakes have their lines and fit on one line each. What is accepted starts its
//! roles, which take a frame of each kind.

use std::time::Duration;

use firstack::config::Config;
use firstack::control::keys::Keys;
use firstack::roles::{Environment, RoleSet, WithRole, with_role_set};
use firstack_tests::model::corpus::samples;
use firstack_tests::model::{Arrival, Carrier, Harness};
use pipeline::packet::view::Side;
use pipeline::role::Role;

/// More connections are not tried: their tables take memory and time.
const MOST: u32 = 4096;

/// Runs the target.
///
/// # Panics
/// If an oracle fails.
pub fn run(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    match Config::parse("file", text) {
        Ok(config) => {
            let table = &config.table;
            let again = Config::parse("file", text);
            assert!(again.is_ok_and(|again| again == config), "read again it is another");
            if table.max_connections.max(table.max_connections_v6) <= MOST {
                starts(&config);
            }
        }
        Err(errors) => {
            let lines = text.split('\n').count();
            assert!(errors.iter().count() > 0, "rejected without a word");
            for error in &errors {
                let line = error.line.unwrap_or(1);
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
                assert_eq!(error.to_string().lines().count(), 1, "{error:?}");
            }
        }
    }
}

/// The roles of two workers.
pub(crate) fn environment() -> Environment {
    Environment {
        workers: 2,
        macs: [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]],
        hash_key: (3, 4),
        keys: Keys::default(),
        probe_id: 7,
        carried: firstack::roles::Carried::default(),
    }
}

fn starts(config: &Config) {
    with_role_set(config, &environment(), Starts);
}

struct Starts;

impl WithRole for Starts {
    type Output = ();

    fn run<R: Role + Send + 'static>(self, set: RoleSet<R>) {
        let members = set.controls.members.len();
        (set.controls.apply)(&vec![false; members]);
        (set.controls.apply)(&vec![true; members]);
        let copies = set.copies;
        for role in set.roles {
            let mut harness = Harness::new(role, copies);
            for (number, frame) in samples().into_iter().enumerate() {
                let at = Duration::from_millis(1000 + number as u64);
                for side in Side::ALL {
                    let frame = frame.clone();
                    harness.feed(&[Arrival { at, side, frame, carrier: Carrier::Whole }]);
                }
                harness.on_timer(at);
            }
        }
    }
}
