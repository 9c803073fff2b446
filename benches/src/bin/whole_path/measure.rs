//! Slices, rounds and medians.

use anyhow::Result;
use firstack::dpdk::cycles;
use serde::Serialize;

use crate::system_under_test::{Base, Case, SystemUnderTest};

/// Bursts between two readings of the clock.
const TURNS: usize = 16;

/// Duration of measurements.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Rounds over all cases.
    pub rounds: usize,
    /// Duration of a slice in counts of the time stamp counter.
    pub slice: u64,
    /// Duration of the warm-up before it, in counts, which fills the caches.
    pub warm_up: u64,
    /// Counts per nanosecond.
    pub per_ns: f64,
    /// What lies in huge pages, as [`crate::lab::Lab::huge_pages`] returns it.
    pub huge_pages: &'static str,
}

/// The result of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Packets received.
    pub packets: u64,
    /// Time stamp counts.
    pub cycles: u64,
}

impl Slice {
    /// Returns nanoseconds per packet.
    pub fn ns(&self, effort: &Effort) -> f64 {
        self.cycles as f64 / effort.per_ns / self.packets as f64
    }
}

/// A case's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    /// The case's name.
    pub name: String,
    /// Number of open connections.
    pub connections: u32,
    /// Bytes of the frames from the inside and the outside.
    pub frame_bytes: [usize; 2],
    /// Median over the rounds, nanoseconds per received packet.
    pub ns: f64,
    /// Minimum and maximum of the rounds.
    pub ns_least: f64,
    pub ns_most: f64,
    /// Median counts of the time stamp counter per packet.
    pub tsc_cycles: f64,
    /// Millions of packets per second, from the median.
    pub mpps: f64,
    /// Median of the rate over that of the io loop in the same round.
    pub ratio_to_io: f64,
    /// Median of the nanoseconds above the io loop in the same round.
    pub ns_over_io: f64,
    /// A quarter to three quarters of the rounds' rates over io, as a part of the median: how much
    /// of a change is noise.
    pub ratio_spread: f64,
    /// Rounds.
    pub rounds: usize,
    /// What lies in huge pages.
    pub huge_pages: &'static str,
}

/// Runs a case for one slice.
pub fn slice(system: &mut SystemUnderTest, case: &mut Case, effort: &Effort) -> Result<Slice> {
    for (source, program) in system.sources.iter().zip(&mut case.programs) {
        source.play(std::mem::take(program));
    }
    spin(system, effort.warm_up);
    let before = system.tally();
    let slice = spin(system, effort.slice);
    let after = system.tally();
    for (source, program) in system.sources.iter().zip(&mut case.programs) {
        *program = source.take();
    }
    system.check(&before, &after, &case.verdicts, slice.packets)?;
    Ok(slice)
}

/// Forwards for this many counts.
pub fn spin(system: &mut SystemUnderTest, counts: u64) -> Slice {
    let start = cycles();
    let mut packets = 0;
    loop {
        for _ in 0..TURNS {
            packets += system.forwarder.poll_once() as u64;
        }
        let cycles = cycles().wrapping_sub(start);
        if cycles >= counts {
            return Slice { packets, cycles };
        }
    }
}

/// Measures all cases in turn, several times, and calls `done` after each round. Figures of a
/// single direction exclude the other side's empty polls.
pub fn rounds(
    systems: &mut [SystemUnderTest],
    cases: &mut [Case],
    connections: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<Figure>> {
    let mut seen = vec![Vec::new(); cases.len()];
    for _ in 0..effort.rounds {
        for (case, seen) in cases.iter_mut().zip(&mut seen) {
            seen.push(slice(&mut systems[case.system], case, effort)?.ns(effort));
        }
        done();
    }
    let of = |base: Base| {
        let found = cases.iter().position(|case| case.name == base.name());
        found.map_or_else(Vec::new, |found| seen[found].clone())
    };
    let (io, one_way, io_l3) = (of(Base::BothWays), of(Base::OneWay), of(Base::FromL3));
    // With one side silent, every packet's time includes its empty polls. The io loops show how
    // much.
    let empty_polls: Vec<f64> = one_way.iter().zip(&io).map(|(one, both)| one - both).collect();
    let measured = cases.iter().zip(&seen).filter(|(case, _)| case.name != Base::OneWay.name());
    let figure = |(case, ns): (&Case, &Vec<f64>)| {
        let less = |round: usize| match case.base {
            Base::BothWays | Base::FromL3 => 0.0,
            Base::OneWay => empty_polls[round],
        };
        let ns = ns.iter().enumerate().map(|(round, ns)| ns - less(round)).collect();
        let io = if case.base == Base::FromL3 { &io_l3 } else { &io };
        Figure::new(case, connections, ns, io, effort)
    };
    Ok(measured.map(figure).collect())
}

impl Figure {
    /// Computes the figure from nanoseconds by round, and those of the io loop.
    fn new(case: &Case, connections: u32, ns: Vec<f64>, io: &[f64], effort: &Effort) -> Self {
        let per_packet = median(ns.clone());
        let pairs = || ns.iter().zip(io);
        let mut ratios: Vec<f64> = pairs().map(|(own, io)| io / own).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio_to_io = median(ratios.clone());
        Self {
            name: case.name.clone(),
            connections,
            frame_bytes: case.bytes,
            ns: per_packet,
            ns_least: ns.iter().copied().fold(f64::INFINITY, f64::min),
            ns_most: ns.iter().copied().fold(0.0, f64::max),
            tsc_cycles: per_packet * effort.per_ns,
            mpps: 1e3 / per_packet,
            ratio_to_io,
            ratio_spread: (quantile(&ratios, 0.75) - quantile(&ratios, 0.25)) / ratio_to_io,
            ns_over_io: median(pairs().map(|(own, io)| own - io).collect()),
            rounds: effort.rounds,
            huge_pages: effort.huge_pages,
        }
    }
}

/// Returns what a part of the sorted values is below, or NaN without values.
pub fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * sorted.len().saturating_sub(1) as f64;
    let value = |at: f64| sorted.get(at as usize).copied().unwrap_or(f64::NAN);
    let (low, high) = (value(place.floor()), value(place.ceil()));
    low + (high - low) * place.fract()
}

/// Returns the median, or the mean of the middle two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => (values[len / 2 - 1] + values[len / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::{median, quantile};

    #[test]
    fn a_quartile_is_between_its_neighbours() {
        assert_eq!(quantile(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25), 2.0);
        assert_eq!(quantile(&[1.0, 2.0], 0.75), 1.75);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
