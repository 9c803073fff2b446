//! Back-off from destinations whose path drops tagged SYNs: SYNs to them stay untagged for a while.

use std::net::IpAddr;

use hashbrown::HashMap;

use crate::base::time::Ticks;

/// The most destinations remembered.
const DESTINATIONS: usize = 4096;
/// The shortest time between two scans of a full map, because a scan visits every entry.
const SCAN_INTERVAL: Ticks = Ticks::from_secs(1);
/// After this number of races in a row whose two tagged SYNs were not answered, the path is backed
/// off from.
const MISSES: u8 = 3;

#[derive(Clone, Copy, Debug)]
struct Path {
    misses: u8,
    /// SYNs stay untagged until this time.
    until: Ticks,
    /// The time at which a race last went unanswered.
    missed: Ticks,
}

/// The paths that one worker has found to drop tagged SYNs, up to 4096 destinations.
///
/// # Examples
/// ```
/// use pipeline::base::time::Ticks;
/// use pipeline::policy::backoff::Backoff;
///
/// let mut backoff = Backoff::new(Ticks::from_secs(600));
/// let server = "203.0.113.10".parse().unwrap();
/// assert!(!backoff.missed(server, Ticks::from_secs(1)));
/// assert!(!backoff.missed(server, Ticks::from_secs(2)));
/// // The third unanswered race in a row.
/// assert!(backoff.missed(server, Ticks::from_secs(3)));
/// assert!(backoff.holds(server, Ticks::from_secs(4)));
/// assert!(!backoff.holds(server, Ticks::from_secs(603)));
/// ```
#[derive(Debug)]
pub struct Backoff {
    span: Ticks,
    paths: HashMap<IpAddr, Path>,
    /// When the map was last scanned for entries that can be removed.
    last_scan: Ticks,
}

impl Backoff {
    /// Returns an empty map. A path is backed off from for `span`.
    pub fn new(span: Ticks) -> Self {
        Self { span, paths: HashMap::with_capacity(2 * DESTINATIONS), last_scan: Ticks(0) }
    }

    /// Returns whether SYNs to this destination stay untagged now.
    pub fn holds(&self, server: IpAddr, now: Ticks) -> bool {
        !self.paths.is_empty() && self.paths.get(&server).is_some_and(|path| now < path.until)
    }

    /// Notes that both tagged SYNs of a race went unanswered. Returns whether the path is backed
    /// off from now on.
    pub fn missed(&mut self, server: IpAddr, now: Ticks) -> bool {
        if self.paths.len() == DESTINATIONS && !self.paths.contains_key(&server) {
            if now.since(self.last_scan) < SCAN_INTERVAL {
                return false;
            }
            let span = self.span;
            self.last_scan = now;
            self.paths.retain(|_, path| now < path.until || now.since(path.missed) < span);
            if self.paths.len() == DESTINATIONS {
                return false;
            }
        }
        let fresh = Path { misses: 0, until: Ticks(0), missed: now };
        let path = self.paths.entry(server).or_insert(fresh);
        path.misses += 1;
        path.missed = now;
        let backs_off = path.misses >= MISSES;
        if backs_off {
            (path.misses, path.until) = (0, now + self.span);
        }
        backs_off
    }

    /// Notes that a tagged SYN was answered: the path does not drop the tag.
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
    fn three_misses_in_a_row_back_off_from_a_path_for_the_span() {
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
    fn the_map_does_not_exceed_its_limit() {
        let mut backoff = Backoff::new(Ticks::from_secs(600));
        for n in 0..3 * DESTINATIONS as u32 {
            backoff.missed(IpAddr::from(n.to_be_bytes()), Ticks::from_secs(1));
        }
        assert_eq!(backoff.paths.len(), DESTINATIONS);
        backoff.missed(IpAddr::from([1, 1, 1, 1]), Ticks::from_secs(700));
        assert_eq!(backoff.paths.len(), 1);
    }
}
