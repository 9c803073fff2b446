//! Frames that wait for a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::time::Ticks;

/// The largest length of a frame that can wait, in bytes: that of a SYN or SYN/ACK with all options
/// and several extension headers.
pub const FRAME_BYTES: usize = 256;

/// The number of causes that are told apart.
const CAUSES: usize = 1 << 10;

/// Returns how many of so many places one cause may take: an eighth, where there are many.
fn share(capacity: usize) -> u16 {
    u16::try_from((capacity / 8).max(capacity.min(16) / 2)).unwrap_or(u16::MAX)
}

#[derive(Clone, Copy, Debug)]
struct Stored<T> {
    what: T,
    cause: u16,
    length: u16,
    bytes: [u8; FRAME_BYTES],
}

/// Copies of frames that wait, each until its own time. All memory is allocated when the value is
/// created.
///
/// ```rust
/// use pipeline::base::time::Ticks;
/// use pipeline::packet::delayed::DelayedFrames;
///
/// // Two causes, each of which may take half of the places.
/// let mut delayed = DelayedFrames::new(4);
/// assert!(delayed.push(Ticks(20), &[2; 60], "second", 7));
/// assert!(delayed.push(Ticks(10), &[1; 60], "first", 7));
/// assert!(!delayed.push(Ticks(30), &[3; 60], "too many", 7));
/// assert!(delayed.push(Ticks(30), &[3; 60], "of another cause", 8));
/// assert!(delayed.take_due(Ticks(9)).is_none());
/// let (what, frame) = delayed.take_due(Ticks(25)).unwrap();
/// assert_eq!((what, frame[0]), ("first", 1));
/// ```
#[derive(Debug)]
pub struct DelayedFrames<T> {
    /// By time, then in the order of arrival.
    queue: BinaryHeap<Reverse<(Ticks, u64, u32)>>,
    stored: Vec<Option<Stored<T>>>,
    free: Vec<u32>,
    pushed: u64,
    /// The number of frames by cause.
    held: Box<[u16]>,
    /// The most frames of one cause.
    share: u16,
}

impl<T: Copy> DelayedFrames<T> {
    /// Returns an empty store for so many frames.
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: BinaryHeap::with_capacity(capacity),
            stored: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u32).rev().collect(),
            pushed: 0,
            held: vec![0; if capacity == 0 { 1 } else { CAUSES }].into_boxed_slice(),
            share: share(capacity),
        }
    }

    /// Returns how many frames there is room for, including those that wait.
    pub fn capacity(&self) -> usize {
        self.stored.len()
    }

    /// Stores a copy of a frame until `due`. Returns `false` when the store is full, when the cause,
    /// a keyed hash, has its share of it, or when the frame is longer than [`FRAME_BYTES`].
    #[must_use]
    pub fn push(&mut self, due: Ticks, frame: &[u8], what: T, cause: u32) -> bool {
        let cause = cause as usize % self.held.len();
        if frame.len() > FRAME_BYTES || self.held[cause] >= self.share {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let mut bytes = [0; FRAME_BYTES];
        bytes[..frame.len()].copy_from_slice(frame);
        self.held[cause] += 1;
        let (length, cause) = (frame.len() as u16, cause as u16);
        self.stored[slot as usize] = Some(Stored { what, cause, length, bytes });
        self.queue.push(Reverse((due, self.pushed, slot)));
        self.pushed += 1;
        true
    }

    /// Takes out a frame whose time has come, the oldest first, with what was stored beside it.
    #[inline]
    pub fn take_due(&mut self, now: Ticks) -> Option<(T, Frame)> {
        match self.queue.peek() {
            Some(Reverse((due, ..))) if *due <= now => self.take(),
            _ => None,
        }
    }

    /// Takes out the frame whose time comes next, however late that is.
    pub fn take(&mut self) -> Option<(T, Frame)> {
        let Reverse((_, _, slot)) = self.queue.pop()?;
        let Stored { what, cause, length, bytes } = self.stored[slot as usize].take()?;
        self.held[usize::from(cause)] -= 1;
        self.free.push(slot);
        Some((what, Frame { length, bytes }))
    }
}

/// The bytes of a frame that has waited.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    length: u16,
    bytes: [u8; FRAME_BYTES],
}

impl std::ops::Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_time_leave_in_the_order_of_their_arrival() {
        let mut delayed = DelayedFrames::new(6);
        for (due, what) in [(5, 'b'), (5, 'c'), (4, 'a')] {
            assert!(delayed.push(Ticks(due), &[0; 60], what, 0));
        }
        assert_eq!(delayed.take().unwrap().0, 'a');
        assert!(delayed.push(Ticks(1), &[7; 42], 'd', 0), "a place is free again");
        let (what, frame) = delayed.take_due(Ticks(1)).unwrap();
        assert_eq!((what, &*frame), ('d', &[7; 42][..]));
        assert_eq!(delayed.take_due(Ticks(5)).unwrap().0, 'b');
        assert_eq!(delayed.take_due(Ticks(5)).unwrap().0, 'c');
        assert!(!delayed.push(Ticks(1), &[0; FRAME_BYTES + 1], 'e', 0));
    }

    #[test]
    fn a_cause_has_its_share_and_gets_it_back() {
        let mut delayed = DelayedFrames::new(4096);
        let push = |delayed: &mut DelayedFrames<u32>, cause| {
            (0..5000).filter(|n| delayed.push(Ticks(1), &[0; 60], *n, cause)).count()
        };
        assert_eq!(push(&mut delayed, 1), 512);
        assert_eq!(push(&mut delayed, 2), 512);
        assert!(delayed.take().is_some());
        assert_eq!((push(&mut delayed, 1), push(&mut delayed, 2)), (1, 0));
    }
}
