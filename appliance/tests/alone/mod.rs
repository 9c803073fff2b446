//! Runs tests in processes of their own, because DPDK can be started only once in a process.

use std::env;
use std::path::Path;
use std::process::{self, Command};

use firstack::dpdk::{Eal, EalArgs, LogLevel};

const ALONE: &str = "FIRSTACK_DPDK_TEST";

/// Runs `body` alone in a process, and fails if it fails.
pub fn alone(name: &str, body: fn()) {
    if env::var(ALONE).is_ok_and(|running| running == name) {
        body();
        return tidy();
    }
    let output = Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(ALONE, name)
        .output()
        .unwrap();
    let (out, err) = (&output.stdout, &output.stderr);
    print!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err));
    assert!(output.status.success(), "{name}: {}", output.status);
}

/// Returns the prefix that separates this process's DPDK from those of other tests.
fn file_prefix() -> String {
    format!("firstack-test-{}", process::id())
}

/// Removes the directory that DPDK leaves, wherever it may have put it.
fn tidy() {
    let own = env::var("XDG_RUNTIME_DIR").unwrap_or_default();
    for base in ["/var/run", &own, "/tmp"] {
        let _ = std::fs::remove_dir(Path::new(base).join("dpdk").join(file_prefix()));
    }
}

/// Starts DPDK with some worker lcores, all on one CPU.
pub fn eal(workers: usize) -> Eal {
    let args = EalArgs {
        worker_cpus: vec![first_cpu(); workers],
        file_prefix: file_prefix(),
        no_huge_mib: Some(64),
        log_level: LogLevel::Warning,
        // Only an empty directory is left behind on disk.
        extra: vec!["--no-shconf".to_owned(), "--no-telemetry".to_owned()],
        ..EalArgs::default()
    };
    Eal::init(&args.build().unwrap()).unwrap()
}

fn first_cpu() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    list.trim().split(['-', ',']).next().unwrap().parse().unwrap()
}
