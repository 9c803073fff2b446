//! Frames that a core finds in its L3 cache, as it does those of a network card.
//!
//! A card writes frames into L3 (DDIO, or the memory controller's like). The core that receives
//! them finds their headers there, not in its own caches. A callback on net_null stamps buffers
//! that were in use a moment ago, which are in L1. So stamped frames wait here until many others
//! have passed: the oldest ones are received, from L3.

use firstack::dpdk::{Mbuf, PoolHandle};
use pipeline::packet::buffer::Pool;

/// Frames of a port that wait. The three cache lines of a 60-byte frame (its own, and two of its
/// buffer's header) come to 6 MiB for two ports, three times the L2 of a large core.
pub const WAITING: usize = 16_384;

/// The frames of a port that wait to be received.
#[derive(Debug)]
pub struct Waiting {
    pool: PoolHandle,
    frames: Vec<Mbuf>,
    oldest: usize,
}

impl Waiting {
    /// Creates an empty queue, which takes [`WAITING`] buffers from a pool when it is first used.
    pub fn new(pool: PoolHandle) -> Self {
        Self { pool, frames: Vec::new(), oldest: 0 }
    }

    /// Frees all buffers.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.oldest = 0;
    }

    /// Replaces frames that have just been stamped by the oldest ones, of `len` bytes. Returns
    /// their number, which is 0 if the pool has too few buffers.
    ///
    /// `stamp` writes a frame, to fill the queue when it is empty.
    #[inline(always)]
    pub fn exchange(
        &mut self,
        frames: &mut [Mbuf],
        len: usize,
        stamp: impl FnMut(&mut Mbuf),
    ) -> usize {
        if self.frames.is_empty() && !self.fill(len, stamp) {
            return 0;
        }
        if self.oldest + frames.len() > WAITING {
            self.oldest = 0;
        }
        self.frames[self.oldest..][..frames.len()].swap_with_slice(frames);
        self.oldest += frames.len();
        for frame in &mut *frames {
            // A driver writes the lengths, too: the buffer's header is in L1, the frame is not.
            frame.set_len(len as u16);
        }
        frames.len()
    }

    #[cold]
    fn fill(&mut self, len: usize, mut stamp: impl FnMut(&mut Mbuf)) -> bool {
        self.frames.reserve_exact(WAITING);
        while self.frames.len() < WAITING {
            let Some(mut frame) = self.pool.alloc(len) else { break };
            stamp(&mut frame);
            self.frames.push(frame);
        }
        if self.frames.len() < WAITING {
            self.frames.clear();
        }
        !self.frames.is_empty()
    }
}
