//! `firstack` itself, as an operator has it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use super::check::Job;

/// The full build: the one named in `FIRSTACK`, otherwise what cargo builds beside this program.
pub fn full() -> Result<&'static Path, String> {
    static FULL: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FULL.get_or_init(|| match std::env::var_os("FIRSTACK") {
        Some(path) => Ok(path.into()),
        None => build(&target()?, &[]),
    });
    found.as_deref().map_err(Clone::clone)
}

/// A build without DPDK. It has a target directory of its own, so that it does not replace the
/// full one.
pub fn without_dpdk() -> Result<&'static Path, String> {
    static WITHOUT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || build(&target()?.join("no-dpdk"), &["--no-default-features"]);
    WITHOUT.get_or_init(build).as_deref().map_err(Clone::clone)
}

/// This program's target directory: it is in `TARGET/PROFILE/deps`.
fn target() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let target = own.ancestors().nth(3).map(Path::to_owned);
    target.ok_or_else(|| format!("{} is in no target directory", own.display()))
}

fn profile() -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let profile = own.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
    match profile.to_string_lossy().as_ref() {
        "debug" => "dev".to_owned(),
        other => other.to_owned(),
    }
}

fn build(target: &Path, features: &[&str]) -> Result<PathBuf, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let profile = profile();
    let output = Command::new(&cargo)
        .args(["build", "--quiet", "--package", "firstack", "--bin", "firstack"])
        .args(["--profile", &profile])
        .args(features)
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let directory = if profile == "dev" { "debug" } else { &profile };
    let binary = target.join(directory).join("firstack");
    match output {
        Ok(output) if output.status.success() => Ok(binary),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("cargo cannot build firstack; name one in FIRSTACK\n{said}"))
        }
        Err(error) => Err(format!("cannot run cargo ({error}); name a firstack in FIRSTACK")),
    }
}

/// Does a job by `firstack replay --json`, started by `launcher` (words in front) if there is
/// one.
pub fn replay(binary: &Path, launcher: &[&str], job: &Job) -> Result<Output, String> {
    let words: Vec<_> = launcher.iter().map(|word| (*word).into()).chain([binary.into()]).collect();
    let [first, rest @ ..]: &[std::ffi::OsString] = &words else { return Err(String::new()) };
    let mut command = Command::new(first);
    command.args(rest).args(["replay", "--json", "--config"]).arg(&job.config);
    for (option, path) in [("--inside", &job.inside), ("--outside", &job.outside)] {
        if let Some(path) = path {
            command.arg(option).arg(path);
        }
    }
    command.arg("--out").arg(&job.out).output().map_err(|error| error.to_string())
}

/// The standard output of a program that succeeded, otherwise what it said.
pub fn printed(output: &Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() && output.stderr.is_empty() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{}: {}", output.status, text(&output.stderr)))
    }
}
