//! Figures, as text and as JSON.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Nanoseconds, to three digits, up to ten seconds.
pub struct Times(Histogram<u64>);

impl Times {
    /// Creates an empty histogram.
    pub fn new() -> crate::Result<Self> {
        Ok(Self(Histogram::new_with_bounds(1, 10_000_000_000, 3)?))
    }

    /// Records a latency.
    #[inline]
    pub fn add(&mut self, nanoseconds: u64) {
        self.0.saturating_record(nanoseconds);
    }

    /// Returns the number of latencies.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Returns the percentiles.
    pub fn distribution(&self) -> Distribution {
        let at = |percentile| self.0.value_at_percentile(percentile);
        Distribution {
            p50: at(50.0),
            p90: at(90.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.0.max(),
        }
    }
}

/// Percentiles, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Distribution {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

/// One measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// "rings" or "veth".
    pub way: &'static str,
    /// "busy" or "adaptive".
    pub poll: &'static str,
    /// The offered load, in words.
    pub load: String,
    /// Offered packets per second.
    pub offered: f64,
    /// Offered packets.
    pub packets: u64,
    /// Lost packets.
    pub lost: u64,
    /// Latency from the scheduled time to the sink.
    pub latency_ns: Distribution,
    /// Delay from the scheduled time to sending, the source's own part, where it is known.
    pub late_ns: Option<Distribution>,
    /// CPU use of the process during the measurement, in per cent of a core.
    pub cpu_percent: Option<f64>,
}

/// The capacity of a worker.
#[derive(Clone, Debug, Serialize)]
pub struct Capacity {
    /// "busy" or "adaptive".
    pub poll: &'static str,
    /// Packets per second.
    pub rate: f64,
    /// Share of the source's bursts that the full ring refused at least in part, in per cent. Near
    /// zero, the source was the limit and not the worker.
    pub refused_percent: f64,
}

/// The CPU use of an idle process.
#[derive(Clone, Debug, Serialize)]
pub struct AtRest {
    /// "busy" or "adaptive".
    pub poll: &'static str,
    /// All its threads, in per cent of a core.
    pub cpu_percent: f64,
}

/// The whole report.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Idle processes.
    pub at_rest: Vec<AtRest>,
    /// Workers under full load.
    pub capacity: Vec<Capacity>,
    /// Latencies.
    pub rows: Vec<Row>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for rest in &self.at_rest {
            writeln!(f, "veth, {}, at rest: {:.1} % of a core", rest.poll, rest.cpu_percent)?;
        }
        for capacity in &self.capacity {
            let Capacity { poll, rate, refused_percent } = capacity;
            let rate = rate / 1e6;
            writeln!(f, "rings, {poll}: {rate:.2} Mpps; {refused_percent:.0} % of bursts refused")?;
        }
        writeln!(
            f,
            "\n{:5}  {:8}  {:>14}  {:>11}  {:>6}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>9}  {:>5}",
            "way",
            "poll",
            "load",
            "packets/s",
            "lost",
            "p50 us",
            "p90",
            "p99",
            "p99.9",
            "max",
            "late p99",
            "cpu %"
        )?;
        let us = |nanoseconds: u64| format!("{:.1}", nanoseconds as f64 / 1e3);
        for row in &self.rows {
            let Distribution { p50, p90, p99, p999, max } = row.latency_ns;
            writeln!(
                f,
                "{:5}  {:8}  {:>14}  {:>11.0}  {:>6}  {:>8}  {:>8}  {:>8}  {:>8}  {:>8}  {:>9}  {:>5}",
                row.way,
                row.poll,
                row.load,
                row.offered,
                row.lost,
                us(p50),
                us(p90),
                us(p99),
                us(p999),
                us(max),
                row.late_ns.map_or("-".into(), |late| us(late.p99)),
                row.cpu_percent.map_or("-".into(), |share| format!("{share:.1}")),
            )?;
        }
        Ok(())
    }
}
