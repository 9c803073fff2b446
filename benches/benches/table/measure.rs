//! One candidate's round: build, look up for a while, renew for a while, drop.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use firstack_benches::BURST;
use firstack_benches::find::scattered;

use crate::candidates::Candidate;

/// Minimum duration of a sample.
const SAMPLE: Duration = Duration::from_millis(150);
/// Samples per round, of which the median counts.
const SAMPLES: usize = 3;
/// Bursts between two readings of the clock.
const STRETCH: usize = 512;
/// Maximum number of connections renewed in a round.
const RENEWED: usize = 200_000;

/// The figures of a round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    pub(crate) name: &'static str,
    /// Nanoseconds to find a key and read its state.
    pub(crate) find_ns: f64,
    /// Nanoseconds to remove a connection and insert it again.
    pub(crate) renew_ns: f64,
    /// Bytes per connection, everything included.
    pub(crate) bytes: f64,
}

/// Measures the table of `count` connections that `build` returns.
pub(crate) fn round<C: Candidate>(
    count: usize,
    build: impl FnOnce() -> Result<C, Box<dyn Error>>,
) -> Result<Measured, Box<dyn Error>> {
    // Enough keys that those of a large table are no longer in cache when they come round.
    let order: Vec<usize> = scattered(count.clamp(1 << 16, 1 << 22), count).collect();
    let keys: Vec<C::Key> = order.iter().map(|&number| C::key(number)).collect();
    let before = resident()?;
    let mut table = build()?;
    // Counted in pages, mostly huge ones: meaningless for a small table.
    let grown = resident()?.saturating_sub(before);
    let bytes = grown + table.bytes_elsewhere();

    let bursts: Vec<&[C::Key]> = keys.chunks_exact(BURST).collect();
    let mut at = 0;
    // The first pass is not timed: it warms the caches.
    let mut samples: Vec<f64> =
        (0..=SAMPLES).map(|_| find(&mut table, &bursts, &mut at)).skip(1).collect();
    let find_ns = median(&mut samples);

    let renewed = &order[..order.len().min(RENEWED)];
    let start = Instant::now();
    renewed.iter().for_each(|&number| table.renew(number));
    let renew_ns = start.elapsed().as_nanos() as f64 / renewed.len() as f64;
    Ok(Measured { name: table.name(), find_ns, renew_ns, bytes: bytes as f64 / count as f64 })
}

/// Returns nanoseconds per key.
fn find<C: Candidate>(table: &mut C, bursts: &[&[C::Key]], at: &mut usize) -> f64 {
    let (mut found, start) = (0, Instant::now());
    loop {
        for _ in 0..STRETCH {
            let next = if *at + 1 < bursts.len() { *at + 1 } else { 0 };
            black_box(table.find(bursts[*at], bursts[next]));
            *at = next;
        }
        found += STRETCH * BURST;
        let elapsed = start.elapsed();
        if elapsed >= SAMPLE {
            return elapsed.as_nanos() as f64 / found as f64;
        }
    }
}

/// Returns the median of these figures, or the upper of the middle two.
pub(crate) fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Returns this process's resident memory in bytes.
fn resident() -> Result<usize, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let kilobytes =
        |line: &str| line.split_whitespace().nth(1).and_then(|n| n.parse::<usize>().ok());
    // Without DPDK's memory, which is shared: DPDK reports its use.
    let counted = |line: &&str| line.starts_with("RssAnon:");
    Ok(status.lines().filter(counted).filter_map(kilobytes).sum::<usize>() * 1024)
}
