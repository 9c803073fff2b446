//! What is remembered of one site.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use super::smoothed::Smoothed;
use crate::base::time::Ticks;

/// So many direct copies without an answer take a site out of the direct set.
const UNANSWERED: usize = 3;
/// The time until the next trial after one that was not answered; doubled each time.
const TRIAL_PAUSE: Ticks = Ticks::from_secs(10);
/// How often [`TRIAL_PAUSE`] is doubled at most.
const DOUBLINGS: u8 = 6;
/// A site is distrusted after clients have ended so many connections in a row, and it none.
const UNSERVED: usize = 8;
/// A server that serves ends its side of a connection within this time after the client.
const ENDS_WITHIN: Ticks = Ticks::from_secs(3);
/// A direct time older than this is tried again, in its turn.
const STALE: Ticks = Ticks::from_secs(10);

/// What is known of a site's direct path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not answered a direct copy yet, or was heard by the switch after it had been dead.
    Untried,
    /// It has answered direct copies.
    Tried,
    /// Three direct copies in a row were not answered.
    Dead,
    /// It answers SYNs and then serves nothing: clients end its connections, and it does not.
    Distrusted,
}

/// What is remembered of one site: all web servers behind one replica appliance.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// The bits of its prefix.
    pub(super) key: u128,
    /// The address of the web server that answered last: the one that is asked.
    pub(super) address: IpAddr,
    pub(super) state: State,
    /// Whether the configuration names it.
    pub(super) is_warm: bool,
    /// The time to its answers to direct copies.
    pub(super) direct: Option<Smoothed>,
    /// The time to its answers to the switch's copies.
    pub(super) by_switch: Option<Smoothed>,
    /// `by_switch` when the last direct sample was taken: if it changes, the direct time has
    /// probably changed by as much.
    by_switch_then: Option<Ticks>,
    /// The time that another gateway has published, until there is a time of our own.
    pub(super) hint: Option<Ticks>,
    /// The last answer.
    pub(super) heard: Ticks,
    /// The first direct copies since the last answer.
    unanswered: ArrayVec<Ticks, UNANSWERED>,
    /// No trial before this time.
    next_trial: Ticks,
    failed_trials: u8,
    /// When clients ended connections, since it last ended one itself.
    unserved: ArrayVec<Ticks, UNSERVED>,
    /// It is distrusted until then.
    distrusted_until: Ticks,
    distrusts: u8,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) won: u64,
}

impl Site {
    pub(super) fn new(key: u128, address: IpAddr, now: Ticks) -> Self {
        Self {
            key,
            address,
            state: State::Untried,
            is_warm: false,
            direct: None,
            by_switch: None,
            by_switch_then: None,
            hint: None,
            heard: now,
            unanswered: ArrayVec::new(),
            next_trial: Ticks(0),
            failed_trials: 0,
            unserved: ArrayVec::new(),
            distrusted_until: Ticks(0),
            distrusts: 0,
            asked: 0,
            answered: 0,
            won: 0,
        }
    }

    /// Notes a direct copy to the site.
    pub(super) fn note_asked(&mut self, now: Ticks) {
        self.asked += 1;
        let _ = self.unanswered.try_push(now);
    }

    /// Notes an answer of the site, `after` its copy.
    pub(super) fn note_answer(
        &mut self,
        from: IpAddr,
        is_direct: bool,
        after: Option<Ticks>,
        now: Ticks,
    ) {
        self.answered += 1;
        self.address = from;
        self.heard = now;
        if !is_direct {
            if let Some(after) = after {
                Smoothed::add(&mut self.by_switch, after, now);
            }
            if self.state == State::Dead {
                self.state = State::Untried;
                self.unanswered.clear();
                self.next_trial = now;
            }
            return;
        }
        self.unanswered.clear();
        self.failed_trials = 0;
        let Some(after) = after else { return };
        if self.state == State::Distrusted {
            return;
        }
        if self.state != State::Tried {
            // What was measured before the site was dead says nothing.
            self.direct = None;
        }
        self.state = State::Tried;
        Smoothed::add(&mut self.direct, after, now);
        self.by_switch_then = self.by_switch.map(Smoothed::time);
    }

    /// Notes that a client, or the site, was the first to end a connection, or that the site has
    /// ended its side after the client.
    pub(super) fn note_end(&mut self, by_site: bool, now: Ticks) {
        if by_site {
            self.unserved.clear();
            self.distrusts = 0;
        } else {
            let _ = self.unserved.try_push(now);
        }
    }

    /// Notes the time: that direct copies are overdue, or that the site serves nothing. Returns
    /// whether the site's state has changed.
    pub(super) fn note_time(&mut self, now: Ticks) -> bool {
        let overdue_after = match self.direct.filter(|_| self.state == State::Tried) {
            Some(direct) => direct.overdue_after(),
            None => Ticks::from_secs(1),
        };
        let overdue =
            |asked: Option<&Ticks>| asked.is_some_and(|at| now.since(*at) > overdue_after);
        match self.state {
            State::Tried if overdue(self.unanswered.get(UNANSWERED - 1)) => {
                self.state = State::Dead;
                self.unanswered.clear();
                // Without a switch nobody else would hear of it again.
                if self.is_warm {
                    self.next_trial = now + TRIAL_PAUSE;
                }
            }
            State::Dead if self.is_warm && now >= self.next_trial => self.state = State::Untried,
            // A single unanswered trial ends it, until the next one.
            State::Untried if overdue(self.unanswered.first()) => {
                let pause = Ticks(TRIAL_PAUSE.0 << self.failed_trials.min(DOUBLINGS));
                self.failed_trials = self.failed_trials.saturating_add(1);
                self.next_trial = now + pause;
                self.unanswered.clear();
            }
            State::Distrusted if now >= self.distrusted_until => {
                self.state = State::Untried;
                self.unanswered.clear();
                self.next_trial = Ticks(0);
            }
            _ => return self.note_unserved(now),
        }
        true
    }

    fn note_unserved(&mut self, now: Ticks) -> bool {
        let last = self.unserved.get(UNSERVED - 1);
        let serves_nothing = last.is_some_and(|at| now.since(*at) > ENDS_WITHIN);
        if serves_nothing {
            self.state = State::Distrusted;
            self.distrusted_until = now + Ticks(TRIAL_PAUSE.0 << self.distrusts.min(DOUBLINGS));
            self.distrusts = self.distrusts.saturating_add(1);
            self.unserved.clear();
        }
        serves_nothing
    }

    /// Returns when [`Site::note_time`] may change something next.
    pub(super) fn due(&self) -> Option<Ticks> {
        let last = match self.state {
            State::Tried => self.unanswered.get(UNANSWERED - 1),
            State::Untried => self.unanswered.first(),
            State::Dead | State::Distrusted => None,
        };
        last.map(|at| *at + Ticks::from_millis(200))
    }

    /// Returns the site's smoothed direct time while it counts.
    pub(super) fn direct_time(&self) -> Option<Ticks> {
        self.direct.filter(|_| self.state == State::Tried).map(Smoothed::time)
    }

    /// Returns the direct time that the site probably has now: its last one, changed by as much as
    /// its time by the switch has changed since.
    pub(super) fn estimate(&self) -> Option<Ticks> {
        let direct = self.direct_time()?;
        match (self.by_switch, self.by_switch_then) {
            (Some(by_switch), Some(then)) => Some((direct + by_switch.time()).since(then)),
            _ => Some(direct),
        }
    }

    /// Returns the order among sites that have not been tried: those that are probably near first.
    pub(super) fn expected(&self) -> Ticks {
        let by_switch = self.by_switch.map(Smoothed::time);
        self.hint.or(by_switch).unwrap_or(if self.is_warm { Ticks(0) } else { Ticks(u64::MAX) })
    }

    /// Returns whether only other gateways have heard of the site.
    pub(super) fn is_hearsay(&self) -> bool {
        self.answered == 0 && !self.is_warm
    }

    /// Returns whether a first direct copy may be sent to the site now.
    pub(super) fn may_be_tried(&self, now: Ticks) -> bool {
        self.state == State::Untried && now >= self.next_trial
    }

    /// Returns whether the site's direct time is so old that it should be taken again.
    pub(super) fn is_stale(&self, now: Ticks) -> bool {
        self.state == State::Tried && self.direct.is_some_and(|direct| now.since(direct.at) > STALE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const R: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 10));
    const MS: fn(u64) -> Ticks = Ticks::from_millis;

    #[test]
    fn three_unanswered_copies_make_a_site_dead_until_the_switch_hears_of_it() {
        let mut site = Site::new(1, R, MS(0));
        site.note_answer(R, true, Some(MS(10)), MS(10));
        assert_eq!((site.state, site.direct_time()), (State::Tried, Some(MS(10))));
        (0..3).for_each(|n| site.note_asked(MS(1000 + n)));
        assert!(!site.note_time(MS(1100)));
        assert!(site.note_time(MS(1300)));
        assert_eq!((site.state, site.direct_time()), (State::Dead, None));
        site.note_answer(R, false, Some(MS(140)), MS(2000));
        assert_eq!(site.state, State::Untried);
        assert!(site.may_be_tried(MS(2000)));
        site.note_answer(R, true, Some(MS(50)), MS(2100));
        assert_eq!(site.direct_time(), Some(MS(50)), "the old time is forgotten");
    }

    #[test]
    fn a_site_that_ends_no_connection_is_distrusted_for_longer_each_time() {
        let mut site = Site::new(1, R, MS(0));
        site.note_answer(R, true, Some(MS(10)), MS(10));
        (0..7).for_each(|_| site.note_end(false, MS(100)));
        assert!(!site.note_time(MS(9000)));
        site.note_end(true, MS(9000));
        (0..8).for_each(|_| site.note_end(false, MS(10_000)));
        assert!(!site.note_time(MS(13_000)));
        assert!(site.note_time(MS(13_100)));
        site.note_answer(R, true, Some(MS(10)), MS(14_000));
        assert_eq!((site.state, site.direct_time()), (State::Distrusted, None));
        assert!(!site.note_time(MS(23_000)) && site.note_time(MS(23_200)));
        assert!(site.may_be_tried(MS(23_200)));
        (0..8).for_each(|_| site.note_end(false, MS(30_000)));
        assert!(site.note_time(MS(34_000)));
        assert!(!site.note_time(MS(53_900)) && site.note_time(MS(54_000)));
    }

    #[test]
    fn an_unanswered_trial_waits_twice_as_long_for_the_next() {
        let mut site = Site::new(1, R, MS(0));
        site.note_asked(MS(0));
        assert!(site.note_time(MS(1100)));
        assert!(!site.may_be_tried(MS(11_000)) && site.may_be_tried(MS(11_100)));
        site.note_asked(MS(12_000));
        assert!(site.note_time(MS(13_100)));
        assert!(!site.may_be_tried(MS(33_000)) && site.may_be_tried(MS(33_100)));
    }

    #[test]
    fn a_change_of_the_time_by_the_switch_changes_the_estimate() {
        let mut site = Site::new(1, R, MS(0));
        site.note_answer(R, false, Some(MS(150)), MS(0));
        site.note_answer(R, true, Some(MS(60)), MS(100));
        assert_eq!(site.estimate(), Some(MS(60)));
        site.note_answer(R, false, Some(MS(110)), MS(5000));
        assert_eq!(site.estimate(), Some(MS(20)));
    }
}
