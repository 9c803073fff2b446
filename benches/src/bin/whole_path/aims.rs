//! What the fast path is to cost, and what it costs: nanoseconds over the io loop of the same run.

use std::fmt::Write as _;

use crate::measure::Figure;
use crate::pair::PairFigure;
use crate::races::RaceFigure;
use crate::report::count;

/// Numbers of connections that aims are for.
const CONNECTIONS: [u32; 3] = [1_000, 1_000_000, 8_000_000];
/// Aims in nanoseconds over io, on a current server core.
const AIMS: [(&str, [f64; 3]); 5] = [
    ("gateway A", [10.0, 18.0, 22.0]),
    ("gateway B", [7.0, 13.0, 16.0]),
    ("gateway C", [14.0, 24.0, 28.0]),
    ("switch", [10.0, 19.0, 23.0]),
    ("replica C", [16.0, 26.0, 30.0]),
];
/// Open connections beside races with an aim.
const LIVE: u32 = 1_000_000;
/// Aims in millions of races a second.
const RACES: [(&str, f64); 2] = [("gateway A", 3.5), ("gateway C", 3.0)];
/// Aims of C's rate in one direction, as a part of A's at 1 k.
const DIRECTIONS: [(&str, &str, f64); 2] =
    [("encapsulation", "from inside", 0.92), ("decapsulation", "from outside", 0.85)];

fn met(is: bool) -> &'static str {
    if is { "met" } else { "**not met**" }
}

fn find<'a>(paths: &'a [Figure], name: &str, connections: u32) -> Option<&'a Figure> {
    paths.iter().find(|figure| figure.name == name && figure.connections == connections)
}

/// Formats each aim beside its figure. Aims without a figure are left out.
pub fn table(paths: &[Figure], races: &[RaceFigure]) -> String {
    let mut text = String::new();
    for (name, aims) in AIMS {
        for (connections, aim) in CONNECTIONS.into_iter().zip(aims) {
            let of = |name: &str| find(paths, name, connections);
            let (Some(own), Some(io)) = (of(name), of("io")) else { continue };
            let l3 = of(&format!("{name}, from L3"));
            let l3 = l3.map_or_else(|| "-".to_owned(), |l3| format!("{:.1}", l3.ns_over_io));
            let (ns, over, met) = (own.ns, own.ns_over_io, met(own.ns_over_io <= aim));
            let _ = writeln!(
                text,
                "| {name} | {} | {ns:.1} | {:.1} | {over:.1} | {l3} | {aim} | {met} | {} |",
                count(connections),
                io.ns,
                own.huge_pages,
            );
        }
    }
    if !text.is_empty() {
        let head = "| role | connections | ns | io, ns | over io | over io, frames from L3 | aim, over io | | huge pages |\n|---|---|---|---|---|---|---|---|---|\n";
        text.insert_str(0, head);
    }
    directions(paths, &mut text);
    for (name, aim) in RACES {
        let found = races.iter().find(|figure| figure.name == name && figure.live == LIVE);
        let Some(figure) = found else { continue };
        let rate = figure.races_per_second / 1e6;
        let _ = writeln!(
            text,
            "\n{name}: {rate:.2} million races a second at {} live, aim {aim}: {}",
            count(LIVE),
            met(rate >= aim)
        );
    }
    text
}

fn directions(paths: &[Figure], text: &mut String) {
    for (what, side, aim) in DIRECTIONS {
        let of = |role: &str| find(paths, &format!("{role}, {side}"), CONNECTIONS[0]);
        let (Some(a), Some(c)) = (of("gateway A"), of("gateway C")) else { continue };
        let part = a.ns / c.ns;
        let _ = writeln!(
            text,
            "\n{what} at 1 k: {:.1} ns, A {:.1}: {:.0} % of A's rate, aim {:.0}: {}",
            c.ns,
            a.ns,
            part * 100.0,
            aim * 100.0,
            met(part >= aim)
        );
    }
}

/// Formats the figures of two builds side by side.
pub fn pairs(rows: &[PairFigure], other: &str) -> String {
    let mut text = format!(
        "before: {other}\n\n| case | connections | ns before | now | now / before (quartiles) | over io before | now |\n|---|---|---|---|---|---|---|\n"
    );
    for row in rows {
        let over = row.over_io.map(|over| over.map(|ns| format!("{ns:+.1}")));
        let [before, now] = over.unwrap_or_default();
        let [low, high] = row.quartiles;
        let _ = writeln!(
            text,
            "| {} | {} | {:.1} | {:.1} | {:.3} ({low:.3}, {high:.3}) | {before} | {now} |",
            row.name,
            count(row.connections),
            row.before_ns,
            row.now_ns,
            row.ratio,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(name: &str, ns: f64, over: f64) -> Figure {
        Figure {
            name: name.to_owned(),
            connections: 1_000,
            frame_bytes: [60; 2],
            ns,
            ns_least: ns,
            ns_most: ns,
            tsc_cycles: ns,
            mpps: 1e3 / ns,
            ratio_to_io: 1.0,
            ns_over_io: over,
            ratio_spread: 0.0,
            rounds: 1,
            huge_pages: "none",
        }
    }

    #[test]
    fn an_aim_is_met_at_its_figure_and_not_above() {
        let paths = [
            figure("io", 9.0, 0.0),
            figure("gateway A", 19.0, 10.0),
            figure("switch", 19.1, 10.1),
            figure("switch, from L3", 29.1, 15.1),
        ];
        let text = table(&paths, &[]);
        assert!(text.contains("| gateway A | 1,000 | 19.0 | 9.0 | 10.0 | - | 10 | met | none |"));
        assert!(text.contains("| 10.1 | 15.1 | 10 | **not met** |"), "{text}");
        assert!(!text.contains("gateway B") && !text.contains("races"), "{text}");
        assert_eq!(table(&[], &[]), "");
    }

    #[test]
    fn a_direction_of_c_is_compared_with_the_same_of_a() {
        let paths = [
            figure("gateway A, from inside", 23.0, 0.0),
            figure("gateway C, from inside", 25.0, 0.0),
            figure("gateway A, from outside", 20.0, 0.0),
            figure("gateway C, from outside", 25.0, 0.0),
        ];
        let text = table(&paths, &[]);
        assert!(
            text.contains("encapsulation at 1 k: 25.0 ns, A 23.0: 92 % of A's rate, aim 92: met")
        );
        assert!(text.contains("decapsulation at 1 k: 25.0 ns, A 20.0: 80 % of A's rate"), "{text}");
    }
}
