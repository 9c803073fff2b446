//! The counters as text.

use std::fmt;

use pipeline::counters::Scalar;
use pipeline::packet::view::Side;
use pipeline::verdict::{Fate, Verdict};

use super::{DrainStats, PortStats, SideStats, Snapshot, TableStats, VerdictStats, WorkerStats};

/// A hint needs so many races.
const LEAST_RACES: u64 = 20;

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "firstack {}", self.role)?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))?;
        self.fmt_sides(f)?;
        self.fmt_races(f)?;
        for (family, table) in [("IPv4", &self.table), ("IPv6", &self.table_v6)] {
            // The table of a family without services has a capacity of 1 per worker.
            if table.capacity > self.workers.len().max(1) as u64 {
                let TableStats { capacity, inserted, evicted, expired, .. } = table;
                let live: u64 = table.live.iter().map(|state| state.count).sum();
                write!(f, "\n{family} connections: {live}/{capacity} (")?;
                let states =
                    table.live.iter().map(|state| format!("{} {}", state.count, state.name));
                writeln!(f, "{})", states.collect::<Vec<_>>().join(", "))?;
                writeln!(f, "  {inserted} inserted, {evicted} evicted, {expired} expired")?;
                let TableStats { evicted_for_share, refused_by_share, .. } = table;
                if evicted_for_share + refused_by_share > 0 {
                    writeln!(
                        f,
                        "  {refused_by_share} refused and {evicted_for_share} evicted because a \
                         client prefix had its share"
                    )?;
                }
            }
        }
        for counter in self.counters.iter().filter(|counter| counter.count > 0) {
            let unit = Scalar::ALL.into_iter().find(|scalar| scalar.name() == counter.name);
            let unit = unit.map_or("", Scalar::unit);
            writeln!(f, "{:<44} {:>12} {unit}", counter.name, counter.count)?;
        }
        self.drained.iter().try_for_each(|drained| writeln!(f, "{drained}"))?;
        self.admission.iter().try_for_each(|why| writeln!(f, "replica is {why}"))?;
        self.out_of_service.iter().try_for_each(|out| writeln!(f, "out of service: {out}"))?;
        self.health.iter().try_for_each(|target| writeln!(f, "health check: {target}"))?;
        for neighbour in &self.neighbours {
            let address = neighbour.address.map_or(String::new(), |address| address.to_string());
            let mac = neighbour.mac.as_deref().unwrap_or("unknown");
            writeln!(f, "neighbour: {address} {mac}")?;
        }
        self.share.iter().try_for_each(|share| share.fmt(f))?;
        self.kept.iter().try_for_each(|kept| kept.fmt(f))?;
        for (title, counts) in [
            ("copies sent to", &self.copies),
            ("SYNs given to", &self.syns),
            ("limited prefixes: SYNs without copies", &self.limited),
            ("seen, and a sign of a mistake", &self.noticed),
        ] {
            if !counts.is_empty() {
                writeln!(f, "\n{title}")?;
                counts.iter().try_for_each(|c| writeln!(f, "  {:<42} {:>12}", c.name, c.count))?;
            }
        }
        if self.workers.len() > 1 {
            writeln!(f, "\nworkers")?;
        }
        for (number, worker) in self.workers.iter().enumerate().filter(|_| self.workers.len() > 1) {
            let received: u64 = worker.sides.iter().map(|side| side.received).sum();
            let WorkerStats { handed_off, taken_from_workers, .. } = worker;
            writeln!(
                f,
                "  {number}: {received} processed, {handed_off} handed off, \
                 {taken_from_workers} taken from workers"
            )?;
        }
        Ok(())
    }
}

/// Returns a port's link in words: with its time, once it has changed.
fn link_text(port: &PortStats) -> String {
    let PortStats { link_up, link_changes, link_for_s, link_held, .. } = port;
    let state = match (link_up, link_held) {
        (true, _) => "up",
        (false, true) => "taken down, as the other port has none",
        (false, false) => "down",
    };
    match link_changes {
        0 => state.to_owned(),
        changes => format!("{state} for {link_for_s} s ({changes} changes)"),
    }
}

/// Returns who steers a port's packets, and why not the hardware; of each family, if they differ.
fn steering_text(port: &PortStats) -> String {
    let family = |name: &str, by: &str, why: &str| match why {
        "" => format!("{name}by {by}"),
        why => format!("{name}by {by} ({why})"),
    };
    let PortStats { steered_by, steered_why, steered_by_v6, steered_why_v6, .. } = port;
    if (steered_by, steered_why) == (steered_by_v6, steered_why_v6) {
        return family("", steered_by, steered_why);
    }
    let v4 = family("IPv4 ", steered_by, steered_why);
    format!("{v4}, {}", family("IPv6 ", steered_by_v6, steered_why_v6))
}

impl fmt::Display for DrainStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name.as_str() {
            "" => write!(f, "drained")?,
            name => write!(f, "drained: {name}")?,
        }
        match (self.connections, self.last_heard_ms) {
            (None, _) => write!(f, ", connections not counted yet"),
            (Some(0), _) => write!(f, ", no connection left"),
            (Some(1), None) => write!(f, ", 1 connection left"),
            (Some(left), None) => write!(f, ", {left} connections left"),
            (Some(left), Some(heard)) => {
                let word = if left == 1 { "connection" } else { "connections" };
                write!(f, ", {left} {word} left, last heard {} s ago", heard / 1000)
            }
        }
    }
}

impl Snapshot {
    fn fmt_sides(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [inside, outside] = &self.sides;
        writeln!(f, "{:<44} {:>12} {:>12}", "", "inside", "outside")?;
        let mut row = |name: &str, inside: u64, outside: u64| {
            writeln!(f, "{name:<44} {inside:>12} {outside:>12}")
        };
        row("received", inside.received, outside.received)?;
        let fates = [
            (Fate::Forwarded, inside.forwarded, outside.forwarded),
            (Fate::Consumed, inside.consumed, outside.consumed),
            (Fate::Dropped, inside.dropped, outside.dropped),
        ];
        for (fate, in_count, out_count) in fates {
            row(&format!("  {}", fate.name()), in_count, out_count)?;
            for verdict in Verdict::ALL.iter().filter(|verdict| verdict.fate() == fate) {
                let of = |side: &SideStats| {
                    let is_it =
                        |v: &&VerdictStats| v.name == verdict.name() && v.fate == fate.name();
                    let found = side.verdicts.iter().find(is_it);
                    found.map_or(0, |v| v.packets)
                };
                let (a, b) = (of(inside), of(outside));
                if a + b > 0 {
                    let text = match verdict.operation() {
                        "" => format!("    {}", verdict.name()),
                        operation => format!("    {} ({operation})", verdict.name()),
                    };
                    row(&text, a, b)?;
                }
            }
        }
        row("sent", inside.sent, outside.sent)?;
        row("unsent", inside.unsent, outside.unsent)?;
        for generated in self.generated.iter().filter(|generated| generated.count > 0) {
            writeln!(f, "generated: {:<33} {:>12}", generated.name, generated.count)?;
        }
        for (port, side) in self.ports.iter().zip(Side::ALL) {
            let link = link_text(port);
            writeln!(
                f,
                "{} port {} ({}), link {link}: rx {} tx {}, missed {}, no buffer {}, errors {}/{}",
                side.name(),
                port.device,
                port.driver,
                port.rx_packets,
                port.tx_packets,
                port.rx_missed,
                port.rx_no_buffer,
                port.rx_errors,
                port.tx_errors,
            )?;
            let PortStats { offloads, waits_for, .. } = port;
            let parts = [("uses", offloads), ("idle workers wait for", waits_for)];
            let parts = parts.iter().filter(|(_, what)| !what.is_empty());
            let parts: Vec<_> = parts.map(|(how, what)| format!("{how} {what}")).collect();
            if !parts.is_empty() {
                writeln!(f, "  {}", parts.join("; "))?;
            }
            if self.workers.len() > 1 {
                writeln!(f, "  RSS steering: {}", steering_text(port))?;
            }
        }
        Ok(())
    }

    fn fmt_races(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.races.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n{:<16} {:<22} {:>8} {:>8} {:>9} {:>9} {:>9} {:>12}",
            "service", "responder", "won", "lost", "p50 ms", "p90 ms", "p99 ms", "half-open ms"
        )?;
        for responder in &self.races {
            let mut name = responder.address.map_or("others".to_owned(), |a| a.to_string());
            if responder.origin {
                name += " origin";
            }
            let ms = |us: u64| us as f64 / 1000.0;
            let times = [responder.p50_us, responder.p90_us, responder.p99_us].map(ms);
            writeln!(
                f,
                "{:<16} {name:<22} {:>8} {:>8} {:>9.2} {:>9.2} {:>9.2} {:>12.2}",
                responder.service,
                responder.won,
                responder.lost,
                times[0],
                times[1],
                times[2],
                ms(responder.half_open_us.checked_div(responder.lost).unwrap_or(0)),
            )?;
        }
        self.behind().iter().try_for_each(|hint| writeln!(f, "hint: {hint}"))
    }

    /// Returns a hint for each service whose origin wins nearly all races although a replica
    /// answers: by how much that replica is behind.
    fn behind(&self) -> Vec<String> {
        let mut hints = Vec::new();
        for origin in self.races.iter().filter(|responder| responder.origin) {
            let service = &origin.service;
            let own = || self.races.iter().filter(|responder| responder.service == *service);
            let races: u64 = own().map(|responder| responder.won).sum();
            let replicas = own().filter(|r| !r.origin && r.address.is_some());
            let Some(best) = replicas.min_by_key(|replica| replica.p50_us) else { continue };
            let wins_nearly_all = races >= LEAST_RACES && origin.won * 100 >= races * 95;
            if wins_nearly_all && best.p50_us > origin.p50_us {
                let behind = (best.p50_us - origin.p50_us) as f64 / 1000.0;
                hints.push(format!(
                    "{service}: the origin wins {} of {races} races; its best replica, {}, is \
                     {behind:.1} ms behind. Where no direct copies are sent (`direct = 0`), a \
                     replica answers by way of the switch and can win only if the switch is far \
                     from the origin",
                    origin.won,
                    best.address.map_or_else(String::new, |address| address.to_string()),
                ));
            }
        }
        hints
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stats::ResponderStats;

    #[test]
    fn a_family_without_services_has_no_table() {
        let shown = |workers, [v4, v6]: [u64; 2]| {
            let table = |capacity| TableStats { capacity, ..TableStats::default() };
            let workers = vec![WorkerStats::default(); workers];
            let (table, table_v6) = (table(v4), table(v6));
            Snapshot { workers, table, table_v6, ..Snapshot::default() }.to_string()
        };
        let has =
            |text: &str| ["IPv4", "IPv6"].map(|family| text.contains(&format!("\n{family} c")));
        assert_eq!(has(&shown(1, [65536, 1])), [true, false]);
        assert_eq!(has(&shown(4, [65536, 4])), [true, false]);
        assert_eq!(has(&shown(4, [4, 64])), [false, true]);
        assert_eq!(has(&shown(2, [4, 3])), [true, true]);
    }

    #[test]
    fn an_origin_that_wins_nearly_all_races_is_hinted_at() {
        let responder = |origin, won, lost, p50_us| ResponderStats {
            service: "shop".to_owned(),
            address: Some([198, 51, 100, 10].into()),
            origin,
            won,
            lost,
            p50_us,
            ..ResponderStats::default()
        };
        let shown = |origin_won, replica_us| {
            let replica = responder(false, 1, 90, replica_us);
            let races = vec![responder(true, origin_won, 1, 140_000), replica];
            Snapshot { races, ..Snapshot::default() }.to_string()
        };
        assert!(shown(99, 142_500).contains("198.51.100.10, is 2.5 ms behind"));
        assert!(!shown(99, 10_000).contains("hint:"));
        assert!(!shown(5, 142_500).contains("hint:"), "too few races");
    }

    #[test]
    fn who_steers_packets_is_told_by_family() {
        let port = PortStats {
            steered_by: "hardware".to_owned(),
            steered_by_v6: "software".to_owned(),
            steered_why_v6: "it is old".to_owned(),
            ..PortStats::default()
        };
        assert_eq!(steering_text(&port), "IPv4 by hardware, IPv6 by software (it is old)");
        let both = PortStats { steered_by: "software".to_owned(), ..port.clone() };
        let both = PortStats { steered_why: "it is old".to_owned(), ..both };
        assert_eq!(steering_text(&both), "by software (it is old)");
        let ports = vec![port];
        let mut snapshot = Snapshot { ports, ..Snapshot::default() };
        assert!(!snapshot.to_string().contains("RSS steering"), "one worker");
        snapshot.workers = vec![WorkerStats::default(), WorkerStats::default()];
        assert!(snapshot.to_string().contains("  RSS steering: IPv4 by hardware, IPv6 by soft"));
    }
}
