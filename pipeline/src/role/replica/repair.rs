//! Which repeated SYN/ACKs pass before the client has been heard.
//!
//! Where the server speaks first and the client's ACK is lost, both wait: only the server's repeated
//! SYN/ACK mends that. But a spoofed client must not get each SYN/ACK six times. So a repetition
//! needs a token. Each connection that a client establishes earns its prefix one, which a sender
//! with a spoofed address cannot; beyond those each prefix, and all prefixes together, gain a few
//! with time.

use std::net::IpAddr;

use crate::base::time::Ticks;
use crate::policy::clients::ClientHash;
use crate::policy::limiter::Bucket;

/// Number of cells. Prefixes that share a cell share its tokens.
const CELLS: usize = 4096;
/// The most tokens that the connections of a prefix can have earned.
const EARNED: u8 = 64;
/// The most tokens that a prefix gains with time.
const GIVEN: u64 = 8;
/// Time after which a prefix gains a token.
const GIVEN_EACH: Ticks = Ticks::from_secs(2);
/// How many seconds' worth of tokens all prefixes together can have saved up.
const SAVED: u64 = 4;

/// The tokens of a prefix.
#[derive(Clone, Copy, Debug)]
struct Cell {
    earned: u8,
    given: u8,
    /// When tokens were last given, in units of [`GIVEN_EACH`].
    filled: u32,
}

/// The tokens of one worker's clients.
#[derive(Debug)]
pub(super) struct Repairs {
    rate: u64,
    all: Bucket,
    cells: Box<[Cell]>,
    hash: ClientHash,
}

impl Repairs {
    /// Returns the tokens of a replica at its start. `rate` per second are given to all prefixes
    /// together; with 0, there are none, earned ones included. `hash` has a secret key.
    pub(super) fn new(rate: u64, hash: ClientHash) -> Self {
        let cell = Cell { earned: 0, given: GIVEN as u8, filled: 0 };
        let all = Bucket::full(rate * SAVED, Ticks(0));
        Self { rate, all, cells: vec![cell; CELLS].into_boxed_slice(), hash }
    }

    /// Changes how many tokens per second are given to all prefixes together.
    pub(super) fn set_rate(&mut self, rate: u64) {
        self.rate = rate;
    }

    /// Notes that a client has established a connection.
    pub(super) fn earn(&mut self, client: IpAddr) {
        let cell = self.cell(client);
        cell.earned = (cell.earned + 1).min(EARNED);
    }

    /// Takes a token for a client; returns `false` when there is none.
    pub(super) fn take(&mut self, client: IpAddr, now: Ticks) -> bool {
        if self.rate == 0 {
            return false;
        }
        let cell = self.cell(client);
        if cell.earned > 0 {
            cell.earned -= 1;
            return true;
        }
        let units = (now.0 / GIVEN_EACH.0) as u32;
        let gained = u64::from(units.wrapping_sub(cell.filled));
        let given = gained.saturating_add(cell.given.into()).min(GIVEN) as u8;
        (cell.given, cell.filled) = (given, units);
        if given == 0 || !self.all.take(1, self.rate, self.rate * SAVED, now) {
            return false;
        }
        self.cell(client).given -= 1;
        true
    }

    /// Returns the cell of a client's prefix: 24 bits of IPv4, 48 of IPv6.
    fn cell(&mut self, client: IpAddr) -> &mut Cell {
        &mut self.cells[self.hash.prefix(client) as usize % CELLS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(repairs: &mut Repairs, client: &str, secs: u64) -> usize {
        let (client, now) = (client.parse().unwrap(), Ticks::from_secs(secs));
        (0..200).filter(|_| repairs.take(client, now)).count()
    }

    #[test]
    fn a_prefix_has_what_it_earned_and_a_little_more() {
        let mut repairs = Repairs::new(1000, ClientHash::new((7, 7)));
        assert_eq!(granted(&mut repairs, "198.18.1.10", 1), 8);
        assert_eq!(granted(&mut repairs, "198.18.1.99", 1), 0, "the same prefix");
        assert_eq!(granted(&mut repairs, "198.18.2.10", 1), 8);
        assert_eq!(granted(&mut repairs, "198.18.1.10", 9), 4, "one in two seconds");
        for _ in 0..5 {
            repairs.earn("198.18.1.77".parse().unwrap());
        }
        assert_eq!(granted(&mut repairs, "198.18.1.10", 9), 5);
        for _ in 0..1000 {
            repairs.earn("2001:db8:1::1".parse().unwrap());
        }
        assert_eq!(granted(&mut repairs, "2001:db8:1:ffff::2", 9), 64 + 8);
        assert_eq!(granted(&mut repairs, "2001:db8:2::2", 9), 8);
    }

    #[test]
    fn all_prefixes_together_have_no_more_than_the_rate_and_what_was_earned() {
        let mut repairs = Repairs::new(100, ClientHash::new((7, 7)));
        let mut all = |secs| -> usize {
            (0..255u8).map(|n| granted(&mut repairs, &format!("203.{n}.113.1"), secs)).sum()
        };
        assert_eq!(all(1), 400);
        assert_eq!(all(3), 200);
        repairs.earn("198.18.1.10".parse().unwrap());
        assert_eq!(granted(&mut repairs, "198.18.1.10", 3), 1);
    }

    #[test]
    fn a_rate_of_zero_repairs_nothing() {
        let mut repairs = Repairs::new(0, ClientHash::new((7, 7)));
        repairs.earn("198.18.1.10".parse().unwrap());
        assert_eq!(granted(&mut repairs, "198.18.1.10", 100), 0);
    }
}
