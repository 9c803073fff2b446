//! Frames that wait until it is known to which MAC address they go.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::base::time::Ticks;
use crate::neighbours::Neighbours;
use crate::packet::buffer::{Buffer, Pool};
use crate::wire::ethernet;

/// The most frames that one worker keeps pending.
pub const FRAMES: usize = 64;
/// The most bytes of one of them.
pub const FRAME_BYTES: usize = 2048;
/// The most frames that leave at once: they must fit into what leaves besides a burst.
const RELEASED: usize = 32;
/// How long a frame waits. By then a client has sent its start packet again.
const MAX_WAIT: Ticks = Ticks::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct PendingFrame {
    address: IpAddr,
    since: Ticks,
    /// Number of the place that its bytes are in.
    place: u8,
    length: u16,
}

/// The waiting frames of one worker: copies, for the buffers belong to the port they came by.
/// All memory is allocated at the start.
#[derive(Debug)]
pub struct PendingFrames {
    /// In the order of arrival.
    frames: ArrayVec<PendingFrame, FRAMES>,
    /// Places that no frame is in.
    free: ArrayVec<u8, FRAMES>,
    bytes: Box<[[u8; FRAME_BYTES]]>,
    /// What [`Neighbours::changes`] was when all frames were last looked at.
    seen: u64,
}

impl Default for PendingFrames {
    fn default() -> Self {
        let free = (0..FRAMES as u8).collect();
        let bytes = vec![[0; FRAME_BYTES]; FRAMES].into_boxed_slice();
        Self { frames: ArrayVec::new(), free, bytes, seen: 0 }
    }
}

impl PendingFrames {
    /// No frame waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Keeps a copy of a frame, complete but for its destination MAC address, until the MAC
    /// address of `address` is known. `false` when there is no room, or the frame is too long.
    #[must_use]
    pub fn push(&mut self, address: IpAddr, frame: &[u8], now: Ticks) -> bool {
        if !(ethernet::HEADER..=FRAME_BYTES).contains(&frame.len()) {
            return false;
        }
        let Some(place) = self.free.pop() else { return false };
        self.bytes[usize::from(place)][..frame.len()].copy_from_slice(frame);
        self.frames.push(PendingFrame { address, since: now, place, length: frame.len() as u16 });
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
        let Some(oldest) = self.frames.first() else { return 0 };
        // Asked before the neighbours are: what is learned meanwhile is seen at the next call.
        let changes = neighbours.changes();
        if changes == self.seen && now.since(oldest.since) <= MAX_WAIT {
            return 0;
        }
        self.release_all(neighbours, pool, (now, changes), send)
    }

    #[cold]
    fn release_all<P: Pool>(
        &mut self,
        neighbours: &Neighbours,
        pool: &mut P,
        (now, changes): (Ticks, u64),
        mut send: impl FnMut(P::Buffer),
    ) -> usize {
        let Self { frames, free, bytes, seen } = self;
        let (mut sent, mut dropped) = (0, 0);
        *seen = changes;
        frames.retain(|frame| {
            if now.since(frame.since) > MAX_WAIT {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neighbours::{Answer, Probe, answer};
    use crate::packet::buffer::{HeapBuffer, HeapPool};
    use crate::packet::view::Packet;
    use crate::wire::ethernet::Mac;

    const WEB: [IpAddr; 2] = [
        IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 10)),
        IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10)),
    ];

    struct Rig {
        neighbours: Neighbours,
        pending: PendingFrames,
        pool: HeapPool,
    }

    impl Rig {
        fn new() -> Self {
            let (neighbours, pool) = (Neighbours::new(WEB), HeapPool::default());
            Self { neighbours, pending: PendingFrames::new(), pool }
        }

        fn learn(&self, address: IpAddr, mac: Mac) {
            let probe = Probe::new([2; 6], address);
            let mut frame = vec![0; probe.len()];
            probe.emit(&mut frame);
            let question = Packet::new(HeapBuffer::new(&frame));
            let reply = answer(&question, mac, |_| true, &mut HeapPool::default());
            let Answer::Made(reply) = reply else { panic!("no answer to {probe:?}") };
            assert!(self.neighbours.learn(&Packet::new(reply), Ticks(0)));
        }

        /// Frames with this number in each byte.
        fn push(&mut self, address: IpAddr, numbers: std::ops::Range<u8>, millis: u64) {
            for number in numbers {
                let frame = vec![number; 60 + usize::from(number)];
                assert!(self.pending.push(address, &frame, Ticks::from_millis(millis)));
            }
        }

        /// The numbers of the frames sent, and how many were dropped.
        fn release(&mut self, millis: u64) -> (Vec<u8>, usize) {
            let Self { neighbours, pending, pool } = self;
            let mut sent = Vec::new();
            let dropped = pending.release(neighbours, pool, Ticks::from_millis(millis), |buffer| {
                let (header, number) = (&buffer.frame()[..6], buffer.frame()[6]);
                assert_eq!(header, [4; 6]);
                assert_eq!(buffer.frame()[6..], vec![number; 54 + usize::from(number)]);
                sent.push(number);
            });
            (sent, dropped)
        }
    }

    #[test]
    fn leave_in_their_order_once_the_address_is_known() {
        let mut rig = Rig::new();
        let [first, second] = WEB;
        rig.push(first, 0..2, 0);
        rig.push(second, 2..4, 0);
        rig.push(first, 4..5, 10);
        assert_eq!(rig.release(20), (vec![], 0));
        rig.learn(first, [4; 6]);
        assert_eq!(rig.release(30), (vec![0, 1, 4], 0));
        assert_eq!((rig.pending.len(), rig.release(40)), (2, (vec![], 0)));
        rig.learn(second, [4; 6]);
        assert_eq!(rig.release(50), (vec![2, 3], 0));
        assert!(rig.pending.is_empty());
    }

    #[test]
    fn are_dropped_after_a_second() {
        let mut rig = Rig::new();
        rig.push(WEB[0], 0..3, 0);
        rig.push(WEB[0], 3..4, 500);
        assert_eq!(rig.release(1_000), (vec![], 0));
        assert_eq!(rig.release(1_001), (vec![], 3));
        rig.learn(WEB[0], [4; 6]);
        assert_eq!(rig.release(1_100), (vec![3], 0));
        rig.push(WEB[1], 0..1, 2_000);
        rig.learn(WEB[1], [4; 6]);
        assert_eq!(rig.release(3_001), (vec![], 1), "known, but too late");
    }

    #[test]
    fn are_limited_in_number_and_length() {
        let mut rig = Rig::new();
        let now = Ticks(0);
        assert!(!rig.pending.push(WEB[0], &[0; FRAME_BYTES + 1], now));
        assert!(!rig.pending.push(WEB[0], &[0; ethernet::HEADER - 1], now));
        for round in 0..3 {
            rig.push(WEB[0], 0..FRAMES as u8, 2_000 * round);
            assert!(!rig.pending.push(WEB[0], &[0; 60], now));
            assert_eq!(rig.release(2_000 * round + 1_001), (vec![], FRAMES));
        }
        assert!(rig.pending.push(WEB[0], &[0; FRAME_BYTES], now));
    }

    #[test]
    fn leave_half_a_burst_at_once() {
        let mut rig = Rig::new();
        rig.push(WEB[0], 0..64, 0);
        rig.learn(WEB[0], [4; 6]);
        assert_eq!(rig.release(1), ((0..32).collect(), 0));
        rig.push(WEB[0], 64..70, 2);
        assert_eq!(rig.release(2), ((32..64).collect(), 0));
        assert_eq!(rig.release(3), ((64..70).collect(), 0));
        assert_eq!(rig.release(4), (vec![], 0));
    }

    #[test]
    fn are_dropped_when_there_is_no_buffer() {
        let mut rig = Rig::new();
        rig.push(WEB[0], 0..5, 0);
        rig.learn(WEB[0], [4; 6]);
        rig.pool = HeapPool::with_limit(2);
        assert_eq!(rig.release(1), (vec![0, 1], 3));
        assert!(rig.pending.is_empty());
    }
}
