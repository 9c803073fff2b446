//! The frames of a burst, while a role decides about them one after the other.
//!
//! Most bursts leave as they came: their frames are moved to the output together, and not one by one
//! (benchmark `instructions`: a tenth of a packet's instructions).
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ptr;
use std::slice;

use arrayvec::ArrayVec;

use super::burst::BURST;

/// The frames of a burst, in order: first those that are decided and not moved yet, then those that
/// are not decided. Frames that are not moved are dropped with it.
///
/// Invariant: `moved <= decided <= count`, and the frames from `moved` to `count` at `frames` are
/// initialised and owned by this value alone.
pub(crate) struct Undecided<'a, B> {
    frames: *mut B,
    moved: usize,
    decided: usize,
    count: usize,
    place: PhantomData<&'a mut ArrayVec<B, BURST>>,
}

impl<'a, B> Undecided<'a, B> {
    /// Takes all frames out of a vector.
    #[inline(always)]
    pub(crate) fn new(frames: &'a mut ArrayVec<B, BURST>) -> Self {
        let count = frames.len();
        // SAFETY: zero elements are initialised. Those that were are owned by the new value.
        unsafe { frames.set_len(0) };
        let frames = frames.as_mut_ptr();
        Self { frames, moved: 0, decided: 0, count, place: PhantomData }
    }

    /// Returns the frames that are not decided.
    #[inline(always)]
    pub(crate) fn rest(&mut self) -> &mut [B] {
        // SAFETY: the frames from `decided`, which is at least `moved`, to `count` are initialised,
        // owned by `self`, and borrowed with it.
        unsafe {
            let first = self.frames.add(self.decided);
            slice::from_raw_parts_mut(first, self.count - self.decided)
        }
    }

    /// Notes that the first `number` frames of the burst are decided.
    ///
    /// # Panics
    /// If there are fewer, or more are decided already.
    #[inline(always)]
    pub(crate) fn decide(&mut self, number: usize) {
        assert!((self.decided..=self.count).contains(&number), "frames that are not decided");
        self.decided = number;
    }

    /// Moves the frames that are decided to the end of `output`.
    #[inline]
    pub(crate) fn send(&mut self, output: &mut Vec<B>) {
        let frames = self.decided - self.moved;
        if frames == 0 {
            return;
        }
        // The output has enough capacity: this never allocates.
        output.reserve(frames);
        // SAFETY: the frames from `moved` to `decided` are initialised and owned by `self`, which
        // gives them up in the same step. The output has room for them, and is another allocation.
        unsafe {
            let from = self.frames.add(self.moved);
            ptr::copy_nonoverlapping(from, output.as_mut_ptr().add(output.len()), frames);
            output.set_len(output.len() + frames);
        }
        self.moved = self.decided;
    }

    /// Takes out the frame that was decided last, after moving those before it to the end of `output`.
    ///
    /// # Panics
    /// If that was taken out or moved already, or there was none.
    #[inline]
    pub(crate) fn take(&mut self, output: &mut Vec<B>) -> B {
        assert!(self.moved < self.decided, "a frame was decided");
        self.decided -= 1;
        self.send(output);
        let number = self.decided;
        (self.decided, self.moved) = (number + 1, number + 1);
        // SAFETY: the frame was initialised and owned by `self`, which has just given it up.
        unsafe { self.frames.add(number).read() }
    }
}

impl<B> Drop for Undecided<'_, B> {
    #[inline(always)]
    fn drop(&mut self) {
        let left = self.count - self.moved;
        if left > 0 {
            // SAFETY: these frames are initialised and owned by `self`, which is gone afterwards.
            unsafe {
                ptr::drop_in_place(ptr::slice_from_raw_parts_mut(
                    self.frames.add(self.moved),
                    left,
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[test]
    fn frames_keep_their_order_whether_they_leave_together_or_alone() {
        let mut frames: ArrayVec<String, BURST> = (0..6).map(|number| number.to_string()).collect();
        let mut output = Vec::with_capacity(BURST);
        let mut undecided = Undecided::new(&mut frames);
        for number in 0..6 {
            undecided.rest()[0].push('x');
            undecided.decide(number + 1);
            if matches!(number, 0 | 3 | 4) {
                let frame = undecided.take(&mut output);
                assert_eq!(frame, format!("{number}x"));
                // What it causes comes after those before it, and before those behind it.
                output.push(format!("of {number}"));
            }
        }
        assert!(undecided.rest().is_empty());
        undecided.send(&mut output);
        undecided.send(&mut output);
        drop(undecided);
        assert_eq!(output, ["of 0", "1x", "2x", "of 3", "of 4", "5x"]);
        assert!(frames.is_empty());
    }

    #[test]
    fn a_frame_is_dropped_once_wherever_it_is() {
        let frame = Rc::new(());
        let mut frames: ArrayVec<_, BURST> = (0..8).map(|_| Rc::clone(&frame)).collect();
        let mut output = Vec::with_capacity(BURST);
        let mut undecided = Undecided::new(&mut frames);
        undecided.decide(3);
        drop(undecided.take(&mut output));
        undecided.decide(4);
        assert_eq!(undecided.rest().len(), 4);
        assert_eq!((Rc::strong_count(&frame), output.len()), (8, 2));
        drop(undecided);
        assert_eq!(Rc::strong_count(&frame), 3);
        drop(output);
        assert_eq!(Rc::strong_count(&frame), 1);
    }

    #[test]
    #[should_panic(expected = "a frame was decided")]
    fn a_frame_is_taken_once() {
        let mut frames: ArrayVec<u8, BURST> = [1, 2].into_iter().collect();
        let mut undecided = Undecided::new(&mut frames);
        undecided.decide(1);
        undecided.take(&mut Vec::new());
        undecided.take(&mut Vec::new());
    }

    #[test]
    #[should_panic(expected = "frames that are not decided")]
    fn no_more_frames_are_decided_than_there_are() {
        let mut frames: ArrayVec<u8, BURST> = [1, 2].into_iter().collect();
        Undecided::new(&mut frames).decide(3);
    }
}
