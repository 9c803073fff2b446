//! All counters of a process at one moment, as text and as JSON.

use std::net::IpAddr;
use std::sync::Arc;

use pipeline::counters::{Counter, Counters, Generated, Histogram};
use pipeline::wire::family::Version;
use pipeline::neighbours::Resolution;
use pipeline::verdict::{Fate, Verdict};
use pipeline::packet::view::Side;
use serde::{Deserialize, Serialize};

use crate::config::MacAddress;
use crate::control::health::TargetStats;
use crate::roles::Labels;

/// The counters of one side. At rest, `received = forwarded + consumed + dropped`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideStats {
    /// Packets received on this side.
    pub received: u64,
    /// Received packets that were forwarded.
    pub forwarded: u64,
    /// Received packets that the appliance consumed.
    pub consumed: u64,
    /// Received packets that were dropped.
    pub dropped: u64,
    /// Packets that this side's port accepted for sending.
    pub sent: u64,
    /// Packets that this side's port did not accept; they were dropped.
    pub unsent: u64,
    /// Received packets by verdict; verdicts that did not occur are left out.
    pub verdicts: Vec<VerdictStats>,
}

/// The number of packets with one verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictStats {
    /// The verdict's name.
    pub name: String,
    /// "forwarded", "consumed" or "dropped".
    pub fate: String,
    /// The patent's operation, such as "op 404"; empty if there is none.
    pub operation: String,
    /// Packets with this verdict.
    pub packets: u64,
}

/// A port's state, and its counters as kept by DPDK.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// The DPDK device.
    pub device: String,
    /// The DPDK driver.
    pub driver: String,
    /// Whether the link is up, as far as the driver knows.
    pub link_up: bool,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Packets lost because a receive queue was full.
    pub rx_missed: u64,
    /// Packets received with errors.
    pub rx_errors: u64,
    /// Packets lost because the buffer pool was empty.
    pub rx_no_buffer: u64,
    /// Packets that failed to be sent.
    pub tx_errors: u64,
    /// Who distributes packets over the workers: "hardware" (RSS), "software", or "none" with a
    /// single worker.
    #[serde(default)]
    pub steered_by: String,
    /// Why the hardware does not; empty if it does.
    #[serde(default)]
    pub steered_why: String,
}

/// The connection tables of one address family, all workers together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStats {
    /// The most connections they can hold.
    pub capacity: u64,
    /// Connections they hold now, by state.
    pub live: Vec<Named>,
    /// Entries inserted.
    pub inserted: u64,
    /// Entries evicted by new ones.
    pub evicted: u64,
    /// Entries that timed out.
    pub expired: u64,
}

/// A counter with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: String,
    /// The count.
    pub count: u64,
}

/// A neighbour on the inside whose MAC address is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address, if resolved.
    pub mac: Option<String>,
}

impl From<Resolution> for Neighbour {
    fn from(resolution: Resolution) -> Self {
        let mac = resolution.mac.filter(|_| resolution.known);
        let mac = mac.map(|mac| MacAddress(mac).to_string());
        Self { address: resolution.address, mac }
    }
}

/// The results of one origin server or replica in the races of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The service's name.
    pub service: String,
    /// The responder's address; `None` for all responders that have no entry of their own.
    pub address: Option<IpAddr>,
    /// Whether it is the origin server.
    pub origin: bool,
    /// Races that it won.
    pub won: u64,
    /// SYN/ACKs that arrived too late.
    pub lost: u64,
    /// Median time from SYN to SYN/ACK in microseconds.
    pub p50_us: u64,
    /// 90th percentile of that time in microseconds.
    pub p90_us: u64,
    /// 99th percentile of that time in microseconds.
    pub p99_us: u64,
    /// The histogram of that time: lower bound of each bucket in microseconds, and its count. Empty
    /// buckets are left out.
    pub histogram: Vec<(u64, u64)>,
}

/// The counters of one worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// The sides, inside and outside.
    pub sides: [SideStats; 2],
    /// Packets handed to the worker that owns their client.
    pub handed_off: u64,
    /// Packets taken over from other workers.
    pub taken_from_workers: u64,
}

/// All counters of a process at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The role: "gateway", "switch" or "replica".
    pub role: String,
    /// The sides, inside and outside, all workers together.
    pub sides: [SideStats; 2],
    /// The ports, inside and outside; empty in a replay.
    #[serde(default)]
    pub ports: Vec<PortStats>,
    /// Packets that the appliance generated, by kind.
    pub generated: Vec<Named>,
    /// The connection tables for IPv4.
    pub table: TableStats,
    /// The connection tables for IPv6.
    #[serde(default)]
    pub table_v6: TableStats,
    /// SYNs and SYN/ACKs whose MSS option was lowered to fit a tunnel.
    #[serde(default)]
    pub clamped: u64,
    /// Switch and replica: packets that waited for a MAC address and were dropped.
    #[serde(default)]
    pub pending_dropped: u64,
    /// Gateway: how often SYNs to a destination were left untagged for a while because tagged ones
    /// went unanswered.
    pub paths_given_up: u64,
    /// Gateway: the results of races, by responder.
    pub races: Vec<Answers>,
    /// Switch: SYN copies sent, by replica.
    pub copies: Vec<Named>,
    /// Switch: SYN copies that could not be created.
    pub copies_failed: u64,
    /// Switch and replica: SYNs sent to each server.
    pub starts: Vec<Named>,
    /// Replica: why it accepts no new connections (drained, busy); empty elsewhere.
    #[serde(default)]
    pub gates: Vec<String>,
    /// Switch and replica: replicas and servers that are out of service, and why.
    #[serde(default)]
    pub out: Vec<String>,
    /// Switch and replica: health checks.
    #[serde(default)]
    pub health: Vec<TargetStats>,
    /// Switch and replica: neighbours whose MAC addresses are resolved.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
    /// The counters of each worker.
    pub workers: Vec<WorkerStats>,
}

impl Snapshot {
    /// Collects the counters of all workers. Ports, gates, health and neighbours stay empty.
    pub fn take(labels: &Labels, workers: &[Arc<Counters>]) -> Self {
        let sum = |read: &dyn Fn(&Counters) -> &Counter| {
            workers.iter().map(|counters| read(counters).get()).sum::<u64>()
        };
        let named = |names: &[String], read: &dyn Fn(&Counters) -> &[Counter]| {
            let count = |(i, name): (usize, &String)| Named {
                name: name.clone(),
                count: workers.iter().map(|c| read(c).get(i).map_or(0, Counter::get)).sum(),
            };
            names.iter().enumerate().map(count).collect()
        };
        let states: Vec<_> = labels.states.iter().map(|&state| state.to_owned()).collect();
        let table = |version| TableStats {
            capacity: sum(&|counters| &counters.table_of(version).capacity),
            live: named(&states, &|counters| &counters.table_of(version).live),
            inserted: sum(&|counters| &counters.table_of(version).inserted),
            evicted: sum(&|counters| &counters.table_of(version).evicted),
            expired: sum(&|counters| &counters.table_of(version).expired),
        };
        Self {
            role: labels.role.to_owned(),
            sides: Side::ALL.map(|side| side_stats(workers, side)),
            generated: Generated::ALL
                .into_iter()
                .map(|what| Named {
                    name: what.name().to_owned(),
                    count: sum(&|counters| &counters.generated[what as usize]),
                })
                .collect(),
            table: table(Version::V4),
            table_v6: table(Version::V6),
            clamped: sum(&|counters| &counters.clamped),
            pending_dropped: sum(&|counters| &counters.pending_dropped),
            paths_given_up: sum(&|counters| &counters.tag_backoffs.count),
            races: races(labels, workers),
            copies: named(&labels.replicas, &|counters| &counters.copies),
            copies_failed: sum(&|counters| &counters.copies_failed),
            starts: named(&labels.servers, &|counters| &counters.starts),
            workers: workers.iter().map(worker_stats).collect(),
            ports: Vec::new(),
            gates: Vec::new(),
            out: Vec::new(),
            health: Vec::new(),
            neighbours: Vec::new(),
        }
    }

    /// Returns whether every packet is accounted for: every received packet has a fate, and every
    /// forwarded or generated packet was sent or counted as unsent.
    pub fn is_conserved(&self) -> bool {
        let [inside, outside] = &self.sides;
        let settled =
            |side: &SideStats| side.received == side.forwarded + side.consumed + side.dropped;
        let made: u64 = self.generated.iter().map(|made| made.count).sum();
        let left: u64 = self.sides.iter().map(|side| side.sent + side.unsent).sum();
        settled(inside) && settled(outside) && inside.forwarded + outside.forwarded + made == left
    }

    /// Returns the number of packets with a verdict, both sides together.
    pub fn verdict(&self, name: &str) -> u64 {
        let of =
            |side: &SideStats| side.verdicts.iter().find(|v| v.name == name).map(|v| v.packets);
        self.sides.iter().filter_map(of).sum()
    }
}

fn side_stats(workers: &[Arc<Counters>], side: Side) -> SideStats {
    let sides = || workers.iter().map(|counters| counters.side(side));
    let fate = |fate| sides().map(|side| side.fate(fate)).sum();
    let verdict = |verdict: &Verdict| VerdictStats {
        name: verdict.name().to_owned(),
        fate: verdict.fate().name().to_owned(),
        operation: verdict.operation().to_owned(),
        packets: sides().map(|side| side.verdicts[*verdict as usize].get()).sum(),
    };
    SideStats {
        received: sides().map(|side| side.received.get()).sum(),
        forwarded: fate(Fate::Forwarded),
        consumed: fate(Fate::Consumed),
        dropped: fate(Fate::Dropped),
        sent: sides().map(|side| side.sent.get()).sum(),
        unsent: sides().map(|side| side.unsent.get()).sum(),
        verdicts: Verdict::ALL.iter().map(verdict).filter(|v| v.packets > 0).collect(),
    }
}

fn worker_stats(counters: &Arc<Counters>) -> WorkerStats {
    let own = std::slice::from_ref(counters);
    WorkerStats {
        sides: Side::ALL.map(|side| side_stats(own, side)),
        handed_off: counters.handed_off.get(),
        taken_from_workers: counters.taken_from_workers.get(),
    }
}

fn races(labels: &Labels, workers: &[Arc<Counters>]) -> Vec<Answers> {
    let mut all: Vec<Answers> = Vec::new();
    for responder in workers.iter().flat_map(|counters| counters.responders.iter()) {
        let (service, address, origin) = match responder.name() {
            Some((service, address, origin)) => {
                let name = labels.services.get(usize::from(service)).cloned();
                (name.unwrap_or_default(), Some(address), origin)
            }
            None => (String::new(), None, false),
        };
        let known = all
            .iter()
            .position(|a| (&a.service, a.address, a.origin) == (&service, address, origin));
        let place = known.unwrap_or_else(|| {
            let histogram = (0..Histogram::BUCKETS).map(|b| (Histogram::lower_bound(b), 0));
            let histogram = histogram.collect();
            let (won, lost, p50_us, p90_us, p99_us) = (0, 0, 0, 0, 0);
            all.push(Answers {
                service,
                address,
                origin,
                won,
                lost,
                p50_us,
                p90_us,
                p99_us,
                histogram,
            });
            all.len() - 1
        });
        all[place].won += responder.won.get();
        all[place].lost += responder.lost.get();
        for (bucket, count) in all[place].histogram.iter_mut().zip(responder.times.counts()) {
            bucket.1 += count;
        }
    }
    for answers in &mut all {
        answers.histogram.retain(|(_, count)| *count > 0);
        answers.p50_us = quantile(&answers.histogram, 0.50);
        answers.p90_us = quantile(&answers.histogram, 0.90);
        answers.p99_us = quantile(&answers.histogram, 0.99);
    }
    all.sort_by(|a, b| (&a.service, b.won, a.address).cmp(&(&b.service, a.won, b.address)));
    all
}

/// Returns the lower bound of the bucket with this quantile; zero for an empty histogram.
fn quantile(histogram: &[(u64, u64)], quantile: f64) -> u64 {
    let total: u64 = histogram.iter().map(|(_, count)| count).sum();
    let rank = (total as f64 * quantile).ceil().max(1.0) as u64;
    let mut seen = 0;
    let holds = |(_, count): &&(u64, u64)| {
        seen += count;
        seen >= rank
    };
    histogram.iter().find(holds).map_or(0, |(bound, _)| *bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_buckets() {
        let histogram = [(10, 50), (20, 40), (30, 9), (40, 1)];
        assert_eq!([0.5, 0.9, 0.99, 1.0].map(|q| quantile(&histogram, q)), [10, 20, 30, 40]);
        assert_eq!(quantile(&[], 0.5), 0);
    }

    #[test]
    fn an_unaccounted_packet_shows() {
        let counters = Arc::new(Counters::default());
        let take = || Snapshot::take(&Labels::default(), &[Arc::clone(&counters)]);
        counters.side(Side::Inside).received.add(1);
        assert!(!take().is_conserved());
        counters.side(Side::Inside).verdicts[Verdict::Tagged as usize].add(1);
        assert!(!take().is_conserved());
        counters.side(Side::Outside).sent.add(1);
        assert!(take().is_conserved());
        assert_eq!(take().verdict("tagged"), 1);
    }
}
