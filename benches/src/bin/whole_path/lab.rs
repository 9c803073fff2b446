//! DPDK on one pinned core, pools, and pairs of net_null ports.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use firstack::dpdk::{DEFAULT_DATA_ROOM, Eal, MbufPool, Port, PortConfig, RxQueue, TxQueue};

use crate::source::Source;
use crate::template::SHORT;
use crate::waiting::WAITING;

/// Buffers of dpdk-testpmd's pool, and of ours besides those that wait.
pub const BUFFERS: u32 = 8191;
/// Size of the per-core mempool cache, as in dpdk-testpmd.
pub const CACHE: u32 = 250;
/// MiB of memory for DPDK.
const MEMORY: u32 = 256;
/// DPDK's option for ordinary memory.
const NO_HUGE: &str = "--no-huge";
/// Growth in kB from which tables are said to lie in huge pages or not: two of them.
const SOME_KB: u64 = 4_096;
/// Queue descriptors. net_null ignores their number.
const DESCRIPTORS: u16 = 512;

/// The queues of two ports, inside and outside.
pub struct Ends {
    /// Receive queues.
    pub rx: [RxQueue; 2],
    /// Transmit queues.
    pub tx: [TxQueue; 2],
}

/// DPDK and its pools.
pub struct Lab {
    pub eal: Eal,
    /// The pool of the sources.
    pub pool: MbufPool,
    /// A pool of untouched buffers, for loops on plain net_null.
    pub plain_pool: MbufPool,
    ports: Vec<Port>,
    plain_ports: Vec<Port>,
    /// Whether this thread has real-time priority.
    pub real_time: bool,
    /// Whether DPDK's memory, and with it the packet buffers, lies in huge pages.
    huge: bool,
}

impl Lab {
    /// Starts DPDK with its main thread pinned to this CPU, at real-time priority if permitted. A
    /// second thread waits on another CPU, if there is one.
    pub fn start(cpu: u32) -> Result<Self> {
        let id = std::process::id();
        let mut args = vec![
            lcores(cpu),
            format!("--file-prefix=whole_path_{id}"),
            "--no-pci".to_owned(),
            "--no-telemetry".to_owned(),
            "--log-level=5".to_owned(),
        ];
        args.extend(memory_arguments(MEMORY));
        let huge = !args.iter().any(|argument| argument == NO_HUGE);
        let eal = Eal::init(&args)?;
        let pool = |name, size| MbufPool::new(&eal, name, size, CACHE, DEFAULT_DATA_ROOM, None);
        let waiting = 2 * WAITING as u32;
        let (pool, plain_pool) = (pool("stamped", BUFFERS + waiting)?, pool("plain", BUFFERS)?);
        let own = id.to_string();
        let real_time = Command::new("chrt").args(["-a", "-f", "-p", "20", &own]).output();
        let real_time = real_time.is_ok_and(|output| output.status.success());
        Ok(Self {
            eal,
            pool,
            plain_pool,
            ports: Vec::new(),
            plain_ports: Vec::new(),
            real_time,
            huge,
        })
    }

    /// Describes CPU, priority and memory.
    pub fn scheduling(&self) -> &'static str {
        match self.real_time {
            true => "SCHED_FIFO 20",
            false => "the kernel's usual scheduling: SCHED_FIFO is not permitted",
        }
    }

    /// Describes what lies in huge pages: the buffers, and the tables that were made since an
    /// earlier reading of the memory, if they are large enough for any.
    pub fn huge_pages(&self, before: Memory) -> &'static str {
        let now = Memory::now();
        let all = now.anonymous_kb.saturating_sub(before.anonymous_kb);
        let huge = now.huge_kb.saturating_sub(before.huge_kb);
        match (self.huge, all >= SOME_KB && huge * 10 >= all * 9) {
            (true, true) => "buffers, tables",
            (true, false) => "buffers",
            (false, true) => "tables",
            (false, false) => "none",
        }
    }

    /// Returns the queues of the pair of ports of this number. They must not be in use.
    pub fn ends(&mut self, number: usize) -> Result<(Ends, [Source; 2])> {
        let mut ends = open(&self.eal, &self.pool, &mut self.ports, number, "net_null")?;
        let [inside, outside] = &mut ends.rx;
        let sources = [Source::add(inside)?, Source::add(outside)?];
        Ok((ends, sources))
    }

    /// Returns queues of plain net_null ports without a source.
    pub fn plain_ends(&mut self, number: usize) -> Result<Ends> {
        open(&self.eal, &self.plain_pool, &mut self.plain_ports, number, "net_null_plain")
    }

    /// Fails when a buffer has leaked.
    pub fn check_buffers(&self) -> Result<()> {
        for pool in [&self.pool, &self.plain_pool] {
            let missing = pool.size() - pool.available();
            ensure!(missing == 0, "{missing} packet buffers are missing");
        }
        Ok(())
    }
}

/// This process's memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// What is no file's, in kB.
    anonymous_kb: u64,
    /// Of it, what is in transparent huge pages.
    huge_kb: u64,
}

impl Memory {
    /// Returns the current state.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            value.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        Self { anonymous_kb: field("Anonymous:"), huge_kb: field("AnonHugePages:") }
    }
}

fn lcores(cpu: u32) -> String {
    let count = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    match (0..count).find(|&other| other != cpu) {
        Some(other) => format!("--lcores=0@{cpu},1@{other}"),
        None => format!("--lcores=0@{cpu}"),
    }
}

/// Selects huge pages where some are free, else ordinary memory.
pub fn memory_arguments(mib: u32) -> Vec<String> {
    let free = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let free = free.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    let pages: u32 = free.and_then(|count| count.trim().parse().ok()).unwrap_or(0);
    let size = ["-m".to_owned(), mib.to_string()];
    // Pages of 2 MiB, and some spare ones.
    if pages * 2 > mib + 64 {
        [&size[..], &["--huge-unlink".to_owned()]].concat()
    } else {
        [&size[..], &[NO_HUGE.to_owned()]].concat()
    }
}

fn open(
    eal: &Eal,
    pool: &MbufPool,
    ports: &mut Vec<Port>,
    number: usize,
    name: &str,
) -> Result<Ends> {
    let config = PortConfig {
        queues: 1,
        rx_descriptors: DESCRIPTORS,
        tx_descriptors: DESCRIPTORS,
        max_frame: 1514,
        rss: None,
        checksums: false,
        interrupts: false,
    };
    while ports.len() < 2 * (number + 1) {
        let device = format!("{name}{},size={SHORT},copy=0", ports.len());
        let mut port = Port::by_device(eal, &device)?;
        port.configure(&config, pool)?;
        ports.push(port);
    }
    let (mut rx, mut tx) = (Vec::new(), Vec::new());
    for port in &mut ports[2 * number..][..2] {
        if port.is_started() {
            port.stop().context("an earlier system still has its queues")?;
        }
        let started = port.start()?;
        rx.extend(started.rx);
        tx.extend(started.tx);
    }
    match (rx.try_into(), tx.try_into()) {
        (Ok(rx), Ok(tx)) => Ok(Ends { rx, tx }),
        _ => anyhow::bail!("{name}: ports have one queue each"),
    }
}
