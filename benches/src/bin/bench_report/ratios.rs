//! Comparison with an accepted run, by ratios.
//!
//! Nanoseconds belong to a machine and its mood; ratios to something measured in the same run
//! belong to the code. Each ratio here is larger when the code is faster.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Change that is noise whatever the rounds' spread.
const NOISE: f64 = 0.03;
/// The spread of ratios that are measured without one.
const USUAL_SPREAD: f64 = 0.05;

/// A ratio, and the spread of its rounds as a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ratio {
    ratio: f64,
    spread: f64,
}

/// The ratios of a run by name, and what it ran on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// CPU and memory, to know an incomparable run.
    pub machine: String,
    /// Date of the run, and commit.
    pub date: String,
    pub commit: String,
    pub ratios: BTreeMap<String, Ratio>,
}

impl Run {
    /// Takes the ratios from a file written by `collect`.
    pub fn of(all: &Value) -> Self {
        let field = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let pages = huge_pages(all);
        let mut run = Self {
            machine: format!("{}, buffers in {pages}", field(&all["machine"]["cpu"])),
            date: field(&all["date"]).chars().take(10).collect(),
            commit: field(&all["commit"]),
            ratios: BTreeMap::new(),
        };
        let whole = &all["whole_path"];
        for row in rows(&whole["testpmd"]) {
            let ours = row["difference_percent"].as_f64().map(|percent| 1.0 + percent / 100.0);
            run.add(format!("{} to testpmd's", field(&row["name"])), ours, &Value::Null);
        }
        for row in rows(&whole["paths"]) {
            let name = format!("{} at {} to io", field(&row["name"]), row["connections"]);
            if !name.starts_with("io") {
                run.add(name, row["ratio_to_io"].as_f64(), &row["ratio_spread"]);
            }
        }
        // A packet of the io loop, in the frames' usual case, is the unit of races.
        let io = rows(&whole["paths"]).find(|row| row["name"] == "io");
        let io = io.and_then(|row| row["ns"].as_f64());
        for row in rows(&whole["races"]) {
            let name = format!("{}, races at {} to io", field(&row["name"]), row["live"]);
            let ratio = io.zip(row["ns_per_race"].as_f64()).map(|(io, ns)| io / ns);
            run.add(name, ratio, &row["spread"]);
        }
        let kept = whole["flood"]["kept_per_packet"].as_f64();
        run.add("gateway A beside a flood to alone".to_owned(), kept, &Value::Null);
        for row in rows(&whole["scale"]) {
            let placing = field(&row["placing"]);
            if placing != "one worker" {
                let name = format!("two workers, {placing}, at {} to one", row["connections"]);
                run.add(name, row["of_one"].as_f64(), &row["spread"]);
            }
        }
        for row in rows(&all["table"]["results"]) {
            let figure = &row["times_as_fast_as_rte_hash"];
            let name = format!("table at {} to rte_hash", row["connections"]);
            run.add(name, figure["median"].as_f64(), &Value::Null);
        }
        run
    }

    fn add(&mut self, name: String, ratio: Option<f64>, spread: &Value) {
        if let Some(ratio) = ratio.filter(|ratio| ratio.is_finite()) {
            let spread = spread.as_f64().unwrap_or(USUAL_SPREAD);
            self.ratios.insert(name, Ratio { ratio, spread });
        }
    }

    /// Makes a later run the accepted one. Ratios of steps that it lacks stay.
    pub fn accept(&mut self, later: Self) {
        let Self { machine, date, commit, ratios } = later;
        self.ratios.extend(ratios);
        (self.machine, self.date, self.commit) = (machine, date, commit);
    }

    /// Formats the change of each ratio since the accepted run. Returns the number of those that
    /// are slower beyond noise, too.
    pub fn compare(&self, accepted: &Self) -> (String, usize) {
        let mut text = format!(
            "since {} of {}: + is faster; noise is {:.0} % or the rounds' spread\n\n\
             | ratio | accepted | now | change | |\n|---|---|---|---|---|\n",
            accepted.commit,
            accepted.date,
            NOISE * 100.0
        );
        if self.machine != accepted.machine {
            let Self { machine, .. } = accepted;
            let other = format!("another machine: {machine}; here: {}\n", self.machine);
            text.insert_str(0, &other);
        }
        let mut slower = 0;
        for (name, now) in &self.ratios {
            let Some(then) = accepted.ratios.get(name) else {
                let _ = writeln!(text, "| {name} | - | {:.3} | | new |", now.ratio);
                continue;
            };
            let change = now.ratio / then.ratio - 1.0;
            let noise = NOISE.max(now.spread).max(then.spread);
            let mark = match () {
                () if change < -noise => "**slower**",
                () if change > noise => "**faster**",
                () => "",
            };
            slower += usize::from(change < -noise);
            let _ = writeln!(
                text,
                "| {name} | {:.3} | {:.3} | {:+.1} % | {mark} |",
                then.ratio,
                now.ratio,
                change * 100.0
            );
        }
        (text, slower)
    }
}

fn rows(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns where the packet buffers of a run were.
fn huge_pages(all: &Value) -> &'static str {
    let said = rows(&all["whole_path"]["paths"]).find_map(|row| row["huge_pages"].as_str());
    match said {
        Some(said) if said.starts_with("buffers") => "huge pages",
        Some(_) => "ordinary memory",
        None => "memory of unknown pages",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(ratio: f64, spread: f64) -> Run {
        let row = |name: &str, ratio: f64| {
            json!({"name": name, "connections": 1000, "ns": 10.0, "ratio_to_io": ratio,
                "ratio_spread": spread, "huge_pages": "buffers, tables"})
        };
        Run::of(&json!({
            "machine": {"cpu": "a CPU"}, "date": "2026-01-02T03:04:05Z", "commit": "abc",
            "whole_path": {
                "testpmd": [{"name": "io", "difference_percent": 5.0}],
                "paths": [row("io", 1.0), row("switch", ratio)],
                "races": [{"name": "gateway A", "live": 1000, "ns_per_race": 400.0, "spread": 0.01}],
            },
            "table": {"results": [
                {"connections": 64000, "times_as_fast_as_rte_hash": {"median": 2.0}},
            ]},
        }))
    }

    #[test]
    fn ratios_of_all_steps_are_found() {
        let run = run(0.5, 0.0);
        let seen: Vec<_> = run.ratios.iter().map(|(name, r)| (name.as_str(), r.ratio)).collect();
        let expected = [
            ("gateway A, races at 1000 to io", 0.025),
            ("io to testpmd's", 1.05),
            ("switch at 1000 to io", 0.5),
            ("table at 64000 to rte_hash", 2.0),
        ];
        assert_eq!(seen, expected);
        assert_eq!(run.machine, "a CPU, buffers in huge pages");
    }

    #[test]
    fn a_change_is_marked_when_it_is_beyond_noise() {
        let marks = |then: f64, now: f64, spread: f64| run(now, spread).compare(&run(then, 0.0));
        for (then, now, spread, mark, slower) in [
            (0.50, 0.49, 0.0, "-2.0 % |  |", 0),
            (0.50, 0.45, 0.0, "-10.0 % | **slower** |", 1),
            (0.50, 0.45, 0.2, "-10.0 % |  |", 0),
            (0.50, 0.55, 0.0, "+10.0 % | **faster** |", 0),
        ] {
            let (text, count) = marks(then, now, spread);
            assert!(text.contains(mark), "{mark} in {text}");
            assert_eq!(count, slower);
            assert!(!text.contains("another machine"), "{text}");
        }
    }

    #[test]
    fn an_accepted_run_keeps_what_the_later_one_did_not_measure() {
        let mut accepted = run(0.5, 0.0);
        let mut later = run(0.6, 0.0);
        later.ratios.retain(|name, _| name.starts_with("switch"));
        later.machine = "another".to_owned();
        let (text, _) = later.compare(&accepted);
        assert!(text.starts_with("another machine: a CPU, buffers in huge pages; here: another"));
        accepted.accept(later);
        assert_eq!(accepted.ratios["switch at 1000 to io"].ratio, 0.6);
        assert_eq!(accepted.ratios["io to testpmd's"].ratio, 1.05);
        let (text, _) = run(0.6, 0.0).compare(&Run::default());
        assert!(text.contains("| switch at 1000 to io | - | 0.600 | | new |"), "{text}");
    }
}
