//! The figures as text and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::measure::{Measured, median};

/// Below this number of connections, memory per connection is meaningless: pages dominate.
const MEMORY_FROM: usize = 64_000;

/// A figure over all rounds.
#[derive(Clone, Copy, Debug)]
struct Figure {
    median: f64,
    best: f64,
    worst: f64,
}

impl Figure {
    fn of(mut figures: Vec<f64>) -> Self {
        let median = median(&mut figures);
        Self { median, best: figures[0], worst: figures[figures.len() - 1] }
    }

    fn json(self) -> Value {
        let round = |figure: f64| (figure * 100.0).round() / 100.0;
        json!({
            "median": round(self.median), "best": round(self.best), "worst": round(self.worst),
        })
    }
}

struct Row {
    name: &'static str,
    find_ns: Figure,
    renew_ns: Figure,
    bytes: Option<f64>,
}

/// All tables at one number of connections.
pub(crate) struct Summary {
    connections: usize,
    rows: Vec<Row>,
    /// Speed of the first candidate over that of the last, in each round.
    ratio: Figure,
}

impl Summary {
    /// Creates it from rounds with the same candidates in the same order, ours first and rte_hash
    /// last.
    pub(crate) fn of(connections: usize, rounds: &[Vec<Measured>]) -> Self {
        let tables = rounds.first().map_or(0, Vec::len);
        let figure = |table: usize, what: fn(&Measured) -> f64| {
            Figure::of(rounds.iter().map(|round| what(&round[table])).collect())
        };
        let row = |table: usize| Row {
            name: rounds[0][table].name,
            find_ns: figure(table, |m| m.find_ns),
            renew_ns: figure(table, |m| m.renew_ns),
            bytes: (connections >= MEMORY_FROM).then(|| {
                median(&mut rounds.iter().map(|round| round[table].bytes).collect::<Vec<_>>())
            }),
        };
        let ratio = |round: &Vec<Measured>| round[tables - 1].find_ns / round[0].find_ns;
        Self {
            connections,
            rows: (0..tables).map(row).collect(),
            ratio: Figure::of(rounds.iter().map(ratio).collect()),
        }
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!(
            "{:<22} {:>24} {:>26} {:>12}\n{:<22} {:>24} {:>26} {:>12}\n",
            format!("{} connections", self.connections),
            "find, ns per key",
            "remove + insert, ns",
            "bytes per",
            "",
            "median (best - worst)",
            "median (best - worst)",
            "connection",
        );
        let spread = |f: Figure| format!("{:.1} ({:.1} - {:.1})", f.median, f.best, f.worst);
        for Row { name, find_ns, renew_ns, bytes } in &self.rows {
            let bytes = bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.0}"));
            let (find, renew) = (spread(*find_ns), spread(*renew_ns));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name:<22} {find:>24} {renew:>26} {bytes:>12}");
        }
        let Figure { median, best, worst } = self.ratio;
        text + &format!(
            "ours finds {median:.2} times as fast as rte_hash_lookup_bulk ({best:.2} - {worst:.2})\n"
        )
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "table": row.name,
                "find_ns": row.find_ns.json(),
                "remove_insert_ns": row.renew_ns.json(),
                "bytes_per_connection": row.bytes.map(f64::round),
            })
        };
        json!({
            "connections": self.connections,
            "tables": self.rows.iter().map(row).collect::<Vec<_>>(),
            "times_as_fast_as_rte_hash": self.ratio.json(),
        })
    }
}

/// The whole report.
pub(crate) fn json(all: &[Summary], rte_hash_pages: &str) -> Value {
    json!({
        "benchmark": "table",
        "burst": firstack_benches::BURST,
        "rte_hash_lies_in": rte_hash_pages,
        "results": all.iter().map(Summary::json).collect::<Vec<_>>(),
    })
}
