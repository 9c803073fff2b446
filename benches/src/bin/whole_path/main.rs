//! Whole paths from port to port on one core: see `--help` in [`cli`].
//!
//! [`source`] stamps [`template`]s of [`frames`] into the buffers that [`lab`]'s ports receive, at
//! once or after they were [`waiting`]. [`loops`] and [`roles`] forward them. [`cases`] lists the
//! cases of each system, [`measure`] measures them in turn, [`testpmd`] compares the loops,
//! [`report`] and [`summary`] write the results. [`keeper`] takes what gateways report of their
//! races. [`aims`] says what all this is to cost, and [`pair`] measures two builds in turn.

mod aims;
mod cases;
mod cli;
mod flood;
mod frames;
mod keeper;
mod lab;
mod loops;
mod measure;
mod pair;
mod races;
mod report;
mod roles;
mod scale;
mod source;
mod summary;
mod system_under_test;
mod template;
mod testpmd;
mod waiting;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::thread;

use anyhow::Result;
use clap::Parser;
use firstack::sys::hugepages::HugePages;
use firstack_benches::BURST;
use indicatif::{ProgressBar, ProgressStyle};

use cli::{Options, Part};
use keeper::Keeper;
use lab::{Lab, Memory};
use measure::Effort;
use pair::Other;
use races::Racing;
use report::Report;

/// The same allocator as `firstack`'s.
#[global_allocator]
static MEMORY: HugePages = HugePages;

fn main() -> Result<()> {
    let options = Options::parse();
    let last = thread::available_parallelism().map_or(0, |count| count.get() as u32 - 1);
    let cpu = options.cpu.unwrap_or(last);
    // Before this thread has its CPU and priority: a build that is started would inherit them.
    let arguments = options.for_turns(cpu);
    let start = |program: &PathBuf| Other::start(program, &arguments);
    let other = options.pair.as_ref().map(start).transpose()?;
    let keeper = Keeper::start();
    let mut lab = Lab::start(cpu)?;
    let tsc_hz = lab.eal.cycles_per_second();
    let effort = Effort {
        rounds: options.rounds.max(1),
        slice: tsc_hz / 1_000 * options.slice.max(1),
        warm_up: tsc_hz / 1_000 * options.warm_up,
        per_ns: tsc_hz as f64 / 1e9,
        huge_pages: "",
    };
    let mut report = Report {
        scheduling: lab.scheduling().to_owned(),
        cpu,
        tsc_hz,
        burst: BURST,
        ..Report::default()
    };
    if options.turns {
        return turns(&mut lab, &keeper, &options, &effort);
    }
    println!("CPU {cpu}, {}, TSC {:.2} GHz", lab.scheduling(), effort.per_ns);
    if let Some(other) = other {
        pairs((&mut lab, &keeper), other, &options, &effort, &mut report)?;
        lab.check_buffers()?;
        return options.json.as_ref().map_or(Ok(()), |path| report.write(path));
    }
    for part in options.parts() {
        match part {
            Part::Testpmd => testpmd_part(&mut lab, &options, cpu, &effort, &mut report)?,
            Part::Paths => paths_part(&mut lab, &options, &effort, &mut report)?,
            Part::Races => races_part((&mut lab, &keeper), &options, &effort, &mut report)?,
            Part::Flood => flood_part(&mut lab, &options, &effort, &mut report)?,
            Part::Scale => scale_part(&mut lab, &options, &effort, &mut report)?,
        }
        lab.check_buffers()?;
        if let Some(path) = &options.json {
            report.write(path)?;
        }
    }
    if !report.paths.is_empty() {
        println!("\n{}", summary::table(&report.paths));
    }
    println!("\n{}", aims::table(&report.paths, &report.races));
    Ok(())
}

/// Measures what the build that started this one asks for.
fn turns(lab: &mut Lab, keeper: &Keeper, options: &Options, effort: &Effort) -> Result<()> {
    for part in options.parts() {
        match part {
            Part::Races => {
                for &live in &options.live {
                    pair::serve(&mut Racing::open((lab, keeper), live)?, effort)?;
                }
            }
            _ => {
                for wanted in options.wanted_of(&options.connections) {
                    pair::serve(&mut cases::plan(lab, &wanted, |_| {})?, effort)?;
                }
            }
        }
    }
    lab.check_buffers()
}

/// Measures this build and another one.
fn pairs(
    (lab, keeper): (&mut Lab, &Keeper),
    mut other: Other,
    options: &Options,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    for part in options.parts() {
        let numbers = if part == Part::Races { &options.live } else { &options.connections };
        for (&number, wanted) in numbers.iter().zip(options.wanted_of(numbers)) {
            let bar = progress(&format!("{part:?}, {}", report::count(number)), effort.rounds);
            let done = || bar.inc(1);
            let figures = match part {
                Part::Races => {
                    let mut racing = Racing::open((lab, keeper), number)?;
                    other.compare(&mut racing, number, effort, done)?
                }
                _ => {
                    let mut plan = cases::plan(lab, &wanted, |_| {})?;
                    other.compare(&mut plan, number, effort, done)?
                }
            };
            bar.finish_and_clear();
            println!("\n{}", aims::pairs(&figures, other.name()));
            report.pairs.extend(figures);
        }
    }
    other.finish()
}

/// A progress bar on a terminal, lines elsewhere.
fn progress(name: &str, steps: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        eprintln!("{name} ...");
    }
    let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {msg}");
    let bar = ProgressBar::new(steps as u64).with_prefix(name.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn testpmd_part(
    lab: &mut Lab,
    options: &Options,
    cpu: u32,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let bar = progress("dpdk-testpmd", effort.rounds);
    report.testpmd = testpmd::compare(lab, &options.testpmd, cpu, effort, || bar.inc(1))?;
    bar.finish_and_clear();
    println!("\n{}", report::comparisons(&report.testpmd));
    Ok(())
}

fn paths_part(
    lab: &mut Lab,
    options: &Options,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    for wanted in options.wanted_of(&options.connections) {
        let connections = wanted.connections;
        let bar = progress(&format!("{} connections", report::count(connections)), effort.rounds);
        let before = Memory::now();
        let mut plan = cases::plan(lab, &wanted, |name| bar.set_message(name.to_owned()))?;
        bar.set_message("");
        let effort = &Effort { huge_pages: lab.huge_pages(before), ..*effort };
        let cases = &mut plan.cases;
        let figures =
            measure::rounds(&mut plan.systems, cases, connections, effort, || bar.inc(1))?;
        bar.finish_and_clear();
        drop(plan);
        lab.check_buffers()?;
        println!("\n{} connections\n\n{}", report::count(connections), report::figures(&figures));
        report.paths.extend(figures);
    }
    Ok(())
}

fn races_part(
    (lab, keeper): (&mut Lab, &Keeper),
    options: &Options,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    for &live in &options.live {
        let bar = progress(&format!("races, {} live", report::count(live)), effort.rounds);
        let before = Memory::now();
        let mut racing = Racing::open((lab, keeper), live)?;
        let effort = Effort { huge_pages: lab.huge_pages(before), ..*effort };
        let figures = races::measure(&mut racing, &effort, || bar.inc(1))?;
        drop(racing);
        bar.finish_and_clear();
        lab.check_buffers()?;
        println!("\n{} connections live\n\n{}", report::count(live), report::races(&figures));
        report.races.extend(figures);
    }
    Ok(())
}

fn flood_part(
    lab: &mut Lab,
    options: &Options,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    let connections = options.live.last().copied().unwrap_or(1_000_000);
    let bar = progress("flood", effort.rounds);
    let figure = flood::measure(lab, connections, effort, || bar.inc(1))?;
    bar.finish_and_clear();
    println!("\n{}", report::flood(&figure));
    report.flood = Some(figure);
    Ok(())
}

fn scale_part(
    lab: &mut Lab,
    options: &Options,
    effort: &Effort,
    report: &mut Report,
) -> Result<()> {
    for &connections in &options.scale {
        let bar = progress("workers", effort.rounds);
        let figures = scale::measure(lab, connections, effort, || bar.inc(1))?;
        bar.finish_and_clear();
        lab.check_buffers()?;
        println!("\n{}", report::scale(&figures));
        report.scale.extend(figures);
    }
    Ok(())
}
