//! Expiry: one queue for each state, and a cursor for the states that are not queued in order of
//! expiry.

use super::{Entry, FULL_SWEEP, Key, NIL, Slot, Table, place_of, slot_of};
use crate::base::time::Ticks;

/// The most states an entry can be in, each with a queue.
pub const QUEUES: usize = 8;

/// The state of an entry. Each state has its own queue and time-out.
pub trait State: Copy + PartialEq + 'static {
    /// Returns the number of the state's queue: its place in [`State::ALL`].
    fn queue(self) -> usize;
    /// Returns whether every packet of the connection touches the entry, so that its queue is not
    /// in order of expiry.
    fn is_lazy(self) -> bool;
    /// Returns the rank of the state in the order of eviction. A new entry of a full table evicts
    /// an entry of the lowest rank, of states with the same rank the one that was touched least
    /// recently. `None`: entries of this state are established connections. They count for the
    /// share of their client's prefix, and are not evicted while in use.
    fn eviction_rank(self) -> Option<u8>;
    /// All states, at most [`QUEUES`], in the order of their queues.
    const ALL: &'static [Self];
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Removes expired entries and returns how many.
    ///
    /// Removes at most `limit` entries from each ordered queue, and checks the next `limit` entries
    /// in memory, or passes over as many buckets that have none. This bounds the work per call, however many entries have expired.
    pub fn expire(&mut self, now: Ticks, limit: usize) -> usize {
        let before = self.live;
        self.expire_queued(now, limit);
        self.sweep(now, limit);
        before - self.live
    }

    /// Removes up to `limit` expired entries from each queue that is in order.
    fn expire_queued(&mut self, now: Ticks, limit: usize) {
        let before = self.live;
        for state in S::ALL.iter().filter(|state| !state.is_lazy()) {
            for _ in 0..limit {
                let first = self.queues[state.queue()].first;
                if first == NIL || !self.is_expired(Slot(first), now) {
                    break;
                }
                self.remove(Slot(first));
            }
        }
        self.expired += (before - self.live) as u64;
    }

    /// Removes the expired ones among the next `limit` entries in memory, in any state. An empty bucket
    /// counts for an entry. None is checked twice.
    fn sweep(&mut self, now: Ticks, limit: usize) {
        if limit == 0 {
            return;
        }
        let (before, mut left) = (self.live, limit);
        let (last, begin) = (self.buckets.len(), slot_of(self.cursor));
        let (mut bucket, mut slot) = begin;
        // The bucket where it begins is the last, too, with the slots before that one.
        for number in 0..=last {
            let from = u32::MAX << slot;
            let until = if number == last { !(u32::MAX << begin.1) } else { u32::MAX };
            let mut used = self.buckets[bucket].used() & from & until;
            left -= usize::from(used == 0);
            while used != 0 && left > 0 {
                slot = used.trailing_zeros() as usize;
                let entry = Slot(place_of(bucket, slot));
                if self.is_expired(entry, now) {
                    self.remove(entry);
                }
                used &= used - 1;
                left -= 1;
            }
            (bucket, slot) = match used {
                0 if number == last => begin,
                0 => (self.after(bucket), 0),
                _ => (bucket, slot + 1),
            };
            if left == 0 {
                break;
            }
        }
        self.cursor = place_of(bucket, slot);
        self.expired += (before - self.live) as u64;
    }

    /// Frees an expired entry of a full table: from the ordered queues, or else by a sweep over a
    /// few others. The sweep is limited to one a burst, so that a SYN flood does not cause one for
    /// each packet. Returns whether there was one.
    pub(super) fn expire_for_insert(&mut self, now: Ticks) -> bool {
        self.expire_queued(now, 1);
        let sweeps = self.live == self.capacity && self.swept != Some(now);
        if sweeps {
            self.swept = Some(now);
            self.swept_from = self.cursor;
            self.sweep(now, FULL_SWEEP);
        }
        sweeps
    }

    /// Returns the entry that a new one evicts from a full table: the first in the order of
    /// eviction.
    pub(super) fn evictable(&self) -> Option<u32> {
        S::ALL
            .iter()
            .filter_map(|state| Some((state.eviction_rank()?, self.queues[state.queue()].first)))
            .filter(|&(_, first)| first != NIL)
            .min_by_key(|&(rank, first)| (rank, self.entries[first as usize].seen))
            .map(|(_, first)| first)
    }

    pub(super) fn link(&mut self, index: u32, state: S) {
        let queue = &mut self.queues[state.queue()];
        let last = std::mem::replace(&mut queue.last, index);
        if last == NIL {
            queue.first = index;
        } else {
            self.entries[last as usize].next = index;
        }
        let entry = &mut self.entries[index as usize];
        (entry.previous, entry.next, entry.state) = (last, NIL, state);
        self.entries.point();
        self.lengths[state.queue()] += 1;
    }

    pub(super) fn unlink(&mut self, index: u32) {
        let Entry { next, previous, state, .. } = self.entries[index as usize];
        let queue = &mut self.queues[state.queue()];
        if previous == NIL {
            queue.first = next;
        } else {
            self.entries[previous as usize].next = next;
        }
        if next == NIL {
            self.queues[state.queue()].last = previous;
        } else {
            self.entries[next as usize].previous = previous;
        }
        self.lengths[state.queue()] -= 1;
    }
}
