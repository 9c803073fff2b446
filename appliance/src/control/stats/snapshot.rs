//! All counters of a process at one moment: for people, and as JSON.

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

/// What was counted on one side. `received = forwarded + consumed + dropped` at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideStats {
    /// Packets received by this side.
    pub received: u64,
    /// Of these, sent on by the other side.
    pub forwarded: u64,
    /// Used up by the appliance.
    pub consumed: u64,
    /// Thrown away.
    pub dropped: u64,
    /// Packets given to this side's port.
    pub sent: u64,
    /// Packets that this side's port did not take.
    pub unsent: u64,
    /// Received packets by verdict, those with any.
    pub verdicts: Vec<VerdictStats>,
}

/// How often a verdict was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictStats {
    /// Its name.
    pub name: String,
    /// "forwarded", "consumed" or "dropped".
    pub fate: String,
    /// The patent's operation, when there is one.
    pub operation: String,
    /// How often.
    pub packets: u64,
}

/// The port of a side, as DPDK counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStats {
    /// DPDK's device.
    pub device: String,
    /// Its driver.
    pub driver: String,
    /// Whether the link is up.
    pub link_up: bool,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Lost because a receive queue was full.
    pub rx_missed: u64,
    /// Received bad.
    pub rx_errors: u64,
    /// Lost because the pool was empty.
    pub rx_no_buffer: u64,
    /// Could not be sent.
    pub tx_errors: u64,
    /// Who places packets on workers: "hardware", "software", or "none" with one worker.
    #[serde(default)]
    pub steered_by: String,
    /// Why it is not the hardware; empty when it is.
    #[serde(default)]
    pub steered_why: String,
}

/// The translation tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableStats {
    /// Connections they can hold.
    pub capacity: u64,
    /// Connections they hold, by state.
    pub live: Vec<Named>,
    /// Entries made.
    pub inserted: u64,
    /// Entries pushed out by new ones.
    pub evicted: u64,
    /// Entries whose time was up.
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

/// A neighbour on the inside that packets are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its IP address.
    pub address: IpAddr,
    /// Its MAC address, when it is known.
    pub mac: Option<String>,
}

impl From<Resolution> for Neighbour {
    fn from(resolution: Resolution) -> Self {
        let mac = resolution.mac.filter(|_| resolution.known);
        let mac = mac.map(|mac| MacAddress(mac).to_string());
        Self { address: resolution.address, mac }
    }
}

/// One server or replica in the races of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// The service's name.
    pub service: String,
    /// The responder's address; `None` for all that found no place of their own.
    pub address: Option<IpAddr>,
    /// Whether it is the origin.
    pub origin: bool,
    /// Races it won.
    pub won: u64,
    /// Acknowledgements that came too late.
    pub lost: u64,
    /// Time from start packet to acknowledgement, microseconds: median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The histogram: lower bound of each bucket in microseconds, and how many.
    pub histogram: Vec<(u64, u64)>,
}

/// One worker's share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerStats {
    /// Inside and outside.
    pub sides: [SideStats; 2],
    /// Packets given to the worker that owns them.
    pub handed_off: u64,
    /// Packets taken from other workers.
    pub taken_from_workers: u64,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The role.
    pub role: String,
    /// All workers' inside and outside together.
    pub sides: [SideStats; 2],
    /// The ports, inside and outside; empty in a replay.
    #[serde(default)]
    pub ports: Vec<PortStats>,
    /// Packets that the appliance made.
    pub generated: Vec<Named>,
    /// The tables of IPv4.
    pub table: TableStats,
    /// The tables of IPv6.
    #[serde(default)]
    pub table_v6: TableStats,
    /// SYNs and SYN/ACKs whose MSS was lowered to fit a tunnel.
    #[serde(default)]
    pub clamped: u64,
    /// Switch and replica: packets that waited for a MAC address in vain.
    #[serde(default)]
    pub pending_dropped: u64,
    /// Gateway: how often a destination whose path drops tagged start packets was left untagged.
    pub paths_given_up: u64,
    /// Gateway: who answered.
    pub races: Vec<Answers>,
    /// Switch: copies sent, by service and replica.
    pub copies: Vec<Named>,
    /// Switch: copies that could not be made.
    pub copies_failed: u64,
    /// Switch and replica: start packets given to each server.
    pub starts: Vec<Named>,
    /// Replica: whether it is dead or drained, and busy by order; empty elsewhere.
    #[serde(default)]
    pub gates: Vec<String>,
    /// Switch and replica: replicas and servers that are out, and why.
    #[serde(default)]
    pub out: Vec<String>,
    /// Switch and replica: what is probed, and how it is.
    #[serde(default)]
    pub health: Vec<TargetStats>,
    /// Switch and replica: MAC addresses that are asked for.
    #[serde(default)]
    pub neighbours: Vec<Neighbour>,
    /// Each worker.
    pub workers: Vec<WorkerStats>,
}

impl Snapshot {
    /// Reads the counters of all workers.
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

    /// Whether no packet is unaccounted for: every received one has a fate, and what was
    /// forwarded or made was sent or counted as unsent.
    pub fn is_conserved(&self) -> bool {
        let [inside, outside] = &self.sides;
        let settled =
            |side: &SideStats| side.received == side.forwarded + side.consumed + side.dropped;
        let made: u64 = self.generated.iter().map(|made| made.count).sum();
        let left: u64 = self.sides.iter().map(|side| side.sent + side.unsent).sum();
        settled(inside) && settled(outside) && inside.forwarded + outside.forwarded + made == left
    }

    /// The count of a verdict, both sides together.
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

/// The lower bound of the bucket that holds this quantile; zero when there is nothing.
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
