//! Which counters moved.
//!
//! From the packets of a scenario follow what each side received, forwarded, consumed, dropped
//! and sent, and the count of each verdict. The rest is said by its lines:
//!
//! ```text
//! made resets=1                     packets made: resets, copies, arp_probes, arp_replies
//! table inserted=1 racing=1         the translation table: entries now, by state; since the start
//! table_v6 inserted=1               another section of the snapshot whose name begins so
//! race web R won=1 ms=40,62.5       answers in the races of the service "web", origin or not,
//! race web V origin lost=2 ms=80    and the times of their first ones
//! copies web/berlin=1               copies sent to a replica
//! starts web/web1=1                 start packets given to a server
//! count copies_failed=1             any other, by its path in the snapshot
//! ```
//! A line may begin with the name of any section of the snapshot. What a new counter is called
//! is known from the snapshot alone.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Scenario, Side};

/// Counters by name; those that are zero are not there.
type Counts = BTreeMap<String, u64>;

/// What differs between the counters that the scenario expects and the JSON snapshot.
pub fn differences(scenario: &Scenario, snapshot: &Value) -> Vec<String> {
    let (mut expected, races) = match expected(scenario) {
        Ok(both) => both,
        Err(error) => return vec![error],
    };
    let mut found = Counts::new();
    let mut differences = Vec::new();
    if let Some(sections) = snapshot.as_object() {
        for (name, value) in sections {
            match name.as_str() {
                "races" => differences.extend(race_differences(&races, value, scenario)),
                // One worker, whose counters are the process's.
                "workers" => {
                    if value[0]["sides"] != snapshot["sides"] {
                        differences.push("the worker's counters are not the process's".to_owned());
                    }
                    flatten("handed_off", &value[0]["handed_off"], &mut found);
                    flatten("taken_from_workers", &value[0]["taken_from_workers"], &mut found);
                }
                _ => flatten(name, value, &mut found),
            }
        }
    }
    let found = tidy(found);
    for (name, count) in found {
        let wanted = expected.remove(&name).unwrap_or(0);
        if wanted != count {
            differences.push(format!("counter {name}: expected {wanted}, found {count}"));
        }
    }
    differences.extend(
        expected
            .into_iter()
            .map(|(name, count)| format!("counter {name}: expected {count}, found 0")),
    );
    differences
}

/// Without how much tables can hold, which is configured, not counted; and their entries by the
/// state alone.
fn tidy(counts: Counts) -> Counts {
    let counts = counts.into_iter().filter(|(name, _)| !name.ends_with(".capacity"));
    let state = |name: String| match name.split_once(".live.") {
        Some((table, state)) if table.starts_with("table") => format!("{table}.{state}"),
        _ => name,
    };
    counts.map(|(name, count)| (state(name), count)).collect()
}

/// Numbers other than zero, by their path; entries of lists by side or by their own name.
fn flatten(path: &str, value: &Value, counts: &mut Counts) {
    match value {
        Value::Number(number) => {
            if let Some(number) = number.as_u64().filter(|number| *number > 0) {
                *counts.entry(path.to_owned()).or_default() += number;
            }
        }
        Value::Object(fields) => match (fields.get("name"), fields.get("count")) {
            (Some(Value::String(name)), Some(count)) => {
                flatten(&format!("{path}.{name}"), count, counts);
            }
            (Some(Value::String(name)), None) => {
                flatten(&format!("{path}.{name}"), &fields["packets"], counts);
            }
            _ => fields.iter().for_each(|(name, value)| {
                flatten(&format!("{path}.{name}"), value, counts);
            }),
        },
        Value::Array(list) if path == "sides" => {
            for (side, value) in Side::ALL.into_iter().zip(list) {
                flatten(side.name(), value, counts);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| flatten(path, value, counts)),
        _ => {}
    }
}

/// One responder of a service's races.
#[derive(Clone, Debug, Default, PartialEq)]
struct Race {
    service: String,
    /// `None` for all that found no place of their own.
    address: Option<String>,
    origin: bool,
    won: u64,
    lost: u64,
    /// Microseconds.
    times: Vec<u64>,
}

fn expected(scenario: &Scenario) -> Result<(Counts, Vec<Race>), String> {
    let (mut counts, mut races) = (Counts::new(), Vec::new());
    let mut add = |name: String, by: u64| *counts.entry(name).or_default() += by;
    for step in &scenario.steps {
        let side = step.side.name();
        add(format!("{side}.received"), 1);
        add(format!("{side}.{}", step.fate), 1);
        add(format!("{side}.verdicts.{}", step.verdict), 1);
        for (side, _) in &step.out {
            add(format!("{}.sent", side.name()), 1);
        }
    }
    for line in &scenario.counters {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        if kind == "race" {
            races.push(race(words, scenario).map_err(|error| format!("{line}: {error}"))?);
            continue;
        }
        for word in words {
            let pair = word.rsplit_once('=').and_then(|(name, n)| Some((name, n.parse().ok()?)));
            let (name, number) = pair.ok_or(format!("{line}: {word} is no counter"))?;
            let name = match kind {
                "made" => format!("generated.{name}"),
                "count" => name.to_owned(),
                section => format!("{section}.{name}"),
            };
            add(name, number);
        }
    }
    Ok((counts, races))
}

fn race<'a>(mut words: impl Iterator<Item = &'a str>, s: &Scenario) -> Result<Race, String> {
    let service = words.next().ok_or("no service")?.to_owned();
    let who = words.next().ok_or("no address")?;
    let address = match who {
        "others" => None,
        who => Some(s.names.endpoint(who)?.0.to_string()),
    };
    let mut race = Race { service, address, ..Race::default() };
    for word in words {
        match word.split_once('=') {
            None if word == "origin" => race.origin = true,
            Some(("won", n)) => race.won = n.parse().map_err(|_| "no number")?,
            Some(("lost", n)) => race.lost = n.parse().map_err(|_| "no number")?,
            Some(("ms", times)) => {
                let micros =
                    |ms: &str| super::seconds(ms).map(|time| time.as_micros() as u64 / 1000);
                // Read as seconds, so a thousand times too long.
                race.times = times.split(',').map(micros).collect::<Result<_, _>>()?;
            }
            _ => return Err(format!("{word} says nothing")),
        }
    }
    race.times.sort_unstable();
    Ok(race)
}

fn race_differences(expected: &[Race], found: &Value, scenario: &Scenario) -> Vec<String> {
    let mut missing = expected.to_vec();
    let mut differences = Vec::new();
    for answers in found.as_array().into_iter().flatten() {
        let number = |name: &str| answers[name].as_u64().unwrap_or(0);
        let service = answers["service"].as_str().unwrap_or_default();
        let address = answers["address"].as_str();
        let is_it = |race: &Race| race.service == service && race.address.as_deref() == address;
        let place = missing.iter().position(is_it);
        let race = place.map(|place| missing.remove(place)).unwrap_or_default();
        let who = address.and_then(|a| Some(scenario.names.show_address(a.parse().ok()?)));
        let who = format!("race {service} {}", who.as_deref().unwrap_or("others"));
        if (race.origin, race.won, race.lost)
            != (answers["origin"] == true, number("won"), number("lost"))
        {
            differences.push(format!(
                "{who}: expected origin={} won={} lost={}, found origin={} won={} lost={}",
                race.origin,
                race.won,
                race.lost,
                answers["origin"],
                number("won"),
                number("lost")
            ));
        }
        differences.extend(time_differences(&who, &race.times, answers));
    }
    differences.extend(missing.iter().map(|race| format!("{race:?} did not happen")));
    differences
}

/// The histogram must hold each time in a bucket that is at most an eighth wide, and the
/// quantiles must be those of the histogram.
fn time_differences(who: &str, times: &[u64], answers: &Value) -> Vec<String> {
    let buckets: Vec<_> = histogram(&answers["histogram"]).collect();
    let wrong = |(time, bound): (&u64, &u64)| {
        let fits = (*bound..=bound + bound / 8).contains(time);
        (!fits).then(|| format!("{who}: {time} us is in the bucket from {bound} us"))
    };
    if times.len() != buckets.len() {
        return vec![format!("{who}: expected the times {times:?} us, found buckets {buckets:?}")];
    }
    let mut differences: Vec<_> = times.iter().zip(&buckets).filter_map(wrong).collect();
    if buckets.is_empty() {
        return differences;
    }
    for (name, percent) in [("p50_us", 50), ("p90_us", 90), ("p99_us", 99)] {
        let rank = (buckets.len() * percent).div_ceil(100).max(1);
        let (expected, found) = (buckets.get(rank - 1).copied(), answers[name].as_u64());
        if expected != found {
            differences.push(format!("{who}: {name} is {found:?}, not {expected:?}"));
        }
    }
    differences
}

/// Lower bounds of the buckets, as often as each holds a time.
fn histogram(value: &Value) -> impl Iterator<Item = u64> {
    let pairs = value.as_array().into_iter().flatten();
    pairs.flat_map(|pair| {
        let [bound, count] = [0, 1].map(|i| pair[i].as_u64().unwrap_or(0));
        std::iter::repeat_n(bound, count as usize)
    })
}

/// The lines that say what a snapshot holds beyond what follows from the packets.
pub fn lines(scenario: &Scenario, snapshot: &Value) -> Vec<String> {
    let (mut found, mut lines) = (Counts::new(), Vec::new());
    for (name, value) in snapshot.as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "sides" | "workers" | "races") {
            flatten(name, value, &mut found);
        }
    }
    let mut found = tidy(found);
    let sections = snapshot.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
    let tables = sections.filter(|name| name.starts_with("table"));
    let own = tables.chain(["copies", "starts"]).map(|name| (format!("{name}."), name));
    let made = [("generated.".to_owned(), "made")];
    for (prefix, kind) in made.into_iter().chain(own).chain([(String::new(), "count")]) {
        let of_kind: Vec<_> =
            found.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
        let counted = of_kind
            .iter()
            .filter_map(|name| Some(format!(" {}={}", &name[prefix.len()..], found.remove(name)?)));
        let text: String = counted.collect();
        if !text.is_empty() {
            lines.push(format!("{kind}{text}"));
        }
    }
    lines.extend(race_lines(scenario, &snapshot["races"]));
    lines
}

fn race_lines(scenario: &Scenario, races: &Value) -> Vec<String> {
    let line = |answers: &Value| {
        let address = answers["address"].as_str().and_then(|address| address.parse().ok());
        let who = address.map_or("others".to_owned(), |a| scenario.names.show_address(a));
        let mut text = format!("race {} {who}", answers["service"].as_str().unwrap_or_default());
        if answers["origin"] == true {
            text += " origin";
        }
        for name in ["won", "lost"] {
            let count = answers[name].as_u64().unwrap_or(0);
            if count > 0 {
                text += &format!(" {name}={count}");
            }
        }
        let times = histogram(&answers["histogram"]);
        let times: Vec<_> = times.map(|us| format!("{}.{:03}", us / 1000, us % 1000)).collect();
        if times.is_empty() { text } else { format!("{text} ms={}", times.join(",")) }
    };
    races.as_array().into_iter().flatten().map(line).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::scenario::names::Names;

    fn scenario(counters: &[&str]) -> Scenario {
        Scenario {
            path: "x".into(),
            directory: "".into(),
            config: String::new(),
            keys: String::new(),
            names: Names::default(),
            steps: Vec::new(),
            counters: counters.iter().map(|line| (*line).to_owned()).collect(),
            defect: None,
        }
    }

    #[test]
    fn counters_that_nobody_knew_of_are_named_by_the_snapshot() {
        let snapshot = json!({
            "generated": {"copies": 2, "nd_probes": 1},
            "table": {"capacity": 9, "live": {"racing": 1, "replica": 0}, "inserted": 1},
            "table_v6": {"capacity": 9, "live": {"racing": 2}, "refused": 1},
            "starts": [{"name": "web/web1", "count": 3}],
            "paths_given_up": 1,
            "health": {"probes": 4},
        });
        let written = lines(&scenario(&[]), &snapshot);
        assert_eq!(
            written,
            [
                "made copies=2 nd_probes=1",
                "table inserted=1 racing=1",
                "table_v6 racing=2 refused=1",
                "starts web/web1=3",
                "count health.probes=4 paths_given_up=1",
            ]
        );
        let written: Vec<_> = written.iter().map(String::as_str).collect();
        assert!(differences(&scenario(&written), &snapshot).is_empty());
        let other = [&written[..4], &["count paths_given_up=1", "health probes=4"]].concat();
        assert!(differences(&scenario(&other), &snapshot).is_empty());
        let wrong = [&written[..], &["health failures=1"]].concat();
        assert_eq!(differences(&scenario(&wrong), &snapshot).len(), 1);
    }
}
