//! A capture of the SYN/ACKs that a gateway receives, in the order in which they arrive: it says
//! who answered first in each race, independently of the gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use firstack::control::stats::Snapshot;
use nix::sys::signal::Signal;

use super::error::{LabError, Result, at};
use super::namespace::Lab;
use super::process::Process;
use super::site::{Family, Place, Site};
use super::topology::Topology;

/// Time that tcpdump has to start and to end.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Longer frames hold no SYN/ACK, in any tunnel.
const LONGEST: &str = "180";

/// The answers to one SYN, or to its retransmissions, as they reached the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Race {
    /// The client's endpoint.
    pub client: SocketAddr,
    /// Acknowledgement number of the SYN/ACKs: one more than the SYN's sequence number.
    pub acknowledgement: u32,
    /// Name of the site that sent each SYN/ACK, in the order of their arrival.
    pub answers: Vec<String>,
}

impl Race {
    /// Returns the name of the site whose SYN/ACK arrived first.
    #[must_use]
    pub fn winner(&self) -> &str {
        &self.answers[0]
    }

    /// Counts the SYN/ACKs that a site sent although another one had been faster.
    #[must_use]
    pub fn lost_by(&self, site: &str) -> u64 {
        if self.winner() == site {
            return 0;
        }
        self.answers.iter().filter(|answer| *answer == site).count() as u64
    }
}

/// Compares races with what the web servers say: every client has to have been served by the site
/// whose SYN/ACK reached the gateway first. A port that was used for several connections may have
/// been served by several. Returns a line for each client of which that is not so.
#[must_use]
pub fn served_by_others(
    races: &[Race],
    answered: &BTreeMap<SocketAddr, BTreeSet<String>>,
) -> Vec<String> {
    let mut winners = BTreeMap::<_, BTreeSet<_>>::new();
    for race in races {
        winners.entry(race.client).or_default().insert(race.winner().to_string());
    }
    let nobody = BTreeSet::new();
    let wrong = |(client, sites): (&SocketAddr, &BTreeSet<String>)| {
        let winners = winners.get(client).unwrap_or(&nobody);
        let text = || format!("{client}: {sites:?} answered, {winners:?} won");
        (!sites.is_subset(winners)).then(text)
    };
    answered.iter().filter_map(wrong).collect()
}

/// tcpdump at the outside of the gateway of a [`Topology`], for frames that come in.
#[derive(Debug)]
pub struct RaceCapture {
    process: Process,
    file: PathBuf,
    sites: BTreeMap<IpAddr, String>,
    services: Vec<IpAddr>,
}

impl RaceCapture {
    /// Starts it; the file lies in the laboratory's directory.
    pub fn start(lab: &Lab, topology: &Topology) -> Result<Self> {
        let gateway = topology.client().appliance.as_ref();
        let gateway = gateway.ok_or_else(|| LabError::Topology("no gateway here".into()))?;
        let file = lab.directory().join("races.pcap");
        let path = file.to_string_lossy();
        let words = ["tcpdump", "-n", "-i", "outside", "-Q", "in", "-w", &*path, "-U"];
        // 32 MiB for what tcpdump is too late for.
        let more = ["-Z", "root", "-B", "32768", "-s", "200", "--immediate-mode", "less", LONGEST];
        let mut process = lab.spawn(gateway, &[&words[..], &more].concat())?;
        process.wait_for("listening on", MAX_WAIT)?;
        let named = |place: &Place| {
            let name = place.site.name();
            [Family::V4, Family::V6].map(|family| (place.address_of(family), name.clone()))
        };
        let sites = topology.servers().iter().flat_map(named).collect();
        let services = [Family::V4, Family::V6].map(|family| Site::Origin.address_of(family));
        Ok(Self { process, file, sites, services: services.into() })
    }

    /// Returns all races whose SYN/ACKs have been written so far, in the order of the first ones.
    pub fn races(&self) -> Result<Vec<Race>> {
        let bytes = std::fs::read(&self.file).map_err(at(&self.file))?;
        let mut races: Vec<Race> = Vec::new();
        let mut places = BTreeMap::new();
        for frame in whole_records(&bytes) {
            let Some(SynAck { sources, client, acknowledgement }) = SynAck::read(frame) else {
                continue;
            };
            // Tunnelled or plain, a replica's SYN/ACK has the replica's address in one of its
            // headers, and the origin's has the service's alone.
            let other = sources.iter().find(|source| !self.services.contains(source));
            let source = other.unwrap_or(&sources[0]);
            let site = self.sites.get(source).cloned().unwrap_or_else(|| source.to_string());
            let place = *places.entry((client, acknowledgement)).or_insert_with(|| {
                races.push(Race { client, acknowledgement, answers: Vec::new() });
                races.len() - 1
            });
            races[place].answers.push(site);
        }
        Ok(races)
    }

    /// Returns the races once it has written as many SYN/ACKs as the gateway has counted, or after
    /// a minute without them.
    pub fn complete(&self, gateway: &Snapshot) -> Result<Vec<Race>> {
        let counted: u64 = gateway.races.iter().map(|answers| answers.won + answers.lost).sum();
        let start = Instant::now();
        loop {
            let races = self.races()?;
            let written: usize = races.iter().map(|race| race.answers.len()).sum();
            if written as u64 >= counted || start.elapsed() > MAX_WAIT {
                return Ok(races);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it and returns all races; an error when the kernel dropped frames, since the first
    /// SYN/ACK of a race may be among them.
    pub fn stop(mut self) -> Result<Vec<Race>> {
        self.process.signal(Signal::SIGINT);
        self.process.wait(MAX_WAIT)?;
        let said = self.process.stderr();
        if !said.lines().any(|line| line.starts_with("0 packets dropped by kernel")) {
            return Err(LabError::Unreadable { command: "tcpdump".into(), output: said });
        }
        self.races()
    }
}

/// The frames of a capture file, without one that is not yet written to its end.
fn whole_records(bytes: &[u8]) -> Vec<&[u8]> {
    const HEADER: usize = 24;
    const RECORD: usize = 16;
    let mut rest = bytes.get(HEADER..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(length) = rest.get(8..12).and_then(|field| field.first_chunk::<4>()) {
        let length = u32::from_ne_bytes(*length) as usize;
        let Some(frame) = rest.get(RECORD..RECORD + length) else { break };
        frames.push(frame);
        rest = &rest[RECORD + length..];
    }
    frames
}

/// A SYN/ACK, with the source addresses of its IP headers, the outermost first.
struct SynAck {
    sources: Vec<IpAddr>,
    client: SocketAddr,
    acknowledgement: u32,
}

impl SynAck {
    fn read(frame: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        const GUE_PORT: [u8; 2] = 6080u16.to_be_bytes();
        let mut sources = Vec::new();
        let mut packet = frame.get(14..)?;
        loop {
            let (protocol, [source, destination], payload) = ip(packet)?;
            sources.push(source);
            packet = match protocol {
                TCP => {
                    let client = SocketAddr::new(destination, number(payload, 2)?);
                    let acknowledgement = u32::from_be_bytes(*payload.get(8..)?.first_chunk()?);
                    let is_syn_ack = payload.get(13)? & 0x17 == 0x12;
                    return is_syn_ack.then_some(Self { sources, client, acknowledgement });
                }
                4 | 41 => payload,
                47 => payload.get(4..)?,
                17 if payload.get(2..4)? == GUE_PORT => payload.get(12..)?,
                _ => return None,
            };
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Protocol, source and destination, and payload of an IP packet without extension headers.
fn ip(packet: &[u8]) -> Option<(u8, [IpAddr; 2], &[u8])> {
    let v4 = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?).into());
    let v6 = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?).into());
    match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 0xf) * 4;
            Some((*packet.get(9)?, [v4(12)?, v4(16)?], packet.get(header..)?))
        }
        6 => Some((*packet.get(6)?, [v6(8)?, v6(24)?], packet.get(40..)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::names::Names;
    use crate::scenario::notation::{Scope, parse};

    #[test]
    fn a_syn_ack_names_its_replica_in_every_configuration() {
        let names = Names::parse(
            "C 10.0.0.1:7\nV 10.0.0.2:80\nR 10.0.0.3:80\nC6 [2001:db8::1]:7\n\
             V6 [2001:db8::2]:80\nR6 [2001:db8::3]:80\na 02:00:00:00:00:01\n\
             b 02:00:00:00:00:02",
        )
        .unwrap();
        let scope = Scope { names: &names, macs: ("a", "b"), input: None };
        let read = |text: &str| SynAck::read(&parse(text, scope).unwrap().bytes());
        let replica: [IpAddr; 2] = ["10.0.0.3".parse().unwrap(), "2001:db8::3".parse().unwrap()];
        for line in [
            "R > C SYN ACK ack=9 opts=linux",
            "V > C gue sport=50000 [ R > C SYN ACK ack=9 opts=linux ]",
            "R > C gre [ V > C SYN ACK ack=9 opts=linux ]",
            "R > C [ V > C SYN ACK ack=9 opts=linux ]",
            "R6 > C6 SYN ACK ack=9",
            "V6 > C6 gre [ R6 > C6 SYN ACK ack=9 ]",
        ] {
            let found = read(line).unwrap_or_else(|| panic!("{line}: not read"));
            assert!(found.sources.iter().any(|source| replica.contains(source)), "{line}");
            assert_eq!((found.client.port(), found.acknowledgement), (7, 9), "{line}");
        }
        for other in ["R > C ACK ack=9", "C > V SYN", "R > C RST ACK ack=9", "C > V udp data=4"] {
            assert!(read(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_race_has_a_winner_and_losers() {
        let answers = ["near", "origin", "near", "far", "origin"].map(String::from).to_vec();
        let race = Race { client: "10.0.0.1:7".parse().unwrap(), acknowledgement: 9, answers };
        assert_eq!(race.winner(), "near");
        assert_eq!(["near", "origin", "far", "none"].map(|site| race.lost_by(site)), [0, 2, 1, 0]);
    }

    #[test]
    fn a_client_is_served_by_the_winner_of_its_race() {
        let client: SocketAddr = "10.0.0.1:7".parse().unwrap();
        let answers = ["near", "origin"].map(String::from).to_vec();
        let races = [Race { client, acknowledgement: 9, answers }];
        let by = |site: &str| BTreeMap::from([(client, BTreeSet::from([site.to_string()]))]);
        assert!(served_by_others(&races, &by("near")).is_empty());
        assert_eq!(served_by_others(&races, &by("origin")).len(), 1);
        assert_eq!(served_by_others(&[], &by("near")).len(), 1);
    }

    #[test]
    fn a_record_that_is_not_complete_is_left_out() {
        let record = |length: u32, bytes: &[u8]| {
            let fields = [0, 0, length, length].map(u32::to_ne_bytes).concat();
            [&fields, bytes].concat()
        };
        let file = [vec![0; 24], record(3, b"one"), record(4, b"tw")].concat();
        assert_eq!(whole_records(&file), [b"one"]);
        assert!(whole_records(&file[..10]).is_empty());
    }
}
