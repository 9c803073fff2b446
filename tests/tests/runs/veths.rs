//! Over veth pairs (DPDK's net_af_packet on veths, in namespaces of their own): both sides of
//! many connections, step by step, with any number of workers and of queues.
//!
//! A step is over when the appliance's counters are at rest and everything that it has sent has
//! arrived: nothing here depends on how long anything takes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use firstack::control::socket::{self, Answer, Command};
use firstack::control::stats::Snapshot;
use firstack_tests::demo::client::within;
use firstack_tests::lab::wan::{Pool, Port};
use firstack_tests::lab::{Lab, Namespace, Process};
use firstack_tests::scenario::binary::full;
use firstack_tests::scenario::{Scenario, Side};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::connections::{CLIENTS, by_connection, in_rounds};
use crate::forms::Form;
use crate::workers::{cores, share_the_work};

/// Time that anything may take before the test gives up.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What comes in by a side, all at once.
type Step = (Side, Vec<Vec<u8>>);

/// A running appliance, and the far ends of its veth pairs.
struct Harness {
    process: Process,
    socket: PathBuf,
    ends: Namespace,
    /// Last, for its namespaces go with it.
    _lab: Lab,
}

impl Harness {
    fn start(scenario: &Scenario, workers: usize, queues: usize) -> Self {
        let lab = Lab::new("veths").unwrap();
        let (appliance, ends) = (lab.namespace("fs").unwrap(), lab.namespace("ends").unwrap());
        let mut config: toml::Table = scenario.config.parse().unwrap();
        let table = |text: String| text.parse::<toml::Table>().unwrap();
        for side in Side::ALL {
            let name = side.name();
            lab.veth((&appliance, name), (&ends, name)).unwrap();
            let device = format!("net_af_packet{},iface={name}", side as usize);
            let port = table(format!("device = \"{device},qpairs={queues},framecnt=512\""));
            config["port"].as_table_mut().unwrap().insert(name.to_owned(), port.into());
        }
        let socket = lab.directory().join("socket");
        let prefix = lab.directory().file_name().unwrap().to_string_lossy().into_owned();
        let eal = "args = [\"--no-huge\", \"-m\", \"64\", \"--no-pci\"]";
        for (section, text) in [
            ("eal", format!("file_prefix = \"{prefix}\"\n{eal}")),
            ("control", format!("socket = \"{}\"", socket.display())),
            ("worker", format!("cores = {:?}", cores(workers))),
            ("memory", "mbufs = 8192".to_owned()),
        ] {
            config.insert(section.to_owned(), table(text).into());
        }
        let file = lab.directory().join("run.toml");
        std::fs::write(&file, config.to_string()).unwrap();
        let runtime = format!("RUNTIME_DIRECTORY={}", lab.directory().display());
        let (binary, file) = (full().unwrap().to_string_lossy(), file.to_string_lossy());
        let words = ["env", &runtime, &*binary, "run", "--json", "-c", &*file];
        let mut process = lab.spawn(&appliance, &words).unwrap();
        process.wait_for("forwarding", MAX_WAIT).unwrap();
        Self { process, socket, ends, _lab: lab }
    }

    /// Sends what comes in, step by step; what left by each side, in order.
    fn exchange(&self, steps: &[Step]) -> [Vec<Vec<u8>>; 2] {
        let exchange = || {
            let mut ports = Side::ALL.map(|side| Port::open(side.name()).unwrap());
            let mut pool = Pool::default();
            let mut left = [Vec::new(), Vec::new()];
            let mut given = 0;
            for (side, frames) in steps {
                given += frames.len() as u64;
                let refused =
                    ports[*side as usize].send(&mut frames.iter().cloned().collect(), &mut pool);
                assert_eq!(refused, 0);
                let at_rest = self.rest(given);
                for (number, port) in ports.iter_mut().enumerate() {
                    let sent = at_rest.sides[number].sent as usize;
                    collect(port, &mut pool, &mut left[number], sent);
                }
            }
            left
        };
        within(&self.ends, exchange).unwrap()
    }

    /// Waits until so many packets have been received and all are accounted for.
    fn rest(&self, received: u64) -> Snapshot {
        let start = Instant::now();
        loop {
            let Answer::Stats(snapshot) = socket::ask(&self.socket, Command::Stats).unwrap() else {
                panic!("no counters")
            };
            let sides = &snapshot.sides;
            if sides[0].received + sides[1].received == received && snapshot.is_conserved() {
                return *snapshot;
            }
            assert!(start.elapsed() < MAX_WAIT, "{received} packets were given: {snapshot}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn stop(mut self) -> Value {
        self.process.signal(Signal::SIGTERM);
        let status = self.process.wait(MAX_WAIT).unwrap();
        let said = self.process.stderr();
        assert!(status.success(), "{status}: {said}");
        serde_json::from_str(&self.process.stdout())
            .unwrap_or_else(|error| panic!("{error}: {said}"))
    }
}

/// Takes frames until there are so many.
fn collect(port: &mut Port, pool: &mut Pool, left: &mut Vec<Vec<u8>>, count: usize) {
    let start = Instant::now();
    while left.len() < count {
        port.receive(pool, |frame| left.push(frame)).unwrap();
        assert!(start.elapsed() < MAX_WAIT, "{} of {count} arrived", left.len());
    }
    assert_eq!(left.len(), count);
}

/// A gateway's connections from their start to their end: every client at once in each step,
/// some packets of each in a row.
fn steps(form: Form, scenario: &Scenario) -> Vec<Step> {
    let plain = |lines: &[&str]| (Side::Inside, form.lines(lines));
    let data =
        |place: usize| form.data("R", &format!("ACK seq={} ack=1301 data=200", 5001 + 200 * place));
    let lines = [
        plain(&["CLIENT > V SYN seq=1000 opts=linux"]),
        (Side::Outside, vec![form.answer("R", "SYN ACK seq=5000 ack=1001 opts=linux")]),
        plain(&[
            "CLIENT > V ACK seq=1001 ack=5001",
            "CLIENT > V ACK seq=1001 ack=5001 data=100",
            "CLIENT > V ACK seq=1101 ack=5001 data=100",
            "CLIENT > V ACK seq=1201 ack=5001 data=100",
        ]),
        (Side::Outside, vec![form.answer("R2", "SYN ACK seq=7000 ack=1001 opts=linux")]),
        (Side::Outside, (0..4).map(data).collect()),
        plain(&["CLIENT > V ACK seq=1301 ack=5801", "CLIENT > V FIN ACK seq=1301 ack=5801"]),
        (Side::Outside, vec![form.data("R", "FIN ACK seq=5801 ack=1302")]),
        plain(&["CLIENT > V ACK seq=1302 ack=5802"]),
    ];
    // All packets of a client in a row, so that a queue has several of each.
    let in_a_row = |(side, lines): (Side, Vec<String>)| {
        let rounds = in_rounds(scenario, side, &lines);
        let of = |client| rounds.iter().skip(client).step_by(CLIENTS).cloned().collect::<Vec<_>>();
        (side, (0..CLIENTS).flat_map(of).collect())
    };
    lines.into_iter().map(in_a_row).collect()
}

fn however_many_workers(configuration: char) {
    let form = Form { configuration, version: 4 };
    let gateway = form.gateway();
    let steps = steps(form, &gateway);
    let mut alone = None;
    for (workers, queues) in [(1, 1), (2, 1), (3, 1), (4, 1), (2, 2), (3, 2), (4, 4)] {
        let what = format!("{configuration}, {workers} workers, {queues} queues");
        let harness = Harness::start(&gateway, workers, queues);
        let left = harness.exchange(&steps);
        let counters = harness.stop();
        share_the_work(&counters, workers, &what);
        assert_eq!(counters["sides"][1]["verdicts"].as_array().map(Vec::is_empty), Some(false));
        let left = left.map(by_connection);
        // Every client has its connection, in both directions.
        assert!(left.iter().all(|connections| connections.len() == CLIENTS), "{what}");
        let expected = alone.get_or_insert_with(|| left.clone());
        for side in Side::ALL {
            assert!(
                left[side as usize] == expected[side as usize],
                "{what}: what leaves by the {} is not what one worker sends",
                side.name()
            );
        }
    }
}

#[test]
fn over_veths_gateways_of_a_send_what_one_worker_sends() {
    however_many_workers('A');
}

#[test]
fn over_veths_gateways_of_c_send_what_one_worker_sends() {
    however_many_workers('C');
}
