//! The links of the two ports: changes are logged and counted, and, if asked for, a port is taken down
//! while the other has no link, so that the router behind it sees a dead wire and uses another path.
//!
//! Only one port is ever held down, and for a link that is not: the other's, which can be seen to come
//! back. A port that is held down does not count as one without a link. So two appliances in a row that
//! both do this do not hold each other down for good: each lets go when the link that it does see comes
//! back, whatever the port that it holds would show. A port that was brought up again has time to find
//! its link before it counts.

use std::time::{Duration, Instant};

use pipeline::packet::view::Side;

use super::ports::Running;

/// The interval at which the links are looked at.
const INTERVAL: Duration = Duration::from_millis(100);
/// The time that a port has to find its link after it was brought up: some negotiate for seconds.
const SETTLE: Duration = Duration::from_secs(10);

/// A change that is to be made to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    TakeDown(Side),
    BringUp(Side),
}

/// What a port's link has been seen to do.
#[derive(Clone, Copy, Debug)]
struct Link {
    up: bool,
    since: Instant,
    changes: u64,
    /// Until then a link that is not up is expected to come.
    settles: Option<Instant>,
}

/// A link as counters show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) up: bool,
    pub(super) changes: u64,
    /// How long it has been so, as far as this process has seen.
    pub(super) lasts: Duration,
    /// Whether the port is held down because the other has no link.
    pub(super) is_held: bool,
}

/// The links of both ports.
#[derive(Debug)]
pub(super) struct Links {
    links: [Link; 2],
    propagates: bool,
    held: Option<Side>,
    /// A port that cannot be taken down.
    refuses: [bool; 2],
    next: Instant,
}

impl Links {
    /// Begins with the links as they are. With `propagates`, ports that a predecessor has left down are
    /// brought up first.
    pub(super) fn new(ports: &[Running; 2], propagates: bool) -> Self {
        let now = Instant::now();
        if propagates {
            ports.iter().for_each(|port| drop(port.set_link(true)));
        }
        Self::starting(ports.each_ref().map(Running::link_up), propagates, now)
    }

    fn starting(up: [bool; 2], propagates: bool, now: Instant) -> Self {
        let link = |up: bool| {
            let settles = (propagates && !up).then(|| now + SETTLE);
            Link { up, since: now, changes: 0, settles }
        };
        let (links, refuses) = (up.map(link), [false; 2]);
        Self { links, propagates, held: None, refuses, next: now }
    }

    /// Looks at the links if it is time to, logs what has changed, and passes it on.
    pub(super) fn step(&mut self, ports: &[Running; 2]) {
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + INTERVAL;
        let seen = ports.each_ref().map(Running::link_up);
        let Some(action) = self.decide(seen, now) else { return };
        let (side, up) = match action {
            Action::TakeDown(side) => (side, false),
            Action::BringUp(side) => (side, true),
        };
        let (name, other) = (side.name(), side.other().name());
        match (ports[side as usize].set_link(up), up) {
            (Ok(()), false) => tracing::warn!(side = name, "port taken down: {other} has no link"),
            (Ok(()), true) => tracing::info!(side = name, "port brought up: {other} has its link"),
            (Err(error), _) => {
                tracing::error!(side = name, %error, up, "link cannot be propagated to this port");
                self.refuse(side);
            }
        }
    }

    /// Brings up a port that is held down, because nobody else will after the end.
    pub(super) fn finish(&mut self, ports: &[Running; 2]) {
        if let Some(side) = self.held.take()
            && let Err(error) = ports[side as usize].set_link(true)
        {
            tracing::error!(side = side.name(), %error, "port is left down");
        }
    }

    /// Returns a side's link for the counters.
    pub(super) fn shown(&self, side: Side) -> Shown {
        let Link { up, since, changes, .. } = self.links[side as usize];
        Shown { up, changes, lasts: since.elapsed(), is_held: self.held == Some(side) }
    }

    /// Notes that a port cannot be taken down or brought up; it is left alone from now on.
    fn refuse(&mut self, side: Side) {
        self.refuses[side as usize] = true;
        self.held = self.held.filter(|held| *held != side);
    }

    /// Notes the links as seen, and returns what follows from them.
    fn decide(&mut self, seen: [bool; 2], now: Instant) -> Option<Action> {
        for side in Side::ALL {
            self.note(side, seen[side as usize], now);
        }
        if !self.propagates {
            return None;
        }
        if let Some(held) = self.held {
            if !self.links[held.other() as usize].up {
                return None;
            }
            self.held = None;
            self.links[held as usize].settles = Some(now + SETTLE);
            return Some(Action::BringUp(held));
        }
        let is_dead = |side: Side| {
            let link = &self.links[side as usize];
            !link.up && link.settles.is_none()
        };
        let is_up = |side: Side| self.links[side as usize].up;
        let side = Side::ALL.into_iter().find(|side| is_up(*side) && is_dead(side.other()))?;
        if self.refuses[side as usize] {
            return None;
        }
        self.held = Some(side);
        Some(Action::TakeDown(side))
    }

    fn note(&mut self, side: Side, up: bool, now: Instant) {
        let is_held = self.held == Some(side);
        let link = &mut self.links[side as usize];
        link.settles = link.settles.filter(|settles| !up && now < *settles);
        if link.up == up {
            return;
        }
        let lasted = now.saturating_duration_since(link.since);
        (link.up, link.since, link.changes) = (up, now, link.changes + 1);
        let lasted = humantime::format_duration(Duration::from_millis(lasted.as_millis() as u64));
        match up {
            true => tracing::info!(side = side.name(), down_for = %lasted, "link up"),
            // That is our own doing, and is logged as such.
            false if is_held => {}
            false => tracing::warn!(side = side.name(), up_for = %lasted, "link down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Two appliances in a row between two routers: cable, appliance, cable, appliance, cable. A link is
    /// up if its cable is plugged in and the ports at both ends are up.
    struct Row {
        now: Instant,
        cables: [bool; 3],
        /// Whether each port is up: the first's inside and outside, the second's.
        ports: [[bool; 2]; 2],
        appliances: [Links; 2],
        /// The time that a link takes to come up.
        negotiates: Duration,
        /// Since when each link could be up.
        ready: [Option<Instant>; 3],
        actions: usize,
    }

    impl Row {
        fn new(negotiates: Duration) -> Self {
            let now = Instant::now();
            let links = || Links::starting([true; 2], true, now);
            Self {
                now,
                cables: [true; 3],
                ports: [[true; 2]; 2],
                appliances: [links(), links()],
                negotiates,
                ready: [Some(now); 3],
                actions: 0,
            }
        }

        fn is_up(&self, link: usize) -> bool {
            self.ready[link].is_some_and(|since| self.now >= since + self.negotiates)
        }

        /// What the routers at the two ends see.
        fn ends(&self) -> [bool; 2] {
            [self.is_up(0), self.is_up(2)]
        }

        fn step(&mut self) {
            self.now += INTERVAL;
            let [[a, b], [c, d]] = self.ports;
            let could = [self.cables[0] && a, self.cables[1] && b && c, self.cables[2] && d];
            for (ready, could) in self.ready.iter_mut().zip(could) {
                *ready = could.then(|| ready.unwrap_or(self.now));
            }
            for n in 0..2 {
                let seen = [self.is_up(n), self.is_up(n + 1)];
                match self.appliances[n].decide(seen, self.now) {
                    Some(Action::TakeDown(side)) => self.ports[n][side as usize] = false,
                    Some(Action::BringUp(side)) => self.ports[n][side as usize] = true,
                    None => continue,
                }
                self.actions += 1;
            }
        }

        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while self.now < end {
                self.step();
            }
        }
    }

    const LONG: Duration = Duration::from_secs(120);

    #[test]
    fn a_cable_that_is_pulled_is_seen_at_the_other_end_and_so_is_its_return() {
        for cable in 0..3 {
            let mut row = Row::new(3000 * MS);
            row.pass(LONG);
            assert_eq!((row.ends(), row.actions), ([true; 2], 0));
            row.cables[cable] = false;
            row.pass(1000 * MS);
            assert_eq!(row.ends(), [false; 2], "cable {cable}");
            row.pass(LONG);
            assert_eq!(row.ends(), [false; 2]);
            row.cables[cable] = true;
            row.pass(LONG);
            assert_eq!(row.ends(), [true; 2], "cable {cable}: {row:?}", row = row.appliances);
            // Down and up at each appliance that passes it on, and no more.
            assert!(row.actions <= 4, "{} actions", row.actions);
        }
    }

    proptest::proptest! {
        /// Whatever happens to the cables: once all are in again, everything comes up, and it stays.
        #[test]
        fn appliances_in_a_row_never_hold_each_other_down(
            negotiates in 0u64..5000,
            events in proptest::collection::vec((0usize..3, 0u64..20_000), 0..20),
        ) {
            let mut row = Row::new(negotiates as u32 * MS);
            for (cable, wait) in events {
                row.cables[cable] = !row.cables[cable];
                row.pass(wait as u32 * MS);
            }
            row.cables = [true; 3];
            row.pass(LONG);
            proptest::prop_assert_eq!(row.ends(), [true; 2]);
            let actions = row.actions;
            row.pass(LONG);
            proptest::prop_assert_eq!((row.ends(), row.actions), ([true; 2], actions));
        }
    }

    #[test]
    fn without_being_asked_it_only_counts() {
        let now = Instant::now();
        let mut links = Links::starting([true; 2], false, now);
        assert_eq!(links.decide([false, true], now + MS), None);
        assert_eq!(links.decide([true, true], now + 2 * MS), None);
        let [inside, outside] = Side::ALL.map(|side| links.shown(side));
        assert_eq!((inside.up, inside.changes, inside.is_held), (true, 2, false));
        assert_eq!(outside.changes, 0);
    }

    #[test]
    fn a_port_that_cannot_be_taken_down_is_left_alone() {
        let now = Instant::now();
        let mut links = Links::starting([true; 2], true, now);
        let down = Some(Action::TakeDown(Side::Outside));
        assert_eq!(links.decide([false, true], now + MS), down);
        links.refuse(Side::Outside);
        for n in 2..100 {
            assert_eq!(links.decide([n % 2 == 0, true], now + n * MS), None);
        }
        assert_eq!(links.decide([true, false], now + LONG), Some(Action::TakeDown(Side::Inside)));
    }
}
