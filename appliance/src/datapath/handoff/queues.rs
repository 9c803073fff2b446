//! One worker's way to all the others, and how they end together.
//!
//! There is a queue for each pair of workers, so what one gives to another stays in order. Frames
//! are collected for each receiver while a burst is looked at, and go in one piece. A full queue
//! refuses, it never blocks.

use arrayvec::ArrayVec;
use pipeline::burst::BURST;
use pipeline::view::{Packet, Side, View};

use super::ring::{Receiver, Sender, ring};
use crate::sys::sync::Barrier;

/// What another worker is to do with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// It came by this side, and the other worker owns its client.
    Received(Side),
    /// It is to leave by this side.
    Transmit(Side),
}

/// A frame for another worker, with the look that was taken at it: who finds out whose it is has
/// parsed it. Its 16 bytes more cost 3 ns less than to parse it again, though the headers are in
/// the cache there (benchmark `handoff`). Half a cache line together.
#[derive(Debug)]
pub struct Handed<B> {
    /// What for.
    pub what: What,
    /// The frame.
    pub frame: B,
    /// Where things are in it, of one that was received.
    pub view: View,
}

impl<B> Handed<B> {
    /// A packet that came by this side, for the owner of its client.
    #[inline]
    pub fn received(side: Side, packet: Packet<B>) -> Self {
        Self { what: What::Received(side), frame: packet.buffer, view: packet.view }
    }

    /// A frame that is to leave by this side.
    #[inline]
    pub fn transmit(side: Side, frame: B) -> Self {
        Self { what: What::Transmit(side), frame, view: View::parse(&[], 0) }
    }
}

/// One worker's ends of all queues.
#[derive(Debug)]
pub struct Mail<B> {
    own: usize,
    /// By receiver; the own one leads nowhere.
    to: Vec<Outbox<B>>,
    /// From each of the others.
    from: Vec<Receiver<Handed<B>>>,
    /// Whose is emptied first: each in turn.
    next: usize,
}

#[derive(Debug)]
struct Outbox<B> {
    waiting: ArrayVec<Handed<B>, BURST>,
    queue: Option<Sender<Handed<B>>>,
}

impl<B> Mail<B> {
    /// The ways of `workers` workers to each other, `capacity` frames each.
    pub fn new(workers: usize, capacity: usize) -> Vec<Self> {
        let mut all: Vec<Self> = (0..workers)
            .map(|own| Self { own, to: Vec::new(), from: Vec::new(), next: 0 })
            .collect();
        for sender in 0..workers {
            for receiver in 0..workers {
                let queue = (sender != receiver).then(|| {
                    let (queue, end) = ring(capacity);
                    all[receiver].from.push(end);
                    queue
                });
                all[sender].to.push(Outbox { waiting: ArrayVec::new(), queue });
            }
        }
        all
    }

    /// This worker's number.
    #[inline]
    pub fn own(&self) -> usize {
        self.own
    }

    /// Whether there are others.
    #[inline]
    pub fn has_others(&self) -> bool {
        !self.from.is_empty()
    }

    /// Collects a frame for another worker. What has been collected goes when there is enough for
    /// a burst; what its queue has no room for goes to `refused`.
    #[inline]
    pub fn put(&mut self, to: usize, frame: Handed<B>, refused: impl FnMut(Handed<B>)) {
        let outbox = &mut self.to[to];
        if outbox.waiting.is_full() {
            outbox.send(refused);
        }
        outbox.waiting.push(frame);
    }

    /// Sends all that has been collected; what has no room goes to `refused`.
    #[inline]
    pub fn send(&mut self, mut refused: impl FnMut(Handed<B>)) {
        for outbox in self.to.iter_mut().filter(|outbox| !outbox.waiting.is_empty()) {
            outbox.send(&mut refused);
        }
    }

    /// Gives what other workers have sent to `each`, each one's in order, up to `most`; how many.
    #[inline]
    pub fn take(&mut self, most: usize, mut each: impl FnMut(Handed<B>)) -> usize {
        let mut count = 0;
        let senders = self.from.len();
        for step in 0..senders {
            count += self.from[(self.next + step) % senders].take(most - count, &mut each);
            if count == most {
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

impl<B> Outbox<B> {
    fn send(&mut self, refused: impl FnMut(Handed<B>)) {
        if let Some(queue) = &mut self.queue {
            queue.send(&mut self.waiting);
        }
        self.waiting.drain(..).for_each(refused);
    }
}

/// How a worker that receives nothing any more ends, together with the others: `work_off`
/// takes what others have handed over, and says how much there was.
///
/// Once nobody hands over what it received, the mail is worked off; once nobody works any off,
/// what is left of it is only to be sent.
pub fn wind_down(quiet: &Barrier, mut work_off: impl FnMut() -> usize) {
    for _ in 0..2 {
        quiet.wait();
        while work_off() > 0 {}
    }
}
