//! `firstack upgrade` of a gateway between two hosts: what passes meanwhile, and what happens when
//! the new process fails.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use firstack::control::socket::{self, Answer};
use firstack_tests::scenario::binary::full;
use nix::sys::signal::Signal;

use super::links::{CLIENT, Line, SERVER, within};
use super::{MAX_WAIT, OrFail, alone, comes_true};

/// The interval between packets of the stream.
const INTERVAL: Duration = Duration::from_millis(1);

/// A connection through the wire.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    count: u64,
}

impl Connection {
    fn new(line: &Line) -> Self {
        let listener = within(&line.server, || TcpListener::bind((SERVER, 80)).unwrap());
        let client = within(&line.client, || TcpStream::connect((SERVER, 80)).unwrap());
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
        }
        Self { client, server, count: 0 }
    }

    /// Sends a new number there and back.
    #[track_caller]
    fn exchange(&mut self) {
        self.count += 1;
        let (sent, mut got) = (self.count.to_be_bytes(), [0; 8]);
        self.client.write_all(&sent).unwrap();
        self.server.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
        self.server.write_all(&got).unwrap();
        got = [0; 8];
        self.client.read_exact(&mut got).unwrap();
        assert_eq!(got, sent);
    }
}

/// What came of a stream of numbered packets.
struct Passed {
    sent: u64,
    lost: u64,
    repeated: u64,
    longest_silence: Duration,
}

/// Sends a numbered packet every millisecond until told to stop.
struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Vec<(u64, Instant)>>,
}

impl Stream {
    fn start(line: &Line) -> Self {
        let from = within(&line.client, || UdpSocket::bind((CLIENT, 0)).unwrap());
        let to = within(&line.server, || UdpSocket::bind((SERVER, 9)).unwrap());
        to.set_read_timeout(Some(INTERVAL)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            let (start, mut number) = (Instant::now(), 0u64);
            while !stopped.load(Relaxed) {
                let _ = from.send_to(&number.to_be_bytes(), (SERVER, 9));
                number += 1;
                let due = start + INTERVAL * number as u32;
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            // What is on its way arrives.
            thread::sleep(Duration::from_millis(500));
            stopped.store(false, Relaxed);
            number
        });
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || {
            let (mut arrived, mut number, mut last) = (Vec::new(), [0; 8], false);
            loop {
                if to.recv(&mut number).is_ok() {
                    arrived.push((u64::from_be_bytes(number), Instant::now()));
                } else if last && !stopped.load(Relaxed) {
                    return arrived;
                }
                last |= stopped.load(Relaxed);
            }
        });
        Self { stop, sender, receiver }
    }

    fn finish(self) -> Passed {
        self.stop.store(true, Relaxed);
        let sent = self.sender.join().unwrap();
        let arrived = self.receiver.join().unwrap();
        let mut numbers: Vec<_> = arrived.iter().map(|(number, _)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let different = numbers.len() as u64;
        let silences = arrived.windows(2).map(|pair| pair[1].1 - pair[0].1);
        Passed {
            sent,
            lost: sent - different,
            repeated: arrived.len() as u64 - different,
            longest_silence: silences.max().unwrap_or_default(),
        }
    }
}

/// Runs `firstack upgrade`.
fn upgrade(line: &Line, options: &[&str]) -> Output {
    let mut command = Command::new(full().unwrap());
    command.args(["upgrade", "--socket"]).arg(&line.socket).args(options).output().unwrap()
}

/// Upgrades to a program that fails; what the command says.
#[track_caller]
fn fails(line: &Line, options: &[&str]) -> String {
    let output = upgrade(line, options);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// Upgrades, and goes on with the new process; what the command says.
#[track_caller]
fn succeeds(line: &mut Line) -> String {
    let output = upgrade(line, &["--timeout", "60s"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text} {} {}", line.process.id(), line.process.stderr());
    let pid = text.split([' ', ',']).find_map(|word| word.parse().ok()).unwrap();
    let status = line.process.succeed(pid, MAX_WAIT).or_fail();
    assert!(status.success(), "{status}: {}", line.process.stderr());
    text
}

/// Writes a program that speaks as much of the protocol as a test wants.
fn program(line: &Line, name: &str, script: &str) -> PathBuf {
    let path = line.config.with_file_name(name);
    fs::write(&path, format!("#!/bin/sh\nread start\n{script}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    path
}

fn is_promiscuous(line: &Line) -> bool {
    let show = |port| line.gateway.run(&["ip", "link", "show", "dev", port]).or_fail().stdout;
    ["in0", "out0"].map(|port| show(port).contains("PROMISC")) == [true; 2]
}

#[test]
fn an_upgrade_repeats_nothing_and_keeps_the_connections_and_the_ports_as_they_are() {
    let _alone = alone();
    let mut line = Line::new("upgrade");
    let mut connection = Connection::new(&line);
    connection.exchange();
    // Each process after the other in the place of the first; more runs give better figures.
    let runs = std::env::var("FIRSTACK_UPGRADES").map_or(3, |runs| runs.parse().unwrap());
    for run in 1..=runs {
        let before = line.process.id();
        let stream = Stream::start(&line);
        thread::sleep(Duration::from_millis(200));
        let text = succeeds(&mut line);
        connection.exchange();
        thread::sleep(Duration::from_millis(200));
        let Passed { sent, lost, repeated, longest_silence } = stream.finish();
        println!(
            "run {run}: {} sent {sent}, lost {lost}, longest silence {} ms",
            text.trim_end(),
            longest_silence.as_millis()
        );
        assert_eq!(repeated, 0, "{sent} {lost}");
        assert_ne!(line.process.id(), before);
        assert!(is_promiscuous(&line));
        assert!(line.stats().is_conserved());
    }
    let gateway = line.gateway.clone();
    line.process.signal(Signal::SIGTERM);
    let status = line.process.wait(MAX_WAIT).or_fail();
    assert!(status.success(), "{status}: {}", line.process.stderr());
    let link = gateway.run(&["ip", "link", "show"]).or_fail().stdout;
    assert!(!link.contains("PROMISC"), "{link}");
}

#[test]
fn a_new_process_that_is_not_ready_changes_nothing() {
    let _alone = alone();
    let line = Line::new("unready");
    let mut connection = Connection::new(&line);
    let pid = line.process.id();
    let good = fs::read_to_string(&line.config).unwrap();
    let of_switch = good.replace("\"gateway\"", "\"switch\"").replace(
        "[[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
        "[[switch.service]]\naddress = \"198.51.100.1\"\nports = [80]\n\
         [[switch.service.server]]\nname = \"one\"\n",
    );
    let other_port = good.replace("iface=out0", "iface=out7");
    let wrong_key = good.replace("mbufs", "mbuffs");
    let files = [
        (wrong_key.as_str(), "mbuffs"),
        (other_port.as_str(), "out7"),
        (of_switch.as_str(), "the file is a switch's, and the running process is a gateway"),
    ];
    for (text, reason) in files {
        fs::write(&line.config, text).unwrap();
        let said = fails(&line, &["--timeout", "60s"]);
        let goes_on = said.contains("not upgraded: ") && said.contains("the old process goes on");
        assert!(goes_on && said.contains(reason), "{said}");
        connection.exchange();
    }
    fs::write(&line.config, &good).unwrap();
    let dead = program(&line, "dead", "kill -9 $$");
    let slow = program(&line, "slow", "exec sleep 60");
    let programs: [(&Path, &str, &str); 4] = [
        (Path::new("/nobody/here"), "60s", "No such file"),
        (Path::new("/bin/true"), "60s", "has ended (exit status: 0)"),
        (&dead, "60s", "has ended (signal: 9"),
        (&slow, "100ms", "was not ready within 100ms"),
    ];
    for (path, timeout, reason) in programs {
        let said = fails(&line, &["--binary", &path.to_string_lossy(), "--timeout", timeout]);
        assert!(said.contains(reason), "{said}");
        connection.exchange();
    }
    assert_eq!(line.process.id(), pid);
    line.finish();
}

#[test]
fn a_new_process_that_fails_after_the_hand_over_is_followed_by_the_old_one() {
    let _alone = alone();
    let mut line = Line::new("rollback");
    let mut connection = Connection::new(&line);
    let pid = line.process.id();
    for beside in [true, false] {
        let ready = format!("echo '{{\"ready\":{{\"version\":\"9\",\"beside\":{beside}}}}}' >&0");
        let dies = program(&line, "dies", &format!("{ready}; read stopped; read over; exit 1"));
        let starts = line.process.stderr().matches("forwarding packets").count();
        let said = fails(&line, &["--binary", &dies.to_string_lossy(), "--timeout", "60s"]);
        assert!(said.contains("the old process starts again"), "{said}");
        assert!(comes_true(MAX_WAIT, || {
            line.process.stderr().matches("forwarding packets").count() > starts
        }));
        connection.exchange();
        assert_eq!(line.process.id(), pid);
        assert!(line.process.is_running() && is_promiscuous(&line));
    }
    succeeds(&mut line);
    connection.exchange();
    line.finish();
}

#[test]
fn one_upgrade_at_a_time_and_a_signal_ends_it_with_the_process() {
    let _alone = alone();
    let mut line = Line::new("signal");
    let slow = program(&line, "slow", "exec sleep 60").to_string_lossy().into_owned();
    let socket = line.socket.clone();
    let first = thread::spawn(move || {
        let mut command = Command::new(full().unwrap());
        command.args(["upgrade", "--binary", &slow, "--socket"]).arg(socket).output().unwrap()
    });
    assert!(comes_true(MAX_WAIT, || line.process.stderr().contains("upgrade begins")));
    let second = fails(&line, &[]);
    assert!(second.contains("is under way"), "{second}");
    let reload = socket::Command::Reload { dry_run: false };
    let refused = socket::ask(&line.socket, reload).unwrap();
    assert!(matches!(&refused, Answer::Error(why) if why.contains("under way")), "{refused:?}");
    line.process.signal(Signal::SIGTERM);
    let said = String::from_utf8(first.join().unwrap().stderr).unwrap();
    assert!(said.contains("not upgraded: the old process was told to end"), "{said}");
    let status = line.process.wait(MAX_WAIT).or_fail();
    assert!(status.success(), "{status}: {}", line.process.stderr());
}
