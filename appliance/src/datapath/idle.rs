//! What a worker does when there is nothing to do: it polls on for a while, and then rests, so
//! that the CPU is there for others.
//!
//! What a rest costs is mostly setting a timer and waking up. In the virtual machine that this was
//! measured on that is 21 us of the CPU, whatever the length of the rest. So a worker rests by timer
//! no oftener than once in some 90 us: that is just under a quarter of a core there, and no packet
//! waits longer than 100 us. Where the kernel can tell of a packet the
//! worker waits for that instead, which costs next to nothing and ends with the packet.
//!
//! What a NIC could do is not used: interrupts for received packets
//! (`rte_eth_dev_rx_intr_enable`), or a processor that waits for a write to the descriptor ring
//! (`rte_power_monitor`: umwait, tpause). `poll = "busy"` is for NICs.

use std::time::Duration;

use crate::datapath::clock::Clock;
use crate::dpdk::{Bell, cycles};

/// How long a worker polls on after the last packet: about as long as falling asleep and waking
/// up take, so that polling costs at most as much again as resting at once would have.
const SPIN: Duration = Duration::from_micros(20);
/// The longest rest by timer; getting up takes more.
const SLEEP: Duration = Duration::from_micros(70);
/// The longest rest with an ear to the ports. Then housekeeping is due, or the end.
const LISTEN: Duration = Duration::from_millis(1);
/// The kernel's own allowance for timers is 50 us, which would be on top of every rest.
const TIMER_SLACK_NS: u64 = 1;

/// What a worker does when there is nothing to do.
#[derive(Debug)]
pub enum Idle {
    /// Polls on: for cores of its own.
    Busy,
    /// Polls on a while, then rests: until one of these rings, if there are any.
    Adaptive(Vec<Bell>),
}

/// What to do after a poll that brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Poll again at once.
    Spin,
    /// Sleep so long.
    Sleep(Duration),
    /// Sleep until a bell rings, at most so long.
    Listen(Duration),
}

/// What to do once nothing has come for `quiet`, with bells to listen for or without.
pub fn rest(quiet: Duration, bells: bool) -> Rest {
    if quiet < SPIN {
        Rest::Spin
    } else if bells {
        Rest::Listen(LISTEN)
    } else {
        // A packet waits for a part of the pause that it ended, not for a multiple.
        Rest::Sleep((quiet / 2).min(SLEEP))
    }
}

/// Rests for a worker, between two of its polls.
#[derive(Debug)]
pub struct Rester {
    idle: Idle,
    clock: Clock,
    /// When the first poll brought nothing; none while packets come.
    since: Option<u64>,
    /// A bell has rung since the last packet. When the poll after that brought nothing, it was a
    /// false alarm (an error, or no buffer to receive into), and none is listened for until a
    /// packet has come.
    rang: bool,
}

impl Rester {
    /// For the calling thread.
    pub fn new(idle: Idle, clock: Clock) -> Self {
        if matches!(idle, Idle::Adaptive(_)) {
            // Refused, each rest is longer by 50 us, and nothing else is the matter.
            let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
        }
        Self { idle, clock, since: None, rang: false }
    }

    /// A poll has brought something.
    #[inline]
    pub fn busy(&mut self) {
        self.since = None;
    }

    /// A poll has brought nothing.
    #[inline]
    pub fn rest(&mut self) {
        let Idle::Adaptive(bells) = &self.idle else { return std::hint::spin_loop() };
        let now = cycles();
        let Some(since) = self.since else {
            (self.since, self.rang) = (Some(now), false);
            return;
        };
        let quiet = self.clock.at(now).since(self.clock.at(since));
        match rest(Duration::from_nanos(quiet.0), !bells.is_empty() && !self.rang) {
            Rest::Spin => std::hint::spin_loop(),
            Rest::Sleep(time) => std::thread::sleep(time),
            Rest::Listen(time) => self.rang = Bell::listen(bells, time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn it_spins_first_and_never_sleeps_longer_than_half_the_pause() {
        for bells in [false, true] {
            assert_eq!(rest(Duration::ZERO, bells), Rest::Spin);
            assert_eq!(rest(19 * US, bells), Rest::Spin);
        }
        assert_eq!(rest(20 * US, false), Rest::Sleep(10 * US));
        assert_eq!(rest(100 * US, false), Rest::Sleep(50 * US));
        assert_eq!(rest(20 * US, true), Rest::Listen(LISTEN));
    }

    /// With 21 us to get up, as measured, and 10 us to be forwarded.
    #[test]
    fn no_packet_waits_as_long_as_100_us_for_a_timer() {
        for quiet in [US * 200, Duration::from_secs(1), Duration::from_secs(1_000_000)] {
            let Rest::Sleep(time) = rest(quiet, false) else { panic!("it does not sleep") };
            assert!(time + 31 * US <= 101 * US && time >= 63 * US, "{time:?}");
        }
    }
}
