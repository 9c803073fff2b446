//! Runs the target that the environment variable `FIRSTACK_FUZZ` names under libFuzzer. One binary
//! for all targets: linking takes longer than most runs.
#![no_main]

use std::sync::LazyLock;

use firstack_fuzz::{Target, target, verdicts_seen};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("FIRSTACK_FUZZ").expect("FIRSTACK_FUZZ names a target");
    if std::env::var_os("FIRSTACK_FUZZ_VERDICTS").is_some() {
        // SAFETY: the function is `extern "C"`, takes nothing, and does not unwind: it only prints.
        unsafe { atexit(print_verdicts) };
    }
    target(&name).unwrap_or_else(|| panic!("there is no target {name}"))
});

unsafe extern "C" {
    fn atexit(function: extern "C" fn()) -> i32;
}

/// Prints the verdicts that were reached, by role.
extern "C" fn print_verdicts() {
    for (role, verdicts) in verdicts_seen() {
        let names: Vec<_> = verdicts.iter().map(|verdict| verdict.name()).collect();
        eprintln!("VERDICTS {role} {} {}", names.len(), names.join(" "));
    }
}

fuzz_target!(|data: &[u8]| (TARGET.run)(data));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match TARGET.mutate(data, size, seed) {
        Some(length) => length,
        None => fuzzer_mutate(data, size, max_size),
    }
});
