//! A worker when a resource runs out, and afterwards: a port that accepts nothing, a full queue
//! between workers, an empty pool. Losses are counted, other traffic continues, connections
//! survive, and every buffer comes back.
//!
//! The ports are net_ring. What one queue of such a port sends, the same queue can receive, so the
//! worker and the test each have one end of both directions. A ring holds 1,023 frames.

#![cfg(feature = "dpdk")]

mod alone;

use std::fs::File;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use alone::{alone, eal};
use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use firstack::datapath::clock::{Clock, SteadyClock, monotonic};
use firstack::datapath::handoff::Handoff;
use firstack::datapath::rss::toeplitz::Toeplitz;
use firstack::datapath::rss::{Mismatches, RetaMap, RssCheck};
use firstack::datapath::slot::Taker;
use firstack::datapath::worker::{Idle, Parts, Queues, Worker};
use firstack::dpdk::{
    Eal, Mbuf, MbufPool, PoolHandle, Port, PortConfig, RxQueue, Started, TxQueue,
    Worker as Launched, cycles,
};
use firstack_packets::Segment;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use pcap_file::pcap::{PcapPacket, PcapWriter};
use pipeline::base::published::Published;
use pipeline::counters::{RoleCounters, Scalar};
use pipeline::packet::buffer::{Buffer, Pool};
use pipeline::packet::view::Side;
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::Role;
use pipeline::role::gateway::mode::A;
use pipeline::role::gateway::{Gateway, Service, Settings};
use pipeline::stage::sign::Keys;
use pipeline::verdict::{Fate, Verdict};

/// A worker's counters.
type Shared = Arc<dyn RoleCounters>;

const SERVER: &str = "203.0.113.10:80";
const REPLICA: &str = "198.51.100.10:80";
/// Another server, which belongs to no service.
const OTHER: &str = "192.0.2.1:80";
/// More frames than a ring holds.
const MANY: usize = 3000;
/// The capacity of a queue between workers in frames.
const HANDOFF_CAPACITY: usize = 16;
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Waits until a condition is true, which it must become.
#[track_caller]
fn comes(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < MAX_WAIT, "it does not come");
        std::thread::sleep(Duration::from_micros(100));
    }
}

/// The test's end of a port.
struct End {
    rx: RxQueue,
    tx: TxQueue,
    pool: PoolHandle,
}

impl End {
    /// Sends a frame `count` times, as fast as the worker receives them.
    fn send(&mut self, frame: &[u8], count: usize) {
        for _ in 0..count {
            let mut out: Vec<Mbuf> = Vec::new();
            comes(|| {
                out.extend(self.pool.alloc(frame.len()));
                !out.is_empty()
            });
            out[0].head_mut().copy_from_slice(frame);
            comes(|| self.tx.burst(&mut out) == 1);
        }
    }

    /// Receives all frames that wait here.
    fn drain(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut burst = ArrayVec::<Mbuf, 64>::new();
        while self.rx.burst(&mut burst) > 0 {
            frames.extend(burst.drain(..).map(|mbuf| mbuf.head().to_vec()));
        }
        frames
    }

    /// Receives `count` frames that are on their way.
    fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        comes(|| {
            frames.extend(self.drain());
            frames.len() >= count
        });
        assert_eq!(frames.len(), count);
        frames
    }
}

/// Workers of a gateway, their DPDK, and the test's ends of both ports.
struct Rig {
    eal: Eal,
    pool: MbufPool,
    /// The workers not launched yet, the first one last.
    waiting: Vec<Worker<Gateway<A>>>,
    launched: Vec<Launched<()>>,
    counters: Vec<Shared>,
    ends: [End; 2],
    ports: Vec<Port>,
    stop: Arc<CachePadded<AtomicBool>>,
    reta: RetaMap,
}

fn queues(number: u16) -> PortConfig<'static> {
    let (rx_descriptors, tx_descriptors) = (256, 256);
    PortConfig {
        queues: number,
        rx_descriptors,
        tx_descriptors,
        max_frame: 1514,
        rss: None,
        checksums: true,
        interrupts: false,
    }
}

fn gateway() -> Gateway<A> {
    let server: std::net::SocketAddr = SERVER.parse().unwrap();
    let service = Service {
        scope: Scope::Prefix(server.ip().into()),
        ports: vec![80],
        retired: false,
        allowed_replicas: AllowList::Any,
        policy: pipeline::memory::Policy::default(),
    };
    let settings = Settings { max_connections: [64; 2], ..Settings::new(vec![service]) };
    Gateway::new(settings, Published::new(Keys::default()).reader())
}

impl Rig {
    /// Creates a rig on rings, in which only the first worker has queues.
    fn new(workers: usize, mbufs: u32) -> Self {
        Self::with_check(workers, mbufs, RssCheck::untrusted)
    }

    /// Creates such a rig, with a check for each port's queue.
    fn with_check(workers: usize, mbufs: u32, check: impl Fn() -> RssCheck) -> Self {
        let eal = eal(2);
        let pool = MbufPool::new(&eal, "frames", mbufs, 0, 2048, None).unwrap();
        let mut ports = Vec::new();
        let mut ends = Vec::new();
        let mut own = Vec::new();
        for device in ["net_ring0", "net_ring1"] {
            let mut port = Port::by_device(&eal, device).unwrap();
            port.configure(&queues(2), &pool).unwrap();
            let Started { mut rx, mut tx, .. } = port.start().unwrap();
            let pool = pool.handle();
            ends.push(End { rx: rx.remove(1), tx: tx.remove(0), pool });
            own.push(Queues { rx: rx.pop(), tx: tx.pop(), tx_worker: 0, rss_check: check() });
            ports.push(port);
        }
        let stop = Arc::default();
        let (waiting, counters) =
            self::workers(&eal, &pool, own.try_into().unwrap(), workers, &stop);
        let ends = ends.try_into().unwrap_or_else(|_| panic!("two ends"));
        let reta = reta(workers);
        Self { eal, pool, waiting, launched: Vec::new(), counters, ends, ports, stop, reta }
    }

    /// Returns the first of some addresses whose worker is this one, with a port.
    fn client(&self, owner: usize, addresses: impl Iterator<Item = IpAddr>) -> String {
        let mut owned = addresses.filter(|address| self.reta.worker_of(*address) == owner);
        SocketAddr::new(owned.next().unwrap(), 4000).to_string()
    }

    /// Returns how many packets the first worker has handed over.
    fn handed_off(&self) -> u64 {
        self.counters[0].scalar(Scalar::HandedOff).get()
    }

    /// Launches the next worker.
    fn launch(&mut self) {
        let lcore = self.eal.worker_lcores()[self.launched.len()];
        let worker = self.waiting.pop().unwrap();
        self.launched.push(self.eal.launch(lcore, move || worker.run()).unwrap());
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// Returns a counter of a side, all workers together.
    fn count(&self, side: Side, of: impl Fn(&pipeline::counters::SideCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| of(counters.side(side))).sum()
    }

    fn verdicts(&self, side: Side, verdict: Verdict) -> u64 {
        self.count(side, |side| side.verdicts[verdict as usize].get())
    }

    fn received(&self, side: Side) -> u64 {
        self.count(side, |side| side.received.get())
    }

    /// Opens a connection that is won by the replica.
    fn connect(&mut self, client: &str) {
        self.end(Side::Inside).send(&Segment::syn(client, SERVER, 7).frame(), 1);
        self.end(Side::Outside).receive(1);
        self.end(Side::Outside).send(&Segment::syn_ack(REPLICA, client, 5, 8).frame(), 1);
        let answer = self.end(Side::Inside).receive(1).remove(0);
        assert_eq!(answer[26..30], [203, 0, 113, 10], "from the server, as the client sees it");
    }

    /// Checks that the connection's packets are forwarded both ways, translated.
    fn is_alive(&mut self, client: &str) {
        self.end(Side::Inside).send(&data(client), 10);
        let to_replica = self.end(Side::Outside).receive(10);
        assert!(to_replica.iter().all(|frame| frame[30..34] == [198, 51, 100, 10]));
        self.end(Side::Outside).send(&Segment::ack(REPLICA, client, 6, 8).inbound().frame(), 10);
        let to_client = self.end(Side::Inside).receive(10);
        assert!(to_client.iter().all(|frame| frame[26..30] == [203, 0, 113, 10]));
    }

    /// Stops the workers and checks that all packets are accounted for and all buffers are back.
    fn finish(self) {
        let Self { eal, pool, waiting, launched, counters, mut ends, ports, stop, .. } = self;
        assert!(waiting.is_empty(), "a worker was never launched");
        stop.store(true, Relaxed);
        for worker in launched {
            worker.join().unwrap();
        }
        ends.iter_mut().for_each(|end| drop(end.drain()));
        drop(ends);
        for port in ports {
            port.close().unwrap();
        }
        assert_eq!(pool.available(), pool.size(), "buffers are missing");
        is_conserved(&counters);
        drop((pool, eal));
    }
}

/// Returns a data packet of a client.
fn data(client: &str) -> Vec<u8> {
    Segment::ack(client, SERVER, 8, 6).frame()
}

fn without_queues() -> Queues {
    Queues { rx: None, tx: None, tx_worker: 0, rss_check: RssCheck::untrusted() }
}

/// Returns the distribution of clients over the workers.
fn reta(workers: usize) -> RetaMap {
    RetaMap::new(workers as u16, 128, Toeplitz::default())
}

/// Returns the workers, the first one last and the only one with queues, and their counters.
fn workers(
    eal: &Eal,
    pool: &MbufPool,
    own: [Queues; 2],
    workers: usize,
    stop: &Arc<CachePadded<AtomicBool>>,
) -> (Vec<Worker<Gateway<A>>>, Vec<Shared>) {
    let stopped = Arc::new(Barrier::new(workers));
    let clock = SteadyClock::new(Clock::new(cycles(), eal.cycles_per_second()), monotonic());
    let mut own = Some(own);
    let (mut all, mut counters) = (Vec::new(), Vec::new());
    for handoff in Handoff::new(workers, HANDOFF_CAPACITY) {
        let role = gateway();
        counters.push(role.counters());
        all.insert(
            0,
            Worker::new(Parts {
                role,
                successors: Taker::none(),
                queues: own.take().unwrap_or_else(|| [without_queues(), without_queues()]),
                pool: pool.handle(),
                handoff,
                reta: reta(workers),
                clock,
                idle: Idle::Adaptive(Vec::new()),
                burst: 32,
                copies: 1,
                stop: Arc::clone(stop),
                stopped: Arc::clone(&stopped),
                pulse: Default::default(),
                says_goodbye: Arc::default(),
            }),
        );
    }
    (all, counters)
}

/// Checks for each side that received = forwarded + consumed + dropped, and in total that forwarded
/// + generated = sent + unsent.
fn is_conserved(counters: &[Shared]) {
    let (mut forwarded, mut left) = (0, 0);
    for counters in counters {
        forwarded += counters.generated.iter().map(|counter| counter.get()).sum::<u64>();
        for side in Side::ALL {
            let side = counters.side(side);
            let fates = |fate| {
                let of = |verdict: &&Verdict| verdict.fate() == fate;
                let counts = Verdict::ALL.iter().filter(of);
                counts.map(|&verdict| side.verdicts[verdict as usize].get()).sum::<u64>()
            };
            let all = fates(Fate::Forwarded) + fates(Fate::Consumed) + fates(Fate::Dropped);
            assert_eq!(side.received.get(), all);
            forwarded += fates(Fate::Forwarded);
            left += side.sent.get() + side.unsent.get();
        }
    }
    assert_eq!(forwarded, left);
}

#[test]
fn a_port_that_takes_nothing_holds_up_neither_the_other_side_nor_what_comes_after() {
    alone("a_port_that_takes_nothing_holds_up_neither_the_other_side_nor_what_comes_after", || {
        let client = "198.18.0.1:4000";
        let mut rig = Rig::new(1, 8191);
        rig.launch();
        rig.connect(client);
        let before = rig.received(Side::Inside);
        // Nobody receives what is sent on the outside.
        rig.end(Side::Inside).send(&data(client), MANY);
        comes(|| rig.received(Side::Inside) == before + MANY as u64);
        comes(|| {
            let outside = |of: fn(&_) -> u64| rig.count(Side::Outside, of);
            // The SYN has been sent by then.
            let (sent, unsent) = (outside(|s| s.sent.get()), outside(|s| s.unsent.get()));
            (sent, unsent) == (1 + 1023, (MANY - 1023) as u64)
        });
        assert_eq!(rig.count(Side::Inside, |side| side.unsent.get()), 0);
        // The other direction continues meanwhile.
        let back = Segment::ack(REPLICA, client, 6, 8).inbound().frame();
        rig.end(Side::Outside).send(&back, 100);
        rig.end(Side::Inside).receive(100);
        // What the port had accepted is sent once it continues, and so is everything after that.
        assert_eq!(rig.end(Side::Outside).drain().len(), 1023);
        rig.is_alive(client);
        assert_eq!(rig.count(Side::Outside, |side| side.unsent.get()), (MANY - 1023) as u64);
        rig.finish();
    });
}

#[test]
fn a_worker_that_stands_still_costs_others_nothing_but_what_was_for_it() {
    alone("a_worker_that_stands_still_costs_others_nothing_but_what_was_for_it", || {
        let mut rig = Rig::new(2, 8191);
        rig.launch();
        let of = |owner| rig.client(owner, (1..=250).map(|host| [198, 18, 0, host].into()));
        let (first, second) = (of(0), of(1));
        rig.connect(&first);
        // Its queue fills up, then rejects frames.
        rig.end(Side::Inside).send(&Segment::ack(&second, OTHER, 8, 6).frame(), MANY);
        comes(|| {
            rig.verdicts(Side::Inside, Verdict::HandoffFull) == (MANY - HANDOFF_CAPACITY) as u64
        });
        assert_eq!(rig.counters[0].scalar(Scalar::HandedOff).get(), HANDOFF_CAPACITY as u64);
        rig.is_alive(&first);
        // Once it runs, it sends the frames that waited for it, and has connections itself.
        rig.launch();
        rig.end(Side::Outside).receive(HANDOFF_CAPACITY);
        rig.connect(&second);
        rig.is_alive(&second);
        rig.is_alive(&first);
        assert_eq!(
            rig.verdicts(Side::Inside, Verdict::HandoffFull),
            (MANY - HANDOFF_CAPACITY) as u64
        );
        assert_eq!(
            rig.counters[0].scalar(Scalar::HandedOff).get(),
            rig.counters[1].scalar(Scalar::TakenFromWorkers).get()
        );
        rig.finish();
    });
}

/// The ports mark nothing, as net_virtio. They put all packets into the first worker's queue.
#[test]
fn a_port_that_places_a_family_wrongly_is_no_longer_trusted_with_it() {
    alone("a_port_that_places_a_family_wrongly_is_no_longer_trusted_with_it", || {
        const TRIAL: usize = 4096;
        let mismatches: Mismatches = [Some(Arc::default()), Some(Arc::default())];
        let seen = || [0, 1].map(|at: usize| mismatches[at].as_ref().unwrap().load(Relaxed));
        let check = || RssCheck::on_trial(false, mismatches.clone());
        let mut rig = Rig::with_check(2, 8191, check);
        rig.launch();
        rig.launch();
        let v4 = |owner| rig.client(owner, (1..=250).map(|host| [198, 18, 0, host].into()));
        let v6 = |owner| {
            let host = |host| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host).into();
            rig.client(owner, (1..=250).map(host))
        };
        let ([right, wrong], [right_v6, wrong_v6]) = ([v4(0), v4(1)], [v6(0), v6(1)]);
        let forward = |rig: &mut Rig, client: &str, count: usize| {
            let server = if client.starts_with('[') { "[2001:db8:2::1]:80" } else { OTHER };
            let frame = Segment::ack(client, server, 8, 6).frame();
            for _ in 0..count / 16 {
                rig.end(Side::Inside).send(&frame, 16);
                rig.end(Side::Outside).receive(16);
            }
        };
        // After the trials both families are trusted, and one packet in 64 is looked at.
        forward(&mut rig, &right, TRIAL);
        forward(&mut rig, &right_v6, TRIAL);
        assert_eq!((rig.handed_off(), seen()), (0, [false, false]));
        forward(&mut rig, &wrong, 64);
        assert_eq!((rig.handed_off(), seen()), (1, [true, false]));
        // From then on all are, and IPv6 is still trusted.
        forward(&mut rig, &wrong, 16);
        assert_eq!(rig.handed_off(), 17);
        forward(&mut rig, &wrong_v6, 48);
        assert_eq!((rig.handed_off(), seen()), (17, [true, false]));
        forward(&mut rig, &wrong_v6, 16);
        assert_eq!((rig.handed_off(), seen()), (18, [true, true]));
        forward(&mut rig, &wrong_v6, 16);
        assert_eq!(rig.handed_off(), 34);
        rig.finish();
    });
}

#[test]
fn without_buffers_losers_are_not_reset_and_connections_go_on() {
    alone("without_buffers_losers_are_not_reset_and_connections_go_on", || {
        let client = "198.18.0.1:4000";
        let mut rig = Rig::new(1, 255);
        rig.launch();
        rig.connect(client);
        // The test's ends have a few buffers, the worker has none.
        let mut handle = rig.pool.handle();
        let held: Vec<Mbuf> = std::iter::from_fn(|| handle.alloc(64)).collect();
        assert_eq!(rig.pool.available(), 0);
        let loser = Segment::syn_ack(SERVER, client, 9, 8).frame();
        rig.end(Side::Outside).send(&loser, 1);
        comes(|| rig.verdicts(Side::Outside, Verdict::NoBuffer) == 1);
        comes(|| rig.pool.available() == 1);
        for _ in 0..10 {
            rig.end(Side::Inside).send(&data(client), 1);
            rig.end(Side::Outside).receive(1);
        }
        // With buffers available again, the loser gets its reset.
        drop((held, handle));
        rig.end(Side::Outside).send(&loser, 1);
        let reset = rig.end(Side::Outside).receive(1).remove(0);
        assert_eq!(reset[47] & 0x04, 0x04, "a RST");
        assert_eq!(rig.verdicts(Side::Outside, Verdict::NoBuffer), 1);
        rig.is_alive(client);
        rig.finish();
    });
}

/// net_pcap reads a frame and then has no buffer for it: the frame is lost, and the port counts it. The
/// frames come through a pipe, so that the test decides how many are lost.
#[test]
fn a_port_without_buffers_to_receive_into_goes_on_when_there_are_some() {
    alone("a_port_without_buffers_to_receive_into_goes_on_when_there_are_some", || {
        const LOST: u64 = 10;
        const FRAMES: u64 = 20_000;
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in.pcap");
        mkfifo(&input, Mode::S_IRWXU).unwrap();
        // Open for both ways, it waits for nobody.
        let pipe = File::options().read(true).write(true).open(&input).unwrap();
        let mut writer = PcapWriter::new(pipe).unwrap();
        let frame = Segment::ack("198.18.0.1:4000", OTHER, 8, 6).frame();
        let mut write = |frames: u64| {
            let packet = PcapPacket::new(Duration::ZERO, frame.len() as u32, &frame);
            (0..frames).for_each(|_| assert!(writer.write_packet(&packet).is_ok()));
        };

        let eal = eal(1);
        let pool = MbufPool::new(&eal, "frames", 255, 0, 2048, None).unwrap();
        let mut handle = pool.handle();
        let held: Vec<Mbuf> = std::iter::from_fn(|| handle.alloc(64)).collect();
        let files = format!("rx_pcap={},tx_pcap=/dev/null", input.display());
        let mut own = Vec::new();
        let mut ports = Vec::new();
        for device in [format!("net_pcap0,{files}"), "net_null0".to_owned()] {
            let mut port = Port::by_device(&eal, &device).unwrap();
            port.configure(&queues(1), &pool).unwrap();
            let Started { mut rx, mut tx, .. } = port.start().unwrap();
            // The null device would deliver frames without end.
            let rx = rx.pop().filter(|_| ports.is_empty());
            own.push(Queues { rx, tx: tx.pop(), tx_worker: 0, rss_check: RssCheck::untrusted() });
            ports.push(port);
        }
        let stop = Arc::default();
        let (mut workers, counters) = self::workers(&eal, &pool, own.try_into().unwrap(), 1, &stop);
        let worker = workers.remove(0);
        let worker = eal.launch(1, move || worker.run()).unwrap();
        let lost = || ports[0].stats().unwrap().rx_nombuf;
        let received = || counters[0].side(Side::Inside).received.get();
        write(LOST);
        comes(|| lost() == LOST);
        assert_eq!(received(), 0);
        drop((held, handle));
        write(FRAMES);
        // The end of the pipe ends the worker's last read.
        drop(writer);
        comes(|| received() == FRAMES);
        assert_eq!(lost(), LOST);
        stop.store(true, Relaxed);
        worker.join().unwrap();
        assert_eq!(ports[1].stats().unwrap().opackets, received());
        for port in ports {
            port.close().unwrap();
        }
        assert_eq!(pool.available(), pool.size(), "buffers are missing");
        is_conserved(&counters);
    });
}
