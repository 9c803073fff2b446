//! A worker between two net_ring devices. A queue of such a device receives what it sends: the
//! worker has the receiving end of one queue and the sending end of the other, source and sink have
//! the rest.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};

use arrayvec::ArrayVec;
use crossbeam::utils::CachePadded;
use firstack::datapath::clock::{Clock, SteadyClock, monotonic};
use firstack::datapath::handoff::Handoff;
use firstack::datapath::rss::toeplitz::Toeplitz;
use firstack::datapath::rss::{RetaMap, RssCheck};
use firstack::datapath::slot::Taker;
use firstack::datapath::worker::{Idle, Parts, Queues, Worker};
use firstack::dpdk::{
    Eal, EalArgs, LogLevel, Mbuf, MbufPool, PoolHandle, Port, PortConfig, RxQueue, Started,
    TxQueue, cycles,
};
use firstack_benches::{BURST, client};
use firstack_packets::Segment;
use pipeline::base::published::Published;
use pipeline::packet::buffer::{Buffer, Pool};
use pipeline::policy::allow_list::AllowList;
use pipeline::policy::services::Scope;
use pipeline::role::gateway::mode::A;
use pipeline::role::gateway::{Gateway, Service, Settings};
use pipeline::stage::sign::Keys;

use crate::figures::{Capacity, Report, Row, Times};
use crate::{Arguments, Result};

const SERVER: &str = "203.0.113.10:80";
const REPLICA: &str = "198.51.100.10:80";
/// Offset of the time stamp in a frame: behind Ethernet, IPv4 and TCP.
const STAMP: std::ops::Range<usize> = 54..62;
/// Loads, in per cent of the capacity.
const LOADS: [u64; 3] = [10, 50, 90];
/// Packets per second with idle periods in between.
const SPARSE: f64 = 100.0;
/// Time to wait for the last packets.
const MAX_WAIT_NS: u64 = 100_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// Measures busy and adaptive polling.
pub fn run(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let args = EalArgs {
        worker_cpus: arguments.cores.iter().map(|&core| core.into()).collect(),
        file_prefix: format!("firstack-latency-{}", std::process::id()),
        no_huge_mib: Some(256),
        log_level: LogLevel::Warning,
        extra: ["--no-shconf", "--no-telemetry"].map(str::to_owned).into(),
        ..EalArgs::default()
    };
    let eal = Eal::init(&args.build()?)?;
    let pool = MbufPool::new(&eal, "latency", 16_383, 256, 2048, None)?;
    let mut ports = Vec::new();
    for device in ["net_ring0", "net_ring1"] {
        let mut port = Port::by_device(&eal, device)?;
        port.configure(
            &PortConfig {
                queues: 2,
                rx_descriptors: 1024,
                tx_descriptors: 1024,
                max_frame: 1514,
                rss: None,
                checksums: false,
                interrupts: false,
            },
            &pool,
        )?;
        ports.push(port);
    }
    for (poll, idle) in [("busy", Idle::Busy), ("adaptive", Idle::Adaptive(Vec::new()))] {
        let (capacity, rows) = measure(&eal, &pool, &mut ports, arguments, (poll, idle))?;
        report.capacity.push(capacity);
        report.rows.extend(rows);
    }
    Ok(())
}

/// Measures one worker.
fn measure(
    eal: &Eal,
    pool: &MbufPool,
    ports: &mut [Port],
    arguments: &Arguments,
    (poll, idle): (&'static str, Idle),
) -> Result<(Capacity, Vec<Row>)> {
    let (mut own, mut ends) = (ArrayVec::<Queues, 2>::new(), ArrayVec::<End, 2>::new());
    for port in &mut *ports {
        let Started { mut rx, mut tx, .. } = port.start()?;
        ends.push(End { rx: rx.pop().ok_or("no queue")?, tx: tx.remove(0) });
        own.push(Queues {
            rx: rx.pop(),
            tx: tx.pop(),
            tx_worker: 0,
            rss_check: RssCheck::untrusted(),
        });
    }
    let clock = Clock::new(cycles(), eal.cycles_per_second());
    let stop = Arc::new(CachePadded::new(AtomicBool::new(false)));
    let worker = Worker::new(Parts {
        role: gateway(arguments.connections)?,
        successors: Taker::none(),
        queues: own.into_inner().map_err(|_| "two sides")?,
        pool: pool.handle(),
        handoff: Handoff::new(1, 1).remove(0),
        reta: RetaMap::new(1, 128, Toeplitz::default()),
        clock: SteadyClock::new(clock, monotonic()),
        idle,
        burst: BURST,
        copies: 1,
        stop: Arc::clone(&stop),
        stopped: Arc::new(Barrier::new(1)),
        pulse: Default::default(),
        says_goodbye: Arc::default(),
    });
    let source = Source {
        ends: ends.into_inner().map_err(|_| "two ends")?,
        pool: pool.handle(),
        clock,
        frames: Vec::new(),
        next: 0,
        connections: arguments.connections,
        seconds: arguments.seconds,
    };
    let [first, second] = eal.worker_lcores()[..] else { return Err("two cores".into()) };
    let worker = eal.launch(first, move || worker.run())?;
    let outcome = eal.launch(second, move || source.run(poll))?.join()?;
    stop.store(true, Relaxed);
    worker.join()?;
    ports.iter_mut().try_for_each(Port::stop)?;
    outcome
}

fn gateway(connections: usize) -> Result<Gateway<A>> {
    let server: std::net::SocketAddr = SERVER.parse()?;
    let service = Service {
        scope: Scope::Prefix(server.ip().into()),
        ports: vec![80],
        retired: false,
        allowed_replicas: AllowList::Any,
        policy: pipeline::memory::Policy::default(),
    };
    let settings = Settings {
        max_connections: [connections, 1],
        hash_key: (0x1234_5678, 0x9abc_def0),
        ..firstack_fixtures::gateway(vec![service])
    };
    Ok(Gateway::new(settings, Published::new(Keys::default()).reader()))
}

/// The far end of one of the worker's ports.
struct End {
    rx: RxQueue,
    tx: TxQueue,
}

/// Source and sink.
struct Source {
    /// Inside and outside.
    ends: [End; 2],
    pool: PoolHandle,
    clock: Clock,
    /// A packet of each connection, to its server.
    frames: Vec<Vec<u8>>,
    /// Index of the next connection.
    next: usize,
    connections: usize,
    seconds: u64,
}

impl Source {
    fn now(&self) -> u64 {
        self.clock.at(cycles()).0
    }

    /// Opens the connections, then measures.
    fn run(mut self, poll: &'static str) -> Result<(Capacity, Vec<Row>)> {
        for number in 0..self.connections {
            let client = client(number);
            self.pass(0, &Segment::syn(&client, SERVER, 7).frame())?;
            self.pass(1, &Segment::syn_ack(REPLICA, &client, 5, 8).frame())?;
            self.frames.push(Segment::ack(&client, SERVER, 8, 6).payload(&[0; 16]).frame());
        }
        let capacity = self.capacity(poll)?;
        let mut rows = Vec::new();
        for load in LOADS {
            let rate = capacity.rate * load as f64 / 100.0;
            rows.push(self.offer(poll, format!("{load} %"), rate)?);
        }
        rows.push(self.offer(poll, "every 10 ms".to_owned(), SPARSE)?);
        Ok((capacity, rows))
    }

    /// Sends one frame by one side and receives it on the other.
    fn pass(&mut self, side: usize, bytes: &[u8]) -> Result<()> {
        let mut frame = self.pool.alloc(bytes.len()).ok_or("the pool is empty")?;
        frame.head_mut().copy_from_slice(bytes);
        let mut frames = vec![frame];
        self.ends[side].tx.burst(&mut frames);
        let mut burst = ArrayVec::<Mbuf, BURST>::new();
        let until = self.now() + SECOND_NS;
        while self.ends[1 - side].rx.burst(&mut burst) == 0 {
            if self.now() > until {
                return Err("a packet of a connection's start does not pass".into());
            }
        }
        Ok(())
    }

    /// Adds packets of the next connections, each with its time stamp.
    fn make(&mut self, frames: &mut Vec<Mbuf>, count: usize, time: impl Fn(u64) -> u64) {
        for number in 0..count {
            let template = &self.frames[self.next];
            let Some(mut frame) = self.pool.alloc(template.len()) else { return };
            let head = frame.head_mut();
            head.copy_from_slice(template);
            head[STAMP].copy_from_slice(&time(number as u64).to_ne_bytes());
            frames.push(frame);
            self.next = (self.next + 1) % self.frames.len();
        }
    }

    /// Receives packets and records their latencies. Returns their number.
    fn collect(&mut self, times: &mut Times) -> u64 {
        let mut burst = ArrayVec::<Mbuf, { 2 * BURST }>::new();
        let count = self.ends[1].rx.burst(&mut burst);
        if count > 0 {
            let now = self.now();
            for frame in &burst {
                let mut stamp = [0; 8];
                stamp.copy_from_slice(&frame.head()[STAMP]);
                times.add(now.saturating_sub(u64::from_ne_bytes(stamp)).max(1));
            }
        }
        count as u64
    }

    /// Measures the capacity: keeps the ring full.
    fn capacity(&mut self, poll: &'static str) -> Result<Capacity> {
        let mut frames = Vec::with_capacity(BURST);
        let mut times = Times::new()?;
        let from = self.now() + SECOND_NS / 5;
        let until = from + self.seconds * SECOND_NS;
        let (mut received, mut offered, mut refused) = (0, 0u64, 0u64);
        loop {
            let now = self.now();
            let count = BURST - frames.len();
            self.make(&mut frames, count, |_| now);
            self.ends[0].tx.burst(&mut frames);
            let count = self.collect(&mut times);
            if now >= from {
                received += count;
                offered += 1;
                refused += u64::from(!frames.is_empty());
            }
            if now >= until {
                break;
            }
        }
        drop(frames);
        self.run_dry(&mut times);
        Ok(Capacity {
            poll,
            rate: received as f64 / self.seconds as f64,
            refused_percent: refused as f64 / offered as f64 * 100.0,
        })
    }

    /// Waits for the last packets, and returns their number.
    fn run_dry(&mut self, times: &mut Times) -> u64 {
        let (mut count, mut last) = (0, self.now());
        while self.now() < last + MAX_WAIT_NS {
            match self.collect(times) {
                0 => std::hint::spin_loop(),
                some => (count, last) = (count + some, self.now()),
            }
        }
        count
    }

    /// Sends packets on a schedule, whatever happens to them.
    fn offer(&mut self, poll: &'static str, load: String, rate: f64) -> Result<Row> {
        let packets = (rate * self.seconds as f64) as u64;
        let step = SECOND_NS as f64 / rate;
        let mut frames = Vec::with_capacity(BURST);
        let (mut times, mut late) = (Times::new()?, Times::new()?);
        let (mut sent, mut received) = (0, 0);
        let start = self.now() + SECOND_NS / 100;
        while sent < packets {
            let now = self.now();
            let count = due(now, start, step).min(packets).saturating_sub(sent).min(BURST as u64);
            if count > 0 {
                let at = |number| start + ((sent + number) as f64 * step) as u64;
                (0..count).for_each(|number| late.add(now.saturating_sub(at(number)).max(1)));
                self.make(&mut frames, count as usize, at);
                self.ends[0].tx.burst(&mut frames);
                // A full ring drops packets, as a wire would.
                frames.clear();
                sent += count;
            }
            received += self.collect(&mut times);
        }
        received += self.run_dry(&mut times);
        debug_assert_eq!(received, times.len());
        Ok(Row {
            way: "rings",
            poll,
            load,
            offered: rate,
            packets,
            lost: packets - received,
            latency_ns: times.distribution(),
            late_ns: Some(late.distribution()),
            cpu_percent: None,
        })
    }
}

/// Returns how many packets are due: the first at `start`, the others every `step` after it.
fn due(now: u64, start: u64, step: f64) -> u64 {
    now.checked_sub(start).map_or(0, |passed| (passed as f64 / step) as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::due;

    #[test]
    fn a_packet_is_due_at_its_time_and_not_an_interval_later() {
        let at = |now| due(now, 1_000, 10.0);
        assert_eq!([999, 1_000, 1_009, 1_010, 1_100].map(at), [0, 1, 1, 2, 11]);
    }
}
