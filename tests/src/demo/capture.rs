//! Captures of the packets that a gateway receives and sends, by tcpdump, and their comparison with a
//! replay.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use firstack::control::stats::{SideStats, Snapshot};
use firstack::replay::capture::Reader;

use crate::lab::{Lab, LabError, Process, Result, Topology};

/// Longest time for tcpdump to start, and to write the captured frames.
const START: Duration = Duration::from_secs(60);
const SIDES: [&str; 2] = ["inside", "outside"];
/// The frames that the gateway received, and those that it sent, captured at the receiver; inside first.
const FILES: [&str; 4] =
    ["gateway-inside.pcap", "gateway-outside.pcap", "client-received.pcap", "wan-received.pcap"];

/// Captures in progress around a gateway.
#[derive(Debug)]
pub struct Captures {
    processes: Vec<Process>,
    directory: PathBuf,
}

impl Captures {
    /// Starts the captures, in files in `directory`, which must exist.
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
            let more = ["-U", "-Z", "root", "--immediate-mode", "tcp or ip proto 4"];
            processes.push(lab.spawn(namespace, &[&words[..], &more].concat())?);
        }
        for process in &mut processes {
            process.wait_for("listening on", START)?;
        }
        Ok(Self { processes, directory: directory.to_path_buf() })
    }

    /// Waits until all TCP segments that the gateway has counted since its start, in tunnels or not,
    /// are written, for a minute at most.
    pub fn complete(&self, gateway: &Snapshot) -> Result<()> {
        let start = Instant::now();
        let own = ["resets", "direct_copies"].map(|kind| super::proof::generated(gateway, kind));
        let own: u64 = own.iter().sum();
        let [inside, outside] = &gateway.sides;
        let received = [inside, outside].map(|side| side.received - others(side));
        let forwarded = [inside, outside].map(|side| side.forwarded - others(side));
        let counted = [received[0], received[1], forwarded[1], forwarded[0] + own];
        for (file, counted) in FILES.iter().zip(counted) {
            let file = self.directory.join(file);
            while (frames(&file)?.len() as u64) < counted && start.elapsed() < START {
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// Stops the captures.
    pub fn stop(self) -> Captured {
        for process in self.processes {
            process.stop();
        }
        Captured { directory: self.directory }
    }
}

/// The directory of complete captures.
#[derive(Debug)]
pub struct Captured {
    directory: PathBuf,
}

impl Captured {
    /// Returns the capture of frames received on the inside.
    #[must_use]
    pub fn inside(&self) -> PathBuf {
        self.directory.join(FILES[0])
    }

    /// Returns the capture of frames received on the outside.
    #[must_use]
    pub fn outside(&self) -> PathBuf {
        self.directory.join(FILES[1])
    }

    /// Returns the directory for a replay's output.
    #[must_use]
    pub fn replayed(&self) -> PathBuf {
        self.directory.join("replayed")
    }

    /// Compares the replay's frames with those that the gateway sent: the same bytes, and the same
    /// order between two endpoints. Returns the number of frames on the inside and the outside, or
    /// the difference. The order between other frames may differ, because a late gateway receives
    /// frames of both sides in one burst, those of the inside first.
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
                let difference =
                    format!("{sent} frames were sent on the {side}, {replayed} replayed");
                return Ok(Err(difference));
            }
            *count = sent.len();
        }
        Ok(Ok(counts))
    }
}

/// Counts the frames of a side without TCP segment. All of them are forwarded.
fn others(side: &SideStats) -> u64 {
    const OTHERS: [&str; 4] = ["non_ip", "icmp", "other_protocol", "ipv6_extensions"];
    let others = side.verdicts.iter().filter(|verdict| OTHERS.contains(&&*verdict.name));
    others.map(|verdict| verdict.packets).sum()
}

/// Sorts frames of TCP over IPv4 without IP options by addresses and ports, and those of tunnels by
/// addresses. The sort is stable.
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
