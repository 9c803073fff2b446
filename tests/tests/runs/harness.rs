//! A configuration and what comes in, for a run over capture files and for its replay.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use firstack::control::socket::{self, Answer};
use firstack_tests::scenario::binary::{full, printed, replay};
use firstack_tests::scenario::check::{Job, Outcome};
use firstack_tests::scenario::pcap::{self, Record};
use firstack_tests::scenario::{EPOCH, KEY_FILE, Scenario, Side};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

/// Time that a run may take before the test gives up, however busy the machine is.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Packets that a worker takes at once, by default.
pub const BURST: usize = 32;

pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

pub fn scenario(name: &str) -> Scenario {
    Scenario::load(&directory().join(format!("{name}.scenario")), &directory()).unwrap()
}

/// Frames by the side that they come in by.
pub type Inputs = [Vec<Vec<u8>>; 2];

/// A configuration and what comes in, laid out for a replay and for a run.
pub struct Harness {
    directory: TempDir,
    /// As it stands in the scenario's file.
    config: toml::Table,
    pub inputs: [PathBuf; 2],
    prefix: String,
    /// The section `memory`.
    memory: &'static str,
}

impl Harness {
    pub fn new(scenario: &Scenario, inputs: &Inputs) -> Self {
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
        // As many as fit into 64 MiB. What is to be fragmented has to be in one piece. The queues
        // between workers have to hold everything: the word of the RSS key may give one worker all
        // clients, and a machine that is busy may let it wait.
        let memory = if fragments { "mbufs = 8192\nmax_frame = 4096" } else { "mbufs = 16384" };
        Self { directory, config: config.parse().unwrap(), inputs: files, prefix, memory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What `firstack replay` makes of it.
    pub fn replay(&self) -> Outcome {
        let config = self.path("replay.toml");
        std::fs::write(&config, self.config.to_string()).unwrap();
        let [inside, outside] = self.inputs.clone().map(Some);
        let job = Job { config, inside, outside, out: self.path("replayed") };
        let text = printed(&replay(full().unwrap(), &[], &job).unwrap()).unwrap();
        Outcome::of(&job, &text).unwrap()
    }

    /// Runs it with a worker on each of these CPUs, of which one may have several, and so many
    /// queues on each port, until everything that comes in is accounted for.
    pub fn run(&self, cores: &[usize], queues: usize) -> Output {
        let file = self.write_config(cores, queues);
        let records = |input: &PathBuf| whole_records(&std::fs::read(input).unwrap());
        let expected = self.inputs.iter().map(records).sum();
        self.start(&file, Some(expected))
    }

    /// The same until nothing has come in for a while (`--exit-when-idle`).
    pub fn run_until_idle(&self) -> Output {
        self.start(&self.write_config(&[0], 1), None)
    }

    fn write_config(&self, cores: &[usize], queues: usize) -> PathBuf {
        let mut config = self.config.clone();
        let table = |text: String| text.parse::<toml::Table>().unwrap();
        for side in Side::ALL {
            let mut device = format!("net_pcap{}", side as usize);
            for (queue, from) in self.split(side, queues).into_iter().enumerate() {
                let to = self.out(side, queue);
                device += &format!(",rx_pcap={},tx_pcap={}", from.display(), to.display());
            }
            let port = table(format!("device = \"{device}\""));
            config["port"].as_table_mut().unwrap().insert(side.name().to_owned(), port.into());
        }
        let eal = format!(
            "file_prefix = \"{}\"\nargs = [\"--no-huge\", \"-m\", \"128\", \"--no-pci\"]",
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
        file
    }

    /// Starts it with a configuration and waits for its end. It ends by itself when it fails or is
    /// idle, and is told to when it has received so many packets and all are accounted for: how
    /// long that takes depends on what else the machine does.
    pub fn start(&self, config: &Path, expected: Option<u64>) -> Output {
        let mut command = Command::new(full().unwrap());
        command.args(["run", "--json", "--config"]).arg(config);
        if expected.is_none() {
            command.args(["--exit-when-idle", "100"]);
        }
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.path(name));
        command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let status = self.wait(command.spawn().unwrap(), expected);
        let _ = std::fs::remove_dir_all(format!("/dev/shm/{}.tables", self.prefix));
        for base in ["/var/run", "/tmp", &std::env::var("XDG_RUNTIME_DIR").unwrap_or_default()] {
            let _ = std::fs::remove_dir_all(Path::new(base).join("dpdk").join(&self.prefix));
        }
        let [stdout, stderr] = [stdout, stderr].map(|path| std::fs::read(path).unwrap());
        Output { status, stdout, stderr }
    }

    fn wait(&self, mut child: Child, expected: Option<u64>) -> ExitStatus {
        let (start, socket) = (Instant::now(), self.path("socket"));
        let mut told = false;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            // Until the socket is there, nothing can be asked.
            if let (false, Some(expected)) = (told, expected)
                && let Ok(Answer::Stats(snapshot)) = socket::ask(&socket, socket::Command::Stats)
            {
                let received: u64 = snapshot.sides.iter().map(|side| side.received).sum();
                if received == expected && snapshot.is_conserved() {
                    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
                    told = true;
                }
            }
            if start.elapsed() > MAX_WAIT {
                let _ = child.kill();
                let said = std::fs::read_to_string(self.path("stderr")).unwrap();
                panic!("{expected:?} packets are not accounted for, or no end comes: {said}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What comes in by a side, a file for each queue.
    fn split(&self, side: Side, queues: usize) -> Vec<PathBuf> {
        let whole = &self.inputs[side as usize];
        if queues == 1 {
            return vec![whole.clone()];
        }
        let mut records = vec![Vec::new(); queues];
        for record in pcap::read(&std::fs::read(whole).unwrap()) {
            records[queue_of(&record.bytes, queues)].push(record);
        }
        let write = |(queue, records): (usize, &Vec<Record>)| {
            let path = self.path(&format!("{}-in{queue}.pcap", side.name()));
            std::fs::write(&path, pcap::write(records)).unwrap();
            path
        };
        records.iter().enumerate().map(write).collect()
    }

    /// What the first queue of a side writes, or another.
    pub fn out(&self, side: Side, queue: usize) -> PathBuf {
        self.path(&format!("{}-out{queue}.pcap", side.name()))
    }

    /// The frames that a run has sent by a side, queue after queue.
    pub fn sent(&self, side: Side) -> Vec<Vec<u8>> {
        let files = (0..).map(|queue| self.out(side, queue)).take_while(|path| path.exists());
        let records = files.flat_map(|path| pcap::read(&std::fs::read(path).unwrap()));
        records.map(|record| record.bytes).collect()
    }
}

/// Counts the frames of a capture file, as [`pcap::write`] writes it, without one that breaks off.
fn whole_records(file: &[u8]) -> u64 {
    const HEADER: usize = 24;
    const RECORD: usize = 16;
    let (mut rest, mut count) = (file.get(HEADER..).unwrap_or_default(), 0);
    while let Some(length) = rest.get(8..12).and_then(|field| field.first_chunk::<4>()) {
        let length = u32::from_be_bytes(*length) as usize;
        let Some(after) = rest.get(RECORD + length..) else { break };
        (rest, count) = (after, count + 1);
    }
    count
}

/// The queue in which a port puts a frame that hashes both of its addresses, and a queue for what
/// has none.
fn queue_of(frame: &[u8], queues: usize) -> usize {
    let addresses = match frame.get(14).map(|byte| byte >> 4) {
        Some(4) => frame.get(26..34),
        Some(6) => frame.get(22..54),
        _ => None,
    };
    let sum: usize = addresses.unwrap_or_default().iter().map(|byte| usize::from(*byte)).sum();
    sum % queues
}

#[track_caller]
pub fn ended_well(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Every packet has a fate, what was forwarded or made was sent, and DPDK has counted the same.
#[track_caller]
pub fn is_conserved(counters: &Value, received: [usize; 2], sent: [usize; 2]) {
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
pub fn timeless(counters: &Value) -> Value {
    let mut counters = counters.clone();
    for name in ["ports", "workers", "admission", "out_of_service", "kept", "drained"] {
        counters[name].take();
    }
    for answers in counters["races"].as_array_mut().unwrap() {
        for name in ["half_open_us", "p50_us", "p90_us", "p99_us", "histogram"] {
            answers[name].take();
        }
    }
    counters
}

pub fn same_as_replayed(scenario: &Scenario, inputs: &Inputs) {
    let name = scenario.name();
    let harness = Harness::new(scenario, inputs);
    let replayed = harness.replay();
    let counters = ended_well(&harness.run(&[0], 1));
    let left = replayed.left().map(|records| records.map(|r| r.bytes).collect::<Vec<_>>());
    for side in Side::ALL {
        let (found, expected) = (harness.sent(side), &left[side as usize]);
        assert_eq!(found.len(), expected.len(), "{name}: packets sent by the {}", side.name());
        for (number, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert_eq!(found, expected, "{name}: {} packet {number}", side.name());
        }
    }
    is_conserved(&counters, inputs.each_ref().map(Vec::len), left.each_ref().map(Vec::len));
    assert_eq!(timeless(&counters), timeless(&replayed.counters), "{name}");
    assert!(!harness.path("socket").exists(), "{name}: the control socket is left behind");
}
