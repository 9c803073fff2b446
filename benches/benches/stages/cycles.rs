//! A criterion measurement by the time stamp counter. Criterion stores nanoseconds, as with its own
//! clock, and displays cycles beside them.

use std::time::{Duration, Instant};

use criterion::Throughput;
use criterion::measurement::{Measurement, ValueFormatter, WallTime};

/// Duration of the calibration against the clock.
const CALIBRATION: Duration = Duration::from_millis(100);

/// Reads the counter.
pub(crate) fn now() -> u64 {
    firstack::dpdk::cycles()
}

/// A measurement by the counter.
pub(crate) struct Cycles {
    format: Format,
}

impl Cycles {
    /// Calibrates the counter against the clock.
    pub(crate) fn calibrated() -> Self {
        let (start, from) = (Instant::now(), now());
        while start.elapsed() < CALIBRATION {
            std::hint::spin_loop();
        }
        let (cycles, elapsed) = (now() - from, start.elapsed());
        let per_ns = cycles as f64 / elapsed.as_nanos() as f64;
        eprintln!("The time stamp counter counts {per_ns:.3} cycles a nanosecond");
        Self { format: Format { per_ns } }
    }
}

impl Measurement for Cycles {
    type Intermediate = u64;
    type Value = u64;

    fn start(&self) -> u64 {
        now()
    }

    fn end(&self, start: u64) -> u64 {
        now() - start
    }

    fn add(&self, one: &u64, other: &u64) -> u64 {
        one + other
    }

    fn zero(&self) -> u64 {
        0
    }

    fn to_f64(&self, cycles: &u64) -> f64 {
        *cycles as f64 / self.format.per_ns
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &self.format
    }
}

/// Formats nanoseconds and cycles.
struct Format {
    per_ns: f64,
}

impl ValueFormatter for Format {
    fn format_value(&self, ns: f64) -> String {
        format!("{ns:.2} ns = {:.1} cycles", ns * self.per_ns)
    }

    fn format_throughput(&self, throughput: &Throughput, ns: f64) -> String {
        match throughput {
            Throughput::Elements(count) => {
                let each = ns / *count as f64;
                format!("{each:.2} ns = {:.1} cycles each", each * self.per_ns)
            }
            other => WallTime.formatter().format_throughput(other, ns),
        }
    }

    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_values(typical, values)
    }

    fn scale_throughputs(
        &self,
        typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        WallTime.formatter().scale_throughputs(typical, throughput, values)
    }

    fn scale_for_machines(&self, values: &mut [f64]) -> &'static str {
        WallTime.formatter().scale_for_machines(values)
    }
}
