//! The bare loops, the base of all comparisons: dpdk-testpmd's modes io, macswap and 5tswap over
//! the appliance's queues.

use std::sync::Arc;

use arrayvec::ArrayVec;
use firstack::dpdk::Mbuf;
use firstack_benches::BURST;
use pipeline::counters::RoleCounters;
use pipeline::packet::buffer::Buffer;

use crate::lab::Ends;
use crate::system_under_test::Forwarder;

/// The work of a loop on a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// Nothing.
    Io,
    /// Swaps MAC addresses.
    Macswap,
    /// Swaps MAC addresses, IP addresses and ports.
    FiveTuple,
}

impl Loop {
    /// All loops, simplest first.
    pub const ALL: [Self; 3] = [Self::Io, Self::Macswap, Self::FiveTuple];

    /// Returns dpdk-testpmd's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::Macswap => "macswap",
            Self::FiveTuple => "5tswap",
        }
    }
}

/// A loop between two ports.
pub struct Bare {
    ends: Ends,
    what: Loop,
    frames: ArrayVec<Mbuf, BURST>,
    /// Frames that a port did not accept.
    lost: u64,
}

impl Bare {
    /// Creates a loop.
    pub fn new(ends: Ends, what: Loop) -> Self {
        Self { ends, what, frames: ArrayVec::new(), lost: 0 }
    }

    #[inline(always)]
    fn round(&mut self, mut change: impl FnMut(&mut [u8])) -> usize {
        let mut count = 0;
        for side in [0, 1] {
            count += self.ends.rx[side].burst(&mut self.frames);
            for frame in &mut self.frames {
                change(frame.head_mut());
            }
            self.ends.tx[1 - side].burst_array(&mut self.frames);
            self.lost += self.frames.len() as u64;
            self.frames.clear();
        }
        count
    }
}

impl Forwarder for Bare {
    fn poll_once(&mut self) -> usize {
        match self.what {
            Loop::Io => self.round(|_| {}),
            Loop::Macswap => self.round(swap_macs),
            Loop::FiveTuple => self.round(swap_all),
        }
    }

    fn counters(&self) -> Option<&Arc<dyn RoleCounters>> {
        None
    }

    fn lost(&self) -> u64 {
        self.lost
    }
}

#[inline(always)]
fn swap<const N: usize>(bytes: &mut [u8], at: usize) {
    let (first, second) = bytes[at..at + 2 * N].split_at_mut(N);
    first.swap_with_slice(second);
}

#[inline(always)]
fn swap_macs(frame: &mut [u8]) {
    if frame.len() >= 14 {
        swap::<6>(frame, 0);
    }
}

/// Swaps the 5-tuple of IPv4 with TCP or UDP. Of other frames it swaps the MAC addresses.
#[inline(always)]
fn swap_all(frame: &mut [u8]) {
    swap_macs(frame);
    if frame.len() < 14 + 20 + 4 || frame[12..14] != [8, 0] {
        return;
    }
    let l4 = 14 + usize::from(frame[14] & 0x0f) * 4;
    swap::<4>(frame, 26);
    if matches!(frame[23], 6 | 17) && frame.len() >= l4 + 4 {
        swap::<2>(frame, l4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use firstack_packets::Segment;

    #[test]
    fn what_is_swapped_twice_is_what_it_was() {
        let there = Segment::ack("198.18.0.1:1000", "203.0.113.10:80", 8, 6).frame();
        let mut frame = there.clone();
        swap_all(&mut frame);
        let swapped = Segment::ack("203.0.113.10:80", "198.18.0.1:1000", 8, 6).inbound().frame();
        assert_eq!(frame, swapped);
        swap_macs(&mut frame);
        assert_eq!(frame[..12], there[..12]);
        swap_macs(&mut frame);
        swap_all(&mut frame);
        assert_eq!(frame, there);
    }
}
