//! Frames that are pending until the MAC address of their next hop is known.

use std::net::IpAddr;

use arrayvec::ArrayVec;

use crate::base::time::Ticks;
use crate::neighbours::Neighbours;
use crate::packet::buffer::{Buffer, Pool};
use crate::wire::ethernet;

/// Largest number of pending frames of one worker. One address has at most half of them.
pub const FRAMES: usize = 64;
/// Largest length of a pending frame in bytes.
pub const FRAME_BYTES: usize = 2048;
/// Largest number of frames sent at once. They must fit into the output in addition to those of a
/// burst.
const RELEASED: usize = 32;
/// Time after which a pending frame is dropped. By then the client has retransmitted its SYN.
const MAX_WAIT: Ticks = Ticks::from_secs(1);

#[derive(Clone, Copy, Debug)]
struct PendingFrame {
    address: IpAddr,
    since: Ticks,
    /// Number of the slot that contains its bytes.
    slot: u8,
    length: u16,
}

/// The pending frames of one worker.
///
/// They are copies, because the original buffers belong to the port that received them. All memory
/// is allocated when the value is created.
///
/// ```rust
/// use std::net::IpAddr;
///
/// use pipeline::base::time::Ticks;
/// use pipeline::neighbours::Neighbours;
/// use pipeline::packet::buffer::HeapPool;
/// use pipeline::packet::pending::PendingFrames;
///
/// let server = IpAddr::from([198, 51, 100, 10]);
/// let (neighbours, mut pool) = (Neighbours::new([server]), HeapPool::default());
/// let mut pending = PendingFrames::new();
/// assert!(pending.push(server, &[0; 60], Ticks(0)));
///
/// // The server did not answer an ARP request within a second, so the frame is dropped.
/// let send = |_| panic!("the MAC address is unknown");
/// assert_eq!(pending.release(&neighbours, &mut pool, Ticks::from_millis(1001), send), 1);
/// assert!(pending.is_empty());
/// ```
#[derive(Debug)]
pub struct PendingFrames {
    /// In the order of arrival.
    frames: ArrayVec<PendingFrame, FRAMES>,
    /// Slots without a frame.
    free: ArrayVec<u8, FRAMES>,
    bytes: Box<[[u8; FRAME_BYTES]]>,
    /// [`Neighbours::changes`] when all frames were last checked.
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
    /// Creates an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the number of pending frames.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether no frame is pending.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Has all frames checked at the next release, which may ask other neighbours.
    pub fn recheck(&mut self, neighbours: &Neighbours) {
        self.seen = neighbours.changes().wrapping_sub(1);
    }

    /// Stores a copy of a frame until the MAC address of `address` is known.
    ///
    /// The frame is complete except for its destination MAC address. An address has at most as many
    /// frames as are still free: alone it has half of them, and one that never answers leaves
    /// others theirs. Returns `false` if the address has its share, or if the frame is shorter than
    /// an Ethernet header or longer than [`FRAME_BYTES`].
    #[must_use]
    pub fn push(&mut self, address: IpAddr, frame: &[u8], now: Ticks) -> bool {
        if !(ethernet::HEADER..=FRAME_BYTES).contains(&frame.len()) {
            return false;
        }
        let own = self.frames.iter().filter(|frame| frame.address == address).count();
        if own >= self.free.len() {
            return false;
        }
        let Some(slot) = self.free.pop() else { return false };
        self.bytes[usize::from(slot)][..frame.len()].copy_from_slice(frame);
        self.frames.push(PendingFrame { address, since: now, slot, length: frame.len() as u16 });
        true
    }

    /// Sends the frames whose MAC address has become known, and returns how many it dropped.
    ///
    /// Frames for one address leave in the order of their arrival. At most half a burst is sent at
    /// once, and the rest at the next call. A frame is dropped if it has been pending for more than
    /// a second, or if the pool has no buffer for it.
    #[inline]
    pub fn release<P: Pool>(
        &mut self,
        neighbours: &Neighbours,
        pool: &mut P,
        now: Ticks,
        send: impl FnMut(P::Buffer),
    ) -> usize {
        let Some(oldest) = self.frames.first() else { return 0 };
        // Read before the neighbours are: an address learned in between is seen at the next call.
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
                    // Some frames remain: check them at the next call even if no address is learned
                    // until then.
                    *seen = changes.wrapping_sub(1);
                    return true;
                }
                let whole = &bytes[usize::from(frame.slot)][..usize::from(frame.length)];
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
            free.push(frame.slot);
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

    const SERVERS: [IpAddr; 2] = [
        IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 10)),
        IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 3, 0, 0, 0, 0, 0x10)),
    ];

    struct Fixture {
        neighbours: Neighbours,
        pending: PendingFrames,
        pool: HeapPool,
    }

    impl Fixture {
        fn new() -> Self {
            let (neighbours, pool) = (Neighbours::new(SERVERS), HeapPool::default());
            Self { neighbours, pending: PendingFrames::new(), pool }
        }

        fn learn(&self, address: IpAddr, mac: Mac) {
            let probe = Probe::new([2; 6], address);
            let mut frame = vec![0; probe.len()];
            probe.emit(&mut frame);
            let request = Packet::new(HeapBuffer::new(&frame));
            let reply = answer(&request, mac, |_| true, &mut HeapPool::default());
            let Answer::Made(reply) = reply else { panic!("no answer to {probe:?}") };
            assert!(self.neighbours.learn(&Packet::new(reply), Ticks(0)));
        }

        /// Adds frames whose bytes all have the frame's number.
        fn push(&mut self, address: IpAddr, numbers: std::ops::Range<u8>, millis: u64) {
            for number in numbers {
                let frame = vec![number; 60 + usize::from(number)];
                assert!(self.pending.push(address, &frame, Ticks::from_millis(millis)));
            }
        }

        /// Returns the numbers of the frames sent, and how many frames were dropped.
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
    fn frames_are_sent_in_order_once_the_address_is_known() {
        let mut fixture = Fixture::new();
        let [first, second] = SERVERS;
        fixture.push(first, 0..2, 0);
        fixture.push(second, 2..4, 0);
        fixture.push(first, 4..5, 10);
        assert_eq!(fixture.release(20), (vec![], 0));
        fixture.learn(first, [4; 6]);
        assert_eq!(fixture.release(30), (vec![0, 1, 4], 0));
        assert_eq!((fixture.pending.len(), fixture.release(40)), (2, (vec![], 0)));
        fixture.learn(second, [4; 6]);
        assert_eq!(fixture.release(50), (vec![2, 3], 0));
        assert!(fixture.pending.is_empty());
    }

    #[test]
    fn frames_are_dropped_after_a_second() {
        let mut fixture = Fixture::new();
        fixture.push(SERVERS[0], 0..3, 0);
        fixture.push(SERVERS[0], 3..4, 500);
        assert_eq!(fixture.release(1_000), (vec![], 0));
        assert_eq!(fixture.release(1_001), (vec![], 3));
        fixture.learn(SERVERS[0], [4; 6]);
        assert_eq!(fixture.release(1_100), (vec![3], 0));
        fixture.push(SERVERS[1], 0..1, 2_000);
        fixture.learn(SERVERS[1], [4; 6]);
        assert_eq!(fixture.release(3_001), (vec![], 1), "known, but too late");
    }

    #[test]
    fn frames_are_limited_in_number_and_length() {
        let mut fixture = Fixture::new();
        let now = Ticks(0);
        assert!(!fixture.pending.push(SERVERS[0], &[0; FRAME_BYTES + 1], now));
        assert!(!fixture.pending.push(SERVERS[0], &[0; ethernet::HEADER - 1], now));
        for round in 0..3 {
            fixture.push(SERVERS[0], 0..FRAMES as u8 / 2, 2_000 * round);
            assert!(!fixture.pending.push(SERVERS[0], &[0; 60], now));
            assert_eq!(fixture.release(2_000 * round + 1_001), (vec![], FRAMES / 2));
        }
        assert!(fixture.pending.push(SERVERS[0], &[0; FRAME_BYTES], now));
    }

    #[test]
    fn an_address_that_is_never_learned_leaves_room_for_others() {
        let mut pending = PendingFrames::new();
        let mut stored = |last: u8| {
            let address = IpAddr::from([198, 51, 100, last]);
            (0..2 * FRAMES).filter(|_| pending.push(address, &[0; 60], Ticks(0))).count()
        };
        let shares: Vec<_> = (1..9).map(&mut stored).collect();
        assert_eq!(shares, [32, 16, 8, 4, 2, 1, 1, 0]);
        assert_eq!(pending.len(), FRAMES);
    }

    #[test]
    fn half_a_burst_is_sent_at_once() {
        let mut fixture = Fixture::new();
        fixture.push(SERVERS[0], 0..32, 0);
        fixture.push(SERVERS[1], 32..48, 0);
        fixture.learn(SERVERS[0], [4; 6]);
        fixture.learn(SERVERS[1], [4; 6]);
        assert_eq!(fixture.release(1), ((0..32).collect(), 0));
        fixture.push(SERVERS[0], 64..70, 2);
        assert_eq!(fixture.release(2), ((32..48).chain(64..70).collect(), 0));
        assert_eq!(fixture.release(3), (vec![], 0));
    }

    #[test]
    fn frames_are_dropped_when_there_is_no_buffer() {
        let mut fixture = Fixture::new();
        fixture.push(SERVERS[0], 0..5, 0);
        fixture.learn(SERVERS[0], [4; 6]);
        fixture.pool = HeapPool::with_limit(2);
        assert_eq!(fixture.release(1), (vec![0, 1], 3));
        assert!(fixture.pending.is_empty());
    }
}
