//! The loop of one worker: receive a burst, run the role over it, send what leaves; then do
//! what is due without a packet, and rest when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use pipeline::burst::{BURST, Burst, Output};
use pipeline::counters::{Counters, SideCounters};
use pipeline::family::Version;
use pipeline::role::{Context, Role};
use pipeline::time::Ticks;
use pipeline::verdict::Verdict;
use pipeline::view::{Kind, Packet, Side, View};

use crate::datapath::clock::Clock;
use crate::datapath::handoff::{Handed, Mail, What, wind_down};
pub use crate::datapath::idle::Idle;
use crate::datapath::idle::Rester;
use crate::datapath::rss::{Owners, Trust};
use crate::dpdk::{Mbuf, PoolHandle, RxQueue, TxQueue, cycles};
use crate::sys::sync::Barrier;

/// Between two times that the role keeps house. Oftener would cost a loaded worker a tenth of its
/// time (benchmark `whole_path`).
const HOUSEKEEPING: Ticks = Ticks::from_micros(20);

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
    /// When this turn began.
    now: Ticks,
    /// When the role is to keep house again.
    housekeeping: Ticks,
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
            now: Ticks::default(),
            housekeeping: Ticks::default(),
            taken: [Burst::default(), Burst::default()],
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
        let quiet = Arc::clone(&self.quiet);
        wind_down(&quiet, || self.take_mail());
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
        if self.mail.has_others() {
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
        let count = if self.mail.has_others() {
            let count = rx.burst_up_to(&mut self.frames, self.burst);
            if count > 0 {
                self.steer(side);
            }
            count
        } else {
            rx.burst_up_to(self.batch.frames(), self.burst)
        };
        if !self.batch.is_empty() {
            let Self { now, pool, out, batch, .. } = self;
            self.role.process(side, batch, &mut Context { now: *now, pool, out });
            self.flush();
        }
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
                let Self { now, pool, out, taken, .. } = self;
                let burst = &mut taken[side as usize];
                self.role.process(side, burst, &mut Context { now: *now, pool, out });
                burst.clear();
                self.flush();
            }
        }
        self.flush();
        count
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
        // Some drivers take a part at a time. One that takes nothing has its descriptors full: that
        // is the queue, and waiting for it here would hold up the other side as well.
        while !frames.is_empty() {
            let sent = tx.burst(frames);
            counters.sent.add(sent as u64);
            if sent == 0 {
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
