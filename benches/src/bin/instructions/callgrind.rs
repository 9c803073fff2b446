//! Runs this program under `valgrind --tool=callgrind` and reads the output.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use firstack_benches::cases;

use super::Error;

/// Returns instructions per unit of each case, by name.
pub(crate) fn count() -> Result<BTreeMap<String, f64>, Error> {
    let error = |path: &Path| {
        let path = path.to_owned();
        |source| Error::File { path, source }
    };
    let program = env::current_exe().map_err(error(Path::new("this program")))?;
    let directory = tempfile::tempdir().map_err(error(&env::temp_dir()))?;
    let out = directory.path().join("case");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured_step*"])
        .arg("--dump-before=*end_of_case*")
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(program)
        .arg("work")
        // The environment's size moves the stack, and a locale would cause files to be read.
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .output()
        .map_err(Error::NoValgrind)?;
    if !output.status.success() {
        let (status, output) = (output.status, String::from_utf8_lossy(&output.stderr).into());
        return Err(Error::Valgrind { status, output });
    }
    let mut counts = BTreeMap::new();
    for (number, case) in cases::all().enumerate() {
        let path = out.with_extension((number + 1).to_string());
        let text = fs::read_to_string(&path).map_err(error(&path))?;
        let hint = "is measured_step, or end_of_case, inlined or renamed?";
        let total = total(&text).ok_or(Error::NothingCollected { path, hint })?;
        let count = total as f64 / case.units_measured() as f64;
        // Rounded like the baseline, so that equal counts are equal to the last digit.
        counts.insert(case.name.to_owned(), (count * 100.0).round() / 100.0);
    }
    Ok(counts)
}

/// Reads the total of one of callgrind's files.
fn total(text: &str) -> Option<u64> {
    let total = text.lines().find_map(|line| line.strip_prefix("summary: "));
    total?.trim().parse().ok().filter(|&total| total > 0)
}

#[cfg(test)]
mod tests {
    use super::total;

    #[test]
    fn reads_the_total_and_takes_none_for_an_error() {
        assert_eq!(total("events: Ir\nsummary: 4711\n\nfn=(1)\n0 4711\n"), Some(4711));
        assert_eq!(total("events: Ir\nsummary: 0\n"), None);
        assert_eq!(total("events: Ir\n"), None);
    }
}
