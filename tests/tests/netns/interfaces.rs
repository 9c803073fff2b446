//! One gateway on net_af_packet between two hosts: interfaces on which it would destroy traffic are
//! refused, its ring fits the frames, and what happens to an interface while it runs is seen.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use firstack::control::socket::{self, Answer, Command};
use firstack::control::stats::Snapshot;
use firstack_tests::lab::{Lab, Namespace, Process};
use firstack_tests::scenario::binary::full;
use nix::sys::signal::Signal;

use super::links::within;
use super::{MAX_WAIT, OrFail, alone, comes_true};

const CLIENT: &str = "10.9.0.1";
const SERVER: &str = "10.9.0.2";
/// Both interfaces of the gateway, and those of the hosts.
const OWN: [&str; 2] = ["in0", "out0"];

struct Line {
    client: Namespace,
    gateway: Namespace,
    server: Namespace,
    config: PathBuf,
    socket: PathBuf,
    lab: Lab,
}

impl Line {
    /// Two hosts and a gateway that is not started, whose `[memory]` section has these lines.
    fn new(name: &str, memory: &str) -> Self {
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
             [eal]\nfile_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"128\"]\n\
             [control]\nsocket = \"{}\"\n\
             [memory]\nmbufs = 4096\n{memory}\n\
             [port.inside]\ndevice = \"net_af_packet0,iface=in0\"\n\
             [port.outside]\ndevice = \"net_af_packet1,iface=out0\"\n\
             [[gateway.service]]\naddress = \"203.0.113.10\"\n\
             allowed_replicas = [\"198.51.100.0/24\"]\n",
            gateway.name(),
            socket.display(),
        );
        fs::write(&config, text).unwrap();
        Self { client, gateway, server, config, socket, lab }
    }

    fn words(&self, command: &[&str]) -> Vec<String> {
        let runtime = format!("RUNTIME_DIRECTORY={}", self.lab.directory().display());
        let binary = full().unwrap().to_string_lossy().into_owned();
        let mut words = vec!["env".to_owned(), runtime, binary];
        words.extend(command.iter().map(|word| (*word).to_owned()));
        words.push(self.config.to_string_lossy().into_owned());
        words
    }

    /// Returns what `firstack check` says against the configuration; empty if it is accepted.
    fn complaint(&self) -> String {
        match self.gateway.run(&self.words(&["check"])) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    fn start(&self) -> Process {
        let mut process =
            self.lab.spawn(&self.gateway, &self.words(&["run", "--json", "-c"])).or_fail();
        process.wait_for("forwarding", MAX_WAIT).or_fail();
        process
    }

    fn stats(&self) -> Snapshot {
        match socket::ask(&self.socket, Command::Stats).unwrap() {
            Answer::Stats(snapshot) => *snapshot,
            answer => panic!("{answer:?}"),
        }
    }

    fn set_mtu(&self, mtu: &str) {
        let ends = [(&self.client, "eth0"), (&self.server, "eth0")];
        let own = OWN.map(|interface| (&self.gateway, interface));
        for (namespace, interface) in ends.into_iter().chain(own) {
            namespace.run(&["ip", "link", "set", "dev", interface, "mtu", mtu]).or_fail();
        }
    }

    /// Sends datagrams of this size until one arrives whole. Returns whether one does.
    fn carries(&self, bytes: usize, limit: Duration) -> bool {
        let server = within(&self.server, || UdpSocket::bind((SERVER, 9)).unwrap());
        let client = within(&self.client, || UdpSocket::bind((CLIENT, 0)).unwrap());
        server.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let (start, mut buffer) = (Instant::now(), vec![0; 65536]);
        while start.elapsed() < limit {
            let _ = client.send_to(&vec![7; bytes], (SERVER, 9));
            if server.recv(&mut buffer).is_ok_and(|count| count == bytes) {
                return true;
            }
        }
        false
    }

    fn is_promiscuous(&self, interface: &str) -> bool {
        let path = format!("/sys/class/net/{interface}/flags");
        let flags = self.gateway.run(&["cat", &path]).or_fail();
        let text = flags.stdout.trim().to_owned();
        let flags = u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
        flags & nix::libc::IFF_PROMISC as u32 != 0
    }
}

fn stop(mut process: Process) -> String {
    process.signal(Signal::SIGTERM);
    let status = process.wait(MAX_WAIT).or_fail();
    assert!(status.success(), "{status}: {}", process.stderr());
    process.stderr()
}

#[test]
fn an_interface_that_merges_frames_or_has_longer_ones_is_refused() {
    let _alone = alone();
    let line = Line::new("refuse", "");
    assert_eq!(line.complaint(), "");
    let set = |interface: &str, feature: &str, state: &str| {
        line.gateway.run(&["ethtool", "-K", interface, feature, state]).or_fail();
    };
    for interface in OWN {
        set(interface, "gro", "on");
        let complaint = line.complaint();
        let command = format!("ethtool -K {interface} gro off");
        assert!(complaint.contains(&command), "{complaint}");
        set(interface, "gro", "off");
    }
    assert_eq!(line.complaint(), "");
    line.set_mtu("9000");
    let complaint = line.complaint();
    assert!(complaint.contains("memory.max_frame = 9216"), "{complaint}");
    // `run` refuses what `check` refuses.
    let mut process = line.lab.spawn(&line.gateway, &line.words(&["run", "-c"])).or_fail();
    assert_eq!(process.wait(MAX_WAIT).or_fail().code(), Some(2), "{}", process.stderr());
    line.set_mtu("1500");
    // Only a hint: nobody knows what the other end does.
    set("in0", "tx", "on");
    let output = line.gateway.run(&line.words(&["check"])).or_fail();
    let warning = output.stderr;
    assert!(warning.contains("warning: in0 is a veth"), "{warning}");
}

#[test]
fn the_ring_fits_the_frames_of_max_frame() {
    let _alone = alone();
    let line = Line::new("jumbo", "max_frame = 9216");
    line.set_mtu("9000");
    assert_eq!(line.complaint(), "");
    let process = line.start();
    assert!(line.carries(8900, MAX_WAIT), "{}", line.stats());
    let stats = line.stats();
    assert_eq!(stats.verdict("frame_cut"), 0, "{stats}");
    stop(process);
}

#[test]
fn frames_that_the_port_cuts_are_counted_and_logged_once() {
    let _alone = alone();
    let line = Line::new("cut", "");
    let process = line.start();
    assert!(line.carries(1400, MAX_WAIT), "{}", line.stats());
    // After the start nobody looks at the interface any more.
    line.set_mtu("9000");
    assert!(!line.carries(4000, Duration::from_secs(1)), "cut at 2 KB, but delivered");
    assert!(comes_true(MAX_WAIT, || line.stats().verdict("frame_cut") > 1), "{}", line.stats());
    thread::sleep(Duration::from_millis(100));
    let log = stop(process);
    assert_eq!(log.matches("frames arrive shorter").count(), 1, "{log}");
}

#[test]
fn an_interface_that_is_made_again_is_seen_and_promiscuous_mode_ends() {
    let _alone = alone();
    let line = Line::new("again", "");
    assert!(!line.is_promiscuous("out0"));
    let mut process = line.start();
    assert!(line.is_promiscuous("in0") && line.is_promiscuous("out0"));
    // Keys must not reach a core file either.
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.id())).unwrap();
    let core: Vec<_> = limits.lines().filter(|line| line.starts_with("Max core file")).collect();
    assert!(core[0].split_whitespace().filter(|word| *word == "0").count() == 2, "{core:?}");
    // The links are looked at ten times a second.
    let links = || line.stats().ports.iter().map(|port| port.link_up).collect::<Vec<_>>();
    assert!(comes_true(MAX_WAIT, || links() == [true, true]), "{}", line.stats());
    line.gateway.run(&["ip", "link", "del", "dev", "in0"]).or_fail();
    line.lab.veth((&line.client, "eth0"), (&line.gateway, "in0")).or_fail();
    process.wait_for("interface was deleted", MAX_WAIT).or_fail();
    assert!(comes_true(MAX_WAIT, || links() == [false, true]), "{}", line.stats());
    stop(process);
    assert!(!line.is_promiscuous("out0"), "promiscuous after the end");
    // What an operator has set stays.
    line.gateway.run(&["ip", "link", "set", "dev", "out0", "promisc", "on"]).or_fail();
    stop(line.start());
    assert!(line.is_promiscuous("out0"));
}
