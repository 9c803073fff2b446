//! All configurations and families.

use firstack_tests::scenario::{Scenario, Side};

use crate::connections::in_rounds;
use crate::harness::{Inputs, same_as_replayed, scenario};
use crate::workers::however_many_workers;

/// How packets are on the WAN: configuration and family.
#[derive(Clone, Copy)]
pub struct Form {
    pub configuration: char,
    pub version: u8,
}

impl Form {
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |version| "ABC".chars().map(move |configuration| Self { configuration, version });
        [4, 6].into_iter().flat_map(of)
    }

    /// A line of IPv4, whose names are to be of this family.
    pub fn line(self, line: &str) -> String {
        let word = |word: &str| match word {
            "V" | "R" | "R2" | "P" | "CLIENT" if self.version == 6 => format!("{word}6"),
            "icmp=3/1" if self.version == 6 => "icmp6=1/4".to_owned(),
            _ => word.to_owned(),
        };
        line.split(' ').map(word).collect::<Vec<_>>().join(" ")
    }

    pub fn lines(self, lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| self.line(line)).collect()
    }

    /// An acknowledgement of this replica, or a refusal (ops 412, 442, 462).
    pub fn answer(self, replica: &str, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' => format!("{replica} > CLIENT {segment}"),
            'B' => format!("V > CLIENT gue sport=50000 [ {replica} > CLIENT {segment} ]"),
            _ => format!("{replica} > CLIENT gre [ V > CLIENT {segment} ]"),
        })
    }

    /// What this replica sends after that.
    pub fn data(self, replica: &str, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' => format!("{replica} > CLIENT {segment}"),
            'B' => format!("V > CLIENT {segment}"),
            _ => format!("{replica} > CLIENT [ V > CLIENT {segment} ]"),
        })
    }

    /// What a gateway sends to the replica.
    pub fn to_replica(self, segment: &str) -> String {
        self.line(&match self.configuration {
            'A' | 'B' => format!("CLIENT > R {segment}"),
            _ => format!("CLIENT > R gue sport=50000 [ CLIENT > V {segment} ]"),
        })
    }

    /// A router's error about that.
    pub fn error(self, segment: &str) -> String {
        let quoted = self.to_replica(segment);
        self.line(&format!("P > CLIENT icmp=3/1 [ {quoted} ]"))
    }

    pub fn gateway(self) -> Scenario {
        let mut gateway = scenario("gateway/tag/added");
        let mut config: toml::Table = gateway.config.parse().unwrap();
        let section = config["gateway"].as_table_mut().unwrap();
        section.insert("configuration".to_owned(), self.configuration.to_string().into());
        gateway.config = config.to_string();
        gateway
    }
}

/// What comes in, each line a round.
pub fn in_order(scenario: &Scenario, inside: &[String], outside: &[String]) -> Inputs {
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
    let replica = scenario("replica/forward/under-a");
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
        ("switch/fan_out/copies", 6),
        ("switch/affinity/tracked", 4),
        ("switch/affinity/tracked", 6),
        ("switch/tunnels/too-big", 4),
        ("switch/tunnels/too-big", 6),
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
