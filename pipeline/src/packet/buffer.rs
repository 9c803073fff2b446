//! The packet buffer that the pipeline needs, and one on the heap for tests and replay.
//!
//! A DPDK mbuf implements [`Buffer`] in the appliance; [`HeapBuffer`] implements it here. A frame
//! may have several segments, such as a jumbo frame in small mbufs. Every header that the pipeline
//! reads is in the first one, which [`Buffer::head`] returns.

/// A frame, owned, or borrowed for changes. Dropping an owned one returns its memory to where it came
/// from.
pub trait Buffer: Sized {
    /// Returns the bytes of the first segment, from the Ethernet header on.
    fn head(&self) -> &[u8];

    /// Returns the bytes of the first segment for changes, from the Ethernet header on.
    fn head_mut(&mut self) -> &mut [u8];

    /// Returns the length of the whole frame in bytes, over all segments.
    fn frame_len(&self) -> usize;

    /// Grows the frame by `count` bytes of unspecified content at its front. Returns `false` and
    /// changes nothing if the headroom is too small.
    #[must_use]
    fn prepend(&mut self, count: usize) -> bool;

    /// Removes `count` bytes at the front, which must not be more than the first segment has.
    fn trim_front(&mut self, count: usize);

    /// Shortens the frame to `len` bytes. A frame that is not longer is left unchanged.
    fn truncate(&mut self, len: usize);

    /// Returns whether the port has verified the checksum of the frame's first IPv4 header and found
    /// it right. `false` says nothing: the port may not verify, or not this packet.
    ///
    /// [`Buffer::prepend`] and [`Buffer::trim_front`] end it, because another header may be the
    /// first one then. A change in place keeps it, as it has to keep the checksum right.
    #[inline(always)]
    fn ip_checksum_is_good(&self) -> bool {
        false
    }

    /// Returns whether the port has verified the checksum of the TCP segment or UDP datagram in the
    /// frame's first IP packet and found it right; as [`Buffer::ip_checksum_is_good`] otherwise.
    #[inline(always)]
    fn l4_checksum_is_good(&self) -> bool {
        false
    }

    /// Returns whether the whole frame is in its first segment.
    fn is_contiguous(&self) -> bool {
        self.head().len() == self.frame_len()
    }
}

impl<B: Buffer> Buffer for &mut B {
    #[inline(always)]
    fn head(&self) -> &[u8] {
        (**self).head()
    }

    #[inline(always)]
    fn head_mut(&mut self) -> &mut [u8] {
        (**self).head_mut()
    }

    #[inline(always)]
    fn frame_len(&self) -> usize {
        (**self).frame_len()
    }

    #[inline(always)]
    fn prepend(&mut self, count: usize) -> bool {
        (**self).prepend(count)
    }

    #[inline(always)]
    fn trim_front(&mut self, count: usize) {
        (**self).trim_front(count);
    }

    #[inline(always)]
    fn truncate(&mut self, len: usize) {
        (**self).truncate(len);
    }

    #[inline(always)]
    fn is_contiguous(&self) -> bool {
        (**self).is_contiguous()
    }

    #[inline(always)]
    fn ip_checksum_is_good(&self) -> bool {
        (**self).ip_checksum_is_good()
    }

    #[inline(always)]
    fn l4_checksum_is_good(&self) -> bool {
        (**self).l4_checksum_is_good()
    }
}

/// A source of buffers for the frames that a role generates: resets, copies, fragments, ARP probes.
pub trait Pool {
    /// The type of the buffers.
    type Buffer: Buffer;

    /// Allocates a contiguous frame of `len` bytes with headroom in front. The content is
    /// unspecified. Returns `None` if the pool is empty or a buffer is smaller than `len`.
    fn alloc(&mut self, len: usize) -> Option<Self::Buffer>;
}

/// Number of free bytes in front of a new [`HeapBuffer`], equal to DPDK's default headroom.
pub const HEADROOM: usize = 128;

/// A frame on the heap, for tests and replay.
///
/// ```rust
/// use pipeline::packet::buffer::{Buffer, HeapBuffer};
///
/// let mut buffer = HeapBuffer::new(&[1, 2, 3, 4]);
/// buffer.trim_front(2);
/// assert!(buffer.prepend(1));
/// buffer.head_mut()[0] = 9;
/// assert_eq!(buffer.frame(), [9, 3, 4]);
///
/// // Only the first segment of a longer frame can be read.
/// let jumbo = HeapBuffer::segmented(&[7; 9000], 2048);
/// assert_eq!((jumbo.head().len(), jumbo.frame_len()), (2048, 9000));
/// ```
#[derive(Clone, Debug)]
pub struct HeapBuffer {
    bytes: Vec<u8>,
    start: usize,
    first_segment: usize,
    verified: bool,
}

impl HeapBuffer {
    /// Creates a contiguous frame with these bytes.
    pub fn new(frame: &[u8]) -> Self {
        Self::segmented(frame, usize::MAX)
    }

    /// Creates a frame of which only the first `first_segment` bytes are contiguous.
    pub fn segmented(frame: &[u8], first_segment: usize) -> Self {
        let mut bytes = vec![0; HEADROOM];
        bytes.extend_from_slice(frame);
        let first_segment = first_segment.min(frame.len());
        Self { bytes, start: HEADROOM, first_segment, verified: false }
    }

    /// Creates a contiguous frame with these bytes, whose checksums the port calls right; whether
    /// they are is up to the test.
    pub fn verified(frame: &[u8]) -> Self {
        Self { verified: true, ..Self::new(frame) }
    }

    /// Returns the whole frame, over all segments.
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
        self.verified = false;
        true
    }

    fn trim_front(&mut self, count: usize) {
        assert!(count <= self.first_segment);
        self.start += count;
        self.first_segment -= count;
        self.verified = false;
    }

    fn truncate(&mut self, len: usize) {
        self.bytes.truncate(self.start + len);
        self.first_segment = self.first_segment.min(self.frame_len());
    }

    fn ip_checksum_is_good(&self) -> bool {
        self.verified
    }

    fn l4_checksum_is_good(&self) -> bool {
        self.verified
    }
}

/// A pool of [`HeapBuffer`]s that can be limited, to test how a role behaves when there are no
/// buffers.
#[derive(Debug)]
pub struct HeapPool {
    remaining: usize,
}

impl HeapPool {
    /// Creates a pool that allocates `limit` buffers and then fails.
    pub fn with_limit(limit: usize) -> Self {
        Self { remaining: limit }
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
        self.remaining = self.remaining.checked_sub(1)?;
        Some(HeapBuffer::new(&vec![0; len]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_and_back_change_independently() {
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
    fn a_frame_with_another_front_is_not_verified_any_more() {
        let good =
            |buffer: &HeapBuffer| (buffer.ip_checksum_is_good(), buffer.l4_checksum_is_good());
        assert_eq!(good(&HeapBuffer::new(&[7; 100])), (false, false));
        let mut longer = HeapBuffer::verified(&[7; 100]);
        let mut shorter = longer.clone();
        longer.truncate(60);
        longer.head_mut()[0] = 9;
        assert_eq!(good(&longer), (true, true));
        assert!(!longer.prepend(HEADROOM + 1));
        assert_eq!(good(&longer), (true, true));
        assert!(longer.prepend(20));
        shorter.trim_front(20);
        assert_eq!((good(&longer), good(&shorter)), ((false, false), (false, false)));
    }

    #[test]
    fn a_limited_pool_fails_after_its_last_buffer() {
        let mut pool = HeapPool::with_limit(1);
        assert!(pool.alloc(60).is_some());
        assert!(pool.alloc(60).is_none());
    }
}
