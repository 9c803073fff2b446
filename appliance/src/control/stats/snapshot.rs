//! All counters of a process at one moment.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use pipeline::counters::{
    CommonCounters, Counter, Generated, Histogram, RoleCounters, Scalar, Seen, Sighting,
};
use pipeline::neighbours::Resolution;
use pipeline::packet::view::Side;
use pipeline::verdict::{Fate, Verdict};
use pipeline::wire::family::Version;

use super::quantile::quantile;
use super::{KeptStats, ShareStats, documented};
use crate::config::MacAddress;
use crate::control::health::TargetStats;
use crate::control::notices;
use crate::roles::Labels;

/// The counters of all workers.
type Workers = [Arc<dyn RoleCounters>];

documented! {
    /// All counters of a process at one moment.
    pub struct Snapshot {
        role: String = "" "The role: gateway, switch or replica.",
        warnings: Vec<String> = "" "What the operator should know of the configuration, such as services whose races any host can win.",
        sides: [SideStats; 2] = "" "The sides, inside and outside, all workers together.",
        ports: Vec<PortStats> = "" "The ports, inside and outside; empty in a replay.",
        generated: Vec<Named> = "packets" "Packets that the appliance generated, by kind.",
        counters: Vec<Named> = "" "The role's single counters.",
        table: TableStats = "" "The connection tables for IPv4, all workers together.",
        table_v6: TableStats = "" "The connection tables for IPv6, all workers together.",
        races: Vec<ResponderStats> = "" "Gateway: the results of races, by responder.",
        copies: Vec<Named> = "packets" "Switch: SYN copies sent, by replica.",
        syns: Vec<Named> = "packets" "Switch and replica: SYNs given to each server.",
        limited: Vec<Named> = "SYNs" "Switch: source prefixes whose SYNs got no copies because their prefix or address had used up its tokens; the worst, most often first. A count may be too high by a sixteenth of all.",
        noticed: Vec<Named> = "packets" "Packets that tell of a mistake in cabling or files, by kind and with the last address: sides_swapped (inside and outside), other_tag (another kind or ExID), other_port (a tagged SYN to a port that no service lists), not_allowed (an answer from outside allowed_replicas), unknown_switch (a tunnel with somebody else's tagged SYN from outside switches).",
        drained: Vec<DrainStats> = "" "What an operator has drained, and what is left of it; not single servers and replicas, which `out_of_service` names.",
        admission: Vec<String> = "" "Replica: why it accepts no new connections: drained, busy.",
        out_of_service: Vec<String> = "" "Switch and replica: replicas and servers that are out of service, and why.",
        health: Vec<TargetStats> = "" "Switch and replica: health checks.",
        neighbours: Vec<Neighbour> = "" "Switch and replica: hosts whose MAC addresses are resolved.",
        share: Option<ShareStats> = "" "Gateway: the store through which it shares what it has learned; null without one.",
        kept: Option<KeptStats> = "" "The tables that outlive the process; null if they do not.",
        workers: Vec<WorkerStats> = "" "The counters of each worker.",
    }
}

documented! {
    /// The counters of one side. At rest, `received = forwarded + consumed + dropped`.
    pub struct SideStats {
        received: u64 = "packets" "Packets received on this side.",
        forwarded: u64 = "packets" "Received packets that were forwarded to the other side.",
        consumed: u64 = "packets" "Received packets that the appliance consumed.",
        dropped: u64 = "packets" "Received packets that were dropped.",
        sent: u64 = "packets" "Packets that this side's port accepted for sending.",
        unsent: u64 = "packets" "Packets that this side's port did not accept; they were dropped.",
        verdicts: Vec<VerdictStats> = "" "Received packets by verdict; verdicts that did not occur are left out.",
    }
}

documented! {
    /// The number of packets with one verdict.
    pub struct VerdictStats {
        name: String = "" "The verdict's name.",
        fate: String = "" "forwarded, consumed or dropped.",
        operation: String = "" "The patent's operations, such as op 404; empty if there are none.",
        packets: u64 = "packets" "Packets with this verdict.",
    }
}

documented! {
    /// A port's state, and its counters as DPDK keeps them.
    pub struct PortStats {
        device: String = "" "The DPDK device.",
        driver: String = "" "The DPDK driver.",
        link_up: bool = "" "Whether the link is up: as the driver says, and as the kernel says of the interface below a virtual port.",
        link_changes: u64 = "changes" "How often the link went up or down since the start.",
        link_for_s: u64 = "seconds" "How long the link has been as it is, as far as this process has seen.",
        link_held: bool = "" "Whether the port is taken down because the other has no link (`propagate_link`).",
        rx_packets: u64 = "packets" "Packets received.",
        tx_packets: u64 = "packets" "Packets sent.",
        rx_missed: u64 = "packets" "Packets lost because a receive queue was full.",
        rx_errors: u64 = "packets" "Packets received with errors.",
        rx_no_buffer: u64 = "packets" "Packets lost because the buffer pool was empty.",
        tx_errors: u64 = "packets" "Packets that failed to be sent.",
        offloads: String = "" "What the port does for the workers: marks right checksums of received packets, receives and sends frames of several buffers.",
        waits_for: String = "" "What an idle worker waits for at the port: packets (the kernel or an interrupt signals them), a timer, or nothing: it polls.",
        steered_by: String = "" "What distributes IPv4 packets over the workers: hardware (RSS), software, or none with one worker.",
        steered_why: String = "" "Why the hardware does not; empty if it does.",
        steered_by_v6: String = "" "What distributes IPv6 packets over the workers, likewise.",
        steered_why_v6: String = "" "Why the hardware does not; empty if it does.",
    }
}

documented! {
    /// The connection tables of one address family, all workers together.
    pub struct TableStats {
        capacity: u64 = "connections" "The most connections they can hold.",
        live: Vec<Named> = "connections" "Connections they hold now, by state.",
        inserted: u64 = "connections" "Entries inserted.",
        evicted: u64 = "connections" "Entries evicted for new ones.",
        evicted_for_share: u64 = "connections" "Those of them that were established and idle, and whose client prefix had its share of the full table.",
        refused_by_share: u64 = "connections" "New connections without an entry because their client prefix had its share of the nearly full table.",
        expired: u64 = "connections" "Entries whose time-out passed.",
    }
}

documented! {
    /// A counter with a name.
    pub struct Named {
        name: String = "" "The name.",
        count: u64 = "" "The count, in the unit of the list.",
    }
}

documented! {
    /// The results of one origin server or replica in the races of a service.
    pub struct ResponderStats {
        service: String = "" "The service's name.",
        address: Option<IpAddr> = "" "The responder's address; null for all responders beyond the limit of 127 a worker.",
        origin: bool = "" "Whether it is an origin server.",
        won: u64 = "races" "Races that it won.",
        lost: u64 = "packets" "SYN/ACKs that arrived too late; each was answered with a reset.",
        half_open_us: u64 = "microseconds" "How long its lost SYN/ACKs have held half-open connections there, all together: about a round trip each. Divided by the time that has passed, the number of half-open connections at a time.",
        p50_us: u64 = "microseconds" "Median time from the race's first SYN to its SYN/ACKs, interpolated within the bucket.",
        p90_us: u64 = "microseconds" "90th percentile of that time.",
        p99_us: u64 = "microseconds" "99th percentile of that time.",
        histogram: Vec<(u64, u64)> = "microseconds" "The histogram of that time: lower bound and count of each bucket that is not empty. Buckets are an eighth of an octave wide.",
    }
}

documented! {
    /// The counters of one worker.
    pub struct WorkerStats {
        sides: [SideStats; 2] = "" "The sides, inside and outside.",
        handed_off: u64 = "packets" "Packets handed to the worker that owns their client.",
        taken_from_workers: u64 = "packets" "Packets taken from other workers.",
    }
}

documented! {
    /// Something that an operator has drained.
    pub struct DrainStats {
        name: String = "" "The service; empty for the whole gateway, switch or replica.",
        connections: Option<u64> = "connections" "Connections that are left: at a gateway those that a replica has won, and races in progress; at a switch those whose server it remembers; at a replica those that its web servers have. Null until they have been counted once, which takes 3 s with a table of 8 million.",
        last_heard_ms: Option<u64> = "milliseconds" "The time since the last packet of any of them, or of one that has ended since; null without connections, and at a replica.",
    }
}

documented! {
    /// A host on the inside whose MAC address is resolved.
    pub struct Neighbour {
        address: Option<IpAddr> = "" "Its IP address.",
        mac: Option<String> = "" "Its MAC address; null while it is unknown.",
    }
}

impl From<Resolution> for Neighbour {
    fn from(resolution: Resolution) -> Self {
        let mac = resolution.mac.filter(|_| resolution.known);
        let mac = mac.map(|mac| MacAddress(mac).to_string());
        Self { address: Some(resolution.address), mac }
    }
}

impl Snapshot {
    /// Collects the counters of all workers. Ports, admission, health and neighbours stay empty.
    pub fn take(labels: &Labels, workers: &Workers) -> Self {
        let states: Vec<_> = labels.states.iter().map(|&state| state.to_owned()).collect();
        Self {
            role: labels.role.to_owned(),
            warnings: labels.warnings.clone(),
            sides: Side::ALL.map(|side| side_stats(workers, side)),
            generated: generated(workers),
            counters: scalars(workers),
            table: table(&states, workers, Version::V4),
            table_v6: table(&states, workers, Version::V6),
            races: races(labels, workers),
            copies: named(&labels.replicas, workers, |worker| worker.copies()),
            syns: named(&labels.servers, workers, |worker| worker.syns()),
            limited: limited(workers),
            noticed: noticed(workers),
            workers: workers.iter().map(worker_stats).collect(),
            ..Self::default()
        }
    }

    /// Returns whether every packet is accounted for: each received packet has a fate, and each
    /// packet that was forwarded or generated was sent or counted as unsent.
    pub fn is_conserved(&self) -> bool {
        let [inside, outside] = &self.sides;
        let settled =
            |side: &SideStats| side.received == side.forwarded + side.consumed + side.dropped;
        let generated: u64 = self.generated.iter().map(|generated| generated.count).sum();
        let left: u64 = self.sides.iter().map(|side| side.sent + side.unsent).sum();
        settled(inside)
            && settled(outside)
            && inside.forwarded + outside.forwarded + generated == left
    }

    /// Returns the count of a verdict, both sides together; zero if it did not occur.
    pub fn verdict(&self, name: &str) -> u64 {
        let of =
            |side: &SideStats| side.verdicts.iter().find(|v| v.name == name).map(|v| v.packets);
        self.sides.iter().filter_map(of).sum()
    }

    /// Returns a single counter of the role; zero if the role has none of that name.
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|counter| counter.name == name).map_or(0, |found| found.count)
    }
}

/// Adds up one counter of all workers.
fn sum(workers: &Workers, read: impl Fn(&CommonCounters) -> &Counter) -> u64 {
    workers.iter().map(|worker| read(worker.common()).get()).sum()
}

/// Adds up lists of counters that have these names. What has no name has left the configuration, and is
/// not shown.
fn named<'a>(
    names: &[String],
    workers: &'a Workers,
    read: impl Fn(&'a dyn RoleCounters) -> &'a [Counter],
) -> Vec<Named> {
    let count = |(number, name): (usize, &String)| Named {
        name: name.clone(),
        count: workers
            .iter()
            .map(|worker| read(worker.as_ref()).get(number).map_or(0, Counter::get))
            .sum(),
    };
    names.iter().enumerate().filter(|(_, name)| !name.is_empty()).map(count).collect()
}

/// Returns what tells of a mistake, each kind with the last address.
fn noticed(workers: &Workers) -> Vec<Named> {
    let name = |what: Sighting, seen: Seen| format!("{} {}", what.name(), seen.address);
    let of = |what| {
        let seen = notices::seen(workers, what)?;
        Some(Named { name: name(what, seen), count: seen.count })
    };
    Sighting::ALL.into_iter().filter_map(of).collect()
}

/// Prefixes that are shown as limited.
const LIMITED_SHOWN: usize = 16;

/// Adds up how often each source prefix was limited.
pub(crate) fn limited_by_prefix(workers: &Workers) -> BTreeMap<IpNet, u64> {
    let mut counts = BTreeMap::new();
    for refused in workers.iter().filter_map(|worker| worker.limited()).flat_map(|all| all.all()) {
        *counts.entry(refused.prefix).or_insert(0) += refused.count;
    }
    counts
}

/// Returns the prefixes that were limited most.
fn limited(workers: &Workers) -> Vec<Named> {
    let mut worst: Vec<_> = limited_by_prefix(workers).into_iter().collect();
    worst.sort_by_key(|(_, count)| Reverse(*count));
    worst.truncate(LIMITED_SHOWN);
    worst.into_iter().map(|(prefix, count)| Named { name: prefix.to_string(), count }).collect()
}

fn generated(workers: &Workers) -> Vec<Named> {
    let Some(role) = workers.first().map(|worker| worker.role()) else { return Vec::new() };
    let own = Generated::ALL.into_iter().filter(|what| what.roles().has(role));
    own.map(|what| Named {
        name: what.name().to_owned(),
        count: sum(workers, |counters| &counters.generated[what as usize]),
    })
    .collect()
}

fn scalars(workers: &Workers) -> Vec<Named> {
    let Some(role) = workers.first().map(|worker| worker.role()) else { return Vec::new() };
    let own = Scalar::ALL.into_iter().filter(|what| what.roles().has(role));
    own.map(|what| Named {
        name: what.name().to_owned(),
        count: sum(workers, |counters| counters.scalar(what)),
    })
    .collect()
}

fn table(states: &[String], workers: &Workers, version: Version) -> TableStats {
    TableStats {
        capacity: sum(workers, |counters| &counters.table_of(version).capacity),
        live: named(states, workers, |worker| &worker.common().table_of(version).live),
        inserted: sum(workers, |counters| &counters.table_of(version).inserted),
        evicted: sum(workers, |counters| &counters.table_of(version).evicted),
        evicted_for_share: sum(workers, |counters| &counters.table_of(version).evicted_for_share),
        refused_by_share: sum(workers, |counters| &counters.table_of(version).refused_by_share),
        expired: sum(workers, |counters| &counters.table_of(version).expired),
    }
}

fn side_stats(workers: &Workers, side: Side) -> SideStats {
    let sides = || workers.iter().map(|worker| worker.common().side(side));
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

fn worker_stats(worker: &Arc<dyn RoleCounters>) -> WorkerStats {
    let own = std::slice::from_ref(worker);
    WorkerStats {
        sides: Side::ALL.map(|side| side_stats(own, side)),
        handed_off: worker.common().scalar(Scalar::HandedOff).get(),
        taken_from_workers: worker.common().scalar(Scalar::TakenFromWorkers).get(),
    }
}

fn races(labels: &Labels, workers: &Workers) -> Vec<ResponderStats> {
    let mut all: Vec<ResponderStats> = Vec::new();
    let responders = workers.iter().filter_map(|worker| worker.responders());
    for responder in responders.flat_map(|responders| responders.iter()) {
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
            all.push(ResponderStats {
                service,
                address,
                origin,
                histogram,
                ..ResponderStats::default()
            });
            all.len() - 1
        });
        all[place].won += responder.won.get();
        all[place].lost += responder.lost.get();
        all[place].half_open_us += responder.half_open.get();
        let counts = responder.time_to_syn_ack.counts();
        for (bucket, count) in all[place].histogram.iter_mut().zip(counts) {
            bucket.1 += count;
        }
    }
    for responder in &mut all {
        responder.histogram.retain(|(_, count)| *count > 0);
        responder.p50_us = quantile(&responder.histogram, 0.50);
        responder.p90_us = quantile(&responder.histogram, 0.90);
        responder.p99_us = quantile(&responder.histogram, 0.99);
    }
    all.sort_by(|a, b| (&a.service, b.won, a.address).cmp(&(&b.service, a.won, b.address)));
    all
}

#[cfg(test)]
mod tests {
    use pipeline::counters::{GatewayCounters, SwitchCounters};

    use super::*;

    #[test]
    fn an_unaccounted_packet_shows() {
        let counters = Arc::new(GatewayCounters::default());
        let take = || {
            Snapshot::take(&Labels::default(), &[Arc::clone(&counters) as Arc<dyn RoleCounters>])
        };
        let common = &counters.common;
        common.side(Side::Inside).received.add(1);
        assert!(!take().is_conserved());
        common.side(Side::Inside).verdicts[Verdict::Tagged as usize].add(1);
        assert!(!take().is_conserved());
        common.side(Side::Outside).sent.add(1);
        assert!(take().is_conserved());
        assert_eq!(take().verdict("tagged"), 1);
    }

    #[test]
    fn the_worst_limited_prefixes_of_all_workers_are_shown() {
        let workers = [(); 2].map(|()| Arc::new(SwitchCounters::new(0, 0)));
        let prefix = |n: u8| format!("198.18.{n}.0/24");
        for n in 0..10 {
            (0..=n).for_each(|_| workers[0].limited.count(prefix(n).parse().unwrap()));
            (0..=n).for_each(|_| workers[1].limited.count(prefix(n + 9).parse().unwrap()));
        }
        let workers = workers.map(|worker| worker as Arc<dyn RoleCounters>);
        let limited = Snapshot::take(&Labels::default(), &workers).limited;
        assert_eq!(limited.len(), LIMITED_SHOWN);
        // In both workers; in the second alone.
        assert_eq!((&limited[0].name, limited[0].count), (&prefix(9), 11));
        assert_eq!((&limited[1].name, limited[1].count), (&prefix(18), 10));
    }

    #[test]
    fn a_role_shows_its_own_counters_only() {
        let counters = Arc::new(GatewayCounters::default()) as Arc<dyn RoleCounters>;
        let snapshot = Snapshot::take(&Labels::default(), &[counters]);
        let names: Vec<_> = snapshot.counters.iter().map(|counter| &*counter.name).collect();
        assert!(names.starts_with(&["mss_clamped", "tag_backoffs"]), "{names:?}");
        assert!(!names.contains(&"pending_dropped"), "{names:?}");
        assert!(snapshot.generated.iter().all(|generated| generated.name != "copies"));
    }
}
