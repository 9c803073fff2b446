//! The figures, as tables and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::flood::FloodFigure;
use crate::measure::Figure;
use crate::pair::PairFigure;
use crate::races::RaceFigure;
use crate::scale::ScaleFigure;
use crate::testpmd::Comparison;

/// The results of a run.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// CPU, priority and memory.
    pub scheduling: String,
    /// The measuring CPU.
    pub cpu: u32,
    /// Counts of the time stamp counter per second.
    pub tsc_hz: u64,
    /// Packets per burst.
    pub burst: usize,
    /// Bare loops and dpdk-testpmd.
    pub testpmd: Vec<Comparison>,
    /// Packets of open connections.
    pub paths: Vec<Figure>,
    /// The same and races, of two builds.
    pub pairs: Vec<PairFigure>,
    /// Whole races.
    pub races: Vec<RaceFigure>,
    /// The flood.
    pub flood: Option<FloodFigure>,
    /// Two workers against one.
    pub scale: Vec<ScaleFigure>,
}

impl Report {
    /// Writes the report as JSON.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The comparison with testpmd.
pub fn comparisons(rows: &[Comparison]) -> String {
    let mut text = String::from(
        "| loop on plain net_null | ours, Mpps | dpdk-testpmd, Mpps | difference |\n|---|---|---|---|\n",
    );
    for row in rows {
        let Comparison { name, ours_mpps, testpmd_mpps, difference_percent, .. } = row;
        let _ = writeln!(
            text,
            "| {name} | {ours_mpps:.1} | {testpmd_mpps:.1} | {difference_percent:+.1} % |"
        );
    }
    text
}

/// Figures of one number of connections.
pub fn figures(rows: &[Figure]) -> String {
    let mut text = String::from(
        "| system | frames, bytes | Mpps | ns per packet (least, most) | TSC cycles | of io | ns over io | huge pages |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let bytes = match row.frame_bytes {
            [0, one] | [one, 0] => one.to_string(),
            [inside, outside] if inside == outside => inside.to_string(),
            [inside, outside] => format!("{inside}, {outside}"),
        };
        let _ = writeln!(
            text,
            "| {} | {bytes} | {:.1} | {:.1} ({:.1}, {:.1}) | {:.0} | {:.0} % | {:+.1} | {} |",
            row.name,
            row.mpps,
            row.ns,
            row.ns_least,
            row.ns_most,
            row.tsc_cycles,
            row.ratio_to_io * 100.0,
            row.ns_over_io,
            row.huge_pages,
        );
    }
    text
}

/// Races at one number of other connections.
pub fn races(rows: &[RaceFigure]) -> String {
    let mut text = String::from(
        "| system | whole races a second, millions | ns per race (least, most) | packets in for each | direct copies | reports lost | huge pages |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let _ = writeln!(
            text,
            "| {} | {:.2} | {:.0} ({:.0}, {:.0}) | {:.2} | {:.2} | {:.0} % | {} |",
            row.name,
            row.races_per_second / 1e6,
            row.ns_per_race,
            row.ns_least,
            row.ns_most,
            row.packets_per_race,
            row.direct_copies,
            row.reports_lost * 100.0,
            row.huge_pages,
        );
    }
    text
}

/// Two workers against one.
pub fn scale(rows: &[ScaleFigure]) -> String {
    let mut text = String::from(
        "| gateway A, packets placed | connections | Mpps | of one worker | TSC cycles per packet and worker | handed over | refused |\n\
         |---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (handed, refused) = (100.0 * row.misplaced, 100.0 * row.refused);
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.2} | {:.0} | {handed:.1} % | {refused:.2} % |",
            row.placing,
            count(row.connections),
            row.mpps,
            row.of_one,
            row.tsc_cycles,
        );
    }
    text
}

/// The effect of the flood.
pub fn flood(figure: &FloodFigure) -> String {
    let mut text = String::from("| SYN flood at gateway A | |\n|---|---|\n");
    let mut row = |what: &str, value: String| {
        let _ = writeln!(text, "| {what} | {value} |");
    };
    row("open connections", count(figure.connections));
    row("of them lost", figure.connections_lost.to_string());
    row("SYNs of the flood, measured alone", figure.syns.to_string());
    row("packets from the inside came to", figure.syns_came_to.clone());
    row("races evicted by later ones", figure.races_evicted.to_string());
    row("memory: all open, table full, after the flood, kB", {
        let [open, full, after] = figure.memory_kb;
        format!("{open}, {full}, {after}")
    });
    row("ns per packet of open connections: alone, beside the flood", {
        format!("{:.1}, {:.1}", figure.ns_alone, figure.ns_beside)
    });
    row("cost alone over cost beside the flood", percent(figure.kept_per_packet));
    row("ns per SYN of the flood", format!("{:.1}", figure.ns_per_syn));
    row("Mpps of open connections, alone", format!("{:.1}", figure.mpps_alone));
    row("the same when every second packet is a SYN of the flood", {
        format!("{:.1} ({})", figure.mpps_half, percent(figure.mpps_half / figure.mpps_alone))
    });
    for kept in &figure.kept_under {
        let what = format!("left of it under a flood of {} ({:.2} Mpps)", kept.line, kept.mpps);
        row(&what, percent(kept.kept));
    }
    row("Mpps of SYNs that leave 70 % of it", format!("{:.1}", figure.mpps_that_leave_70_percent));
    text
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// Formats a number of connections.
pub fn count(connections: u32) -> String {
    let digits = connections.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(super::count(1), "1");
        assert_eq!(super::count(64_000), "64,000");
        assert_eq!(super::count(8_000_000), "8,000,000");
    }
}
