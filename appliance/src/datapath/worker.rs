//! The loop of one worker: receive a burst, run the role over it, transmit the output; then do
//! periodic work, and sleep when there is nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use pipeline::base::time::Ticks;
use pipeline::counters::{CommonCounters, Scalar, SideCounters};
use pipeline::packet::burst::{BURST, Burst, Output};
use pipeline::packet::view::{Kind, Packet, Side, View};
use pipeline::role::{Context, Role};
use pipeline::verdict::Verdict;
use pipeline::wire::family::Version;

use crate::datapath::clock::{Clock, SteadyClock, monotonic};
use crate::datapath::handoff::{Handoff, HandoffFrame, HandoffKind, drain};
pub use crate::datapath::idle::Idle;
use crate::datapath::idle::Idler;
use crate::datapath::pulse::{Heart, SharedPulse, Stage};
use crate::datapath::rss::{RetaMap, RssCheck};
use crate::datapath::slot::Taker;
use crate::dpdk::{Mbuf, PoolHandle, RxQueue, TxQueue, cycles};
use crate::sys::sync::Barrier;

/// The interval of the role's periodic work. A shorter one would cost a loaded worker a tenth of
/// its time (benchmark `whole_path`).
const TIMER_INTERVAL: Ticks = Ticks::from_micros(20);

/// The longest time for which a worker tells the ends of its connections that they end.
const LONGEST_GOODBYE: Duration = Duration::from_secs(1);
/// The time between two bursts of such packets, at least.
const GOODBYE_INTERVAL: Duration = Duration::from_micros(100);

/// A worker's queues on one side. A port may have too few queues for every worker.
#[derive(Debug)]
pub struct Queues {
    /// Its receive queue.
    pub rx: Option<RxQueue>,
    /// Its transmit queue.
    pub tx: Option<TxQueue>,
    /// The worker that transmits for it if it has no transmit queue.
    pub tx_worker: usize,
    /// Whether received packets are checked for their owner.
    pub rss_check: RssCheck,
}

/// One worker, ready to run on its core.
pub struct Worker<R> {
    role: R,
    /// Gives it the successor of its role at a reload.
    successors: Taker<R>,
    queues: [Queues; 2],
    pool: PoolHandle,
    handoff: Handoff<Mbuf>,
    reta: RetaMap,
    clock: SteadyClock,
    /// Converts short spans of counts.
    spans: Clock,
    idle: Idle,
    /// The most frames received at once.
    burst: usize,
    stop: Arc<CachePadded<AtomicBool>>,
    stopped: Arc<Barrier>,
    heart: Heart,
    says_goodbye: Arc<AtomicBool>,
    frames: ArrayVec<Mbuf, BURST>,
    batch: Burst<Mbuf>,
    out: Output<Mbuf>,
    /// The time at which this poll began.
    now: Ticks,
    /// The time at which the role's periodic work is due.
    next_timer: Ticks,
    /// Packets that other workers have handed over, by side.
    taken: [Burst<Mbuf>; 2],
}

/// Everything a worker is built from.
pub struct Parts<R> {
    /// The role it runs.
    pub role: R,
    /// Gives it the successor of its role at a reload.
    pub successors: Taker<R>,
    /// Its queues, inside and outside.
    pub queues: [Queues; 2],
    /// The pool that new frames are allocated from.
    pub pool: PoolHandle,
    /// Its queues to and from the other workers.
    pub handoff: Handoff<Mbuf>,
    /// The map from a client to the worker that owns it.
    pub reta: RetaMap,
    /// The clock.
    pub clock: SteadyClock,
    /// The behaviour while no packets arrive.
    pub idle: Idle,
    /// The most frames received at once, up to [`BURST`].
    pub burst: usize,
    /// The most frames that one packet can produce in addition to itself.
    pub copies: usize,
    /// Set to stop the worker.
    pub stop: Arc<CachePadded<AtomicBool>>,
    /// The barrier at which all workers wait for each other after `stop`.
    pub stopped: Arc<Barrier>,
    /// Where it says that it comes round.
    pub pulse: SharedPulse,
    /// Set before `stop` if nothing will have the connections any more: their ends are told.
    pub says_goodbye: Arc<AtomicBool>,
}

impl<R: Role> Worker<R> {
    /// Builds a worker.
    pub fn new(parts: Parts<R>) -> Self {
        Self {
            role: parts.role,
            successors: parts.successors,
            queues: parts.queues,
            pool: parts.pool,
            handoff: parts.handoff,
            reta: parts.reta,
            clock: parts.clock,
            spans: parts.clock.spans(),
            idle: parts.idle,
            burst: parts.burst.clamp(1, BURST),
            stop: parts.stop,
            stopped: parts.stopped,
            heart: Heart::new(parts.pulse),
            says_goodbye: parts.says_goodbye,
            frames: ArrayVec::new(),
            batch: Burst::default(),
            out: Output::new(parts.copies),
            now: Ticks::default(),
            next_timer: Ticks::default(),
            taken: [Burst::default(), Burst::default()],
        }
    }

    /// Runs until `stop` is set, then transmits what other workers have still handed over.
    pub fn run(mut self) {
        let idle = std::mem::replace(&mut self.idle, Idle::Busy);
        let mut idler = Idler::new(idle, self.spans);
        self.heart.begin();
        while !self.stop.load(Relaxed) {
            match self.poll_once() {
                0 => {
                    self.heart.at(Stage::Idle);
                    idler.pause();
                }
                _ => idler.busy(),
            }
        }
        self.heart.at(Stage::End);
        self.send_waiting();
        if self.says_goodbye.load(Relaxed) {
            self.say_goodbye();
        }
        let stopped = Arc::clone(&self.stopped);
        drain(&stopped, || self.process_handoffs());
    }

    /// Sends the frames that wait in the role, as many at once as the output has room for.
    fn send_waiting(&mut self) {
        loop {
            let Self { now, pool, out, .. } = self;
            self.role.finish(&mut Context { now: *now, pool, out });
            if Side::ALL.iter().all(|side| self.out.side(*side).is_empty()) {
                return;
            }
            self.flush();
        }
    }

    /// Tells the ends of connections that end with this process, a few at a time, so that the queues
    /// of the next routers can follow, and for a bounded time: 320,000 connections a second at most.
    fn say_goodbye(&mut self) {
        let start = Instant::now();
        while start.elapsed() < LONGEST_GOODBYE {
            let Self { now, pool, out, .. } = self;
            self.role.say_goodbye(&mut Context { now: *now, pool, out });
            if Side::ALL.iter().all(|side| self.out.side(*side).is_empty()) {
                return;
            }
            self.flush();
            std::thread::sleep(GOODBYE_INTERVAL);
        }
    }

    /// Polls both sides and the handoff queues once, and does periodic work that is due. Returns
    /// the number of frames received. [`Worker::run`] does nothing else until it is stopped;
    /// benchmarks call this from a single thread instead.
    pub fn poll_once(&mut self) -> usize {
        let mut count = 0;
        self.heart.round();
        self.now = self.clock.at(cycles(), monotonic);
        if self.successors.is_waiting() {
            self.reload();
        }
        for side in Side::ALL {
            count += self.receive(side);
        }
        if self.handoff.has_others() {
            self.heart.at(Stage::Handoff);
            count += self.process_handoffs();
        }
        if self.now >= self.next_timer {
            self.next_timer = self.now + TIMER_INTERVAL;
            self.heart.at(Stage::Timer);
            let Self { now, pool, out, .. } = self;
            self.role.on_timer(&mut Context { now: *now, pool, out });
            self.flush();
        }
        count
    }

    /// Goes on with other settings, between two bursts.
    #[cold]
    fn reload(&mut self) {
        let Self { role, successors, now, .. } = self;
        successors.take(|next| role.reload(next, *now));
    }

    /// Receives a burst on a side and runs the role over it. Returns how many frames arrived.
    #[inline]
    fn receive(&mut self, side: Side) -> usize {
        let Some(rx) = &mut self.queues[side as usize].rx else { return 0 };
        let (receiving, deciding) = match side {
            Side::Inside => (Stage::ReceiveInside, Stage::RoleInside),
            Side::Outside => (Stage::ReceiveOutside, Stage::RoleOutside),
        };
        self.heart.at(receiving);
        let count = if self.handoff.has_others() {
            let count = rx.burst_up_to(&mut self.frames, self.burst);
            prefetch_headers(&self.frames);
            if count > 0 {
                self.distribute(side);
            }
            count
        } else {
            let frames = self.batch.frames();
            let count = rx.burst_up_to(frames, self.burst);
            prefetch_headers(frames);
            count
        };
        if !self.batch.is_empty() {
            self.heart.at(deciding);
            let Self { now, pool, out, batch, .. } = self;
            self.role.process(side, batch, &mut Context { now: *now, pool, out });
            self.heart.at(Stage::Transmit);
            self.flush();
        }
        count
    }

    /// Sorts the received frames: keeps those that this worker owns or that have no owner, and
    /// hands the others to their owners. Packets distributed by a trusted port
    /// stay with this worker, unchecked.
    fn distribute(&mut self, side: Side) {
        let Self { handoff, reta, batch, role, .. } = self;
        let counters = role.common_counters();
        let check = &mut self.queues[side as usize].rss_check;
        let (own, mut pushed, mut rejected) = (handoff.worker(), 0, 0);
        let mut reject = |frame: HandoffFrame<Mbuf>| {
            rejected += 1;
            count_rejected(counters, frame);
        };
        batch.clear();
        for frame in self.frames.drain(..) {
            let hashed = frame.is_hashed();
            let packet = Packet::new(frame);
            let hashed = hashed && is_plain_tcp(&packet.view);
            if hashed && check.trusts() {
                batch.push(packet.buffer, packet.view);
                continue;
            }
            let owner = R::owner(side, &packet).map_or(own, |client| reta.worker_of(client));
            if hashed {
                check.record(owner == own);
            }
            if owner == own {
                batch.push(packet.buffer, packet.view);
            } else {
                pushed += 1;
                handoff.push(owner, HandoffFrame::received(side, packet), &mut reject);
            }
        }
        handoff.flush(reject);
        counters.scalar(Scalar::HandedOff).add(pushed - rejected);
    }

    /// Processes what other workers have handed over, a burst at most. Returns how many frames.
    fn process_handoffs(&mut self) -> usize {
        let Self { handoff, taken, out, queues, role, .. } = self;
        let counters = role.common_counters();
        let mut received = 0;
        let count = handoff.receive(BURST, |HandoffFrame { kind, frame, view }| match kind {
            HandoffKind::Received(side) => {
                received += 1;
                taken[side as usize].push(frame, view);
            }
            HandoffKind::Transmit(side) => {
                if !out.has_room(side) {
                    transmit(&mut queues[side as usize], counters.side(side), out.side(side));
                }
                out.send(side, frame);
            }
        });
        counters.scalar(Scalar::TakenFromWorkers).add(received);
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

    /// Transmits the output, by this worker's own queues or through other workers.
    fn flush(&mut self) {
        for side in Side::ALL {
            let frames = self.out.side(side);
            if frames.is_empty() {
                continue;
            }
            let counters = self.role.common_counters().side(side);
            let queues = &mut self.queues[side as usize];
            if queues.tx.is_some() {
                transmit(queues, counters, frames);
                continue;
            }
            let mut reject = |frame| count_rejected(self.role.common_counters(), frame);
            for frame in frames.drain(..) {
                let frame = HandoffFrame::transmit(side, frame);
                self.handoff.push(queues.tx_worker, frame, &mut reject);
            }
            self.handoff.flush(reject);
        }
    }
}

/// Starts to load the headers of received frames. A card leaves them in a cache that all cores share,
/// or in memory; the core loads several at a time, while it parses the first.
#[inline(always)]
fn prefetch_headers(frames: &[Mbuf]) {
    for frame in frames {
        frame.prefetch();
    }
}

/// Transmits frames by a worker's own queue. Frames that the port does not accept are counted and
/// dropped.
fn transmit(queues: &mut Queues, counters: &SideCounters, frames: &mut Vec<Mbuf>) {
    if let Some(tx) = &mut queues.tx {
        // Some drivers accept a part at a time. One that accepts nothing has no free descriptors:
        // that is the queue, and waiting for it here would stall the other side as well.
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

/// Counts and drops a frame for which another worker's queue had no room.
fn count_rejected(counters: &CommonCounters, frame: HandoffFrame<Mbuf>) {
    match frame.kind {
        HandoffKind::Received(side) => {
            let side = counters.side(side);
            side.received.add(1);
            side.verdicts[Verdict::HandoffFull as usize].add(1);
        }
        HandoffKind::Transmit(side) => counters.side(side).unsent.add(1),
    }
}

/// Returns whether a packet is TCP that every port hashes by the addresses of its IP header.
/// Behind extension headers some ports use an address in one of those instead, and some use the
/// inner addresses of a tunnel.
#[inline]
fn is_plain_tcp(view: &View) -> bool {
    view.kind == Kind::Tcp && (view.version == Version::V4 || view.l4 - view.l3 == 40)
}
