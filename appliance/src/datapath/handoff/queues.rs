//! One worker's queues to and from all other workers, and how workers stop together.
//!
//! There is one queue for each ordered pair of workers, so frames from one worker to another stay
//! in order. Frames are collected per receiver while a burst is processed and sent in one batch. A
//! full queue rejects frames; it never blocks.

use arrayvec::ArrayVec;
use pipeline::packet::burst::BURST;

use super::frame::HandoffFrame;
use super::ring::{Receiver, Sender, ring};
use crate::sys::sync::Barrier;

/// One worker's ends of the queues to and from all other workers.
#[derive(Debug)]
pub struct Handoff<B> {
    worker: usize,
    /// By receiving worker; the entry of this worker itself has no queue.
    outgoing: Vec<Outgoing<B>>,
    /// One per other worker.
    incoming: Vec<Incoming<B>>,
    /// The incoming queue that is emptied first next time; they take turns.
    next: usize,
}

/// Frames collected for one receiver, and the queue to it. Aligned so that no two workers write to the
/// same pair of cache lines, which some processors fetch together.
#[derive(Debug)]
#[repr(align(128))]
struct Outgoing<B> {
    pending: ArrayVec<HandoffFrame<B>, BURST>,
    queue: Option<Sender<HandoffFrame<B>>>,
}

/// The queue from one sender, aligned likewise.
#[derive(Debug)]
#[repr(align(128))]
struct Incoming<B>(Receiver<HandoffFrame<B>>);

impl<B> Handoff<B> {
    /// Connects `workers` workers with each other; each queue holds `capacity` frames. Returns one
    /// value per worker, in order.
    pub fn new(workers: usize, capacity: usize) -> Vec<Self> {
        let mut all: Vec<Self> = (0..workers)
            .map(|worker| Self { worker, outgoing: Vec::new(), incoming: Vec::new(), next: 0 })
            .collect();
        for sender in 0..workers {
            for receiver in 0..workers {
                let queue = (sender != receiver).then(|| {
                    let (queue, end) = ring(capacity);
                    all[receiver].incoming.push(Incoming(end));
                    queue
                });
                all[sender].outgoing.push(Outgoing { pending: ArrayVec::new(), queue });
            }
        }
        all
    }

    /// Returns this worker's number, counted from 0.
    #[inline]
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Returns whether there are other workers.
    #[inline]
    pub fn has_others(&self) -> bool {
        !self.incoming.is_empty()
    }

    /// Collects a frame for worker `to`. A full batch is sent first; frames for which the queue
    /// has no room go to `rejected`.
    #[inline]
    pub fn push(
        &mut self,
        to: usize,
        frame: HandoffFrame<B>,
        rejected: impl FnMut(HandoffFrame<B>),
    ) {
        let outgoing = &mut self.outgoing[to];
        if outgoing.pending.is_full() {
            outgoing.flush(rejected);
        }
        outgoing.pending.push(frame);
    }

    /// Sends all collected frames; those for which a queue has no room go to `rejected`.
    #[inline]
    pub fn flush(&mut self, mut rejected: impl FnMut(HandoffFrame<B>)) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| !outgoing.pending.is_empty()) {
            outgoing.flush(&mut rejected);
        }
    }

    /// Passes up to `limit` frames from other workers to `each`, in order per sender. Returns how
    /// many.
    #[inline]
    pub fn receive(&mut self, limit: usize, mut each: impl FnMut(HandoffFrame<B>)) -> usize {
        let mut count = 0;
        let senders = self.incoming.len();
        for step in 0..senders {
            let Incoming(queue) = &mut self.incoming[(self.next + step) % senders];
            count += queue.take(limit - count, &mut each);
            if count == limit {
                break;
            }
        }
        self.next += 1;
        if self.next >= senders {
            self.next = 0;
        }
        count
    }
}

impl<B> Outgoing<B> {
    fn flush(&mut self, rejected: impl FnMut(HandoffFrame<B>)) {
        if let Some(queue) = &mut self.queue {
            queue.send(&mut self.pending);
        }
        self.pending.drain(..).for_each(rejected);
    }
}

/// Empties the handoff queues of a worker that receives nothing any more, together with all other
/// workers. `process_queued` processes what other workers have handed over and returns the number
/// of frames.
///
/// There are two rounds. After the first barrier no worker hands over received frames, so all of
/// those are processed; after the second, the queues hold only frames to transmit.
pub fn drain(barrier: &Barrier, mut process_queued: impl FnMut() -> usize) {
    for _ in 0..2 {
        barrier.wait();
        while process_queued() > 0 {}
    }
}
