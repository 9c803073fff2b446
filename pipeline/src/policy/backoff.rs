//! Destinations whose path drops start packets that bear the tag: left untagged for a while.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::base::time::Ticks;

/// The most destinations remembered.
const DESTINATIONS: usize = 4096;
/// How often, at the most, a full map is looked through: that takes a while.
const TIDY: Ticks = Ticks::from_secs(1);
/// Races in a row whose first two start packets went unanswered before a path is given up.
const MISSES: u8 = 3;

#[derive(Clone, Copy, Debug)]
struct Path {
    misses: u8,
    /// Untagged until then.
    until: Ticks,
    /// When it last missed.
    missed: Ticks,
}

/// What one worker knows of paths.
#[derive(Debug)]
pub struct Backoff {
    span: Ticks,
    paths: HashMap<IpAddr, Path>,
    /// When the map was last looked through for what can be forgotten.
    tidied: Ticks,
}

impl Backoff {
    /// Gives a path up for `span`.
    pub fn new(span: Ticks) -> Self {
        Self { span, paths: HashMap::with_capacity(2 * DESTINATIONS), tidied: Ticks(0) }
    }

    /// Whether start packets to this destination go untagged now.
    pub fn holds(&self, server: IpAddr, now: Ticks) -> bool {
        !self.paths.is_empty() && self.paths.get(&server).is_some_and(|path| now < path.until)
    }

    /// A race's tagged start packets went unanswered twice; `true` when the path is given up.
    pub fn missed(&mut self, server: IpAddr, now: Ticks) -> bool {
        if self.paths.len() == DESTINATIONS && !self.paths.contains_key(&server) {
            if now.since(self.tidied) < TIDY {
                return false;
            }
            let span = self.span;
            self.tidied = now;
            self.paths.retain(|_, path| now < path.until || now.since(path.missed) < span);
            if self.paths.len() == DESTINATIONS {
                return false;
            }
        }
        let fresh = Path { misses: 0, until: Ticks(0), missed: now };
        let path = self.paths.entry(server).or_insert(fresh);
        path.misses += 1;
        path.missed = now;
        let tag_backoffs = path.misses >= MISSES;
        if tag_backoffs {
            (path.misses, path.until) = (0, now + self.span);
        }
        tag_backoffs
    }

    /// A tagged start packet was answered: the path takes them.
    pub fn answered(&mut self, server: IpAddr) {
        if !self.paths.is_empty() {
            self.paths.remove(&server);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_misses_in_a_row_give_a_path_up_for_the_span() {
        let server = IpAddr::from([203, 0, 113, 10]);
        let mut backoff = Backoff::new(Ticks::from_secs(600));
        let at = Ticks::from_secs;
        backoff.missed(server, at(1));
        backoff.missed(server, at(2));
        backoff.answered(server);
        backoff.missed(server, at(3));
        backoff.missed(server, at(4));
        assert!(!backoff.holds(server, at(4)));
        assert!(backoff.missed(server, at(5)));
        assert!(backoff.holds(server, at(5)) && backoff.holds(server, at(604)));
        assert!(!backoff.holds(server, at(605)));
        assert!(!backoff.holds(IpAddr::from([203, 0, 113, 11]), at(5)));
    }

    #[test]
    fn remembers_no_more_than_its_limit() {
        let mut backoff = Backoff::new(Ticks::from_secs(600));
        for n in 0..3 * DESTINATIONS as u32 {
            backoff.missed(IpAddr::from(n.to_be_bytes()), Ticks::from_secs(1));
        }
        assert_eq!(backoff.paths.len(), DESTINATIONS);
        backoff.missed(IpAddr::from([1, 1, 1, 1]), Ticks::from_secs(700));
        assert_eq!(backoff.paths.len(), 1);
    }
}
