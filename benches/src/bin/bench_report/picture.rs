//! The chart: nanoseconds per packet over the number of connections, both axes logarithmic.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
/// The plot area: left, top, right, bottom.
const PLOT: [f64; 4] = [70.0, 50.0, 620.0, 430.0];
/// A label's height.
const LABEL: f64 = 16.0;
/// The limits of the axes.
const CONNECTIONS: [f64; 2] = [1e3, 1e7];
const NS: [f64; 2] = [5.0, 100.0];
/// Dashes of lines from L3.
const DASHED: &str = r#" stroke-dasharray="6 4""#;

/// The measured paths, and their colours.
const PATHS: [(&str, &str); 6] = [
    ("io", "#777777"),
    ("gateway A", "#1f6fb4"),
    ("gateway B", "#2a9d4a"),
    ("gateway C", "#c8511b"),
    ("switch", "#8a4fb0"),
    ("replica C", "#a08000"),
];
/// Those of them that are drawn with frames from L3, too.
const FROM_L3: [&str; 2] = ["io", "gateway A"];

fn x(connections: f64) -> f64 {
    let [left, _, right, _] = PLOT;
    let [from, to] = CONNECTIONS.map(f64::log10);
    left + (connections.log10() - from) / (to - from) * (right - left)
}

fn y(ns: f64) -> f64 {
    let [_, top, _, bottom] = PLOT;
    let [from, to] = NS.map(f64::log10);
    bottom - (ns.clamp(NS[0], NS[1]).log10() - from) / (to - from) * (bottom - top)
}

/// Returns the SVG chart of a file written by `collect`.
pub fn draw(all: &Value) -> Result<String> {
    let paths = all["whole_path"]["paths"].as_array().context("no figures of whole paths")?;
    let mut svg = String::new();
    frame(&mut svg, all)?;
    let mut labels = Vec::new();
    for (name, colour) in PATHS {
        for (suffix, dashes) in [("", ""), (", from L3", DASHED)] {
            if !suffix.is_empty() && !FROM_L3.contains(&name) {
                continue;
            }
            let label = format!("{name}{suffix}");
            let points = points(paths, &label);
            line(&mut svg, (colour, dashes), &points)?;
            if let Some((_, ns)) = points.last() {
                labels.push((y(*ns), colour, format!("{label}: {ns:.0} ns")));
            }
        }
    }
    spread(&mut labels);
    for (y, colour, label) in labels {
        text(&mut svg, (PLOT[2] + 12.0, y + 4.0), "start", colour, &label)?;
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

/// Returns a path's connections and nanoseconds, fewest connections first.
fn points(paths: &[Value], name: &str) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = paths
        .iter()
        .filter(|figure| figure["name"] == name)
        .filter_map(|figure| Some((figure["connections"].as_f64()?, figure["ns"].as_f64()?)))
        .filter(|(connections, _)| *connections >= CONNECTIONS[0])
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

/// Background, axes and titles.
fn frame(svg: &mut String, all: &Value) -> Result<()> {
    let [left, top, right, bottom] = PLOT;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">"#
    )?;
    writeln!(svg, r##"<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>"##)?;
    let title =
        "Nanoseconds per packet on one core: open connections, TCP frames of 60 bytes (C: and 80)";
    writeln!(svg, r##"<text x="{left}" y="24" font-size="15" fill="#111111">{title}</text>"##)?;
    let field = |name: &str| all[name].as_str().unwrap_or_default();
    let cpu = all["machine"]["cpu"].as_str().unwrap_or_default();
    let date = field("date").chars().take(10).collect::<String>();
    let below = format!("firstack {}, {date}, {cpu}.", field("commit"));
    text(svg, (left, HEIGHT - 30.0), "start", "#444444", &below)?;
    let dashed = "Dashed: the frames come from L3, as those of a card do. Else they are in L1.";
    text(svg, (left, HEIGHT - 12.0), "start", "#444444", dashed)?;
    for (connections, label) in
        [(1e3, "1 k"), (1e4, "10 k"), (1e5, "100 k"), (1e6, "1 M"), (1e7, "10 M")]
    {
        let x = x(connections);
        writeln!(
            svg,
            r##"<line x1="{x:.1}" y1="{top}" x2="{x:.1}" y2="{bottom}" stroke="#e4e4e4"/>"##
        )?;
        text(svg, (x, bottom + 18.0), "middle", "#111111", label)?;
    }
    text(svg, ((left + right) / 2.0, bottom + 38.0), "middle", "#111111", "connections")?;
    for ns in [5.0, 10.0, 20.0, 50.0, 100.0] {
        let y = y(ns);
        writeln!(
            svg,
            r##"<line x1="{left}" y1="{y:.1}" x2="{right}" y2="{y:.1}" stroke="#e4e4e4"/>"##
        )?;
        text(svg, (left - 8.0, y + 4.0), "end", "#111111", &format!("{ns:.0}"))?;
    }
    text(svg, (left - 8.0, top - 12.0), "end", "#111111", "ns")?;
    let (width, height) = (right - left, bottom - top);
    writeln!(
        svg,
        r##"<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#999999"/>"##
    )?;
    Ok(())
}

/// Moves overlapping labels down, from the topmost on.
fn spread(labels: &mut [(f64, &str, String)]) {
    labels.sort_by(|one, other| one.0.total_cmp(&other.0));
    let mut free = f64::NEG_INFINITY;
    for (y, ..) in labels {
        *y = y.max(free);
        free = *y + LABEL;
    }
}

/// Draws one system's points and the line that joins them.
fn line(svg: &mut String, (colour, dashes): (&str, &str), points: &[(f64, f64)]) -> Result<()> {
    let places: Vec<_> =
        points.iter().map(|&(n, ns)| format!("{:.1},{:.1}", x(n), y(ns))).collect();
    writeln!(
        svg,
        r#"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>"#,
        places.join(" ")
    )?;
    for &(n, ns) in points {
        writeln!(svg, r#"<circle cx="{:.1}" cy="{:.1}" r="3.5" fill="{colour}"/>"#, x(n), y(ns))?;
    }
    Ok(())
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, fill: &str, words: &str) -> Result<()> {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(
        svg,
        r#"<text x="{x:.1}" y="{y:.1}" text-anchor="{anchor}" fill="{fill}">{words}</text>"#
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_subject_is_in_the_picture_and_in_its_place() {
        let figure =
            |name: &str, n: u32, ns: f64| json!({"name": name, "connections": n, "ns": ns});
        let paths = json!([
            figure("io", 1_000, 20.0),
            figure("gateway A", 64_000, 100.0),
            figure("gateway A", 1_000, 50.0),
            figure("gateway A", 1, 40.0),
            figure("gateway A, from L3", 1_000, 60.0),
            figure("gateway A, from inside", 1_000, 6.0),
        ]);
        let svg = draw(&json!({"whole_path": {"paths": paths}})).unwrap();
        // Ordered by connections, and none outside the axes.
        let places = format!("{:.1},{:.1} {:.1},{:.1}", x(1e3), y(50.0), x(64e3), y(100.0));
        assert!(svg.contains(&format!(r#"points="{places}""#)), "{svg}");
        assert_eq!((y(NS[0]), y(NS[1])), (PLOT[3], PLOT[1]));
        assert!(svg.contains("io: 20 ns") && svg.contains("gateway A: 100 ns"));
        assert!(svg.contains("gateway A, from L3: 60 ns") && svg.contains(DASHED));
        assert!(!svg.contains("gateway B"));
        assert!(draw(&json!({})).is_err());
        let label = |y| (y, "", String::new());
        let mut labels = [label(110.0), label(100.0), label(200.0)];
        spread(&mut labels);
        assert_eq!(labels.map(|label| label.0), [100.0, 116.0, 200.0]);
    }
}
