//! The counters as text.

use std::fmt;

use pipeline::verdict::{Fate, Verdict};
use pipeline::packet::view::Side;

use super::{PortStats, SideStats, Snapshot, TableStats, WorkerStats};

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "firstack {}", self.role)?;
        self.fmt_sides(f)?;
        self.fmt_races(f)?;
        for (family, table) in [("IPv4", &self.table), ("IPv6", &self.table_v6)] {
            // The table of a family without services has a capacity of 1.
            if table.capacity > 1 {
                write!(f, "\n{family} table of {}:", table.capacity)?;
                table.live.iter().try_for_each(|s| write!(f, " {} {},", s.count, s.name))?;
                let TableStats { inserted, evicted, expired, .. } = table;
                writeln!(f, " {inserted} inserted, {evicted} evicted, {expired} expired")?;
            }
        }
        if self.clamped > 0 {
            writeln!(f, "{} SYNs and SYN/ACKs with their MSS lowered", self.clamped)?;
        }
        if self.pending_dropped > 0 {
            writeln!(f, "{} packets waited for a MAC address in vain", self.pending_dropped)?;
        }
        if self.paths_given_up > 0 {
            writeln!(f, "{} times a path that drops tags was given up", self.paths_given_up)?;
        }
        self.gates.iter().try_for_each(|gate| writeln!(f, "replica is {gate}"))?;
        self.out.iter().try_for_each(|out| writeln!(f, "out: {out}"))?;
        self.health.iter().try_for_each(|target| writeln!(f, "probed: {target}"))?;
        for neighbour in &self.neighbours {
            let mac = neighbour.mac.as_deref().unwrap_or("not known");
            writeln!(f, "neighbour: {} {mac}", neighbour.address)?;
        }
        for (title, counts) in
            [("copies sent to", &self.copies), ("start packets given to", &self.starts)]
        {
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
                "  {number}: {received} processed, {handed_off} handed off, {taken_from_workers} taken over"
            )?;
        }
        Ok(())
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
                    let found = side.verdicts.iter().find(|v| v.name == verdict.name());
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
        let made: Vec<_> = self.generated.iter().filter(|made| made.count > 0).collect();
        for made in made {
            writeln!(f, "made: {:<38} {:>12}", made.name, made.count)?;
        }
        for (port, side) in self.ports.iter().zip(Side::ALL) {
            let link = if port.link_up { "up" } else { "down" };
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
            if self.workers.len() > 1 {
                let why = if port.steered_why.is_empty() { "" } else { ": " };
                let PortStats { steered_by, steered_why, .. } = port;
                writeln!(f, "  its packets are steered by {steered_by}{why}{steered_why}")?;
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
            "\n{:<16} {:<22} {:>8} {:>8} {:>9} {:>9} {:>9}",
            "races of", "answered by", "won", "lost", "p50 ms", "p90 ms", "p99 ms"
        )?;
        for answers in &self.races {
            let mut name = answers.address.map_or("others".to_owned(), |a| a.to_string());
            if answers.origin {
                name += " origin";
            }
            let ms = |us: u64| us as f64 / 1000.0;
            let times = [answers.p50_us, answers.p90_us, answers.p99_us].map(ms);
            writeln!(
                f,
                "{:<16} {name:<22} {:>8} {:>8} {:>9.2} {:>9.2} {:>9.2}",
                answers.service, answers.won, answers.lost, times[0], times[1], times[2]
            )?;
        }
        Ok(())
    }
}
