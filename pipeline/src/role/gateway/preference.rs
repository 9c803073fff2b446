//! The server that a client address had last, for services that want its next connections there.

use hashbrown::HashMap;

use crate::base::time::Ticks;
use crate::wire::family::Family;

/// The most client addresses of one worker and family.
const CLIENTS: usize = 1 << 16;
/// The shortest time between two scans of a full map, because a scan visits every entry.
const SCAN_INTERVAL: Ticks = Ticks::from_secs(1);

/// Who has a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Preferred {
    /// The origin.
    Origin,
    /// A replica of the site with this prefix.
    Site(u128),
}

/// The servers that client addresses had last.
#[derive(Debug)]
pub(super) struct Preferences<F: Family> {
    last: HashMap<(u16, F::Address), (Preferred, Ticks)>,
    last_scan: Ticks,
}

impl<F: Family> Preferences<F> {
    /// Returns an empty map, which has memory only if a service needs it.
    pub(super) fn new(is_needed: bool) -> Self {
        let capacity = if is_needed { 2 * CLIENTS } else { 0 };
        Self { last: HashMap::with_capacity(capacity), last_scan: Ticks(0) }
    }

    /// Returns whether there is memory.
    pub(super) fn is_kept(&self) -> bool {
        self.last.capacity() > 0
    }

    /// Returns the server that a client had within `lasting`, for a connection that is about to
    /// begin.
    pub(super) fn find(
        &mut self,
        service: u16,
        client: F::Address,
        lasting: Ticks,
        now: Ticks,
    ) -> Option<Preferred> {
        let (preferred, since) = self.last.get_mut(&(service, client))?;
        if now.since(*since) > lasting {
            return None;
        }
        *since = now;
        Some(*preferred)
    }

    /// Notes who has won a client's race. In a full map, new clients have no preference until older
    /// ones have been without a connection for `lasting`.
    pub(super) fn note(
        &mut self,
        service: u16,
        client: F::Address,
        (preferred, lasting): (Preferred, Ticks),
        now: Ticks,
    ) {
        let key = (service, client);
        if self.last.len() >= CLIENTS && !self.last.contains_key(&key) {
            if now.since(self.last_scan) < SCAN_INTERVAL {
                return;
            }
            self.last_scan = now;
            self.last.retain(|_, (_, since)| now.since(*since) <= lasting);
            if self.last.len() >= CLIENTS {
                return;
            }
        }
        self.last.insert(key, (preferred, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::family::V4;

    #[test]
    fn a_preference_lasts_since_the_last_connection() {
        let (client, s) = ([198, 18, 1, 10].into(), Ticks::from_secs);
        let mut all = Preferences::<V4>::new(true);
        all.note(1, client, (Preferred::Site(7), s(10)), s(100));
        assert_eq!(all.find(1, client, s(10), s(110)), Some(Preferred::Site(7)));
        assert_eq!(all.find(1, client, s(10), s(120)), Some(Preferred::Site(7)));
        assert_eq!(all.find(1, client, s(10), s(131)), None);
        assert_eq!(all.find(2, client, s(10), s(120)), None);
    }

    #[test]
    fn a_full_map_makes_room_by_age() {
        let mut all = Preferences::<V4>::new(true);
        let client = |n: u32| n.to_be_bytes().into();
        let note = |all: &mut Preferences<V4>, n, at| {
            all.note(0, client(n), (Preferred::Origin, Ticks::from_secs(10)), Ticks::from_secs(at));
            all.find(0, client(n), Ticks::from_secs(10), Ticks::from_secs(at)).is_some()
        };
        (0..CLIENTS as u32).for_each(|n| assert!(note(&mut all, n, 1)));
        assert!(!note(&mut all, 1 << 20, 2));
        assert!(note(&mut all, 1 << 20, 12));
        assert_eq!(all.last.len(), 1);
    }
}
