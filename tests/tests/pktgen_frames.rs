//! The capture files that `scripts/pktgen/frames` writes do to a gateway, a switch and a replica
//! what scripts/pktgen/README.md says: pktgen itself is not needed for that, `firstack replay` is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use firstack_tests::scenario::binary::{full, printed, replay};
use firstack_tests::scenario::check::{Job, Outcome};
use firstack_tests::scenario::pcap::{self, Record};
use serde_json::Value;
use tempfile::TempDir;

const CONNECTIONS: u64 = 60;

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/pktgen")
}

/// The files of one run of `frames`.
struct Frames(TempDir);

impl Frames {
    fn new(options: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let output = Command::new("python3")
            .arg(scripts().join("frames"))
            .arg(directory.path())
            .args(["--connections", &CONNECTIONS.to_string(), "--addresses", "7"])
            .args(options)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        Self(directory)
    }

    /// The named files one after another, each from its second on.
    fn one_after_another(&self, files: &[(u64, &str)], to: &str) -> PathBuf {
        let mut records = Vec::new();
        for &(second, name) in files {
            let file = std::fs::read(self.0.path().join(name).with_extension("pcap")).unwrap();
            let start = Duration::from_secs(second);
            let later = |record: Record| Record::new(record.time + start, record.bytes);
            records.extend(pcap::read(&file).into_iter().map(later));
        }
        let path = self.0.path().join(to);
        std::fs::write(&path, pcap::write(&records)).unwrap();
        path
    }

    /// What becomes of the frames: verdicts that are not zero, inside and outside.
    fn verdicts(
        &self,
        config: &str,
        configuration: &str,
        inside: &[(u64, &str)],
        outside: &[(u64, &str)],
    ) -> [BTreeMap<String, u64>; 2] {
        let text = std::fs::read_to_string(scripts().join(config)).unwrap();
        let chosen = format!("configuration = \"{configuration}\"");
        let path = self.0.path().join("config.toml");
        std::fs::write(&path, text.replace("configuration = \"A\"", &chosen)).unwrap();
        let job = Job {
            config: path,
            inside: Some(self.one_after_another(inside, "in")),
            outside: Some(self.one_after_another(outside, "out")),
            out: self.0.path().join("left"),
        };
        let said = printed(&replay(full().unwrap(), &[], &job).unwrap()).unwrap();
        let counters = Outcome::of(&job, &said).unwrap().counters;
        [0, 1].map(|side| {
            let verdicts = counters["sides"][side]["verdicts"].as_array().unwrap();
            let one = |verdict: &Value| {
                Some((verdict["name"].as_str()?.to_owned(), verdict["packets"].as_u64()?))
            };
            verdicts.iter().filter_map(one).filter(|(_, packets)| *packets > 0).collect()
        })
    }
}

fn expected<const N: usize>(counters: [(&str, u64); N]) -> BTreeMap<String, u64> {
    counters.into_iter().map(|(name, packets)| (name.to_owned(), packets)).collect()
}

#[test]
fn every_connection_opens_and_carries_both_directions_in_each_configuration() {
    let cases = [("A", "ipip"), ("B", "gre"), ("C", "ipip"), ("C", "gre"), ("C", "gue")];
    for (configuration, format) in cases {
        let frames = Frames::new(&["--configuration", configuration, "--format", format]);
        let up = [(0, "syn"), (2, "up"), (3, "up-imix")];
        let down = [(1, "synack"), (2, "down"), (3, "down-imix")];
        let [inside, outside] = frames.verdicts("gateway.toml", configuration, &up, &down);
        let from = if configuration == "B" { "passed" } else { "from_replica" };
        let n = CONNECTIONS;
        let case = (configuration, format);
        assert_eq!(inside, expected([("tagged", n), ("to_replica", 2 * n)]), "{case:?}");
        assert_eq!(outside, expected([("replica_won", n), (from, 2 * n)]), "{case:?}");
    }
}

/// What docs/scaling.md says of a gateway to which routing has moved a connection: it changes nothing.
#[test]
fn what_another_gateway_decided_passes_untouched() {
    for (configuration, from) in [("A", "no_entry"), ("B", "passed"), ("C", "foreign_tunnel")] {
        let frames = Frames::new(&["--configuration", configuration]);
        let [up, down] = [[(0, "up")], [(0, "down")]];
        let [inside, outside] = frames.verdicts("gateway.toml", configuration, &up, &down);
        assert_eq!(inside, expected([("no_entry", CONNECTIONS)]), "{configuration}");
        assert_eq!(outside, expected([(from, CONNECTIONS)]), "{configuration}");
        for (left, sent) in [("outside", "in"), ("inside", "out")] {
            let read = |path: PathBuf| pcap::read(&std::fs::read(path).unwrap());
            let left = read(frames.0.path().join("left").join(left).with_extension("pcap"));
            let sent = read(frames.0.path().join(sent));
            let bytes = |records: Vec<Record>| records.into_iter().map(|record| record.bytes);
            let untouched = bytes(left).filter(|frame| !is_challenge(frame));
            assert!(untouched.eq(bytes(sent)), "{configuration}");
        }
    }
}

/// Returns whether a frame is a plain RST: the gateway asks the client whether it has the connection.
fn is_challenge(frame: &[u8]) -> bool {
    const TCP: u8 = 6;
    const RST: u8 = 1 << 2;
    frame[14 + 9] == TCP && frame[14 + 20 + 13] & RST != 0
}

#[test]
fn a_race_has_a_winner_and_two_losers() {
    let frames = Frames::new(&[]);
    let up = [(0, "syn"), (3, "syn")];
    let down = [(1, "answers"), (4, "answers")];
    let [inside, outside] = frames.verdicts("races.toml", "A", &up, &down);
    // What was decided is forgotten: the same start packets race again.
    assert_eq!(inside, expected([("tagged", 2 * CONNECTIONS)]));
    assert_eq!(
        outside,
        expected([("replica_won", 2 * CONNECTIONS), ("loser_reset", 4 * CONNECTIONS)])
    );
}

#[test]
fn strangers_race_beside_established_connections() {
    let frames = Frames::new(&[]);
    let up = [(0, "syn"), (2, "flood")];
    let down = [(1, "synack"), (2, "down")];
    let [inside, outside] = frames.verdicts("gateway.toml", "A", &up, &down);
    let n = CONNECTIONS;
    assert_eq!(inside, expected([("tagged", 2 * n), ("to_replica", n)]));
    assert_eq!(outside, expected([("replica_won", n), ("from_replica", n)]));
}

#[test]
fn a_switch_copies_every_tagged_start_packet() {
    let frames = Frames::new(&["--configuration", "B"]);
    let [inside, outside] = frames.verdicts("switch.toml", "A", &[], &[(0, "tagged")]);
    assert_eq!(inside, expected([]));
    assert_eq!(outside, expected([("fanned_out", CONNECTIONS)]));
}

#[test]
fn a_replica_takes_the_copies_and_what_follows() {
    for (configuration, format) in [("A", "ipip"), ("B", "gre"), ("C", "gue")] {
        let frames = Frames::new(&["--configuration", configuration, "--format", format]);
        let web = [(1, "web"), (2, "web-down")];
        let wan = [(0, "copies"), (2, "web-up")];
        let [inside, outside] = frames.verdicts("replica.toml", "A", &web, &wan);
        let n = CONNECTIONS;
        assert_eq!(inside, expected([("from_web_server", 2 * n)]), "{configuration}");
        assert_eq!(
            outside,
            expected([("copy_accepted", n), ("to_web_server", n)]),
            "{configuration}"
        );
    }
}
