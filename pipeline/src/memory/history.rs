//! The last races, to tell why a client's connection went where it did.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use arrayvec::ArrayVec;
use hashbrown::HashMap;

use super::Why;
use crate::base::time::Ticks;
use crate::wire::copies::CopiesWanted;

/// The most races remembered.
const RACES: usize = 16_384;
/// The most answers noted of a race.
const ANSWERS: usize = 8;

/// A race that was run lately.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Race {
    /// When its first SYN was sent.
    pub at: Ticks,
    /// The number of the service.
    pub service: u16,
    /// The client endpoint C.
    pub client: SocketAddr,
    /// The replicas that got a direct copy.
    pub asked: ArrayVec<IpAddr, ANSWERS>,
    /// The copies that the switch was asked for.
    pub copies: CopiesWanted,
    /// Why it was asked for so many.
    pub why: Why,
    /// The answers, in their order.
    pub answers: ArrayVec<Answer, ANSWERS>,
}

/// An answer in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The responder's address.
    pub responder: IpAddr,
    /// Whether it is the origin.
    pub is_origin: bool,
    /// Whether it answered a direct copy.
    pub is_direct: bool,
    /// Whether it won.
    pub has_won: bool,
    /// The time since the first SYN.
    pub after: Ticks,
}

/// The last races, by client endpoint.
#[derive(Debug, Default)]
pub(super) struct History {
    races: VecDeque<Race>,
    /// The number of the first of `races`.
    first: u64,
    /// The number of the last race of each client endpoint.
    last: HashMap<(u16, SocketAddr), u64>,
}

impl History {
    /// Notes a race, or a repetition of its SYN.
    pub(super) fn asked(&mut self, race: Race) {
        let key = (race.service, race.client);
        if race.why == Why::Repetition
            && let Some(earlier) = self.last_of(key)
        {
            for address in race.asked {
                if !earlier.asked.contains(&address) {
                    let _ = earlier.asked.try_push(address);
                }
            }
            return;
        }
        if self.races.len() == RACES
            && let Some(oldest) = self.races.pop_front()
        {
            let key = (oldest.service, oldest.client);
            if self.last.get(&key) == Some(&self.first) {
                self.last.remove(&key);
            }
            self.first += 1;
        }
        self.last.insert(key, self.first + self.races.len() as u64);
        self.races.push_back(race);
    }

    /// Notes an answer at a time. Returns the race.
    pub(super) fn answered(
        &mut self,
        key: (u16, SocketAddr),
        at: Ticks,
        answer: impl FnOnce(Ticks) -> Answer,
    ) -> Option<&Race> {
        let race = self.last_of(key)?;
        let _ = race.answers.try_push(answer(at.since(race.at)));
        Some(race)
    }

    fn last_of(&mut self, key: (u16, SocketAddr)) -> Option<&mut Race> {
        let number = *self.last.get(&key)?;
        self.races.get_mut((number - self.first) as usize)
    }

    /// Returns the last races of a client, the latest first, of any port if `port` is `None`.
    pub(super) fn of_client(
        &self,
        client: IpAddr,
        port: Option<u16>,
    ) -> impl Iterator<Item = &Race> {
        let matches = move |race: &&Race| {
            race.client.ip() == client && port.is_none_or(|port| race.client.port() == port)
        };
        self.races.iter().rev().filter(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn race(n: u64, why: Why) -> Race {
        Race {
            at: Ticks(n),
            service: 0,
            client: SocketAddr::new([10, 0, (n >> 8) as u8, n as u8].into(), 1),
            asked: ArrayVec::new(),
            copies: CopiesWanted::ALL,
            why,
            answers: ArrayVec::new(),
        }
    }

    #[test]
    fn the_oldest_races_are_forgotten() {
        let mut history = History::default();
        (0..RACES as u64 + 5).for_each(|n| history.asked(race(n, Why::Fresh)));
        assert_eq!(history.races.len(), RACES);
        let found = |n| history.of_client(race(n, Why::Fresh).client.ip(), Some(1)).count();
        assert_eq!((found(4), found(5)), (0, 1));
        assert_eq!(history.last.len(), RACES);
    }

    #[test]
    fn answers_belong_to_the_last_race_of_their_client() {
        let mut history = History::default();
        history.asked(race(7, Why::Fresh));
        let key = (0, race(7, Why::Fresh).client);
        let answer = |after| Answer {
            responder: [198, 51, 100, 10].into(),
            is_origin: false,
            is_direct: true,
            has_won: true,
            after,
        };
        assert!(history.answered(key, Ticks(17), answer).is_some());
        history.asked(race(7, Why::Repetition));
        let shown: Vec<_> = history.of_client(key.1.ip(), None).collect();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].answers[0].after, Ticks(10));
        assert!(history.answered((1, key.1), Ticks(17), answer).is_none());
    }
}
