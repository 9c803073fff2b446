//! A burst of packets on its way through a role, and what leaves.

use arrayvec::ArrayVec;

use crate::buffer::Buffer;
use crate::stage::fragment;
use crate::verdict::Verdict;
use crate::view::{Side, View};

/// The most packets in a burst. 32 to 64 is the best; at 128 the buffers of a burst no longer
/// stay in a core's mempool cache, and the rate halves.
pub const BURST: usize = 64;

/// The packets received at once from one side, in order, each looked at once.
#[derive(Debug)]
pub struct Burst<B> {
    pub(crate) frames: ArrayVec<B, BURST>,
    /// Of the frames, in their order; what is behind the last is left over.
    pub(crate) views: [View; BURST],
    /// After a role has processed the burst: one verdict per packet, in order.
    pub verdicts: ArrayVec<Verdict, BURST>,
}

impl<B> Default for Burst<B> {
    fn default() -> Self {
        let views = [View::NOTHING; BURST];
        Self { frames: ArrayVec::new(), views, verdicts: ArrayVec::new() }
    }
}

impl<B: Buffer> Burst<B> {
    /// Takes received frames, up to the burst's capacity, and looks at each.
    pub fn fill(&mut self, frames: impl Iterator<Item = B>) {
        self.verdicts.clear();
        self.frames.clear();
        for (frame, view) in frames.zip(&mut self.views) {
            *view = View::parse(frame.head(), frame.frame_len());
            self.frames.push(frame);
        }
    }

    /// Empties it, to be filled by [`Burst::push`].
    pub fn clear(&mut self) {
        self.verdicts.clear();
        self.frames.clear();
    }

    /// Adds a frame that has been looked at; there must be room for it.
    #[inline]
    pub fn push(&mut self, frame: B, view: View) {
        self.views[self.frames.len()] = view;
        self.frames.push(frame);
    }

    /// How many packets there are that no role has processed.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The packets' first segments and views.
    pub(crate) fn looks(&self) -> impl Iterator<Item = (&[u8], &View)> {
        self.frames.iter().map(Buffer::head).zip(&self.views)
    }
}

/// What leaves, by side, in order. Never grows past the capacity it was made with.
#[derive(Debug)]
pub struct Output<B>([Vec<B>; 2]);

impl<B> Output<B> {
    /// Room for what a full burst can turn into when each packet makes up to `copies` more, or is
    /// sent in fragments.
    pub fn new(copies: usize) -> Self {
        let side = || Vec::with_capacity(BURST * (1 + copies).max(fragment::MOST));
        Self([side(), side()])
    }

    /// Sends a frame by a side.
    #[inline]
    pub fn send(&mut self, side: Side, frame: B) {
        debug_assert!(self.has_room(side));
        self.0[side as usize].push(frame);
    }

    /// Whether a side takes another frame without allocating.
    pub fn has_room(&self, side: Side) -> bool {
        self.room(side) > 0
    }

    /// How many more frames a side takes without allocating.
    pub fn room(&self, side: Side) -> usize {
        let frames = &self.0[side as usize];
        frames.capacity() - frames.len()
    }

    /// The frames that leave by a side, to be taken out.
    pub fn side(&mut self, side: Side) -> &mut Vec<B> {
        &mut self.0[side as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_packets_that_all_go_in_fragments_has_room() {
        assert_eq!(Output::<u8>::new(1).room(Side::Outside), BURST * fragment::MOST);
        assert_eq!(Output::<u8>::new(64).room(Side::Inside), BURST * 65);
    }
}
