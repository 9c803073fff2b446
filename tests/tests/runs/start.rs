//! Starts that fail, and a worker that is stuck: what is said, with the key and the exit code.

use std::fs::{File, OpenOptions, read_to_string, write};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use firstack_tests::scenario::binary::full;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

use crate::harness::{Harness, ended_well, scenario};

/// A harness, and its configuration, which is sound.
fn sound() -> (Harness, String) {
    let harness = Harness::new(&scenario("gateway/tag/added"), &[Vec::new(), Vec::new()]);
    ended_well(&harness.run(&[0], 1));
    let text = read_to_string(harness.path("run.toml")).unwrap();
    (harness, text)
}

/// Starts with a changed configuration, which must fail: the exit code, and what is said.
fn said(harness: &Harness, text: &str) -> (Option<i32>, String) {
    let file = harness.path("other.toml");
    write(&file, text).unwrap();
    let output = harness.start(&file, None);
    assert!(output.stdout.is_empty() && !harness.path("socket").exists());
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn too_little_memory_for_the_buffers_is_said_with_the_key() {
    let (harness, text) = sound();
    let (code, said) = said(&harness, &text.replace("\"128\"", "\"32\""));
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("memory.mbufs: 16384 buffers take 64 MiB"), "{said}");
    assert!(said.contains("-m 80 there"), "{said}");
}

#[test]
fn without_huge_pages_it_is_said_how_to_get_them() {
    let (harness, text) = sound();
    let pages = read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    if pages.trim() != "0" {
        return;
    }
    let (code, said) = said(&harness, &text.replace("\"--no-huge\", \"-m\", \"128\", ", ""));
    assert_eq!(code, Some(2), "{said}");
    let expected =
        "eal.args: no huge pages are reserved; expected some: sysctl vm.nr_hugepages=1024";
    assert!(said.contains(expected) && said.contains("--no-huge"), "{said}");
}

#[test]
fn a_control_socket_that_cannot_be_made_is_said_with_the_key() {
    let (harness, text) = sound();
    let socket = harness.path("socket").display().to_string();
    let (code, said) = said(&harness, &text.replace(&socket, "/proc/none/socket"));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("control.socket: control socket /proc/none/socket: "), "{said}");
}

/// A configuration whose inside port never has a packet: its capture is a pipe that stays empty, and
/// reading it blocks the worker for good.
fn blocks(harness: &Harness, text: &str, watchdog: &str) -> (PathBuf, PathBuf) {
    let fifo = harness.path("fifo");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let text = text.replace(&*harness.inputs[0].to_string_lossy(), &fifo.to_string_lossy());
    let worker = format!("[worker]\nwatchdog = \"{watchdog}\"");
    assert!(text.contains("[worker]"), "{text}");
    let file = harness.path("blocks.toml");
    write(&file, text.replace("[worker]", &worker)).unwrap();
    (file, fifo)
}

/// Starts it; the pipe's other end, which has to stay open.
fn start(harness: &Harness, file: &Path, fifo: &Path) -> (std::process::Child, File) {
    let log = File::create(harness.path("log")).unwrap();
    let mut command = Command::new(full().unwrap());
    let command = command.args(["run", "--config"]).arg(file);
    let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut pipe = OpenOptions::new().write(true).open(fifo).unwrap();
    // The header of a capture of Ethernet frames.
    let header = [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65535, 1];
    pipe.write_all(&header.map(u32::to_ne_bytes).concat()).unwrap();
    (child, pipe)
}

fn log(harness: &Harness) -> String {
    read_to_string(harness.path("log")).unwrap()
}

#[track_caller]
fn comes(harness: &Harness, text: &str) {
    let start = Instant::now();
    while !log(harness).contains(text) {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", log(harness));
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_worker_that_is_stuck_ends_the_process() {
    let (harness, text) = sound();
    let (file, fifo) = blocks(&harness, &text, "500ms");
    let (mut child, _pipe) = start(&harness, &file, &fifo);
    let status = child.wait().unwrap();
    let log = log(&harness);
    assert_eq!(status.signal(), Some(nix::libc::SIGABRT), "{status}: {log}");
    let last = log.lines().last().unwrap();
    for expected in ["does not come round", "worker=0", "receive inside", "blocked in the kernel"] {
        assert!(last.contains(expected), "{last}");
    }
}

#[test]
fn without_a_watchdog_and_while_it_is_stopped_it_goes_on() {
    let (harness, text) = sound();
    let (file, fifo) = blocks(&harness, &text, "0");
    let (mut child, pipe) = start(&harness, &file, &fifo);
    comes(&harness, "forwarding packets");
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(child.try_wait().unwrap(), None, "{}", log(&harness));
    // The pipe's end: the worker comes round again.
    drop(pipe);
    let process = Pid::from_raw(child.id() as i32);
    kill(process, Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success(), "{}", log(&harness));

    let text = text.replace("[worker]", "[worker]\nwatchdog = \"100ms\"");
    write(harness.path("stops.toml"), text).unwrap();
    let log_file = File::create(harness.path("log")).unwrap();
    let mut command = Command::new(full().unwrap());
    let command = command.args(["run", "--config"]).arg(harness.path("stops.toml"));
    let mut child = command.stdout(Stdio::null()).stderr(log_file).spawn().unwrap();
    comes(&harness, "forwarding packets");
    let process = Pid::from_raw(child.id() as i32);
    for _ in 0..3 {
        kill(process, Signal::SIGSTOP).unwrap();
        thread::sleep(Duration::from_millis(700));
        kill(process, Signal::SIGCONT).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    thread::sleep(Duration::from_millis(300));
    assert_eq!(child.try_wait().unwrap(), None, "{}", log(&harness));
    kill(process, Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success(), "{}", log(&harness));
}
