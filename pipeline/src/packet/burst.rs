//! A burst of packets on its way through a role, and the frames that the role sends.

use arrayvec::ArrayVec;

use crate::packet::buffer::Buffer;
use crate::packet::undecided::Undecided;
use crate::packet::view::{Headers, Shape, Side, View};
use crate::stage::fragment;
use crate::verdict::Verdict;
use crate::wire::family::{V4, V6};

/// Largest number of packets in a burst. Throughput is best at 32 to 64; at 128 the buffers of a
/// burst no longer fit into a core's mempool cache, and the rate halves.
pub const BURST: usize = 64;

/// A parsed packet.
pub(crate) struct Parsed<'a> {
    /// The bytes of its first segment.
    pub(crate) head: &'a [u8],
    pub(crate) view: &'a View,
    /// Its headers if it is TCP over IPv4 with all headers at their usual offsets.
    pub(crate) plain: Option<Headers<'a, V4>>,
    /// Its headers if it is such TCP over IPv6.
    pub(crate) plain_v6: Option<Headers<'a, V6>>,
}

/// The packets received at once from one side, in order. Each is parsed once.
///
/// ```rust
/// use firstack_packets::Segment;
/// use pipeline::packet::buffer::HeapBuffer;
/// use pipeline::packet::burst::Burst;
///
/// let [client, server] = ["198.18.1.10:40000", "203.0.113.10:80"];
/// let frames = [Segment::syn(client, server, 7), Segment::ack(client, server, 8, 1)];
///
/// let mut burst = Burst::default();
/// burst.fill(frames.iter().map(|segment| HeapBuffer::new(&segment.frame())));
/// assert_eq!(burst.len(), 2);
/// // A role empties the burst and leaves one verdict for each packet.
/// assert!(burst.verdicts().is_empty());
/// ```
#[derive(Debug)]
pub struct Burst<B> {
    pub(crate) frames: ArrayVec<B, BURST>,
    /// The views of the frames, in the same order. Elements beyond the last frame are stale.
    pub(crate) views: [View; BURST],
    /// Whether the views are valid.
    parsed: bool,
    verdicts: [Verdict; BURST],
    /// Number of verdicts.
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
    /// Replaces the content by received frames, up to [`BURST`] of them.
    pub fn fill(&mut self, frames: impl Iterator<Item = B>) {
        self.frames.clear();
        self.frames().extend(frames.take(BURST));
    }

    /// Returns the vector to receive frames into, once a role has taken out the earlier ones. All
    /// views become invalid.
    #[inline(always)]
    pub fn frames(&mut self) -> &mut ArrayVec<B, BURST> {
        self.parsed = false;
        &mut self.frames
    }

    /// Returns the verdicts after a role has processed the burst: one for each packet, in order.
    pub fn verdicts(&self) -> &[Verdict] {
        &self.verdicts[..self.decided]
    }

    /// Takes out the frames, to be decided about in order, with their views and the places for their
    /// verdicts.
    #[inline(always)]
    pub(crate) fn decide(&mut self) -> (Undecided<'_, B>, &[View; BURST], &mut [Verdict; BURST]) {
        self.decided = self.frames.len();
        (Undecided::new(&mut self.frames), &self.views, &mut self.verdicts)
    }

    /// Empties the burst, so that [`Burst::push`] can fill it.
    pub fn clear(&mut self) {
        (self.parsed, self.decided) = (true, 0);
        self.frames.clear();
    }

    /// Adds a parsed frame.
    ///
    /// # Panics
    /// If the burst is full.
    #[inline]
    pub fn push(&mut self, frame: B, view: View) {
        self.views[self.frames.len()].assign(view);
        self.parsed = true;
        self.frames.push(frame);
    }

    /// Returns the number of packets that no role has processed yet.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether there are no unprocessed packets.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Parses a packet, unless it is parsed already.
    #[inline(always)]
    pub(crate) fn parse(&mut self, number: usize) -> Parsed<'_> {
        let frame = &self.frames[number];
        let (head, view) = (frame.head(), &mut self.views[number]);
        let shape = match self.parsed {
            true => view.shape(),
            false => view.parse_in_place(head, frame.frame_len()),
        };
        let plain = Headers::of(head).filter(|_| shape == Shape::PlainV4);
        let plain_v6 = Headers::of(head).filter(|_| shape == Shape::PlainV6);
        Parsed { head, view, plain, plain_v6 }
    }
}

/// The frames that a role sends, by side, in order.
///
/// It never grows beyond the capacity that it was created with.
///
/// ```rust
/// use pipeline::packet::burst::{BURST, Output};
/// use pipeline::packet::view::Side;
///
/// let mut output = Output::new(1);
/// assert!(output.room(Side::Outside) >= 2 * BURST);
///
/// output.send(Side::Outside, "frame");
/// assert_eq!(*output.side(Side::Outside), ["frame"]);
/// assert!(output.side(Side::Inside).is_empty());
/// ```
#[derive(Debug)]
pub struct Output<B>([Vec<B>; 2]);

impl<B> Output<B> {
    /// Creates an output with enough capacity for a full burst whose packets each cause up to
    /// `copies` more frames, or are sent as fragments.
    pub fn new(copies: usize) -> Self {
        let side = || Vec::with_capacity(BURST * (1 + copies).max(fragment::MOST));
        Self([side(), side()])
    }

    /// Appends a frame to those that leave by a side, which must have space for it.
    #[inline(always)]
    pub fn send(&mut self, side: Side, frame: B) {
        debug_assert!(self.has_room(side));
        self.0[side as usize].push(frame);
    }

    /// Returns whether a side can take another frame without allocating.
    pub fn has_room(&self, side: Side) -> bool {
        self.room(side) > 0
    }

    /// Returns how many more frames a side can take without allocating.
    pub fn room(&self, side: Side) -> usize {
        let frames = &self.0[side as usize];
        frames.capacity() - frames.len()
    }

    /// Returns the frames that leave by a side, for the caller to take out.
    pub fn side(&mut self, side: Side) -> &mut Vec<B> {
        &mut self.0[side as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_fits_when_every_packet_is_fragmented() {
        assert_eq!(Output::<u8>::new(1).room(Side::Outside), BURST * fragment::MOST);
        assert_eq!(Output::<u8>::new(64).room(Side::Inside), BURST * 65);
    }
}
