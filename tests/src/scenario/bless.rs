//! Writes what a scenario expects anew, from what happened. Comments, configuration and the
//! packets that come in stay as they are.

use super::check::Outcome;
use super::{Scenario, counters, render};

/// Rewrites the scenario's file.
pub fn rewrite(scenario: &Scenario, outcome: &Outcome) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", scenario.path.display());
    let old = std::fs::read_to_string(&scenario.path).map_err(failed)?;
    let mut left = outcome.left();
    let mut steps = scenario.steps.iter().zip(&outcome.packets);
    let mut lines = Vec::new();
    for line in old.lines() {
        let begins_with = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            let (step, packet) = steps.next().ok_or("more packets than were processed")?;
            let said = |key: &str| packet[key].as_str().unwrap_or_default();
            let fate = match said("fate") {
                "forwarded" => String::new(),
                fate => format!("{fate} "),
            };
            let input = line.split(" => ").next().unwrap_or_default();
            lines.push(format!("{input} => {fate}{}", said("verdict")));
            for out in packet["left"].as_array().into_iter().flatten() {
                let side = super::side(out["side"].as_str().unwrap_or_default());
                let side = side.ok_or("left by no side")?;
                let record = left[side as usize].next().ok_or("fewer packets than said")?;
                let scope = scenario.scope(side, Some(&step.frame));
                lines.push(format!("  {} {}", side.name(), render::show(&record.bytes, scope)));
            }
        } else if line.is_empty() || begins_with(&["#", "config ", "set ", "name ", "keys "]) {
            lines.push(line.to_owned());
        }
    }
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    let counted = counters::lines(scenario, &outcome.counters);
    if !counted.is_empty() {
        lines.push(String::new());
        lines.extend(counted);
    }
    std::fs::write(&scenario.path, lines.join("\n") + "\n").map_err(failed)
}
