//! One queue from one worker to one other: bounded, never waited for, written and read in bursts.
//!
//! A ring with a single writer and a single reader needs no locked instruction, and a burst moves
//! each side's position once. Benchmark `handoff`, both ends together, on a machine that was not
//! quiet: 5 ns a frame in bursts of 32 on one thread, and 36 ns for a queue for many writers
//! (crossbeam's `ArrayQueue`), which pays locked instructions for every frame; between two threads
//! 24 and 29 ns, most of which are the frames' cache lines on their way. DPDK's `rte_ring` with one
//! writer was of the same order as this one when measured beside it once; it would need calls into C
//! and `unsafe`.

use arrayvec::ArrayVec;

/// The end that one worker writes.
#[derive(Debug)]
pub struct Sender<T>(rtrb::Producer<T>);

/// The end that one other worker reads.
#[derive(Debug)]
pub struct Receiver<T>(rtrb::Consumer<T>);

/// A queue that holds so many.
pub fn ring<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, receiver) = rtrb::RingBuffer::new(capacity);
    (Sender(sender), Receiver(receiver))
}

impl<T> Sender<T> {
    /// Takes as many from the front of `items` as there is room for; the rest stays.
    #[inline]
    pub fn send<const N: usize>(&mut self, items: &mut ArrayVec<T, N>) {
        let count = items.len().min(self.0.slots());
        if let Ok(chunk) = self.0.write_chunk_uninit(count) {
            chunk.fill_from_iter(items.drain(..count));
        }
    }
}

impl<T> Receiver<T> {
    /// Gives up to `most` to `each`, in order; how many.
    #[inline]
    pub fn take(&mut self, most: usize, each: impl FnMut(T)) -> usize {
        let count = most.min(self.0.slots());
        match self.0.read_chunk(count) {
            Ok(chunk) if count > 0 => chunk.into_iter().for_each(each),
            _ => {}
        }
        count
    }
}
