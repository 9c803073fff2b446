//! A burst of packets on its way through a role, and what leaves.

use arrayvec::ArrayVec;

use crate::packet::buffer::Buffer;
use crate::packet::view::{Headers, Side, View};
use crate::stage::fragment;
use crate::verdict::Verdict;
use crate::wire::family::V4;

/// The most packets in a burst. 32 to 64 is the best; at 128 the buffers of a burst no longer
/// stay in a core's mempool cache, and the rate halves.
pub const BURST: usize = 64;

/// A packet that has been looked at.
pub(crate) struct Parsed<'a> {
    /// Its first segment.
    pub(crate) head: &'a [u8],
    pub(crate) view: &'a View,
    /// Its headers, when they are at their usual places and it is TCP over IPv4.
    pub(crate) plain: Option<Headers<'a, V4>>,
}

/// The packets received at once from one side, in order, each looked at once.
#[derive(Debug)]
pub struct Burst<B> {
    pub(crate) frames: ArrayVec<B, BURST>,
    /// Of the frames, in their order; what is behind the last is left over.
    pub(crate) views: [View; BURST],
    /// Whether the views are known.
    parsed: bool,
    verdicts: [Verdict; BURST],
    /// How many of the verdicts there are.
    decided: usize,
}

impl<B> Default for Burst<B> {
    fn default() -> Self {
        let views = [View::NOTHING; BURST];
        let verdicts = [Verdict::NonIp; BURST];
        Self { frames: ArrayVec::new(), views, parsed: false, verdicts, decided: 0 }
    }
}

impl<B: Buffer> Burst<B> {
    /// Takes received frames, up to the burst's capacity.
    pub fn fill(&mut self, frames: impl Iterator<Item = B>) {
        self.frames.clear();
        self.frames().extend(frames.take(BURST));
    }

    /// Where frames are received into, when there are none left.
    #[inline(always)]
    pub fn frames(&mut self) -> &mut ArrayVec<B, BURST> {
        self.parsed = false;
        &mut self.frames
    }

    /// After a role has processed the burst: one verdict per packet, in order.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts[..self.decided]
    }

    /// The packets to be decided upon, in order, each with its view and the place of its verdict.
    #[inline(always)]
    pub(crate) fn decide(&mut self) -> impl Iterator<Item = (B, &View, &mut Verdict)> {
        self.decided = self.frames.len();
        let known = self.views.iter().zip(&mut self.verdicts);
        self.frames.drain(..).zip(known).map(|(frame, (view, verdict))| (frame, view, verdict))
    }

    /// Empties it, to be filled by [`Burst::push`].
    pub fn clear(&mut self) {
        (self.parsed, self.decided) = (true, 0);
        self.frames.clear();
    }

    /// Adds a frame that has been looked at; there must be room for it.
    #[inline]
    pub fn push(&mut self, frame: B, view: View) {
        self.views[self.frames.len()].assign(view);
        self.parsed = true;
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

    /// Looks at a packet, unless that has been done.
    #[inline(always)]
    pub(crate) fn parse(&mut self, number: usize) -> Parsed<'_> {
        let frame = &self.frames[number];
        let (head, view) = (frame.head(), &mut self.views[number]);
        let plain = match self.parsed {
            true => view.is_plain::<V4>(),
            false => view.parse_in_place(head, frame.frame_len()),
        };
        Parsed { head, view, plain: Headers::of(head).filter(|_| plain) }
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
    #[inline(always)]
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
