//! Collects the benchmarks' results in one JSON file, compares them with the accepted ones, and draws
//! the chart: see `--help`.
//! `scripts/bench` calls it.

mod criterion;
mod picture;
mod ratios;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde_json::{Map, Value};

use ratios::Run;

/// Collect the figures of a run of scripts/bench in one file, compare them with the accepted ones,
/// and draw the chart.
#[derive(Debug, Parser)]
#[command(name = "bench_report", version)]
struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Write machine, facts and the figures of all steps to one JSON file
    Collect {
        /// The output file
        out: PathBuf,
        /// Facts about the run, as name=text
        #[arg(long = "fact", value_parser = pair)]
        facts: Vec<(String, String)>,
        /// A step's results, as name=JSON file
        #[arg(long = "step", value_parser = pair)]
        steps: Vec<(String, String)>,
        /// Directory of criterion's estimates
        #[arg(long)]
        criterion: Option<PathBuf>,
    },
    /// Print criterion's medians as a table
    Table {
        /// Directory of criterion's estimates
        folder: PathBuf,
    },
    /// Print the change of each ratio since the accepted run
    Compare {
        /// The JSON file written by `collect`
        figures: PathBuf,
        /// The ratios of the accepted run
        accepted: PathBuf,
    },
    /// Make the ratios of a run the accepted ones
    Accept {
        /// The JSON file written by `collect`
        figures: PathBuf,
        /// The ratios of the accepted run, to be written
        accepted: PathBuf,
    },
    /// Draw ns per packet over the number of connections
    Picture {
        /// The JSON file written by `collect`
        figures: PathBuf,
        /// The SVG file to write
        out: PathBuf,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("name=value is expected")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> Result<()> {
    match Options::parse().what {
        What::Collect { out, facts, steps, criterion } => collect(&out, facts, steps, criterion),
        What::Table { folder } => {
            print!("{}", criterion::table(&criterion::estimates(&folder)?));
            Ok(())
        }
        What::Compare { figures, accepted } => compare(&figures, &accepted),
        What::Accept { figures, accepted } => accept(&figures, &accepted),
        What::Picture { figures, out } => {
            let svg = picture::draw(&read(&figures)?)?;
            fs::write(&out, svg).with_context(|| format!("cannot write {}", out.display()))
        }
    }
}

fn compare(figures: &Path, accepted: &Path) -> Result<()> {
    if !accepted.exists() {
        println!("no run was accepted yet: scripts/bench --accept");
        return Ok(());
    }
    let accepted: Run = serde_json::from_value(read(accepted)?)?;
    let (text, slower) = Run::of(&read(figures)?).compare(&accepted);
    println!("{text}");
    println!("{slower} ratios are worse beyond noise");
    Ok(())
}

fn accept(figures: &Path, path: &Path) -> Result<()> {
    let mut accepted = match path.exists() {
        true => serde_json::from_value(read(path)?)?,
        false => Run::default(),
    };
    accepted.accept(Run::of(&read(figures)?));
    let text = serde_json::to_string_pretty(&accepted)? + "\n";
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn collect(
    out: &Path,
    facts: Vec<(String, String)>,
    steps: Vec<(String, String)>,
    criterion: Option<PathBuf>,
) -> Result<()> {
    let mut all = Map::new();
    all.insert("machine".to_owned(), Value::Object(machine()));
    for (name, text) in facts {
        all.insert(name, Value::String(text));
    }
    for (name, path) in steps {
        all.insert(name, read(Path::new(&path))?);
    }
    if let Some(folder) = criterion {
        all.insert("criterion".to_owned(), Value::Array(criterion::estimates(&folder)?));
    }
    let text = serde_json::to_string_pretty(&Value::Object(all))?;
    fs::write(out, text).with_context(|| format!("cannot write {}", out.display()))
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("no {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// Describes the machine, from the kernel's files.
fn machine() -> Map<String, Value> {
    let file = |path| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let cpu = file("/proc/cpuinfo");
    let memory = file("/proc/meminfo");
    let cpus = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let virtual_machine = field(&cpu, "flags").split(' ').any(|flag| flag == "hypervisor");
    let text = |text: String| Value::String(text);
    Map::from_iter([
        ("cpu".to_owned(), text(field(&cpu, "model name"))),
        ("cpu_family_model".to_owned(), {
            text(format!("{}/{}", field(&cpu, "cpu family"), field(&cpu, "model\t")))
        }),
        ("cpus".to_owned(), cpus.into()),
        ("virtual_machine".to_owned(), virtual_machine.into()),
        ("cache".to_owned(), text(field(&cpu, "cache size"))),
        ("memory".to_owned(), text(field(&memory, "MemTotal"))),
        ("huge_pages_free".to_owned(), text(field(&memory, "HugePages_Free"))),
        ("kernel".to_owned(), text(file("/proc/sys/kernel/osrelease").trim().to_owned())),
    ])
}
