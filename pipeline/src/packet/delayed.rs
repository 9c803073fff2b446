//! Frames that wait for a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::base::time::Ticks;

/// The largest length of a frame that can wait, in bytes: that of a SYN or SYN/ACK with all options
/// and several extension headers.
pub const FRAME_BYTES: usize = 256;

#[derive(Clone, Copy, Debug)]
struct Stored<T> {
    what: T,
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
/// let mut delayed = DelayedFrames::new(2);
/// assert!(delayed.push(Ticks(20), &[2; 60], "second"));
/// assert!(delayed.push(Ticks(10), &[1; 60], "first"));
/// assert!(!delayed.push(Ticks(30), &[3; 60], "too many"));
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
}

impl<T: Copy> DelayedFrames<T> {
    /// Returns an empty store for so many frames.
    pub fn new(capacity: usize) -> Self {
        Self {
            queue: BinaryHeap::with_capacity(capacity),
            stored: (0..capacity).map(|_| None).collect(),
            free: (0..capacity as u32).rev().collect(),
            pushed: 0,
        }
    }

    /// Stores a copy of a frame until `due`. Returns `false` when the store is full or the frame is
    /// longer than [`FRAME_BYTES`].
    #[must_use]
    pub fn push(&mut self, due: Ticks, frame: &[u8], what: T) -> bool {
        if frame.len() > FRAME_BYTES {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        let mut bytes = [0; FRAME_BYTES];
        bytes[..frame.len()].copy_from_slice(frame);
        self.stored[slot as usize] = Some(Stored { what, length: frame.len() as u16, bytes });
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
        let Stored { what, length, bytes } = self.stored[slot as usize].take()?;
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
        let mut delayed = DelayedFrames::new(3);
        for (due, what) in [(5, 'b'), (5, 'c'), (4, 'a')] {
            assert!(delayed.push(Ticks(due), &[0; 60], what));
        }
        assert_eq!(delayed.take().unwrap().0, 'a');
        assert!(delayed.push(Ticks(1), &[7; 42], 'd'), "a place is free again");
        let (what, frame) = delayed.take_due(Ticks(1)).unwrap();
        assert_eq!((what, &*frame), ('d', &[7; 42][..]));
        assert_eq!(delayed.take_due(Ticks(5)).unwrap().0, 'b');
        assert_eq!(delayed.take_due(Ticks(5)).unwrap().0, 'c');
        assert!(!delayed.push(Ticks(1), &[0; FRAME_BYTES + 1], 'e'));
    }
}
