//! Frames that wait until it is known to which MAC address they go.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::buffer::{Buffer, Pool};
use crate::neighbours::Neighbours;
use crate::time::Ticks;
use crate::wire::ethernet;

/// The most frames that one worker keeps waiting.
pub const FRAMES: usize = 64;
/// The most bytes of one of them.
pub const FRAME_BYTES: usize = 2048;
/// The most frames that leave at once: they must fit into what leaves besides a burst.
const RELEASED: usize = 32;
/// How long a frame waits. By then a client has sent its start packet again.
const PATIENCE: Ticks = Ticks::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct Held {
    address: IpAddr,
    since: Ticks,
    /// Number of the place that its bytes are in.
    place: u8,
    length: u16,
}

/// The waiting frames of one worker: copies, for the buffers belong to the port they came by.
/// All memory is allocated at the start.
#[derive(Debug)]
pub struct Waiting {
    /// In the order of arrival.
    held: ArrayVec<Held, FRAMES>,
    /// Places that no frame is in.
    free: ArrayVec<u8, FRAMES>,
    bytes: Box<[[u8; FRAME_BYTES]]>,
    /// What [`Neighbours::changes`] was when all frames were last looked at.
    seen: u64,
}

impl Default for Waiting {
    fn default() -> Self {
        let free = (0..FRAMES as u8).collect();
        let bytes = vec![[0; FRAME_BYTES]; FRAMES].into_boxed_slice();
        Self { held: ArrayVec::new(), free, bytes, seen: 0 }
    }
}

impl Waiting {
    /// No frame waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Keeps a copy of a frame, complete but for its destination MAC address, until the MAC
    /// address of `address` is known. `false` when there is no room, or the frame is too long.
    #[must_use]
    pub fn hold(&mut self, address: IpAddr, frame: &[u8], now: Ticks) -> bool {
        if !(ethernet::HEADER..=FRAME_BYTES).contains(&frame.len()) {
            return false;
        }
        let Some(place) = self.free.pop() else { return false };
        self.bytes[usize::from(place)][..frame.len()].copy_from_slice(frame);
        self.held.push(Held { address, since: now, place, length: frame.len() as u16 });
        true
    }

    /// Sends the frames whose MAC address has become known, those of one address in the order
    /// of their arrival; at most half a burst at once, the others at the next call. Drops those
    /// that have waited for more than a second, or that the pool has no buffer for: says how
    /// many.
    #[inline]
    pub fn release<P: Pool>(
        &mut self,
        neighbours: &Neighbours,
        pool: &mut P,
        now: Ticks,
        send: impl FnMut(P::Buffer),
    ) -> usize {
        let Some(oldest) = self.held.first() else { return 0 };
        // Asked before the neighbours are: what is learned meanwhile is seen at the next call.
        let changes = neighbours.changes();
        if changes == self.seen && now.since(oldest.since) <= PATIENCE {
            return 0;
        }
        self.look_at_all(neighbours, pool, (now, changes), send)
    }

    #[cold]
    fn look_at_all<P: Pool>(
        &mut self,
        neighbours: &Neighbours,
        pool: &mut P,
        (now, changes): (Ticks, u64),
        mut send: impl FnMut(P::Buffer),
    ) -> usize {
        let Self { held, free, bytes, seen } = self;
        let (mut sent, mut dropped) = (0, 0);
        *seen = changes;
        held.retain(|frame| {
            if now.since(frame.since) > PATIENCE {
                dropped += 1;
            } else if let Some(mac) = neighbours.find(frame.address) {
                if sent == RELEASED {
                    // Some are left: look at them next time, whatever is learned until then.
                    *seen = changes.wrapping_sub(1);
                    return true;
                }
                let whole = &bytes[usize::from(frame.place)][..usize::from(frame.length)];
                match pool.alloc(whole.len()) {
                    Some(mut buffer) => {
                        let copy = buffer.head_mut();
                        copy.copy_from_slice(whole);
                        ethernet::set_destination(copy, mac);
                        send(buffer);
                        sent += 1;
                    }
                    None => dropped += 1,
                }
            } else {
                return true;
            }
            free.push(frame.place);
            false
        });
        dropped
    }
}
