//! What a gateway receives and what arrives of what it sends, by tcpdump, and whether a replay makes the same of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use appliance::capture::Reader;

use crate::lab::{Lab, LabError, Process, Result, Topology};

/// Time that tcpdump has to start.
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
    /// the very same ones, byte for byte and in order; otherwise what differs.
    pub fn compare(&self) -> Result<Result<[usize; 2], String>> {
        let mut counts = [0; 2];
        for ((count, side), file) in counts.iter_mut().zip(SIDES).zip(&FILES[2..]) {
            let sent = frames(&self.directory.join(file))?;
            let replayed = frames(&self.replayed().join(format!("{side}.pcap")))?;
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

fn frames(path: &Path) -> Result<Vec<Vec<u8>>> {
    let reader = Reader::open(path).map_err(|error| LabError::Unreadable {
        command: "tcpdump or firstack replay".into(),
        output: error.to_string(),
    })?;
    Ok(reader.map(|frame| frame.bytes).collect())
}
