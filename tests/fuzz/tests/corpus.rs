//! Every input of the corpus, and any bytes at all, through their target: what the fuzzer found once
//! stays found, on the stable toolchain and without libFuzzer.

use std::path::Path;

use firstack_fuzz::{TARGETS, Target, target, verdicts_seen};
use pipeline::verdict::Verdict;
use proptest::collection::vec;
use proptest::prelude::*;

/// Most bytes of the whole corpus.
const LARGEST: u64 = 2 << 20;

/// The inputs of a target: name and bytes.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut paths: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let named =
        |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).unwrap());
    paths.into_iter().map(named).collect()
}

/// Runs a target with its inputs.
fn replay(name: &str) {
    let target = target(name).unwrap();
    run(&target, inputs(&target));
}

/// Runs inputs; the panic of the first that fails names it.
fn run(target: &Target, inputs: Vec<(String, Vec<u8>)>) {
    let name = target.name;
    assert!(!inputs.is_empty(), "{name} has no corpus");
    for (path, bytes) in inputs {
        assert!(bytes.len() <= target.longest, "{path} is too long");
        if let Err(panic) = std::panic::catch_unwind(|| (target.run)(&bytes)) {
            eprintln!("{name} fails on {path}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn frame() {
    replay("frame");
}

/// The corpus reaches nearly all that it reached when it was made.
#[test]
fn story() {
    replay("story");
    let mut reached: Vec<_> = verdicts_seen().into_iter().flat_map(|(_, seen)| seen).collect();
    reached.sort_unstable_by_key(|verdict| *verdict as usize);
    reached.dedup();
    // An operator's drains and queues between workers are not in a story.
    let of_others = [Verdict::UntaggedDrained, Verdict::Drained, Verdict::HandoffFull];
    let all = Verdict::ALL.iter().filter(|verdict| !of_others.contains(verdict));
    let unreached: Vec<_> = all.clone().filter(|verdict| !reached.contains(verdict)).collect();
    let all = all.count();
    assert!(reached.len() * 10 >= all * 7, "{} of {all}; not {unreached:?}", reached.len());
}

/// Every story is one of twins, too.
#[test]
fn twins() {
    replay("twins");
    run(&target("twins").unwrap(), inputs(&target("story").unwrap()));
}

#[test]
fn config() {
    replay("config");
}

#[test]
fn keys() {
    replay("keys");
}

#[test]
fn control() {
    replay("control");
}

#[test]
fn capture() {
    replay("capture");
}

#[test]
fn http() {
    replay("http");
}

#[test]
fn table() {
    replay("table");
}

#[test]
fn the_corpus_is_small_and_every_part_has_its_target() {
    let mut bytes = 0;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let target = target(&name).unwrap_or_else(|| panic!("{name} is no target"));
        bytes += inputs(&target).iter().map(|(_, input)| input.len() as u64).sum::<u64>();
    }
    assert!(bytes < LARGEST, "{bytes} bytes");
}

/// Whatever is mutated stays an input.
#[test]
fn mutations_keep_records_whole() {
    for target in TARGETS.iter().filter(|target| target.records.is_some()) {
        let (header, record) = target.records.unwrap();
        let mut data = vec![0; target.longest];
        let mut length = header + 3 * record;
        for seed in 0..100_000u32 {
            let seed = seed.wrapping_mul(2_654_435_761);
            length = target.mutate(&mut data, length, seed).unwrap_or(length);
            assert!(length <= target.longest && (length - header) % record == 0);
        }
        assert_eq!(target.mutate(&mut data, 0, 1), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_story(bytes in vec(any::<u8>(), 0..400)) {
        (target("story").unwrap().run)(&bytes);
        (target("twins").unwrap().run)(&bytes);
    }

    #[test]
    fn any_bytes_are_changes_of_a_table(bytes in vec(any::<u8>(), 0..400)) {
        (target("table").unwrap().run)(&bytes);
    }
}
