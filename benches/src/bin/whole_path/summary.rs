//! All whole paths in one table: a row for each system, a column for each number of connections.

use crate::measure::Figure;
use crate::report::count;

/// Formats nanoseconds per packet, and the rate as a share of the io loop's in the same round, of
/// both directions together.
pub fn table(paths: &[Figure]) -> String {
    let both = |figure: &&Figure| !figure.name.ends_with("side");
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for figure in paths.iter().filter(both) {
        let connections = figure.connections;
        if !names.contains(&figure.name.as_str()) {
            names.push(&figure.name);
        }
        if !columns.iter().any(|&(seen, _)| seen == connections) {
            columns.push((connections, figure.huge_pages));
        }
    }
    // Frames from L3 below those in L1, each with its io first.
    names.sort_by_key(|name| name.ends_with("from L3"));
    let row = |first: &str, cells: &mut dyn Iterator<Item = String>| {
        format!("| {first} | {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    let mut text = row("system", &mut columns.iter().map(|&(n, _)| count(n)));
    text += &format!("|{}\n", "---|".repeat(columns.len() + 1));
    for name in names {
        let cell = |&(connections, _): &(u32, &str)| {
            let of = |figure: &&Figure| figure.name == name && figure.connections == connections;
            let figure = paths.iter().find(of);
            figure.map_or_else(String::new, |figure| match name {
                "io" | "io, from L3" => format!("{:.1}", figure.ns),
                _ => format!("{:.1} ({:.0} %)", figure.ns, figure.ratio_to_io * 100.0),
            })
        };
        text += &row(name, &mut columns.iter().map(cell));
    }
    text + &row("huge pages", &mut columns.iter().map(|&(_, pages)| pages.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_without_a_figure_stays_empty() {
        let figure = |name: &str, connections, ns: f64| Figure {
            name: name.to_owned(),
            connections,
            frame_bytes: [60; 2],
            ns,
            ns_least: ns,
            ns_most: ns,
            tsc_cycles: ns,
            mpps: 1e3 / ns,
            ratio_to_io: 10.0 / ns,
            ns_over_io: ns - 10.0,
            ratio_spread: 0.0,
            rounds: 1,
            huge_pages: if connections > 1_000 { "buffers, tables" } else { "buffers" },
        };
        let text = table(&[
            figure("io", 1_000, 10.0),
            figure("io, from L3", 1_000, 15.0),
            figure("switch", 1_000, 20.0),
            figure("switch, from inside", 1_000, 20.0),
            figure("switch", 64_000, 40.0),
        ]);
        let expected = "\
            | system | 1,000 | 64,000 |\n\
            |---|---|---|\n\
            | io | 10.0 |  |\n\
            | switch | 20.0 (50 %) | 40.0 (25 %) |\n\
            | io, from L3 | 15.0 |  |\n\
            | huge pages | buffers | buffers, tables |\n";
        assert_eq!(text, expected);
    }
}
