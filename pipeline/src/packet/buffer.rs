//! What the pipeline needs of a packet buffer, and a plain one for tests and replay.
//!
//! A DPDK mbuf implements [`Buffer`] in the appliance; [`HeapBuffer`] does here.
//! A frame may be spread over several segments (a jumbo frame in small mbufs): every
//! header the pipeline reads lies in the first one, which [`Buffer::head`] gives.

/// One frame, owned. Dropping it gives it back to where it came from.
pub trait Buffer: Sized {
    /// The first segment's bytes, from the Ethernet header on.
    fn head(&self) -> &[u8];

    /// The first segment's bytes, to be changed in place.
    fn head_mut(&mut self) -> &mut [u8];

    /// Length of the whole frame in bytes, all segments together.
    fn frame_len(&self) -> usize;

    /// Grows the frame by `count` bytes at its front, whose content is unspecified.
    /// `false`, and nothing changed, when there is no headroom.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Removes `count` bytes at the front; at most `head().len()` of them.
    fn trim_front(&mut self, count: usize);

    /// Shortens the frame to `len` bytes; a frame that is no longer stays as it is.
    fn truncate(&mut self, len: usize);

    /// Whether the frame is all in its first segment.
    fn is_contiguous(&self) -> bool {
        self.head().len() == self.frame_len()
    }
}

/// Where new frames come from: resets, tunnel copies, ARP probes.
pub trait Pool {
    /// What the pool hands out.
    type Buffer: Buffer;

    /// A contiguous frame of `len` bytes with headroom in front, content unspecified.
    /// `None` when the pool is empty or `len` is more than one buffer holds.
    fn alloc(&mut self, len: usize) -> Option<Self::Buffer>;
}

/// Bytes kept free in front of a [`HeapBuffer`], as DPDK's default headroom.
pub const HEADROOM: usize = 128;

/// A frame on the heap, for tests and replay.
#[derive(Clone, Debug)]
pub struct HeapBuffer {
    bytes: Vec<u8>,
    start: usize,
    first_segment: usize,
}

impl HeapBuffer {
    /// A contiguous frame with these bytes.
    pub fn new(frame: &[u8]) -> Self {
        Self::segmented(frame, usize::MAX)
    }

    /// A frame of which only the first `first_segment` bytes are contiguous.
    pub fn segmented(frame: &[u8], first_segment: usize) -> Self {
        let mut bytes = vec![0; HEADROOM];
        bytes.extend_from_slice(frame);
        Self { bytes, start: HEADROOM, first_segment: first_segment.min(frame.len()) }
    }

    /// The whole frame, all segments.
    pub fn frame(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl Buffer for HeapBuffer {
    fn head(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.first_segment]
    }

    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.first_segment]
    }

    fn frame_len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn prepend(&mut self, count: usize) -> bool {
        if count > self.start {
            return false;
        }
        self.start -= count;
        self.first_segment += count;
        true
    }

    fn trim_front(&mut self, count: usize) {
        assert!(count <= self.first_segment);
        self.start += count;
        self.first_segment -= count;
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
        self.first_segment = self.first_segment.min(self.frame_len());
    }
}

/// A pool of [`HeapBuffer`]s that can be made to run dry.
#[derive(Debug)]
pub struct HeapPool {
    left: usize,
}

impl HeapPool {
    /// A pool that hands out `limit` buffers and then fails.
    pub fn with_limit(limit: usize) -> Self {
        Self { left: limit }
    }
}

impl Default for HeapPool {
    fn default() -> Self {
        Self::with_limit(usize::MAX)
    }
}

impl Pool for HeapPool {
    type Buffer = HeapBuffer;

    fn alloc(&mut self, len: usize) -> Option<HeapBuffer> {
        self.left = self.left.checked_sub(1)?;
        Some(HeapBuffer::new(&vec![0; len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_and_back_move_independently() {
        let mut buffer = HeapBuffer::new(&[1, 2, 3, 4, 5]);
        buffer.trim_front(2);
        assert_eq!(buffer.head(), [3, 4, 5]);
        buffer.truncate(2);
        assert_eq!(buffer.frame(), [3, 4]);
        assert!(buffer.prepend(1));
        buffer.head_mut()[0] = 9;
        assert_eq!(buffer.frame(), [9, 3, 4]);
        assert!(!buffer.prepend(HEADROOM + 2));
        assert_eq!(buffer.frame_len(), 3);
    }

    #[test]
    fn a_segmented_frame_shows_only_its_first_segment() {
        let mut buffer = HeapBuffer::segmented(&[7; 100], 64);
        assert_eq!((buffer.head().len(), buffer.frame_len()), (64, 100));
        assert!(!buffer.is_contiguous());
        buffer.truncate(40);
        assert!(buffer.is_contiguous());
    }

    #[test]
    fn a_limited_pool_runs_dry() {
        let mut pool = HeapPool::with_limit(1);
        assert!(pool.alloc(60).is_some());
        assert!(pool.alloc(60).is_none());
    }
}
