//! How many established connections were heard of lately: the load that makes a replica busy.
//!
//! Connections that nobody has ended, and that nobody uses, are no load. One counter for each of the
//! last units of 68.7 s says how many connections had their last packet in it. A packet changes the
//! counters only if it is its connection's first in a unit.

use super::Phase;
use super::connection::Connection;
use crate::base::time::Ticks;
use crate::table::{Slot, Table};
use crate::wire::family::{Endpoint, Family};

/// The binary logarithm of a unit in nanoseconds.
const UNIT: u32 = 36;
/// Number of units that are counted: the last 3 to 4 of them, 3.4 to 4.6 min.
const UNITS: usize = 4;

/// The established connections of both families, by the unit of their last packet.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The current unit.
    unit: u64,
    counts: [usize; UNITS],
}

impl Heard {
    #[inline(always)]
    fn unit(time: Ticks) -> u64 {
        time.0 >> UNIT
    }

    /// Returns the number of established connections with a packet in the last 3 to 4 units.
    pub(super) fn count(&mut self, now: Ticks) -> usize {
        self.advance(now);
        self.counts.iter().sum()
    }

    /// Forgets the units that are over.
    fn advance(&mut self, now: Ticks) {
        let now = Self::unit(now);
        let passed = now.saturating_sub(self.unit).min(UNITS as u64);
        for unit in now + 1 - passed..=now {
            self.counts[unit as usize % UNITS] = 0;
        }
        self.unit = self.unit.max(now);
    }

    /// Counts a connection, of which a packet was just heard.
    fn add(&mut self, now: Ticks) {
        self.advance(now);
        self.counts[self.unit as usize % UNITS] += 1;
    }

    /// Counts a connection no longer, whose last packet was heard at `seen`.
    fn remove(&mut self, seen: Ticks, now: Ticks) {
        self.advance(now);
        let unit = Self::unit(seen);
        if self.unit - unit.min(self.unit) < UNITS as u64 {
            let count = &mut self.counts[unit as usize % UNITS];
            *count = count.saturating_sub(1);
        }
    }

    /// Counts a connection that was taken over, whose last packet was heard at `seen`.
    pub(super) fn restore(&mut self, seen: Ticks, now: Ticks) {
        self.advance(now);
        let unit = Self::unit(seen);
        if self.unit - unit.min(self.unit) < UNITS as u64 {
            self.counts[unit as usize % UNITS] += 1;
        }
    }

    #[cold]
    fn renew(&mut self, seen: Ticks, now: Ticks) {
        self.remove(seen, now);
        self.add(now);
    }
}

/// The connections of a family, together with the count of those heard of.
pub(super) type Connections<F> = Table<Endpoint<F>, Phase, Connection<F>>;

/// Restarts the time-out of a connection.
#[inline(always)]
pub(super) fn touch<F: Family>(
    connections: &mut Connections<F>,
    heard: &mut Heard,
    slot: Slot,
    now: Ticks,
) {
    let entry = connections.get(slot);
    let seen = entry.seen();
    if Heard::unit(seen) != Heard::unit(now) && entry.state() == Phase::Established {
        heard.renew(seen, now);
    }
    connections.touch(slot, now);
}

/// Changes the state of a connection and restarts its time-out.
pub(super) fn move_to<F: Family>(
    connections: &mut Connections<F>,
    heard: &mut Heard,
    slot: Slot,
    phase: Phase,
    now: Ticks,
) {
    let entry = connections.get(slot);
    if entry.state() == Phase::Established {
        heard.remove(entry.seen(), now);
    }
    if phase == Phase::Established {
        heard.add(now);
    }
    connections.move_to(slot, phase, now);
}

/// Forgets a connection.
pub(super) fn remove<F: Family>(
    connections: &mut Connections<F>,
    heard: &mut Heard,
    slot: Slot,
    now: Ticks,
) {
    let entry = connections.get(slot);
    if entry.state() == Phase::Established {
        heard.remove(entry.seen(), now);
    }
    connections.remove(slot);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(units: u64) -> Ticks {
        Ticks((units << UNIT) + 17)
    }

    #[test]
    fn a_connection_counts_until_it_is_not_heard_for_four_units() {
        let mut heard = Heard::default();
        heard.add(at(10));
        heard.add(at(11));
        assert_eq!(heard.count(at(13)), 2);
        assert_eq!(heard.count(at(14)), 1);
        heard.renew(at(11), at(14));
        assert_eq!((heard.count(at(17)), heard.count(at(18))), (1, 0));
        // Its last packet is older than what is counted.
        heard.renew(at(14), at(20));
        assert_eq!(heard.count(at(20)), 1);
        heard.remove(at(20), at(21));
        assert_eq!(heard.count(at(21)), 0);
    }

    #[test]
    fn a_long_silence_leaves_nothing() {
        let mut heard = Heard::default();
        (0..4).for_each(|unit| heard.add(at(unit)));
        assert_eq!(heard.count(at(3)), 4);
        assert_eq!(heard.count(at(1_000)), 0);
    }
}
