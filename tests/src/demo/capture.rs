//! What a gateway receives and what arrives of what it sends, by tcpdump, and whether a replay makes the same of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firstack::control::stats::{SideStats, Snapshot};
use firstack::replay::capture::Reader;

use crate::lab::{Lab, LabError, Process, Result, Topology};

/// Time that tcpdump has to start, and to write what it has seen.
const START: Duration = Duration::from_secs(60);
const SIDES: [&str; 2] = ["inside", "outside"];
/// What came in at the gateway and, where it arrived, what the gateway sent; inside first.
const FILES: [&str; 4] =
    ["gateway-inside.pcap", "gateway-outside.pcap", "client-received.pcap", "wan-received.pcap"];

/// Captures in progress around a gateway.
#[derive(Debug)]
pub struct Captures {
    processes: Vec<Process>,
    directory: PathBuf,
}

impl Captures {
    /// Starts them; the files go to a directory that exists.
    pub fn start(lab: &Lab, topology: &Topology, directory: &Path) -> Result<Self> {
        let client = topology.client();
        let appliance = client.appliance.as_ref();
        let appliance = appliance.ok_or_else(|| LabError::Topology("no gateway here".into()))?;
        let port = client.site.name();
        let places = [
            (appliance, "inside"),
            (appliance, "outside"),
            (&client.host, "eth0"),
            (topology.wan(), &*port),
        ];
        let mut processes = Vec::new();
        for ((namespace, interface), file) in places.into_iter().zip(FILES) {
            let file = directory.join(file);
            let file = file.to_string_lossy();
            let words = ["tcpdump", "-n", "-i", interface, "-Q", "in", "-w", &*file];
            let more = ["-U", "-Z", "root", "--immediate-mode", "tcp"];
            processes.push(lab.spawn(namespace, &[&words[..], &more].concat())?);
        }
        for process in &mut processes {
            process.wait_for("listening on", START)?;
        }
        Ok(Self { processes, directory: directory.to_path_buf() })
    }

    /// Waits until they have written all TCP segments that the gateway has counted since it was
    /// started, or for a minute.
    pub fn complete(&self, gateway: &Snapshot) -> Result<()> {
        let start = Instant::now();
        let resets = gateway.generated.iter().find(|kind| kind.name == "resets");
        let resets = resets.map_or(0, |kind| kind.count);
        let [inside, outside] = &gateway.sides;
        let received = [inside, outside].map(|side| side.received - others(side));
        let forwarded = [inside, outside].map(|side| side.forwarded - others(side));
        let counted = [received[0], received[1], forwarded[1], forwarded[0] + resets];
        for (file, counted) in FILES.iter().zip(counted) {
            let file = self.directory.join(file);
            while (frames(&file)?.len() as u64) < counted && start.elapsed() < START {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Ends them.
    pub fn stop(self) -> Captured {
        for process in self.processes {
            process.stop();
        }
        Captured { directory: self.directory }
    }
}

/// What was captured.
#[derive(Debug)]
pub struct Captured {
    directory: PathBuf,
}

impl Captured {
    /// What came in by the inside.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        self.directory.join(FILES[0])
    }

    /// What came in by the outside.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.directory.join(FILES[1])
    }

    /// Where a replay's output goes.
    #[must_use]
    pub fn replayed(&self) -> PathBuf {
        self.directory.join("replayed")
    }

    /// How many frames the gateway sent by the inside and the outside, when the replay made
    /// the very same ones, byte for byte, and those between two endpoints in the same order;
    /// otherwise what differs. A gateway that is late takes frames of both sides at once, and then
    /// those of the inside first.
    pub fn compare(&self) -> Result<Result<[usize; 2], String>> {
        let mut counts = [0; 2];
        for ((count, side), file) in counts.iter_mut().zip(SIDES).zip(&FILES[2..]) {
            let sent = by_endpoints(frames(&self.directory.join(file))?);
            let replayed = by_endpoints(frames(&self.replayed().join(format!("{side}.pcap")))?);
            if let Some(at) = sent.iter().zip(&replayed).position(|(a, b)| a != b) {
                return Ok(Err(format!("frame {} on the {side} differs", at + 1)));
            }
            if sent.len() != replayed.len() {
                let (sent, replayed) = (sent.len(), replayed.len());
                let what = format!("{sent} frames were sent on the {side}, {replayed} replayed");
                return Ok(Err(what));
            }
            *count = sent.len();
        }
        Ok(Ok(counts))
    }
}

/// Frames of a side that hold no TCP segment; all are forwarded.
fn others(side: &SideStats) -> u64 {
    const OTHERS: [&str; 4] = ["non_ip", "icmp", "other_protocol", "ipv6_extensions"];
    let others = side.verdicts.iter().filter(|verdict| OTHERS.contains(&&*verdict.name));
    others.map(|verdict| verdict.packets).sum()
}

/// Frames in the order of their addresses and ports (of TCP over IPv4, without options of IP), and
/// those of the same ones in the order in which they were.
fn by_endpoints(mut frames: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    frames.sort_by_key(|frame| frame.get(26..38).map(<[u8]>::to_vec));
    frames
}

fn frames(path: &Path) -> Result<Vec<Vec<u8>>> {
    let reader = Reader::open(path).map_err(|error| LabError::Unreadable {
        command: "tcpdump or firstack replay".into(),
        output: error.to_string(),
    })?;
    Ok(reader.map(|frame| frame.bytes).collect())
}
