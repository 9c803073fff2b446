//! The loop of one worker: receive a burst, run the role over it, send what leaves; then do
//! what is due without a packet, and rest when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use pipeline::burst::{BURST, Burst, Output};
use pipeline::counters::{Counters, SideCounters};
use pipeline::family::Version;
use pipeline::role::{Context, Role};
use pipeline::verdict::Verdict;
use pipeline::view::{Kind, Packet, Side, View};

use crate::clock::Clock;
use crate::dpdk::{Mbuf, PoolHandle, RxQueue, TxQueue, cycles};
use crate::handoff::{Handed, Mail, What, wind_down};
use crate::steering::{Owners, Trust};
use crate::sync::Barrier;

/// Polls without a packet before a worker begins to rest.
const SPIN: u32 = 256;
/// How long it rests between two polls. A veth's round trip through a resting worker takes
/// about this long; it has no part in a loaded one's.
const REST: Duration = Duration::from_micros(50);
/// How often a port that took less than offered is asked again before the rest is dropped.
const TX_ATTEMPTS: usize = 8;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: for cores of its own.
    Busy,
    /// Spins a while, then rests between polls.
    Adaptive,
}

/// A worker's queues on one side; a port may have too few for every worker.
#[derive(Debug)]
pub struct Queues {
    /// Its receive queue.
    pub rx: Option<RxQueue>,
    /// Its transmit queue.
    pub tx: Option<TxQueue>,
    /// Who sends for it when it has none.
    pub sender: usize,
    /// Whether what comes is looked at to find its owner.
    pub trust: Trust,
}

/// One worker, ready to run on its core.
pub struct Worker<R> {
    role: R,
    queues: [Queues; 2],
    pool: PoolHandle,
    mail: Mail<Mbuf>,
    owners: Owners,
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
    /// What other workers have handed over, by side.
    taken: [Burst<Mbuf>; 2],
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
    /// Which of them owns what.
    pub owners: Owners,
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
            owners: parts.owners,
            clock: parts.clock,
            idle: parts.idle,
            burst: parts.burst.clamp(1, BURST),
            stop: parts.stop,
            quiet: parts.quiet,
            frames: ArrayVec::new(),
            batch: Burst::default(),
            out: Output::new(parts.copies),
            taken: [Burst::default(), Burst::default()],
        }
    }

    /// Runs until it is time to stop; then sends what other workers have still handed over.
    pub fn run(mut self) {
        let mut empty = 0;
        while !self.stop.load(Relaxed) {
            if self.turn() > 0 {
                empty = 0;
                continue;
            }
            empty += 1;
            if self.idle == Idle::Adaptive && empty > SPIN {
                std::thread::sleep(REST);
            } else {
                std::hint::spin_loop();
            }
        }
        let quiet = Arc::clone(&self.quiet);
        wind_down(&quiet, || self.take_mail());
    }

    /// One round over both sides and the mail; how many frames there were.
    fn turn(&mut self) -> usize {
        let mut count = 0;
        for side in Side::ALL {
            if let Some(rx) = &mut self.queues[side as usize].rx {
                count += rx.burst_up_to(&mut self.frames, self.burst);
            }
            if self.frames.is_empty() {
                continue;
            }
            if self.mail.has_others() {
                self.steer(side);
            } else {
                self.batch.fill(self.frames.drain(..));
            }
            if !self.batch.is_empty() {
                self.process(side);
            }
        }
        if self.mail.has_others() {
            count += self.take_mail();
        }
        let now = self.clock.at(cycles());
        let mut context = Context { now, pool: &mut self.pool, out: &mut self.out };
        self.role.housekeep(&mut context);
        self.flush();
        count
    }

    /// Looks at what was received: keeps what is this worker's own, or nobody's, and gives the rest
    /// to its owners. What the port has placed is taken as placed right, once that is known.
    fn steer(&mut self, side: Side) {
        let Self { mail, owners, batch, counters, .. } = self;
        let trust = &mut self.queues[side as usize].trust;
        let (own, mut given, mut back) = (mail.own(), 0, 0);
        let mut refuse = |frame: Handed<Mbuf>| {
            back += 1;
            refused(counters, frame);
        };
        batch.clear();
        for frame in self.frames.drain(..) {
            let placed = frame.is_hashed();
            let packet = Packet::new(frame);
            let placed = placed && is_plain_tcp(&packet.view);
            if placed && trust.believes() {
                batch.push(packet.buffer, packet.view);
                continue;
            }
            let owner = R::owner(side, &packet).map_or(own, |client| owners.of(client));
            if placed {
                trust.seen(owner == own);
            }
            if owner == own {
                batch.push(packet.buffer, packet.view);
            } else {
                given += 1;
                mail.put(owner, Handed::received(side, packet), &mut refuse);
            }
        }
        mail.send(refuse);
        counters.handed_off.add(given - back);
    }

    /// Takes what other workers have handed over, a burst at most; how many frames.
    fn take_mail(&mut self) -> usize {
        let Self { mail, taken, out, queues, counters, .. } = self;
        let mut received = 0;
        let count = mail.take(BURST, |Handed { what, frame, view }| match what {
            What::Received(side) => {
                received += 1;
                taken[side as usize].push(frame, view);
            }
            What::Transmit(side) => {
                if !out.has_room(side) {
                    transmit(&mut queues[side as usize], counters.side(side), out.side(side));
                }
                out.send(side, frame);
            }
        });
        self.counters.taken_over.add(received);
        for side in Side::ALL {
            if !self.taken[side as usize].is_empty() {
                let now = self.clock.at(cycles());
                let mut context = Context { now, pool: &mut self.pool, out: &mut self.out };
                self.role.process(side, &mut self.taken[side as usize], &mut context);
                self.taken[side as usize].clear();
                self.flush();
            }
        }
        self.flush();
        count
    }

    /// Runs the role over the batch and sends what leaves.
    fn process(&mut self, side: Side) {
        let now = self.clock.at(cycles());
        let mut context = Context { now, pool: &mut self.pool, out: &mut self.out };
        self.role.process(side, &mut self.batch, &mut context);
        self.flush();
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
            if queues.tx.is_some() {
                transmit(queues, counters, frames);
                continue;
            }
            let mut refuse = |frame| refused(&self.counters, frame);
            for frame in frames.drain(..) {
                self.mail.put(queues.sender, Handed::transmit(side, frame), &mut refuse);
            }
            self.mail.send(refuse);
        }
    }
}

/// Sends frames by a worker's own queue; what the port does not take is counted and dropped.
fn transmit(queues: &mut Queues, counters: &SideCounters, frames: &mut Vec<Mbuf>) {
    if let Some(tx) = &mut queues.tx {
        for _ in 0..TX_ATTEMPTS {
            let sent = tx.burst(frames);
            counters.sent.add(sent as u64);
            if frames.is_empty() {
                break;
            }
        }
    }
    counters.unsent.add(frames.len() as u64);
    frames.clear();
}

/// Drops and counts what another worker's queue had no room for.
fn refused(counters: &Counters, frame: Handed<Mbuf>) {
    match frame.what {
        What::Received(side) => {
            let side = counters.side(side);
            side.received.add(1);
            side.verdicts[Verdict::HandoffFull as usize].add(1);
        }
        What::Transmit(side) => counters.side(side).unsent.add(1),
    }
}

/// Whether a packet is TCP that every port hashes by the addresses of its IP header. Behind
/// extension headers some take the address in one of these instead; of tunnels some take those
/// inside.
#[inline]
fn is_plain_tcp(view: &View) -> bool {
    view.kind == Kind::Tcp && (view.version == Version::V4 || view.l4 - view.l3 == 40)
}
