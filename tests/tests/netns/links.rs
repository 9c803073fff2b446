//! One gateway between two hosts: what it uses at rest, and a link that goes down and comes back.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
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
    _lab: Lab,
}

impl Line {
    pub(super) fn new(name: &str) -> Self {
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
             [port.inside]\ndevice = \"net_af_packet0,iface=in0\"\n\
             [port.outside]\ndevice = \"net_af_packet1,iface=out0\"\n\
             [[gateway.service]]\naddress = \"any\"\nallowed_replicas = [\"any\"]\n",
            gateway.name(),
            socket.display(),
        );
        fs::write(&config, text).unwrap();
        let runtime = format!("RUNTIME_DIRECTORY={}", lab.directory().display());
        let binary = full().unwrap();
        let (binary, file) = (binary.to_string_lossy(), config.to_string_lossy());
        let words = ["env", &runtime, &*binary, "run", "--json", "-c", &*file];
        let mut process = lab.spawn(&gateway, &words).or_fail();
        process.wait_for("forwarding", MAX_WAIT).or_fail();
        Self { client, gateway, server, process, socket, config, _lab: lab }
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
