//! `firstack run` over capture files (DPDK's net_pcap, no hugepages) against `firstack replay`:
//! the same packets leave, with one worker and with several; none vanishes; the process ends as
//! it should.
//!
//! A worker looks at the inside first and takes up to 32 packets from each side in turn: the replay
//! that a run is compared with is given the packets in that order, each round a little later than the
//! one before. What comes in of a scenario is one round, the inside before the outside. With several
//! workers the order of the two sides is certain for the first round alone, for what is handed over
//! of both waits in one batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use firstack_tests::scenario::binary::{full, printed, replay};
use firstack_tests::scenario::check::{Job, Outcome};
use firstack_tests::scenario::notation::parse;
use firstack_tests::scenario::pcap::{self, Record};
use firstack_tests::scenario::{EPOCH, KEY_FILE, Scenario, Side};
use serde_json::Value;
use tempfile::TempDir;

/// Packets that a worker takes at once, by default.
const BURST: usize = 32;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) -> Scenario {
    Scenario::load(&directory().join(format!("{name}.scenario")), &directory()).unwrap()
}

/// Frames by the side that they come in by.
type Inputs = [Vec<Vec<u8>>; 2];

/// A configuration and what comes in, laid out for a replay and for a run.
struct Rig {
    directory: TempDir,
    /// As it stands in the scenario's file.
    config: toml::Table,
    inputs: [PathBuf; 2],
    prefix: String,
    /// The section `memory`.
    memory: &'static str,
}

impl Rig {
    fn new(scenario: &Scenario, inputs: &Inputs) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let directory = tempfile::tempdir().unwrap();
        let files = Side::ALL.map(|side| {
            let path = directory.path().join(format!("{}-in.pcap", side.name()));
            let frames = inputs[side as usize].iter().enumerate();
            let turn = |number: usize| (number / BURST * 2 + side as usize) as u64;
            let time = |number| EPOCH + Duration::from_micros(turn(number));
            let record = |(number, frame): (_, &Vec<u8>)| Record::new(time(number), frame.clone());
            let records: Vec<_> = frames.map(record).collect();
            std::fs::write(&path, pcap::write(&records)).unwrap();
            path
        });
        let prefix = format!("fstest-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let keys = directory.path().join("keys");
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&keys).unwrap();
        file.write_all(scenario.keys.as_bytes()).unwrap();
        let config = scenario.config.replace(KEY_FILE, &keys.to_string_lossy());
        let fragments = scenario.counters.iter().any(|line| line.contains("fragments="));
        // As many as fit into 64 MiB. What is to be fragmented has to be in one piece.
        let memory = if fragments { "mbufs = 8192\nmax_frame = 4096" } else { "mbufs = 8192" };
        Self { directory, config: config.parse().unwrap(), inputs: files, prefix, memory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `firstack replay` makes of it.
    fn replay(&self) -> Outcome {
        let config = self.path("replay.toml");
        std::fs::write(&config, self.config.to_string()).unwrap();
        let [inside, outside] = self.inputs.clone().map(Some);
        let job = Job { config, inside, outside, out: self.path("replayed") };
        let text = printed(&replay(full().unwrap(), &[], &job).unwrap()).unwrap();
        Outcome::of(&job, &text).unwrap()
    }

    /// Runs it with a worker on each of these CPUs.
    fn run(&self, cores: &[usize]) -> Output {
        let mut config = self.config.clone();
        let table = |text: String| text.parse::<toml::Table>().unwrap();
        for side in Side::ALL {
            let (name, number) = (side.name(), side as usize);
            let (from, to) = (self.inputs[number].display(), self.out(side));
            let device =
                format!("device = \"net_pcap{number},rx_pcap={from},tx_pcap={}\"", to.display());
            config["port"].as_table_mut().unwrap().insert(name.to_owned(), table(device).into());
        }
        let eal = format!(
            "file_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"64\", \"--no-pci\"]",
            self.prefix
        );
        let socket = format!("socket = \"{}\"", self.path("socket").display());
        let worker = format!("cores = {cores:?}");
        let memory = self.memory.to_owned();
        let sections = [("eal", eal), ("control", socket), ("worker", worker), ("memory", memory)];
        for (section, text) in sections {
            config.insert(section.to_owned(), table(text).into());
        }
        let file = self.path("run.toml");
        std::fs::write(&file, config.to_string()).unwrap();
        self.start(&file)
    }

    fn start(&self, config: &Path) -> Output {
        let mut command = Command::new(full().unwrap());
        command.args(["run", "--exit-when-idle", "100", "--json", "--config"]).arg(config);
        let output = command.output().unwrap();
        for base in ["/var/run", "/tmp", &std::env::var("XDG_RUNTIME_DIR").unwrap_or_default()] {
            let _ = std::fs::remove_dir_all(Path::new(base).join("dpdk").join(&self.prefix));
        }
        output
    }

    fn out(&self, side: Side) -> PathBuf {
        self.path(&format!("{}-out.pcap", side.name()))
    }

    /// The frames that a run has sent by a side.
    fn sent(&self, side: Side) -> Vec<Vec<u8>> {
        let records = pcap::read(&std::fs::read(self.out(side)).unwrap());
        records.into_iter().map(|record| record.bytes).collect()
    }
}

#[track_caller]
fn ended_well(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Every packet has a fate, what was forwarded or made was sent, and DPDK has counted the same.
#[track_caller]
fn is_conserved(counters: &Value, received: [usize; 2], sent: [usize; 2]) {
    let number = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
    let mut forwarded = 0;
    for side in Side::ALL {
        let at = side as usize;
        let of = |name: &str| number(&counters["sides"][at][name]);
        assert_eq!(of("received"), received[at] as u64, "{}", side.name());
        assert_eq!(of("received"), of("forwarded") + of("consumed") + of("dropped"));
        assert_eq!((of("sent"), of("unsent")), (sent[at] as u64, 0), "{}", side.name());
        let port = &counters["ports"][at];
        assert_eq!(number(&port["rx_packets"]), received[at] as u64, "{}", side.name());
        assert_eq!(number(&port["tx_packets"]), sent[at] as u64, "{}", side.name());
        forwarded += of("forwarded");
    }
    let made: u64 =
        counters["generated"].as_array().unwrap().iter().map(|made| number(&made["count"])).sum();
    assert_eq!(forwarded + made, sent.iter().sum::<usize>() as u64);
}

/// The counters that do not depend on the time, nor on who has worked, nor on whether there is a
/// supervisor, which knows what is out.
fn timeless(counters: &Value) -> Value {
    let mut counters = counters.clone();
    for name in ["ports", "workers", "gates", "out"] {
        counters[name].take();
    }
    for answers in counters["races"].as_array_mut().unwrap() {
        for name in ["p50_us", "p90_us", "p99_us", "histogram"] {
            answers[name].take();
        }
    }
    counters
}

/// What comes in in a scenario; `None` when a run could not give what a replay gives: the
/// appliance asks and answers by ARP when it likes, and with MAC addresses of its ports, and probes
/// tunnels when it likes, under an identifier that is random.
fn inputs_of(scenario: &Scenario) -> Option<Inputs> {
    let by_arp = scenario.counters.iter().any(|line| line.contains("arp_"));
    let config: toml::Table = scenario.config.parse().unwrap();
    let asks = |switch: &toml::Value| switch.get("tunnel_probes") != Some(&false.into());
    let probes = config.get("switch").is_some_and(asks);
    let inputs = Side::ALL.map(|side| {
        scenario.input(side).into_iter().map(|record| record.bytes).collect::<Vec<_>>()
    });
    let fits = |frames: &Vec<Vec<u8>>| frames.len() <= BURST;
    (!by_arp && !probes && inputs.iter().all(fits)).then_some(inputs)
}

fn same_as_replayed(scenario: &Scenario, inputs: &Inputs) {
    let name = scenario.name();
    let rig = Rig::new(scenario, inputs);
    let replayed = rig.replay();
    let counters = ended_well(&rig.run(&[0]));
    let left = replayed.left().map(|records| records.map(|r| r.bytes).collect::<Vec<_>>());
    for side in Side::ALL {
        let (found, expected) = (rig.sent(side), &left[side as usize]);
        assert_eq!(found.len(), expected.len(), "{name}: packets sent by the {}", side.name());
        for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "{name}: {} packet {number}", side.name());
        }
    }
    is_conserved(&counters, inputs.each_ref().map(Vec::len), left.each_ref().map(Vec::len));
    assert_eq!(timeless(&counters), timeless(&replayed.counters), "{name}");
    assert!(!rig.path("socket").exists(), "{name}: the control socket is left behind");
}

#[test]
fn a_run_sends_what_a_replay_sends() {
    let scenarios: Vec<_> =
        Scenario::load_all(&directory()).into_iter().map(Result::unwrap).collect();
    let runnable: Vec<_> =
        scenarios.iter().filter_map(|scenario| Some((scenario, inputs_of(scenario)?))).collect();
    let roles: BTreeSet<_> = runnable.iter().map(|(s, _)| s.name()[..6].to_owned()).collect();
    assert!(roles.len() == 3 && runnable.len() > 60, "{} scenarios of {roles:?}", runnable.len());
    // Most of a run is waiting: several at a time.
    std::thread::scope(|scope| {
        for some in runnable.chunks(runnable.len().div_ceil(4)) {
            scope.spawn(|| {
                some.iter().for_each(|(scenario, inputs)| same_as_replayed(scenario, inputs))
            });
        }
    });
}

/// The clients of the tests with connections of many: one connection of each address, and so many
/// that one packet of each is a round.
const CLIENTS: usize = BURST;

/// A client's endpoint; clients of IPv4 and of IPv6 each are in prefixes of their own.
fn client(version: u8, number: usize) -> String {
    match version {
        4 => format!("198.18.{number}.10:4000"),
        _ => format!("[2001:db8:{:x}::10]:4000", 0xc00 + number),
    }
}

/// For each of these lines of a scenario's notation: a frame of each client, which `CLIENT` stands
/// for, or `CLIENT6` for those of IPv6.
fn in_rounds(scenario: &Scenario, side: Side, lines: &[String]) -> Vec<Vec<u8>> {
    let scope = scenario.scope(side.other(), None);
    let of_all = |line: &String| {
        let version = if line.contains("CLIENT6") { 6 } else { 4 };
        let of = |number| {
            let line =
                line.replace("CLIENT6", "CLIENT").replace("CLIENT", &client(version, number));
            parse(&line, scope).unwrap_or_else(|error| panic!("{line}: {error}")).bytes()
        };
        (1..=CLIENTS).map(of).collect::<Vec<_>>()
    };
    lines.iter().flat_map(of_all).collect()
}

/// The same in the order of the clients.
fn for_each_client(scenario: &Scenario, side: Side, lines: &[&str]) -> Vec<Vec<u8>> {
    let lines: Vec<_> = lines.iter().map(|line| (*line).to_owned()).collect();
    let rounds = in_rounds(scenario, side, &lines);
    let of_client = |number| rounds.iter().skip(number).step_by(CLIENTS).cloned();
    (0..CLIENTS).flat_map(of_client).collect()
}

/// Protocol, addresses and payload of an IP packet.
fn ip(packet: &[u8]) -> Option<(u8, [IpAddr; 2], &[u8])> {
    let four = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let six =
        |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
    match packet.first()? >> 4 {
        4 => Some((packet[9], [four(12)?.into(), four(16)?.into()], packet.get(20..)?)),
        6 => Some((packet[6], [six(8)?.into(), six(24)?.into()], packet.get(40..)?)),
        _ => None,
    }
}

/// Protocol and client of a frame, the innermost packet's or the quoted one's: what tells
/// connections apart here, each client having one of each protocol.
fn connection(frame: &[u8]) -> Option<(u8, IpAddr)> {
    let (mut protocol, mut ends, mut payload) = ip(frame.get(14..)?)?;
    loop {
        // IP in IP, GRE without options, GUE, what an ICMP error quotes.
        let inner = match protocol {
            4 | 41 => payload,
            47 => payload.get(4..)?,
            17 if payload.get(2..4)? == 6080u16.to_be_bytes() => payload.get(12..)?,
            1 | 58 => payload.get(8..)?,
            _ => break,
        };
        (protocol, ends, payload) = ip(inner)?;
    }
    let is_client = |address: &IpAddr| match address {
        IpAddr::V4(address) => address.octets()[..2] == [198, 18],
        IpAddr::V6(address) => address.segments()[2] >> 8 == 0xc,
    };
    Some((protocol, ends.into_iter().find(is_client)?))
}

/// The frames of each connection, in their order.
fn by_connection(
    frames: impl IntoIterator<Item = Vec<u8>>,
) -> BTreeMap<Option<(u8, IpAddr)>, Vec<Vec<u8>>> {
    let mut connections: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        connections.entry(connection(&frame)).or_default().push(frame);
    }
    connections
}

/// CPUs that this process may use.
fn cpus() -> Vec<usize> {
    let own = nix::unistd::Pid::from_raw(0);
    let set = nix::sched::sched_getaffinity(own).unwrap();
    (0..nix::sched::CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).collect()
}

/// Runs with one, two and three workers, as far as there are CPUs, and compares each connection.
fn however_many_workers(scenario: &Scenario, inputs: &Inputs) {
    let cpus = cpus();
    for workers in 1..=cpus.len().min(3) {
        let rig = Rig::new(scenario, inputs);
        let replayed = rig.replay();
        let counters = ended_well(&rig.run(&cpus[..workers]));
        let left = replayed.left().map(|records| records.map(|r| r.bytes).collect::<Vec<_>>());
        is_conserved(&counters, inputs.each_ref().map(Vec::len), left.each_ref().map(Vec::len));
        for side in Side::ALL {
            let (found, expected) = (rig.sent(side), left[side as usize].clone());
            let name = side.name();
            assert!(
                by_connection(found) == by_connection(expected),
                "{workers} workers: what leaves by the {name} is not what a replay sends"
            );
        }
        assert_eq!(timeless(&counters)["sides"], timeless(&replayed.counters)["sides"]);
        assert_eq!(timeless(&counters)["races"], timeless(&replayed.counters)["races"]);
        let worker = |at: usize, name: &str| counters["workers"][at][name].as_u64().unwrap();
        let sum = |name: &str| (0..workers).map(|at| worker(at, name)).sum::<u64>();
        assert_eq!(sum("handed_off"), sum("taken_over"), "{workers} workers");
        let busy = |at: &usize| {
            let sides = counters["workers"][*at]["sides"].as_array().unwrap();
            sides.iter().any(|side| side["received"].as_u64() > Some(0))
        };
        assert_eq!((0..workers).filter(busy).count(), workers, "every worker has its share");
    }
}

#[test]
fn gateways_workers_share_connections_without_mixing_them() {
    let scenario = scenario("gateway/op-210-tag");
    let inside = for_each_client(&scenario, Side::Inside, &["CLIENT > V SYN seq=1000 opts=linux"]);
    let outside = for_each_client(
        &scenario,
        Side::Outside,
        &["R > CLIENT SYN ACK seq=5000 ack=1001 opts=linux"],
    );
    however_many_workers(&scenario, &[inside, outside]);
}

/// One side alone: any number of packets, in any number of bursts.
#[test]
fn one_side_alone_comes_out_in_order() {
    let scenario = scenario("gateway/op-210-tag");
    let inside = for_each_client(
        &scenario,
        Side::Inside,
        &[
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=1000 opts=linux",
            "CLIENT > V SYN seq=2000 opts=linux",
            "CLIENT > V ACK seq=2001 ack=7 data=1000",
            "CLIENT > V2 SYN seq=3000 opts=linux",
            "CLIENT > V udp data=40",
            "CLIENT > V RST seq=2001 win=0",
            "CLIENT > N ACK seq=1 ack=2 data=4000",
            "CLIENT > V SYN seq=2000 opts=linux",
            "arp request host/CLIENT > nobody/P",
        ],
    );
    assert!(inside.len() > 9 * BURST);
    however_many_workers(&scenario, &[inside, Vec::new()]);
}

#[test]
fn switches_and_replicas_workers_share_connections_without_mixing_them() {
    let switch = scenario("switch/op-302-312-fan-out");
    let line = "CLIENT > V SYN seq=1000 opts=linux,tag";
    let outside = for_each_client(&switch, Side::Outside, &[line]);
    let inside = for_each_client(&switch, Side::Inside, &["V > CLIENT SYN ACK seq=5000 ack=1001"]);
    however_many_workers(&switch, &[inside, outside]);
    let replica = scenario("replica/op-402-412-cracked");
    let lines = [
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
        "CLIENT > R ACK seq=1001 ack=5001 data=20",
        "V > R [ CLIENT > V SYN seq=1000 opts=linux,tag ]",
    ];
    let outside = for_each_client(&replica, Side::Outside, &lines);
    however_many_workers(&replica, &[Vec::new(), outside]);
}

/// How packets are on the WAN: configuration and family.
#[derive(Clone, Copy)]
struct Form {
    configuration: char,
    version: u8,
}

impl Form {
    fn all() -> impl Iterator<Item = Self> {
        let of = |version| "ABC".chars().map(move |configuration| Self { configuration, version });
        [4, 6].into_iter().flat_map(of)
    }

    /// A line of IPv4, whose names are to be of this family.
    fn line(self, line: &str) -> String {
        let word = |word: &str| match word {
            "V" | "R" | "R2" | "P" | "CLIENT" if self.version == 6 => format!("{word}6"),
            "icmp=3/1" if self.version == 6 => "icmp6=1/4".to_owned(),
            _ => word.to_owned(),
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    fn lines(self, lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    /// An acknowledgement of this replica, or a refusal (ops 412, 442, 462).
    fn answer(self, replica: &str, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' => format!("{replica} > CLIENT {segment}"),
            'B' => format!("V > CLIENT gue sport=50000 [ {replica} > CLIENT {segment} ]"),
            _ => format!("{replica} > CLIENT gre [ V > CLIENT {segment} ]"),
        })
    }

    /// What this replica sends after that.
    fn data(self, replica: &str, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' => format!("{replica} > CLIENT {segment}"),
            'B' => format!("V > CLIENT {segment}"),
            _ => format!("{replica} > CLIENT [ V > CLIENT {segment} ]"),
        })
    }

    /// What a gateway sends to the replica.
    fn to_replica(self, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' | 'B' => format!("CLIENT > R {segment}"),
            _ => format!("CLIENT > R gue sport=50000 [ CLIENT > V {segment} ]"),
        })
    }

    /// A router's error about that.
    fn error(self, segment: &str) -> String {
        let quoted = self.to_replica(segment);
        self.line(&format!("P > CLIENT icmp=3/1 [ {quoted} ]"))
    }

    fn gateway(self) -> Scenario {
        let mut gateway = scenario("gateway/op-210-tag");
        let mut config: toml::Table = gateway.config.parse().unwrap();
        let section = config["gateway"].as_table_mut().unwrap();
        section.insert("configuration".to_owned(), self.configuration.to_string().into());
        gateway.config = config.to_string();
        gateway
    }
}

/// What comes in, each line a round.
fn in_order(scenario: &Scenario, inside: &[String], outside: &[String]) -> Inputs {
    [in_rounds(scenario, Side::Inside, inside), in_rounds(scenario, Side::Outside, outside)]
}

#[test]
fn gateways_of_all_configurations_and_families_run_as_they_replay() {
    for form in Form::all() {
        let gateway = form.gateway();
        let opens = "CLIENT > V SYN seq=1000 opts=linux";
        let outside = [
            form.answer("R", "SYN ACK seq=5000 ack=1001 opts=linux"),
            form.data("R", "ACK seq=5001 ack=1001 data=1000"),
            form.error("ACK seq=1001 ack=5001"),
            form.answer("R2", "SYN ACK seq=7000 ack=1001 opts=linux"),
            form.answer("R2", "RST ACK seq=0 ack=1001 win=0"),
            form.data("R2", "ACK seq=7001 ack=1001 data=10"),
            form.data("R", "id=7 mf ACK seq=6001 ack=1001 data=1236"),
            form.data("R", "id=7 frag=1256 proto=6 data=16"),
            form.data("R", "FIN ACK seq=6001 ack=1001"),
        ];
        let start = form.lines(&[opens]);
        however_many_workers(&gateway, &in_order(&gateway, &start, &outside));
        let inside = form.lines(&[
            opens,
            "CLIENT > V ACK seq=1001 ack=5001 data=300",
            "CLIENT > V id=7 mf ACK seq=1301 ack=5001 data=1236",
            "CLIENT > V id=7 frag=1256 proto=6 data=16",
            "CLIENT > V ACK seq=1001 ack=5001 data=1460",
            "P > V icmp=3/1 [ V > CLIENT ACK seq=5001 ack=1001 ]",
            "CLIENT > V SYN seq=9000 opts=linux",
            "CLIENT > V FIN ACK seq=1301 ack=5001",
            "CLIENT > V ACK seq=1302 ack=6002",
            "CLIENT > V SYN seq=9000 opts=linux",
        ]);
        same_as_replayed(&gateway, &in_order(&gateway, &inside, &outside));
    }
}

#[test]
fn replicas_of_all_configurations_and_families_run_as_they_replay() {
    let replica = scenario("replica/op-402-412-cracked");
    for form in Form::all() {
        let copy =
            format!("V > R [ CLIENT > V SYN seq=1000 opts=linux,tag:{} ]", form.configuration);
        let outside = [
            form.line(&copy),
            form.to_replica("SYN seq=1000 opts=linux"),
            form.to_replica("ACK seq=1001 ack=5001 data=20"),
            form.line(&copy),
            form.to_replica("ACK seq=1021 ack=5001 data=1000"),
            form.to_replica("FIN ACK seq=2021 ack=5001"),
        ];
        however_many_workers(&replica, &in_order(&replica, &[], &outside));
        let inside = form.lines(&[
            "R > CLIENT ACK seq=1 ack=1 data=9",
            "R > CLIENT SYN ACK seq=5000 ack=1001 opts=linux",
            "R > CLIENT SYN ACK seq=5000 ack=1001 opts=linux",
            "R > CLIENT ACK seq=5001 ack=1001 data=1000",
            "P > R icmp=3/1 [ CLIENT > R ACK seq=1001 ack=5001 ]",
            "R > CLIENT id=7 mf ACK seq=6001 ack=1001 data=1236",
            "R > CLIENT id=7 frag=1256 proto=6 data=16",
            "R > CLIENT FIN ACK seq=6001 ack=1001",
        ]);
        same_as_replayed(&replica, &in_order(&replica, &inside, &outside));
    }
}

#[test]
fn switches_of_both_families_run_as_they_replay() {
    for (name, version) in [
        ("switch/op-302-312-fan-out", 6),
        ("switch/op-314-kept-followed", 4),
        ("switch/op-314-kept-followed", 6),
        ("switch/op-314-tunnel-too-big", 4),
        ("switch/op-314-tunnel-too-big", 6),
    ] {
        let switch = scenario(name);
        let form = Form { configuration: 'C', version };
        let outside = form.lines(&[
            "CLIENT > V SYN seq=1000 opts=linux,tag:C",
            "CLIENT > V ACK seq=1001 ack=5001 data=300",
            "CLIENT > V id=7 mf ACK seq=1301 ack=5001 data=1236",
            "CLIENT > V id=7 frag=1256 proto=6 data=16",
            "P > V icmp=3/1 [ V > CLIENT ACK seq=5001 ack=1001 ]",
            "CLIENT > V FIN ACK seq=1301 ack=5001",
        ]);
        however_many_workers(&switch, &in_order(&switch, &[], &outside));
        let inside = form.lines(&[
            "V > CLIENT ACK seq=1 ack=1 data=9",
            "V > CLIENT SYN ACK seq=5000 ack=1001 opts=linux",
            "V > CLIENT ACK seq=5001 ack=1001 data=1000",
            "P > V icmp=3/1 [ CLIENT > V ACK seq=1001 ack=5001 ]",
            "V > CLIENT FIN ACK seq=6001 ack=1001",
        ]);
        same_as_replayed(&switch, &in_order(&switch, &inside, &outside));
    }
}

#[test]
fn captures_that_are_empty_or_break_off_end_well() {
    let scenario = scenario("gateway/op-210-tag");
    let syns = for_each_client(&scenario, Side::Inside, &["CLIENT > V SYN seq=1000 opts=linux"]);
    let rig = Rig::new(&scenario, &[Vec::new(), Vec::new()]);
    is_conserved(&ended_well(&rig.run(&[0])), [0, 0], [0, 0]);
    // The last frame is not whole: those before it are forwarded.
    let rig = Rig::new(&scenario, &[syns[..3].to_vec(), Vec::new()]);
    let whole = std::fs::read(&rig.inputs[0]).unwrap();
    std::fs::write(&rig.inputs[0], &whole[..whole.len() - 5]).unwrap();
    is_conserved(&ended_well(&rig.run(&[0])), [2, 0], [0, 2]);
}

#[test]
fn a_capture_that_is_none_is_named() {
    let scenario = scenario("gateway/op-210-tag");
    for bytes in [&b""[..], b"This is a text and no capture."] {
        let rig = Rig::new(&scenario, &[Vec::new(), Vec::new()]);
        std::fs::write(&rig.inputs[1], bytes).unwrap();
        let output = rig.run(&[0]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let name = rig.inputs[1].to_string_lossy().into_owned();
        assert!(said.contains(&name) && !said.contains("panicked"), "{said}");
        assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
        assert!(!rig.path("socket").exists(), "the control socket is left behind");
    }
}

#[test]
fn a_bad_configuration_starts_nothing() {
    let scenario = scenario("gateway/op-210-tag");
    let rig = Rig::new(&scenario, &[Vec::new(), Vec::new()]);
    ended_well(&rig.run(&[0]));
    for side in Side::ALL {
        std::fs::remove_file(rig.out(side)).unwrap();
    }
    let good = std::fs::read_to_string(rig.path("run.toml")).unwrap();
    let bad = rig.path("bad.toml");
    std::fs::write(&bad, good.replace("cores", "corse")).unwrap();
    let output = rig.start(&bad);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("bad.toml:") && said.contains("worker.cores"), "{said}");
    assert!(output.stdout.is_empty() && !rig.path("socket").exists());
    assert!(Side::ALL.iter().all(|side| !rig.out(*side).exists()), "a port was opened");
}
