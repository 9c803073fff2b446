//! Repeated SYN/ACKs that pass before the client has acknowledged one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// A billionth of this is counted.
const TOKEN: u128 = 1_000_000_000;

/// What a prefix has: earned by connections; given by time, and when.
type Prefix = (u32, u128, u128);

/// The repetitions that may pass.
pub(super) struct Repairs {
    rate: u128,
    /// Of all prefixes together, and when they were counted.
    all: (u128, Duration),
    prefixes: HashMap<[u8; 6], Prefix>,
}

impl Repairs {
    pub(super) fn new(rate: u64) -> Self {
        let rate = u128::from(rate);
        Self { rate, all: (4 * rate * TOKEN, Duration::ZERO), prefixes: HashMap::new() }
    }

    fn prefix(&mut self, client: IpAddr) -> &mut Prefix {
        let mut prefix = [0; 6];
        match client {
            IpAddr::V4(client) => prefix[..3].copy_from_slice(&client.octets()[..3]),
            IpAddr::V6(client) => prefix.copy_from_slice(&client.octets()[..6]),
        }
        self.prefixes.entry(prefix).or_insert((0, 8, 0))
    }

    /// Notes that a client has established a connection.
    pub(super) fn earn(&mut self, client: IpAddr) {
        let prefix = self.prefix(client);
        prefix.0 = (prefix.0 + 1).min(64);
    }

    /// Takes one for a client, if there is one.
    pub(super) fn take(&mut self, client: IpAddr, now: Duration) -> bool {
        if self.rate == 0 {
            return false;
        }
        let (rate, (all, since)) = (self.rate, self.all);
        let prefix = self.prefix(client);
        if prefix.0 > 0 {
            prefix.0 -= 1;
            return true;
        }
        let pairs = now.as_nanos() / (2 * TOKEN);
        (prefix.1, prefix.2) = ((prefix.1 + pairs - prefix.2).min(8), pairs);
        if prefix.1 == 0 {
            return false;
        }
        let all = (all + (now - since).as_nanos() * rate).min(4 * rate * TOKEN);
        if all >= TOKEN {
            prefix.1 -= 1;
            self.all = (all - TOKEN, now);
        }
        all >= TOKEN
    }
}
