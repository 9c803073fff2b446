//! Whole paths from port to port on one core: see `--help` in [`cli`].
//!
//! [`source`] stamps [`template`]s of [`frames`] into the buffers that [`lab`]'s ports receive.
//! [`loops`] and [`roles`] forward them. [`cases`] lists the cases of each system, [`measure`]
//! measures them in turn, [`testpmd`] compares the loops, [`report`] writes the results. [`keeper`]
//! takes what gateways report of their races.

mod cases;
mod cli;
mod flood;
mod frames;
mod keeper;
mod lab;
mod loops;
mod measure;
mod races;
mod report;
mod roles;
mod scale;
mod source;
mod system_under_test;
mod template;
mod testpmd;

use std::io::IsTerminal;
use std::thread;

use anyhow::Result;
use clap::Parser;
use firstack::sys::hugepages::HugePages;
use firstack_benches::BURST;
use indicatif::{ProgressBar, ProgressStyle};

use cases::Wanted;
use cli::{Options, Part};
use keeper::Keeper;
use lab::Lab;
use measure::Effort;
use report::Report;

/// The same allocator as `firstack`'s.
#[global_allocator]
static MEMORY: HugePages = HugePages;

fn main() -> Result<()> {
    let options = Options::parse();
    let last = thread::available_parallelism().map_or(0, |count| count.get() as u32 - 1);
    let cpu = options.cpu.unwrap_or(last);
    let keeper = Keeper::start();
    let mut lab = Lab::start(cpu)?;
    let tsc_hz = lab.eal.cycles_per_second();
    let effort = Effort {
        rounds: options.rounds.max(1),
        slice: tsc_hz / 1_000 * options.slice.max(1),
        warm_up: tsc_hz / 1_000 * options.warm_up,
        per_ns: tsc_hz as f64 / 1e9,
    };
    let mut report = Report {
        scheduling: lab.scheduling().to_owned(),
        cpu,
        tsc_hz,
        burst: BURST,
        ..Report::default()
    };
    println!("CPU {cpu}, {}, TSC {:.2} GHz", lab.scheduling(), effort.per_ns);
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
    Ok(())
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
    for &connections in &options.connections {
        let bar = progress(&format!("{} connections", report::count(connections)), effort.rounds);
        let wanted = Wanted { connections, only: &options.only, directions: options.directions };
        let mut plan = cases::plan(lab, &wanted, |name| bar.set_message(name.to_owned()))?;
        bar.set_message("");
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
        let figures = races::measure((lab, keeper), live, effort, || bar.inc(1))?;
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
