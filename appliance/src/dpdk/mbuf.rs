//! A frame in DPDK's memory. Fields are accessed in place; DPDK is called only to free segments.

use std::fmt;
use std::ptr::{self, NonNull};
use std::slice;

use dpdk_sys::rte_mbuf;
use pipeline::base::prefetch::prefetch;
use pipeline::packet::buffer::Buffer;

/// The bytes from a buffer's structure to where a port writes a frame.
const RECEIVED_AT: usize = size_of::<rte_mbuf>() + dpdk_sys::FIRSTACK_HEADROOM as usize;

/// A frame: an owned chain of segments that nothing else refers to. Dropping it returns the
/// segments to their pools.
///
/// Invariant: the pointer is to the first segment of a chain that DPDK handed out and that has not
/// been freed; in each segment `data_off + data_len <= buf_len`; in the first one `nb_segs` and
/// `pkt_len` describe the chain, whose last `next` is null.
///
/// The layout is that of a pointer to an `rte_mbuf`; other crates may rely on it.
#[repr(transparent)]
pub struct Mbuf(NonNull<rte_mbuf>);

// SAFETY: the owner has the only reference to the segments, and pools accept segments from any
// thread.
unsafe impl Send for Mbuf {}

/// The offload flags that say what the port thinks of a received packet's checksums.
const CHECKSUMS: u64 =
    dpdk_sys::FIRSTACK_MBUF_IP_CKSUM_MASK | dpdk_sys::FIRSTACK_MBUF_L4_CKSUM_MASK;

impl Mbuf {
    fn raw(&self) -> &rte_mbuf {
        // SAFETY: valid and owned by `self`, by the type's invariant.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut rte_mbuf {
        // SAFETY: valid and owned by `self` alone, by the type's invariant.
        unsafe { self.0.as_mut() }
    }

    /// Asks the CPU for the cache lines of a frame that another core has had and that this one is
    /// about to forward: both of the structure's, and the first of its data as a port receives it.
    /// Reads nothing, so nothing waits for them yet.
    #[inline(always)]
    pub fn prefetch(&self) {
        let raw = self.raw();
        prefetch(raw);
        // Whoever frees the frame reads it.
        prefetch(&raw.next);
        // SAFETY: behind the structure there are the headroom and the data of the buffer, in the same
        // element of its pool (`MbufPool::new`), which `self` owns.
        prefetch(unsafe { &*self.0.as_ptr().cast::<u8>().add(RECEIVED_AT) });
    }

    /// Sets the frame's length in bytes. Bytes that are new have arbitrary content.
    ///
    /// # Panics
    /// If the frame has several segments, or the segment has not enough room.
    #[inline]
    pub fn set_len(&mut self, len: u16) {
        let raw = self.raw_mut();
        assert!(raw.nb_segs == 1, "one segment");
        assert!(usize::from(raw.data_off) + usize::from(len) <= usize::from(raw.buf_len));
        raw.data_len = len;
        raw.pkt_len = u32::from(len);
    }

    /// Returns the bytes of the frame, segment by segment.
    pub fn segments(&self) -> Segments<'_> {
        Segments { next: Some(self.raw()) }
    }

    /// Returns the number of segments.
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs)
    }

    /// Returns whether the port has computed an RSS hash, which means that the packet is of a kind
    /// that the port hashes.
    #[inline]
    pub fn is_hashed(&self) -> bool {
        self.raw().ol_flags & dpdk_sys::FIRSTACK_MBUF_RSS_HASH != 0
    }

    /// Returns whether the port's verdict in these offload flags is the good one, and about the
    /// frame's first IP packet: a port that has recognized a tunnel means the packet inside.
    ///
    /// By itself the good verdict of igb, ixgbe and i40e says only that no error was found, also of a
    /// frame that the card has not parsed so far. The caller must look for the layer in the packet's type.
    #[inline]
    fn verified(&self, mask: u64, good: u64) -> bool {
        let raw = self.raw();
        raw.ol_flags & mask == good && raw.packet_type & dpdk_sys::FIRSTACK_PTYPE_TUNNEL_MASK == 0
    }

    /// Prefetches the first cache line of the frame, in which all headers of most packets begin.
    #[inline(always)]
    pub fn prefetch_headers(&self) {
        if let Some(first) = self.head().first() {
            prefetch(first);
        }
    }

    /// Returns DPDK's number of the port that received the frame; meaningless for an allocated
    /// frame.
    pub fn port(&self) -> u16 {
        self.raw().port
    }
}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: `self` owns the chain and is dropped; the memory is valid until every mbuf is
        // back in its pool (see `Runtime`).
        unsafe { dpdk_sys::firstack_free(self.0.as_ptr()) }
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("frame_len", &self.frame_len())
            .field("segments", &self.segment_count())
            .finish()
    }
}

impl Buffer for Mbuf {
    #[inline]
    fn head(&self) -> &[u8] {
        bytes(self.raw())
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        // SAFETY: `data_off + data_len <= buf_len` bytes at `buf_addr` belong to this segment,
        // which `self` owns alone.
        unsafe {
            let data = raw.buf_addr.cast::<u8>().add(usize::from(raw.data_off));
            slice::from_raw_parts_mut(data, usize::from(raw.data_len))
        }
    }

    #[inline]
    fn frame_len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    #[inline]
    fn prepend(&mut self, count: usize) -> bool {
        let raw = self.raw_mut();
        if count > usize::from(raw.data_off) {
            return false;
        }
        // This fits: `count` is at most `data_off`, and offset and length together stay within
        // `buf_len`.
        raw.data_off -= count as u16;
        raw.data_len += count as u16;
        raw.pkt_len += count as u32;
        raw.ol_flags &= !CHECKSUMS;
        true
    }

    #[inline]
    fn trim_front(&mut self, count: usize) {
        let raw = self.raw_mut();
        assert!(count <= usize::from(raw.data_len));
        raw.data_off += count as u16;
        raw.data_len -= count as u16;
        raw.pkt_len -= count as u32;
        raw.ol_flags &= !CHECKSUMS;
    }

    #[inline]
    fn truncate(&mut self, len: usize) {
        let raw = self.raw_mut();
        if len >= raw.pkt_len as usize {
            return;
        }
        if len <= usize::from(raw.data_len) && raw.next.is_null() {
            raw.data_len = len as u16;
            raw.pkt_len = len as u32;
        } else {
            self.truncate_chain(len);
        }
    }

    #[inline]
    fn ip_checksum_is_good(&self) -> bool {
        // The bit that all types of IPv4 have, and none of IPv6.
        self.raw().packet_type & dpdk_sys::FIRSTACK_PTYPE_L3_IPV4 != 0
            && self.verified(
                dpdk_sys::FIRSTACK_MBUF_IP_CKSUM_MASK,
                dpdk_sys::FIRSTACK_MBUF_IP_CKSUM_GOOD,
            )
    }

    #[inline]
    fn l4_checksum_is_good(&self) -> bool {
        let l4 = self.raw().packet_type & dpdk_sys::FIRSTACK_PTYPE_L4_MASK;
        l4 == dpdk_sys::FIRSTACK_PTYPE_L4_TCP
            && self.verified(
                dpdk_sys::FIRSTACK_MBUF_L4_CKSUM_MASK,
                dpdk_sys::FIRSTACK_MBUF_L4_CKSUM_GOOD,
            )
    }
}

impl Mbuf {
    /// Truncates a chain to `len`, which is less than the frame's length (see
    /// [`Buffer::truncate`]).
    #[cold]
    fn truncate_chain(&mut self, len: usize) {
        let mut kept = 1;
        let mut left = len;
        let mut last = self.0.as_ptr();
        // SAFETY: `last` walks the chain that `self` owns. It stops before the end, because the
        // lengths of all segments add up to `pkt_len`, which is more than `len`; whatever they add
        // up to, a null `next` ends the walk. The rest is unlinked first and freed once, as a chain
        // of its own.
        unsafe {
            while left > usize::from((*last).data_len) && !(*last).next.is_null() {
                left -= usize::from((*last).data_len);
                last = (*last).next;
                kept += 1;
            }
            (*last).data_len = usize::from((*last).data_len).min(left) as u16;
            dpdk_sys::firstack_free(ptr::replace(&raw mut (*last).next, ptr::null_mut()));
        }
        let raw = self.raw_mut();
        raw.nb_segs = kept;
        raw.pkt_len = len as u32;
    }
}

/// Returns the data of one segment.
#[inline]
fn bytes(segment: &rte_mbuf) -> &[u8] {
    // SAFETY: `data_off + data_len <= buf_len` bytes at `buf_addr` belong to the segment, by
    // `Mbuf`'s invariant; the borrow of the segment comes from its owner's.
    unsafe {
        let data = segment.buf_addr.cast::<u8>().add(usize::from(segment.data_off));
        slice::from_raw_parts(data, usize::from(segment.data_len))
    }
}

/// The segments of a frame, in order; returned by [`Mbuf::segments`].
#[derive(Clone)]
pub struct Segments<'a> {
    next: Option<&'a rte_mbuf>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let segment = self.next?;
        // SAFETY: null, or the next segment of a chain whose owner is borrowed for `'a`.
        self.next = unsafe { segment.next.as_ref() };
        Some(bytes(segment))
    }
}

#[cfg(test)]
mod tests {
    use std::mem::{ManuallyDrop, MaybeUninit};

    use super::*;
    use dpdk_sys::{
        FIRSTACK_MBUF_IP_CKSUM_GOOD as IP, FIRSTACK_MBUF_L4_CKSUM_GOOD as L4,
        FIRSTACK_MBUF_RSS_HASH as HASHED,
    };

    /// Calls `check` with a received frame of 100 bytes that has these offload flags.
    fn received(flags: u64, packet_type: u32, check: impl Fn(&mut Mbuf)) {
        let mut bytes = [7_u8; 256];
        // SAFETY: zero is a value of every field.
        let mut raw: rte_mbuf = unsafe { MaybeUninit::zeroed().assume_init() };
        (raw.buf_addr, raw.buf_len) = (bytes.as_mut_ptr().cast(), 256);
        (raw.nb_segs, raw.data_off, raw.data_len, raw.pkt_len) = (1, 128, 100, 100);
        (raw.ol_flags, raw.packet_type) = (flags, packet_type);
        // It has no pool that it could be returned to.
        check(&mut ManuallyDrop::new(Mbuf(NonNull::from(&mut raw))));
    }

    fn good(frame: &Mbuf) -> (bool, bool) {
        (frame.ip_checksum_is_good(), frame.l4_checksum_is_good())
    }

    #[test]
    fn only_the_ports_good_verdict_on_the_outermost_packet_counts() {
        let (ip_bad, l4_bad) = (
            dpdk_sys::FIRSTACK_MBUF_IP_CKSUM_MASK & !IP,
            dpdk_sys::FIRSTACK_MBUF_L4_CKSUM_MASK & !L4,
        );
        for (flags, expected) in [
            (0, (false, false)),
            (HASHED, (false, false)),
            (IP | HASHED, (true, false)),
            (IP | l4_bad, (true, false)),
            (IP | L4, (true, true)),
            (ip_bad | L4, (false, true)),
            // Both bits mean "not correct in the packet, but the data is".
            (ip_bad | IP | l4_bad | L4, (false, false)),
        ] {
            received(flags, 0x0111, |frame| assert_eq!(good(frame), expected, "{flags:#x}"));
            // A tunnel of any kind: the verdicts are on the packet inside.
            for tunnel in [0x1000, 0x2000, 0xf000, 0x10_0000, 0x100_0000] {
                let check =
                    |frame: &mut Mbuf| assert_eq!(good(frame), (false, false), "{flags:#x}");
                received(flags, 0x0111 | tunnel, check);
            }
        }
    }

    #[test]
    fn a_layer_that_the_port_has_not_recognized_is_not_verified() {
        // Nothing; Ethernet; a fragment and UDP over IPv4; IPv6; TCP over IPv6.
        for (packet_type, expected) in [
            (0, (false, false)),
            (0x0001, (false, false)),
            (0x0311, (true, false)),
            (0x0211, (true, false)),
            (0x0041, (false, false)),
            (0x0141, (false, true)),
            (0x0131, (true, true)),
        ] {
            received(IP | L4, packet_type, |frame| {
                assert_eq!(good(frame), expected, "{packet_type:#x}");
            });
        }
    }

    #[test]
    fn a_frame_with_another_front_is_not_verified_any_more() {
        received(IP | L4 | HASHED, 0x0111, |frame| {
            frame.head_mut()[0] = 9;
            frame.truncate(80);
            assert!(!frame.prepend(129));
            assert_eq!(good(frame), (true, true));
            assert!(frame.prepend(20));
            assert_eq!((good(frame), frame.is_hashed()), ((false, false), true));
        });
        received(IP | L4 | HASHED, 0x0111, |frame| {
            frame.trim_front(20);
            assert_eq!((good(frame), frame.is_hashed()), ((false, false), true));
        });
    }
}
