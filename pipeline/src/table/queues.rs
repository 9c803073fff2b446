//! Which entries have expired: the queues of the states, and the cursor for what they do not order.

use super::{Entry, FREE, FULL_SWEEP, Key, NIL, Slot, Table};
use crate::base::time::Ticks;

/// How many states an entry can wait in.
pub const QUEUES: usize = 4;

/// The states of an entry, each with a queue and a time-out of its own.
pub trait State: Copy + PartialEq {
    /// The queue's number, below [`QUEUES`].
    fn queue(self) -> usize;
    /// Whether every packet of the connection touches the entry.
    fn is_lazy(self) -> bool;
    /// Whether a new entry may push out the oldest of this state when the table is full.
    fn is_evictable(self) -> bool;
    /// All states in the order of their queues.
    const ALL: [Self; QUEUES];
}

impl<K: Key, S: State, V: Copy> Table<K, S, V> {
    /// Removes expired entries, `limit` at most from each queue and among the next `limit`
    /// entries in memory; gives how many. Never more work than that, however many expired.
    pub fn expire(&mut self, now: Ticks, limit: usize) -> usize {
        let before = self.live;
        self.expire_queued(now, limit);
        self.sweep(now, limit);
        before - self.live
    }

    /// Of the queues that are in order.
    fn expire_queued(&mut self, now: Ticks, limit: usize) {
        let before = self.live;
        for state in S::ALL.into_iter().filter(|state| !state.is_lazy()) {
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

    /// Of those that come next in memory, in whatever state.
    fn sweep(&mut self, now: Ticks, limit: usize) {
        let before = self.live;
        for _ in 0..limit.min(self.entries.len()) {
            self.cursor = if self.cursor + 1 < self.entries.len() { self.cursor + 1 } else { 0 };
            let slot = Slot(self.cursor as u32);
            if self.get(slot).previous != FREE && self.is_expired(slot, now) {
                self.remove(slot);
            }
        }
        self.expired += (before - self.live) as u64;
    }

    /// A full table looks for an expired entry: those in order first, then a few others, once a
    /// burst. A flood of start packets must not pay for that with each.
    pub(super) fn make_room(&mut self, now: Ticks) {
        self.expire_queued(now, 1);
        if self.live == self.capacity && self.swept != Some(now) {
            self.swept = Some(now);
            self.sweep(now, FULL_SWEEP);
        }
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
