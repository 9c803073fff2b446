//! The loop of one worker: receive a burst, run the role over it, send what leaves; then do
//! what is due without a packet, and rest when there is nothing to do.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use pipeline::burst::{BURST, Burst, Output};
use pipeline::counters::Counters;
use pipeline::role::{Context, Role};
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::Side;

use crate::clock::Clock;
use crate::dpdk::{Mbuf, PoolHandle, RxQueue, TxQueue, cycles};
use crate::handoff::{Handed, Mail};
pub use crate::idle::Idle;
use crate::idle::Rester;

/// Between two times that the role keeps house. Oftener would cost a loaded worker a tenth of its
/// time (benchmark `whole_path`).
const HOUSEKEEPING: Ticks = Ticks::from_micros(20);

/// A worker's queues on one side; a port may have too few for every worker.
#[derive(Debug, Default)]
pub struct Queues {
    /// Its receive queue.
    pub rx: Option<RxQueue>,
    /// Its transmit queue.
    pub tx: Option<TxQueue>,
    /// Who sends for it when it has none.
    pub sender: usize,
}

/// One worker, ready to run on its core.
pub struct Worker<R> {
    role: R,
    queues: [Queues; 2],
    pool: PoolHandle,
    mail: Mail<Mbuf>,
    clock: Clock,
    idle: Idle,
    /// Frames received at once.
    burst: usize,
    stop: Arc<CachePadded<AtomicBool>>,
    quiet: Arc<Barrier>,
    counters: Arc<Counters>,
    frames: ArrayVec<Mbuf, BURST>,
    batch: Burst<Mbuf>,
    out: Output<Mbuf>,
    /// When this turn began.
    now: Ticks,
    /// When the role is to keep house again.
    housekeeping: Ticks,
    /// Frames handed over by other workers, by side.
    taken: [ArrayVec<Mbuf, BURST>; 2],
}

/// What a worker is made of.
pub struct Parts<R> {
    /// The role it plays.
    pub role: R,
    /// Inside and outside.
    pub queues: [Queues; 2],
    /// Where new frames come from.
    pub pool: PoolHandle,
    /// The way to the others.
    pub mail: Mail<Mbuf>,
    /// The time.
    pub clock: Clock,
    /// What to do when there is nothing to do.
    pub idle: Idle,
    /// Frames received at once, up to [`BURST`].
    pub burst: usize,
    /// Frames that one packet can turn into beyond itself.
    pub copies: usize,
    /// Set when it is time to stop.
    pub stop: Arc<CachePadded<AtomicBool>>,
    /// Where all workers meet after that.
    pub quiet: Arc<Barrier>,
}

impl<R: Role> Worker<R> {
    /// Puts a worker together.
    pub fn new(parts: Parts<R>) -> Self {
        Self {
            counters: Arc::clone(parts.role.counters()),
            role: parts.role,
            queues: parts.queues,
            pool: parts.pool,
            mail: parts.mail,
            clock: parts.clock,
            idle: parts.idle,
            burst: parts.burst.clamp(1, BURST),
            stop: parts.stop,
            quiet: parts.quiet,
            frames: ArrayVec::new(),
            batch: Burst::default(),
            out: Output::new(parts.copies),
            now: Ticks::default(),
            housekeeping: Ticks::default(),
            taken: [ArrayVec::new(), ArrayVec::new()],
        }
    }

    /// Runs until it is time to stop; then sends what other workers have still handed over.
    pub fn run(mut self) {
        let idle = std::mem::replace(&mut self.idle, Idle::Busy);
        let mut rester = Rester::new(idle, self.clock);
        while !self.stop.load(Relaxed) {
            match self.turn() {
                0 => rester.rest(),
                _ => rester.busy(),
            }
        }
        // Nothing comes from the ports any more. Once nobody hands over what it received, the
        // mail is worked off; once nobody works any off, what is left of it is only to be sent.
        for _ in 0..2 {
            self.quiet.wait();
            while self.take_mail() > 0 {}
        }
    }

    /// One round over both sides and the mail; how many frames there were. [`Worker::run`] does
    /// nothing else until it is time to stop; who drives a worker by hand, as benchmarks do,
    /// calls it from one thread.
    pub fn turn(&mut self) -> usize {
        let mut count = 0;
        self.now = self.clock.at(cycles());
        for side in Side::ALL {
            count += self.receive(side);
        }
        if self.mail.workers() > 1 {
            count += self.take_mail();
        }
        if self.now >= self.housekeeping {
            self.housekeeping = self.now + HOUSEKEEPING;
            let Self { now, pool, out, .. } = self;
            self.role.housekeep(&mut Context { now: *now, pool, out });
            self.flush();
        }
        count
    }

    /// Takes what has arrived on a side and runs the role over it; how many frames arrived.
    #[inline]
    fn receive(&mut self, side: Side) -> usize {
        let Some(rx) = &mut self.queues[side as usize].rx else { return 0 };
        if self.mail.workers() == 1 {
            let count = rx.burst_up_to(self.batch.frames(), self.burst);
            if count > 0 {
                self.process(side);
            }
            return count;
        }
        let count = rx.burst_up_to(&mut self.frames, self.burst);
        if count > 0 {
            self.steer(side);
            self.batch.fill(self.frames.drain(..));
            self.process(side);
        }
        count
    }

    /// Keeps what is this worker's own, or nobody's; gives the rest to its owners.
    fn steer(&mut self, side: Side) {
        let frames = std::mem::take(&mut self.frames);
        for frame in frames {
            let packet = pipeline::view::Packet::new(frame);
            let owner = R::owner(side, &packet).map(|client| self.mail.owner(client));
            match owner.filter(|&owner| owner != self.mail.own()) {
                None => self.frames.push(packet.buffer),
                Some(owner) => {
                    let handed = Handed::Received(side, packet.buffer);
                    if self.mail.send(owner, handed).is_ok() {
                        self.counters.handed_off.add(1);
                    } else {
                        let side = self.counters.side(side);
                        side.received.add(1);
                        side.verdicts[Verdict::HandoffFull as usize].add(1);
                    }
                }
            }
        }
    }

    /// Takes what other workers have handed over, a burst at most; how many frames.
    fn take_mail(&mut self) -> usize {
        let mut count = 0;
        while count < BURST {
            match self.mail.next() {
                None => break,
                Some(Handed::Received(side, frame)) => {
                    self.counters.taken_over.add(1);
                    self.taken[side as usize].push(frame);
                }
                Some(Handed::Transmit(side, frame)) => self.transmit(side, frame),
            }
            count += 1;
        }
        for side in Side::ALL {
            if !self.taken[side as usize].is_empty() {
                self.batch.fill(self.taken[side as usize].drain(..));
                self.process(side);
            }
        }
        self.flush();
        count
    }

    /// Runs the role over the batch and sends what leaves.
    fn process(&mut self, side: Side) {
        let Self { now, pool, out, batch, .. } = self;
        self.role.process(side, batch, &mut Context { now: *now, pool, out });
        self.flush();
    }

    /// Queues a frame that another worker wants sent.
    fn transmit(&mut self, side: Side, frame: Mbuf) {
        if !self.out.has_room(side) {
            self.flush();
        }
        self.out.send(side, frame);
    }

    /// Sends what is to leave, by its own queues or by other workers'.
    fn flush(&mut self) {
        for side in Side::ALL {
            let frames = self.out.side(side);
            if frames.is_empty() {
                continue;
            }
            let counters = self.counters.side(side);
            let queues = &mut self.queues[side as usize];
            let Some(tx) = &mut queues.tx else {
                for frame in frames.drain(..) {
                    if self.mail.send(queues.sender, Handed::Transmit(side, frame)).is_err() {
                        counters.unsent.add(1);
                    }
                }
                continue;
            };
            // Some drivers take a part at a time. One that takes nothing has its descriptors full:
            // that is the queue, and waiting for it here would hold up the other side as well.
            while !frames.is_empty() {
                let sent = tx.burst(frames);
                counters.sent.add(sent as u64);
                if sent == 0 {
                    break;
                }
            }
            counters.unsent.add(frames.len() as u64);
            frames.clear();
        }
    }
}
