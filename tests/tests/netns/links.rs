//! One gateway between two hosts: what it uses at rest, a link that goes down and comes back, or takes
//! the other port with it, and what keeps a second process from starting there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use firstack::control::socket::{self, Answer, Command};
use firstack::control::stats::Snapshot;
use firstack_tests::lab::{Lab, Namespace, Process};
use firstack_tests::scenario::binary::full;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

use super::{MAX_WAIT, OrFail, alone, comes_true};

pub(super) const CLIENT: &str = "10.9.0.1";
pub(super) const SERVER: &str = "10.9.0.2";

/// A client, a gateway and a server.
pub(super) struct Line {
    pub(super) client: Namespace,
    pub(super) gateway: Namespace,
    pub(super) server: Namespace,
    pub(super) process: Process,
    pub(super) socket: PathBuf,
    pub(super) config: PathBuf,
    // Goes last.
    lab: Lab,
}

impl Line {
    pub(super) fn new(name: &str) -> Self {
        Self::with(name, "")
    }

    /// The same with more lines in the section `port`.
    fn with(name: &str, port: &str) -> Self {
        let lab = Lab::new(name).or_fail();
        let [client, gateway, server] = ["c", "g", "s"].map(|name| lab.namespace(name).or_fail());
        lab.veth((&client, "eth0"), (&gateway, "in0")).or_fail();
        lab.veth((&server, "eth0"), (&gateway, "out0")).or_fail();
        client.address("eth0", &format!("{CLIENT}/24")).or_fail();
        server.address("eth0", &format!("{SERVER}/24")).or_fail();
        let socket = lab.directory().join("socket");
        let config = lab.directory().join("gateway.toml");
        let text = format!(
            "role = \"gateway\"\n\
             [eal]\nfile_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"64\"]\n\
             [control]\nsocket = \"{}\"\n\
             [memory]\nmbufs = 8192\n\
             [port]\n{port}\n\
             [port.inside]\ndevice = \"net_af_packet0,iface=in0\"\n\
             [port.outside]\ndevice = \"net_af_packet1,iface=out0\"\n\
             [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
            gateway.name(),
            socket.display(),
        );
        fs::write(&config, text).unwrap();
        let process = Self::start(&lab, &gateway, &config);
        Self { client, gateway, server, process, socket, config, lab }
    }

    /// The command that runs a gateway with a file.
    fn words(lab: &Lab, config: &Path) -> Vec<String> {
        let runtime = format!("RUNTIME_DIRECTORY={}", lab.directory().display());
        let (binary, file) = (full().unwrap(), config.to_string_lossy());
        let binary = binary.to_string_lossy();
        ["env", &runtime, &*binary, "run", "--json", "-c", &*file].map(str::to_owned).to_vec()
    }

    fn start(lab: &Lab, gateway: &Namespace, config: &Path) -> Process {
        let mut process = lab.spawn(gateway, &Self::words(lab, config)).or_fail();
        process.wait_for("forwarding", MAX_WAIT).or_fail();
        process
    }

    /// Runs a second gateway, whose configuration differs as said, and which must not come up: its
    /// exit code, and what it says.
    fn second(&self, before: &[&str], changes: &[(&str, &str)]) -> (Option<i32>, String) {
        let mut text = fs::read_to_string(&self.config).unwrap();
        for (from, to) in changes {
            assert!(text.contains(from), "{text}");
            text = text.replace(from, to);
        }
        let other = self.lab.directory().join("other.toml");
        fs::write(&other, text).unwrap();
        let before = before.iter().map(|word| (*word).to_owned());
        let words: Vec<_> = before.chain(Self::words(&self.lab, &other)).collect();
        let mut process = self.lab.spawn(&self.gateway, &words).or_fail();
        let status = process.wait(MAX_WAIT).or_fail();
        (status.code(), process.stderr())
    }

    pub(super) fn stats(&self) -> Snapshot {
        match socket::ask(&self.socket, Command::Stats).unwrap() {
            Answer::Stats(snapshot) => *snapshot,
            answer => panic!("{answer:?}"),
        }
    }

    fn unsent(&self) -> u64 {
        self.stats().sides[1].unsent
    }

    /// Nanoseconds that all threads of the process have run.
    fn used(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process.id())).unwrap();
        let of = |task: fs::DirEntry| {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        };
        tasks.map(|task| of(task.unwrap())).sum()
    }

    pub(super) fn finish(mut self) {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(MAX_WAIT).or_fail();
        // Buffers that are missing are an error.
        assert!(status.success(), "{status}: {}", self.process.stderr());
        // Processes that were upgraded have left their counters, too.
        let printed = self.process.stdout();
        let last: Snapshot = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
        assert!(last.is_conserved(), "{last}");
    }
}

/// What is made in a namespace by a thread of its own; sockets stay there.
pub(super) fn within<T: Send + 'static>(
    at: &Namespace,
    make: impl FnOnce() -> T + Send + 'static,
) -> T {
    let namespace = File::open(format!("/var/run/netns/{}", at.name())).unwrap();
    let inside = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        make()
    };
    thread::spawn(inside).join().unwrap()
}

#[test]
fn a_gateway_at_rest_leaves_three_quarters_of_a_core() {
    let _alone = alone();
    let line = Line::new("rest");
    // The first second may still be part of the start.
    let rests = || {
        let (before, start) = (line.used(), Instant::now());
        thread::sleep(Duration::from_secs(1));
        let share = (line.used() - before) as f64 / start.elapsed().as_nanos() as f64;
        println!("{:.1} % of a core", share * 100.0);
        share < 0.25
    };
    assert!(comes_true(MAX_WAIT, rests), "a quarter of a core or more at rest, all the time");
    line.finish();
}

#[test]
fn a_link_that_goes_down_is_counted_and_comes_back_with_its_connections() {
    let _alone = alone();
    let line = Line::new("down");
    let listener = within(&line.server, || TcpListener::bind((SERVER, 80)).unwrap());
    let mut client = within(&line.client, || TcpStream::connect((SERVER, 80)).unwrap());
    let (mut server, _) = listener.accept().unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(MAX_WAIT)).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    let mut exchange = |text: &[u8; 4]| {
        client.write_all(text).unwrap();
        let mut bytes = [0; 4];
        server.read_exact(&mut bytes).unwrap();
        server.write_all(&bytes).unwrap();
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, text);
    };
    exchange(b"once");
    // What the kernel sends without asking anybody.
    let stream = within(&line.client, || UdpSocket::bind((CLIENT, 0)).unwrap());
    let flood = || {
        for _ in 0..100 {
            // Refused by the server, and who that is may get lost on the way.
            let _ = stream.send_to(&[0; 100], (SERVER, 9));
        }
    };
    for (namespace, interface) in [(&line.server, "eth0"), (&line.gateway, "out0")] {
        let before = line.unsent();
        let set = |state| namespace.run(&["ip", "link", "set", "dev", interface, state]).or_fail();
        set("down");
        // net_af_packet's ring takes 512 frames more, then none.
        assert!(comes_true(MAX_WAIT, || {
            flood();
            line.unsent() > before
        }));
        set("up");
        exchange(b"more");
        let after = line.unsent();
        flood();
        exchange(b"last");
        assert_eq!(line.unsent(), after, "{interface} is up and takes what is sent");
        assert!(line.stats().table.live.iter().any(|state| state.count == 1), "{}", line.stats());
    }
    line.finish();
}

/// Whether a host's interface has a carrier.
fn has_carrier(at: &Namespace) -> bool {
    let carrier = at.run(&["cat", "/sys/class/net/eth0/carrier"]);
    // An interface that is down has none to show.
    carrier.is_ok_and(|output| output.stdout.trim() == "1")
}

#[track_caller]
fn comes_to_carriers(line: &Line, expected: [bool; 2]) {
    let carriers = || [&line.client, &line.server].map(has_carrier);
    let came = comes_true(MAX_WAIT, || carriers() == expected);
    assert!(came, "{:?}: {}", carriers(), line.process.stderr());
}

#[test]
fn a_port_without_a_link_takes_the_other_down_and_brings_it_up_again() {
    let _alone = alone();
    let mut line = Line::with("prop", "propagate_link = true");
    let set = |at: &Namespace, state| {
        at.run(&["ip", "link", "set", "dev", "eth0", state]).or_fail();
    };
    comes_to_carriers(&line, [true; 2]);
    for (pulled, held) in [(0, 1), (1, 0)] {
        let at = [&line.client, &line.server][pulled].clone();
        set(&at, "down");
        comes_to_carriers(&line, [false; 2]);
        let shown = line.stats();
        assert!(!shown.ports[pulled].link_up && !shown.ports[pulled].link_held, "{shown}");
        assert!(!shown.ports[held].link_up && shown.ports[held].link_held, "{shown}");
        // It is one of the two that is down, and stays so.
        thread::sleep(Duration::from_secs(1));
        assert_eq!([&line.client, &line.server].map(has_carrier), [false; 2]);
        set(&at, "up");
        comes_to_carriers(&line, [true; 2]);
    }
    let listener = within(&line.server, || TcpListener::bind((SERVER, 80)).unwrap());
    let client = within(&line.client, || TcpStream::connect((SERVER, 80)).unwrap());
    drop((client, listener.accept().unwrap()));
    let changes = line.stats().ports.iter().map(|port| port.link_changes).collect::<Vec<_>>();
    // A port that was still negotiating at the start, or is held, may show more.
    assert!(changes.iter().all(|changes| *changes >= 2), "down and up, each: {changes:?}");
    // A port that was held down by a process that is no more comes up with the next.
    set(&line.client, "down");
    comes_to_carriers(&line, [false; 2]);
    line.process.signal(Signal::SIGKILL);
    line.process.wait(MAX_WAIT).or_fail();
    set(&line.client, "up");
    thread::sleep(Duration::from_millis(300));
    assert!(!has_carrier(&line.server), "nobody brings it up");
    line.process = Line::start(&line.lab, &line.gateway, &line.config);
    comes_to_carriers(&line, [true; 2]);
    // At an orderly end a port that is held is let go of.
    set(&line.client, "down");
    comes_to_carriers(&line, [false; 2]);
    let (server, lab) = (line.server.clone(), line.gateway.clone());
    line.process.signal(Signal::SIGTERM);
    assert!(line.process.wait(MAX_WAIT).or_fail().success());
    assert!(comes_true(MAX_WAIT, || has_carrier(&server)), "{}", lab.name());
}

#[test]
fn a_second_process_does_not_start_on_the_same_interfaces() {
    let _alone = alone();
    let line = Line::new("second");
    let socket = line.socket.display().to_string();
    let own = [("file_prefix = \"", "file_prefix = \"o"), (&*socket, &*format!("{socket}2"))];
    let (code, said) = line.second(&[], &own);
    assert_eq!(code, Some(1), "{said}");
    for (side, interface) in [("inside", "in0"), ("outside", "out0")] {
        let expected = format!("port.{side}.device: firstack, process ");
        let is_it = |line: &str| line.contains(&expected) && line.contains(interface);
        assert!(said.lines().any(is_it), "{said}");
    }
    // Nor with the same prefix, where the interfaces are others.
    line.gateway.run(&["ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"]).or_fail();
    for interface in ["d0", "d1"] {
        line.gateway.run(&["ip", "link", "set", "dev", interface, "up"]).or_fail();
    }
    let others = [("iface=in0", "iface=d0"), ("iface=out0", "iface=d1"), own[1]];
    let (code, said) = line.second(&[], &others);
    let expected = format!("eal.file_prefix: process {} runs DPDK", line.process.id());
    assert!(code == Some(1) && said.contains(&expected), "{code:?}: {said}");
    // Nor without what its devices need.
    let bare = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    let all = [others[0], others[1], own[0], own[1]];
    let (code, said) = line.second(&bare, &all);
    let expected = "net_af_packet0 needs CAP_NET_RAW, which this process lacks";
    assert!(code == Some(2) && said.contains(expected), "{code:?}: {said}");
    line.finish();
}
