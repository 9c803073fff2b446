//! `firstack` without DPDK: links none of it, needs no privilege, and replays captures to the
//! same bytes as the full build. What captures it takes, and what it says of those it does not.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use firstack_tests::lab::run;
use firstack_tests::scenario::binary::{full, printed, replay, without_dpdk};
use firstack_tests::scenario::check::{Job, Outcome};
use firstack_tests::scenario::pcap::{self, ETHERNET, Record, Resolution};
use firstack_tests::scenario::{EPOCH, Scenario};
use tempfile::TempDir;

/// What a user has who has nothing.
const NOBODY: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
const NOBODYS_ID: u32 = 65534;

fn scenario(name: &str) -> Scenario {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Scenario::load(&directory.join(format!("{name}.scenario")), &directory).unwrap()
}

fn all_scenarios() -> Vec<Scenario> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    Scenario::load_all(&directory).into_iter().map(Result::unwrap).collect()
}

/// A directory that everybody may use.
fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
    directory
}

/// Replays with the build without DPDK; what it printed and wrote.
fn outcome(job: &Job) -> (String, Outcome) {
    let printed = printed(&replay(without_dpdk().unwrap(), &[], job).unwrap()).unwrap();
    (printed.clone(), Outcome::of(job, &printed).unwrap())
}

#[test]
fn links_no_dpdk() {
    let libraries = |binary: &Path| run(&["ldd", &binary.to_string_lossy()]).unwrap().stdout;
    let without = libraries(without_dpdk().unwrap());
    assert!(without.contains("libc") && !without.contains("librte"), "{without}");
    assert!(libraries(full().unwrap()).contains("librte"), "the full build is the other one");
}

#[test]
fn an_unprivileged_user_checks_and_replays_to_the_bytes_of_the_full_build() {
    let directory = open_directory();
    let binary = directory.path().join("firstack");
    std::fs::copy(without_dpdk().unwrap(), &binary).unwrap();
    let is_root = nix::unistd::Uid::effective().is_root();
    let launcher: &[&str] = if is_root { &NOBODY } else { &[] };
    for scenario in all_scenarios() {
        let inputs = directory.path().join(scenario.name().replace('/', "-"));
        std::fs::create_dir(&inputs).unwrap();
        std::fs::set_permissions(&inputs, PermissionsExt::from_mode(0o777)).unwrap();
        let job = scenario.lay_out(&inputs).unwrap();
        let name = scenario.name();
        // A key file is its user's alone.
        let keys_go_to = |user: u32| {
            let keys = inputs.join("keys");
            if is_root && keys.exists() {
                std::os::unix::fs::chown(keys, Some(user), None).unwrap();
            }
        };
        keys_go_to(NOBODYS_ID);
        let without = replay(&binary, launcher, &job).unwrap();
        let without = printed(&without).unwrap_or_else(|error| panic!("{name}: {error}"));
        keys_go_to(0);
        let other = Job { out: inputs.join("full"), ..job.clone() };
        let with = printed(&replay(full().unwrap(), &[], &other).unwrap()).unwrap();
        assert_eq!(without, with, "{name}");
        let captures = |job, text| Outcome::of(job, text).unwrap().captures;
        assert_eq!(captures(&job, &without), captures(&other, &with), "{name}");
        keys_go_to(NOBODYS_ID);
        let config = job.config.to_string_lossy().into_owned();
        let firstack = binary.to_string_lossy();
        let words = [launcher, &[&*firstack, "check", &*config]].concat();
        assert!(run(&words).unwrap().stdout.contains(": OK (role: "), "{name}");
    }
}

#[test]
fn refuses_to_run_and_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let job = scenario("gateway/tag/behind-the-options").lay_out(directory.path()).unwrap();
    let mut command = Command::new(without_dpdk().unwrap());
    let output = command.args(["run", "--config"]).arg(&job.config).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("built without DPDK"), "{output:?}");
}

#[test]
fn the_same_captures_give_the_same_bytes() {
    for scenario in all_scenarios() {
        let directory = tempfile::tempdir().unwrap();
        let job = scenario.lay_out(directory.path()).unwrap();
        let (first, captures) = outcome(&job);
        let (second, again) = outcome(&Job { out: directory.path().join("again"), ..job });
        assert_eq!(first, second, "{}", scenario.name());
        assert_eq!(captures.captures, again.captures, "{}", scenario.name());
    }
}

/// Replays `edit`ed copies of a scenario's captures; they must give what the captures give.
fn gives_the_same(name: &str, edit: impl Fn(&Path, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let job = scenario(name).lay_out(directory.path()).unwrap();
    let (expected, captures) = outcome(&job);
    let mut edited = Job { out: directory.path().join("edited"), ..job.clone() };
    for path in [&mut edited.inside, &mut edited.outside].into_iter().flatten() {
        let copy = path.with_extension("edited");
        edit(path, &copy);
        *path = copy;
    }
    let (found, again) = outcome(&edited);
    assert_eq!(found, expected, "{name}: what is printed");
    assert_eq!(again.captures, captures.captures, "{name}: what leaves, and when");
}

/// Scenarios in which time matters down to a microsecond, and not below it.
const IN_TIME: [&str; 3] = [
    "gateway/race/syn-acks-are-timed",
    "gateway/tag/backoff-per-destination",
    "switch/fan_out/copies",
];

#[test]
fn nanoseconds_and_microseconds_are_told_apart() {
    for name in IN_TIME {
        gives_the_same(name, |from, to| {
            let records = pcap::read(&std::fs::read(from).unwrap());
            std::fs::write(to, pcap::write_as(&records, Resolution::Micro, ETHERNET)).unwrap();
        });
    }
}

#[test]
fn little_endian_captures_are_read() {
    for name in IN_TIME {
        gives_the_same(name, |from, to| {
            let mut file = std::fs::read(from).unwrap();
            let mut at = 0;
            while at < file.len() {
                let is_header = at == 0;
                let length = match is_header {
                    true => 0,
                    false => u32::from_be_bytes(file[at + 8..at + 12].try_into().unwrap()) as usize,
                };
                let words: &[usize] =
                    if is_header { &[4, 2, 2, 4, 4, 4, 4] } else { &[4, 4, 4, 4] };
                for &size in words {
                    file[at..at + size].reverse();
                    at += size;
                }
                at += length;
            }
            std::fs::write(to, file).unwrap();
        });
    }
}

/// Turns a capture into pcapng by Wireshark's editcap, from nanoseconds or microseconds.
fn to_pcapng(from: &Path, to: &Path, resolution: Resolution) {
    let records = pcap::read(&std::fs::read(from).unwrap());
    let classic = from.with_extension("classic");
    std::fs::write(&classic, pcap::write_as(&records, resolution, ETHERNET)).unwrap();
    let (classic, to) = (classic.to_string_lossy(), to.to_string_lossy());
    run(&["editcap", "-F", "pcapng", &classic, &to]).unwrap();
}

#[test]
fn pcapng_is_read() {
    for name in IN_TIME {
        gives_the_same(name, |from, to| to_pcapng(from, to, Resolution::Nano));
    }
}

/// Without an `if_tsresol` option, as most programs write it, pcapng counts microseconds.
#[test]
fn pcapng_of_microseconds_is_read() {
    for name in IN_TIME {
        gives_the_same(name, |from, to| to_pcapng(from, to, Resolution::Micro));
    }
}

fn job_of(directory: &Path, inside: &[Record], outside: &[Record]) -> Job {
    let mut job = scenario("gateway/race/replica-wins").lay_out(directory).unwrap();
    for (path, records) in [(&mut job.inside, inside), (&mut job.outside, outside)] {
        let path = path.as_mut().unwrap();
        std::fs::write(path, pcap::write(records)).unwrap();
    }
    job
}

/// A race's start packet and a replica's acknowledgement of it.
fn race() -> (Vec<u8>, Vec<u8>) {
    let scenario = scenario("gateway/race/replica-wins");
    (scenario.steps[0].frame.bytes(), scenario.steps[1].frame.bytes())
}

#[test]
fn of_two_at_the_same_time_the_inside_comes_first() {
    let directory = tempfile::tempdir().unwrap();
    let (syn, ack) = race();
    let at = |bytes| [Record::new(EPOCH, bytes)];
    let job = job_of(directory.path(), &at(syn), &at(ack));
    let (_, outcome) = outcome(&job);
    let verdicts: Vec<_> = outcome.packets.iter().map(|p| p["verdict"].as_str().unwrap()).collect();
    assert_eq!(verdicts, ["tagged", "replica_won"]);
}

#[test]
fn times_that_run_backwards_do_not_turn_the_clock_back() {
    let directory = tempfile::tempdir().unwrap();
    let (syn, ack) = race();
    let times = [5, 3].map(|seconds| EPOCH + Duration::from_secs(seconds));
    let inside = [Record::new(times[0], syn.clone()), Record::new(times[1], syn)];
    let late = Record::new(EPOCH + Duration::from_secs(6), ack);
    let (_, outcome) = outcome(&job_of(directory.path(), &inside, &[late]));
    let [_, mut left] = outcome.left();
    assert_eq!([left.next().unwrap().time, left.next().unwrap().time], [times[0]; 2]);
    let micros = outcome.counters["races"][0]["p50_us"].as_u64();
    assert!(micros.is_some_and(|us| (983_040..983_040 * 9 / 8).contains(&us)), "about a second");
}

#[test]
fn captures_without_packets_give_captures_without_packets() {
    for name in ["gateway/race/replica-wins", "replica/forward/under-a", "switch/fan_out/copies"] {
        let directory = tempfile::tempdir().unwrap();
        let mut job = scenario(name).lay_out(directory.path()).unwrap();
        let empty = directory.path().join("empty.pcap");
        std::fs::write(&empty, pcap::write(&[])).unwrap();
        (job.inside, job.outside) = (Some(empty.clone()), Some(empty));
        let (_, outcome) = outcome(&job);
        assert!(outcome.captures.iter().all(|capture| pcap::same(capture, &pcap::write(&[]))));
        assert!(outcome.packets.is_empty());
    }
}

/// Nothing comes in, so nothing is due: what is counted as made has to have left.
#[test]
fn an_empty_capture_makes_no_probe() {
    let directory = tempfile::tempdir().unwrap();
    let mut job =
        scenario("replica/neighbours/arp-resolves-server").lay_out(directory.path()).unwrap();
    let empty = directory.path().join("empty.pcap");
    std::fs::write(&empty, pcap::write(&[])).unwrap();
    (job.inside, job.outside) = (Some(empty), None);
    let (_, outcome) = outcome(&job);
    let made = outcome.counters["generated"].as_array().unwrap().iter();
    let made: u64 = made.map(|made| made["count"].as_u64().unwrap()).sum();
    let left = outcome.left().map(Iterator::count);
    assert_eq!(made, left.iter().sum::<usize>() as u64);
}

/// Replays a file as the inside's capture; exit code and what it said.
fn replay_file(file: &Path) -> (Option<i32>, String, usize) {
    let directory = tempfile::tempdir().unwrap();
    let mut job = scenario("gateway/race/replica-wins").lay_out(directory.path()).unwrap();
    (job.inside, job.outside) = (Some(file.to_owned()), None);
    let output = replay(without_dpdk().unwrap(), &[], &job).unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = String::from_utf8_lossy(&output.stdout).lines().count();
    (output.status.code(), said, lines.saturating_sub(1))
}

#[track_caller]
fn is_refused(file: &Path, why: &str) {
    let (code, said, packets) = replay_file(file);
    let name = file.file_name().unwrap().to_string_lossy();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!((code, packets), (Some(2), 0), "{name}: {said}");
    assert!(said.contains(&*name) && said.contains(why), "{said} lacks {name} or {why}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn what_is_no_capture_of_ethernet_frames_is_refused_with_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let record = Record::new(EPOCH, race().0);
    let raw = pcap::write_as(std::slice::from_ref(&record), Resolution::Micro, 101);
    is_refused(&file("zero.pcap", b""), "is empty");
    is_refused(&file("two.pcap", &[0xa1, 0xb2]), "pcap or pcapng file");
    is_refused(&file("half-a-header.pcap", &pcap::write(&[])[..20]), "pcap or pcapng file");
    is_refused(
        &file("text.pcap", b"This is no capture at all, but a text.\n"),
        "pcap or pcapng file",
    );
    is_refused(&file("raw.pcap", &raw), "link type");
    is_refused(&directory.path().join("missing.pcap"), "No such file");
    is_refused(directory.path(), "directory");
    let pcapng = directory.path().join("half.pcapng");
    to_pcapng(&file("whole.pcap", &pcap::write(&[record])), &pcapng, Resolution::Nano);
    let whole = std::fs::read(&pcapng).unwrap();
    is_refused(&file("half.pcapng", &whole[..20]), "pcap or pcapng file");
}

#[test]
fn pcapng_of_another_link_type_is_not_taken_for_ethernet() {
    let directory = tempfile::tempdir().unwrap();
    let (classic, raw) = (directory.path().join("a.pcap"), directory.path().join("raw.pcapng"));
    std::fs::write(&classic, pcap::write(&[Record::new(EPOCH, race().0)])).unwrap();
    let (from, to) = (classic.to_string_lossy(), raw.to_string_lossy());
    run(&["editcap", "-F", "pcapng", "-T", "rawip", &from, &to]).unwrap();
    is_refused(&raw, "link type");
}

/// All that is whole is replayed, and the exit code tells that it was not all.
#[test]
fn a_capture_that_breaks_off_is_replayed_as_far_as_it_goes() {
    let directory = tempfile::tempdir().unwrap();
    let record = Record::new(EPOCH, race().0);
    let whole = pcap::write(&[record.clone(), record.clone()]);
    let path = directory.path().join("cut.pcap");
    // In the second frame's data, and in its record header.
    for length in [whole.len() - 1, whole.len() - record.bytes.len() - 3] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let (code, said, packets) = replay_file(&path);
        assert_eq!((code, packets), (Some(1), 1), "{said}");
        assert!(said.contains("cut.pcap: after frame 1") && !said.contains("panicked"), "{said}");
    }
    // A record that claims more than any frame has.
    let mut absurd = whole.clone();
    let at = whole.len() - record.bytes.len() - 8;
    absurd[at..at + 8].fill(0xff);
    std::fs::write(&path, absurd).unwrap();
    let (code, said, packets) = replay_file(&path);
    assert_eq!((code, packets), (Some(1), 1), "{said}");
    assert!(said.contains("after frame 1"), "{said}");
}

/// Tells what a replay cannot show as it was, and replays the rest.
#[test]
fn frames_that_were_cut_or_are_too_late_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cut.pcap");
    let record = Record::new(EPOCH, race().0);
    let mut cut = pcap::write(&[record.clone(), record.clone()]);
    let at = cut.len() - record.bytes.len();
    cut[at - 2..at].copy_from_slice(&1514u16.to_be_bytes());
    std::fs::write(&path, cut).unwrap();
    let (code, said, packets) = replay_file(&path);
    assert_eq!((code, packets), (Some(0), 2), "{said}");
    let note = format!("first frame 2: {} of 1514 bytes", record.bytes.len());
    assert!(said.contains("cut.pcap: 1 frames cut") && said.contains(&note), "{said}");

    // A section, an interface that counts seconds, and two packets of the years 1970 and 2107.
    let words =
        |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let mut late = words(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    late.extend(words(&[1, 28, 1, 0xffff, 0x0001_0009, 0, 28]));
    for (high, low) in [(0, 7), (1, 0x0100_0000)] {
        let mut data = record.bytes.clone();
        data.resize(data.len().next_multiple_of(4), 0);
        let (length, total) = (record.bytes.len() as u32, data.len() as u32 + 32);
        late.extend(words(&[6, total, 0, high, low, length, length]));
        late.extend(data);
        late.extend(words(&[total]));
    }
    let path = directory.path().join("late.pcapng");
    std::fs::write(&path, late).unwrap();
    let (code, said, packets) = replay_file(&path);
    assert_eq!((code, packets), (Some(0), 2), "{said}");
    assert!(said.contains("late.pcapng: frame 2 is of after 2106"), "{said}");
}
