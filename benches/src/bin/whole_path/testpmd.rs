//! The bare loops against dpdk-testpmd, both on plain net_null and on the same CPU, in turn.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::lab::{BUFFERS, Lab, memory_arguments};
use crate::loops::{Bare, Loop};
use crate::measure::{Effort, median, spin};
use crate::source::Source;
use crate::system_under_test::SystemUnderTest;

/// Duration of testpmd for one figure.
const SPAN: Duration = Duration::from_millis(600);
/// Time-out for its replies.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Our loop compared with testpmd's of the same name.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The mode.
    pub name: &'static str,
    /// Medians, in millions of packets per second.
    pub ours_mpps: f64,
    pub testpmd_mpps: f64,
    /// Median of our rate over testpmd's in the same round, in per cent. Positive when ours is
    /// faster.
    pub difference_percent: f64,
    /// Rounds.
    pub rounds: usize,
}

/// testpmd, at its prompt.
struct Testpmd {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    /// Starts it: it forwards on this CPU and serves its prompt on another.
    fn start(program: &Path, cpu: u32, real_time: bool) -> Result<Self> {
        let other = if cpu == 0 { 1 } else { cpu - 1 };
        // Below this process's own priority, or this process would not wake while testpmd polls.
        let priority: &[_] = if real_time { &["chrt", "-f", "10"] } else { &[] };
        let mut child = Command::new("taskset")
            .args(["-c", &format!("{cpu},{other}")])
            .args(priority)
            .args(["stdbuf", "-oL"])
            .arg(program)
            .arg(format!("--lcores=0@{other},1@{cpu}"))
            .args(["--no-pci", "--no-telemetry", "--log-level=5"])
            .arg(format!("--file-prefix=testpmd_{}", std::process::id()))
            .args(memory_arguments(512))
            .args(["--vdev", "net_null0,size=60,copy=0", "--vdev", "net_null1,size=60,copy=0"])
            .args(["--", "--interactive", "--burst=32", "--no-flush-rx"])
            .arg(format!("--total-num-mbufs={}", BUFFERS + 1))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot run {}", program.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = (input.context("no stdin")?, output.context("no stdout")?);
        let (sender, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            lines.take_while(|line| sender.send(line.clone()).is_ok()).for_each(drop);
        });
        let mut testpmd = Self { child, input, lines };
        testpmd.statistics()?;
        Ok(testpmd)
    }

    fn order(&mut self, order: &str) -> Result<()> {
        writeln!(self.input, "{order}").context("testpmd has ended")
    }

    /// Returns the packets that both ports have sent per second since the last call.
    fn statistics(&mut self) -> Result<f64> {
        self.order("show port stats all")?;
        let (deadline, mut sum, mut ports) = (Instant::now() + MAX_WAIT, 0.0, 0);
        while ports < 2 {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => bail!("testpmd does not answer"),
                Err(RecvTimeoutError::Disconnected) => bail!("testpmd has ended"),
            };
            if let Some(rest) = line.trim().strip_prefix("Tx-pps:") {
                let rate = rest.split_whitespace().next().and_then(|rate| rate.parse::<f64>().ok());
                sum += rate.context("testpmd says something else than a rate")?;
                ports += 1;
            }
        }
        Ok(sum)
    }

    /// Returns packets per second in this mode.
    fn rate(&mut self, what: Loop) -> Result<f64> {
        self.order(&format!("set fwd {}", what.name()))?;
        self.order("start")?;
        thread::sleep(Duration::from_millis(100));
        self.statistics()?;
        thread::sleep(SPAN);
        let rate = self.statistics()?;
        self.order("stop")?;
        // It has stopped when it replies.
        self.statistics()?;
        Ok(rate)
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Kill it if it does not end.
        if self.order("quit").is_err() || !ends_soon(&mut self.child) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn ends_soon(child: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if matches!(child.try_wait(), Ok(Some(_))) {
            return true;
        }
        thread::sleep(Duration::from_millis(20));
    }
    false
}

/// Compares all loops.
pub fn compare(
    lab: &mut Lab,
    program: &Path,
    cpu: u32,
    effort: &Effort,
    mut done: impl FnMut(),
) -> Result<Vec<Comparison>> {
    let mut testpmd = Testpmd::start(program, cpu, lab.real_time)?;
    let mut ours = Vec::new();
    for (number, what) in Loop::ALL.into_iter().enumerate() {
        let forwarder = Box::new(Bare::new(lab.plain_ends(number)?, what));
        let sources = [Source::default(), Source::default()];
        ours.push(SystemUnderTest { name: what.name().to_owned(), forwarder, sources });
    }
    let mut seen = [const { Vec::new() }; 3];
    for _ in 0..effort.rounds {
        for (what, (system, seen)) in Loop::ALL.into_iter().zip(ours.iter_mut().zip(&mut seen)) {
            spin(system, effort.warm_up);
            let own = 1e9 / spin(system, effort.slice * 2).ns(effort);
            seen.push((own, testpmd.rate(what)?));
        }
        done();
    }
    let comparison = |(what, rates): (Loop, &Vec<(f64, f64)>)| {
        let of = |rate: fn(&(f64, f64)) -> f64| median(rates.iter().map(rate).collect());
        Comparison {
            name: what.name(),
            ours_mpps: of(|rates| rates.0 / 1e6),
            testpmd_mpps: of(|rates| rates.1 / 1e6),
            difference_percent: of(|(ours, testpmd)| (ours / testpmd - 1.0) * 100.0),
            rounds: effort.rounds,
        }
    };
    Ok(Loop::ALL.into_iter().zip(&seen).map(comparison).collect())
}
