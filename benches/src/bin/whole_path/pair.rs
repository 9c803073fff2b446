//! Two builds of this program, slice by slice in turn: a change's effect in one run, on a machine
//! whose speed drifts.
//!
//! The other build is started with `--turns`. It writes the names of its cases, a line of JSON for
//! each part, and then for each line with a case's number it runs one slice and writes its
//! nanoseconds. An empty line ends the part. One of the two waits for a line while the other runs,
//! so both have the CPU to themselves.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::cases::Plan;
use crate::measure::{self, Effort, median};
use crate::races::Racing;
use crate::system_under_test::Base;

/// Something whose cases are measured slice by slice.
pub trait Subject {
    /// Returns the names of its cases.
    fn names(&self) -> Vec<String>;
    /// Runs a slice of a case. Returns nanoseconds per packet, or per race.
    fn ns(&mut self, case: usize, effort: &Effort) -> Result<f64>;
}

impl Subject for Plan {
    fn names(&self) -> Vec<String> {
        self.cases.iter().map(|case| case.name.clone()).collect()
    }

    fn ns(&mut self, case: usize, effort: &Effort) -> Result<f64> {
        let case = &mut self.cases[case];
        Ok(measure::slice(&mut self.systems[case.system], case, effort)?.ns(effort))
    }
}

impl Subject for Racing<'_> {
    fn names(&self) -> Vec<String> {
        self.all.iter().map(|(_, case)| case.name.clone()).collect()
    }

    fn ns(&mut self, case: usize, effort: &Effort) -> Result<f64> {
        Ok(self.slice(case, effort)?.ns)
    }
}

/// Runs a slice for each line of standard input.
///
/// # Errors
/// If standard input ends, or is not the numbers of cases.
pub fn serve(subject: &mut impl Subject, effort: &Effort) -> Result<()> {
    let names = serde_json::to_string(&subject.names())?;
    let mut out = io::stdout().lock();
    writeln!(out, "{names}")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        if line.is_empty() {
            return Ok(());
        }
        let ns = subject.ns(line.parse().context("the number of a case")?, effort)?;
        writeln!(out, "{ns}")?;
        out.flush()?;
    }
    anyhow::bail!("the other build has ended")
}

/// The build that is compared with.
pub struct Other {
    name: String,
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// A case of both builds.
#[derive(Clone, Debug, Serialize)]
pub struct PairFigure {
    /// The case.
    pub name: String,
    /// Open connections: all, or those beside the races.
    pub connections: u32,
    /// Medians over the rounds: nanoseconds per packet or race of the other build and this one.
    pub before_ns: f64,
    pub now_ns: f64,
    /// Median of now over before in the same round, and the quartiles.
    pub ratio: f64,
    pub quartiles: [f64; 2],
    /// Medians of the nanoseconds above the build's own io loop. Not for races or one direction.
    pub over_io: Option<[f64; 2]>,
}

impl Other {
    /// Starts the other build with these arguments.
    pub fn start(program: &Path, arguments: &[String]) -> Result<Self> {
        let mut child = Command::new(program)
            .args(arguments)
            .arg("--turns")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let input = child.stdin.take().context("its standard input")?;
        let output = BufReader::new(child.stdout.take().context("its standard output")?);
        Ok(Self { name: program.display().to_string(), child, input, output })
    }

    /// Returns the program's path.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the other build has ended");
        Ok(line.trim_end().to_owned())
    }

    fn ns(&mut self, case: usize) -> Result<f64> {
        writeln!(self.input, "{case}")?;
        self.line()?.parse().context("nanoseconds of the other build")
    }

    /// Measures what both have, slice by slice in turn, and calls `done` after each round.
    pub fn compare(
        &mut self,
        subject: &mut impl Subject,
        connections: u32,
        effort: &Effort,
        mut done: impl FnMut(),
    ) -> Result<Vec<PairFigure>> {
        let theirs: Vec<String> = serde_json::from_str(&self.line()?)?;
        let ours = subject.names();
        let common: Vec<(usize, usize)> = (0..ours.len())
            .filter_map(|own| Some((own, theirs.iter().position(|name| *name == ours[own])?)))
            .collect();
        let mut seen = vec![Vec::new(); common.len()];
        for round in 0..effort.rounds {
            for (&(own, other), seen) in common.iter().zip(&mut seen) {
                // Whoever comes first may find a warmer or a colder machine.
                seen.push(if round % 2 == 0 {
                    let before = self.ns(other)?;
                    [before, subject.ns(own, effort)?]
                } else {
                    let now = subject.ns(own, effort)?;
                    [self.ns(other)?, now]
                });
            }
            done();
        }
        writeln!(self.input)?;
        let io = |name: &str| {
            // A race is not compared with io, nor is one direction.
            let base = match name {
                _ if name.ends_with("side") || name.ends_with("races") => return None,
                _ if name.ends_with("from L3") => Base::FromL3,
                _ => Base::BothWays,
            };
            common.iter().position(|&(own, _)| ours[own] == base.name())
        };
        let figure = |(number, &(own, _)): (usize, &(usize, usize))| {
            let name = &ours[own];
            let io = io(name).map(|io| &seen[io]);
            PairFigure::new(name, connections, &seen[number], io)
        };
        Ok(common.iter().enumerate().map(figure).collect())
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Result<()> {
        drop(self.input);
        let status = self.child.wait()?;
        ensure!(status.success(), "the other build failed: {status}");
        Ok(())
    }
}

impl PairFigure {
    fn new(name: &str, connections: u32, seen: &[[f64; 2]], io: Option<&Vec<[f64; 2]>>) -> Self {
        let of = |build: usize| median(seen.iter().map(|ns| ns[build]).collect());
        let mut ratios: Vec<f64> = seen.iter().map(|[before, now]| now / before).collect();
        ratios.sort_by(f64::total_cmp);
        let quartiles = [1, 3].map(|quarter| measure::quantile(&ratios, quarter as f64 / 4.0));
        let over_io = io.map(|io| {
            [0, 1].map(|build| {
                let rounds = seen.iter().zip(io);
                median(rounds.map(|(own, io)| own[build] - io[build]).collect())
            })
        });
        Self {
            name: name.to_owned(),
            connections,
            before_ns: of(0),
            now_ns: of(1),
            ratio: median(ratios),
            quartiles,
            over_io,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_compared_round_by_round() {
        // The machine was twice as slow in the second round, for both.
        let (seen, io) = ([[30.0, 20.0], [60.0, 40.0], [30.0, 21.0]], vec![[10.0, 10.0]; 3]);
        let figure = PairFigure::new("switch", 1_000, &seen, Some(&io));
        assert_eq!((figure.before_ns, figure.now_ns), (30.0, 21.0));
        assert!((figure.ratio - 2.0 / 3.0).abs() < 1e-9, "{figure:?}");
        assert_eq!(figure.over_io, Some([20.0, 11.0]));
        assert_eq!(PairFigure::new("races", 1, &seen, None).over_io, None);
    }
}
