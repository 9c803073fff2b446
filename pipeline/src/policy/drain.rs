//! What an operator has drained at a gateway or a switch, and what is left of it.
//!
//! Control thread and workers share it: the control thread says what is drained, and the workers
//! count what is left, in passes over their tables between bursts. A worker reads it for a SYN, and
//! once for each step of a pass.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use crate::base::time::Ticks;

/// The number of drains made so far.
static DRAINS: AtomicU32 = AtomicU32::new(0);

/// Entries that a worker counts at once.
const STEP: usize = 64;
/// Free places that it passes over for an entry less: one cache line tells of many that they are free.
const FREE_IN_STEP: usize = 16;

/// What is drained, and how many connections are left there.
///
/// # Examples
/// ```
/// use pipeline::policy::drain::Drain;
///
/// let drain = Drain::new(2);
/// drain.set_service(1, true);
/// assert!(drain.holds(1) && !drain.holds(0));
/// drain.set_whole(true);
/// assert!(drain.holds(0));
/// ```
#[derive(Debug)]
pub struct Drain {
    /// Tells it from others.
    id: u32,
    whole: AtomicBool,
    services: Box<[OfService]>,
    /// Rises whenever something else is drained. Zero: nothing ever was.
    generation: AtomicU32,
    /// How many workers have counted everything since the generation began.
    counted: AtomicU32,
}

/// One service.
#[derive(Debug, Default)]
struct OfService {
    is_drained: AtomicBool,
    connections: AtomicU64,
    seen: AtomicU64,
}

/// The connections that are left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// How many.
    pub connections: u64,
    /// When the last packet of any of them came; zero without any.
    pub seen: Ticks,
}

impl Drain {
    /// Returns a drain of so many services, none of which is drained.
    pub fn new(services: usize) -> Self {
        Self {
            id: DRAINS.fetch_add(1, Relaxed),
            whole: AtomicBool::new(false),
            services: (0..services).map(|_| OfService::default()).collect(),
            generation: AtomicU32::new(0),
            counted: AtomicU32::new(0),
        }
    }

    /// Returns whether a service gets no new races or copies: it is drained, or everything is.
    #[inline]
    pub fn holds(&self, service: usize) -> bool {
        self.is_whole() || self.is_service(service)
    }

    /// Returns whether everything is drained.
    pub fn is_whole(&self) -> bool {
        self.whole.load(Relaxed)
    }

    /// Returns whether a service is drained by itself.
    pub fn is_service(&self, service: usize) -> bool {
        self.services.get(service).is_some_and(|service| service.is_drained.load(Relaxed))
    }

    /// Drains everything, or undrains it; services that are drained by themselves stay so.
    pub fn set_whole(&self, is_drained: bool) {
        self.whole.store(is_drained, Relaxed);
        self.begin();
    }

    /// Drains a service, or undrains it. Returns `false` if there is none of this number.
    pub fn set_service(&self, service: usize, is_drained: bool) -> bool {
        let Some(found) = self.services.get(service) else { return false };
        found.is_drained.store(is_drained, Relaxed);
        self.begin();
        true
    }

    fn begin(&self) {
        self.counted.store(0, Relaxed);
        self.generation.fetch_add(1, Relaxed);
    }

    /// Returns whether anything is drained.
    fn is_any(&self) -> bool {
        self.is_whole() || self.services.iter().any(|service| service.is_drained.load(Relaxed))
    }

    /// Returns what is left of a service; `None` while one of so many workers is still counting for
    /// the first time since something else was drained.
    pub fn left_of(&self, service: usize, workers: usize) -> Option<Left> {
        if (self.counted.load(Relaxed) as usize) < workers {
            return None;
        }
        let service = self.services.get(service)?;
        let connections = service.connections.load(Relaxed);
        let seen = if connections == 0 { 0 } else { service.seen.load(Relaxed) };
        Some(Left { connections, seen: Ticks(seen) })
    }

    /// Returns what is left of all services; `None` as for one.
    pub fn left(&self, workers: usize) -> Option<Left> {
        let mut left = Left::default();
        if (self.counted.load(Relaxed) as usize) < workers {
            return None;
        }
        for service in 0..self.services.len() {
            let Left { connections, seen } = self.left_of(service, workers)?;
            left.connections += connections;
            left.seen = left.seen.max(seen);
        }
        Some(left)
    }
}

/// One worker's count of what is left: a pass over its tables, a few entries at a time, again and
/// again while something is drained.
#[derive(Debug, Default)]
pub struct Count {
    /// The drain that it counts for; `None` at first.
    drain: Option<u32>,
    generation: u32,
    /// The next entry, in the order of all tables.
    next: usize,
    /// What the current pass has found, by service.
    found: Box<[u32]>,
    /// What the last pass has found.
    published: Box<[u32]>,
    /// Whether a pass of this generation was finished.
    is_counted: bool,
}

impl Count {
    /// Counts a few entries, if something is drained. `extent` is the number of places for entries
    /// in all tables. `at` returns `None` for a free place; for one with an entry the service of the
    /// connection and when its last packet came, if it counts.
    #[inline]
    pub fn step(
        &mut self,
        drain: &Drain,
        extent: usize,
        at: impl FnMut(usize) -> Option<Option<(usize, Ticks)>>,
    ) {
        if drain.generation.load(Relaxed) != 0 && drain.is_any() {
            self.count(drain, extent, at);
        }
    }

    #[cold]
    fn count(
        &mut self,
        drain: &Drain,
        extent: usize,
        mut at: impl FnMut(usize) -> Option<Option<(usize, Ticks)>>,
    ) {
        if self.drain != Some(drain.id) {
            // Once for each configuration.
            let none = || vec![0; drain.services.len()].into_boxed_slice();
            let (found, published) = (none(), none());
            *self = Self { drain: Some(drain.id), found, published, ..Self::default() };
        }
        let generation = drain.generation.load(Relaxed);
        if generation != self.generation {
            (self.generation, self.next, self.is_counted) = (generation, 0, false);
            self.found.fill(0);
        }
        let mut cost = 0;
        while self.next < extent && cost < STEP * FREE_IN_STEP {
            let found = at(self.next);
            self.next += 1;
            cost += if found.is_some() { FREE_IN_STEP } else { 1 };
            let Some((service, seen)) = found.flatten() else { continue };
            let Some(found) = self.found.get_mut(service) else { continue };
            *found += 1;
            if let Some(service) = drain.services.get(service) {
                service.seen.fetch_max(seen.0, Relaxed);
            }
        }
        if self.next >= extent {
            self.publish(drain);
        }
    }

    /// Publishes the result of a pass, and begins the next one.
    fn publish(&mut self, drain: &Drain) {
        let counts = self.found.iter_mut().zip(&mut self.published);
        for (service, (found, published)) in drain.services.iter().zip(counts) {
            let difference = u64::from(*found).wrapping_sub(u64::from(*published));
            service.connections.fetch_add(difference, Relaxed);
            (*published, *found) = (*found, 0);
        }
        self.next = 0;
        if !std::mem::replace(&mut self.is_counted, true) {
            drain.counted.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a pass over places with these services.
    fn pass(count: &mut Count, drain: &Drain, places: &[Option<usize>]) {
        for _ in 0..=places.len() / STEP {
            count.step(drain, places.len(), |place| {
                Some(Some((places[place]?, Ticks::from_secs(place as u64))))
            });
        }
    }

    #[test]
    fn nothing_is_counted_until_something_is_drained() {
        let (drain, mut count) = (Drain::new(2), Count::default());
        pass(&mut count, &drain, &[Some(0); 9]);
        assert_eq!(drain.left(1), None);
        drain.set_service(0, true);
        assert_eq!(drain.left(1), None, "not counted yet");
        pass(&mut count, &drain, &[Some(0), None, Some(1), Some(0)]);
        assert_eq!(drain.left_of(0, 1), Some(Left { connections: 2, seen: Ticks::from_secs(3) }));
        assert_eq!(drain.left(1).map(|left| left.connections), Some(3));
    }

    #[test]
    fn a_step_looks_at_as_many_entries_whether_they_count_or_not() {
        let (drain, entry) = (Drain::new(1), Some((0, Ticks(1))));
        drain.set_whole(true);
        for (place, expected) in
            [(Some(entry), STEP), (Some(None), STEP), (None, STEP * FREE_IN_STEP)]
        {
            let (mut count, mut looked) = (Count::default(), 0);
            count.step(&drain, usize::MAX, |_| {
                looked += 1;
                place
            });
            assert_eq!(looked, expected);
        }
    }

    #[test]
    fn a_later_pass_replaces_what_an_earlier_one_has_found() {
        let (drain, mut count) = (Drain::new(1), Count::default());
        drain.set_whole(true);
        let mut places = [Some(0); 3 * STEP + 5];
        pass(&mut count, &drain, &places);
        assert_eq!(drain.left(1).unwrap().connections, 3 * STEP as u64 + 5);
        places[3..].fill(None);
        pass(&mut count, &drain, &places);
        assert_eq!(drain.left(1).unwrap().connections, 3);
        places.fill(None);
        pass(&mut count, &drain, &places);
        assert_eq!(drain.left(1), Some(Left::default()), "no time without a connection");
    }

    #[test]
    fn every_worker_has_to_count_once_for_each_change() {
        let (drain, mut counts) = (Drain::new(2), [Count::default(), Count::default()]);
        assert!(drain.set_service(1, true) && !drain.set_service(2, true));
        pass(&mut counts[0], &drain, &[Some(1)]);
        pass(&mut counts[0], &drain, &[Some(1)]);
        assert_eq!(drain.left_of(1, 2), None);
        pass(&mut counts[1], &drain, &[]);
        assert_eq!(drain.left_of(1, 2).unwrap().connections, 1);
        drain.set_whole(true);
        assert_eq!(drain.left_of(1, 2), None);
        counts.iter_mut().for_each(|count| pass(count, &drain, &[Some(1)]));
        assert_eq!(drain.left_of(1, 2).unwrap().connections, 2);
    }

    #[test]
    fn a_count_begins_anew_for_another_drain() {
        let (first, second, mut count) = (Drain::new(1), Drain::new(3), Count::default());
        [&first, &second].iter().for_each(|drain| drain.set_whole(true));
        pass(&mut count, &first, &[Some(0), Some(0)]);
        pass(&mut count, &second, &[Some(0), Some(2)]);
        assert_eq!(first.left(1).unwrap().connections, 2);
        assert_eq!(second.left_of(2, 1).unwrap().connections, 1);
        assert_eq!(second.left(1).unwrap().connections, 2);
    }

    #[test]
    fn a_service_stays_drained_when_the_whole_is_not_any_more() {
        let drain = Drain::new(2);
        drain.set_service(0, true);
        drain.set_whole(true);
        assert!(drain.holds(0) && drain.holds(1) && !drain.is_service(1));
        drain.set_whole(false);
        assert!(drain.holds(0) && !drain.holds(1));
    }
}
