//! Criterion's estimates, from the files that it leaves.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// Returns every benchmark's median in nanoseconds, per iteration and, where the benchmark declares
/// a throughput, per element, ordered by name.
pub fn estimates(folder: &Path) -> Result<Vec<Value>> {
    let mut found = Vec::new();
    walk(folder, &mut found)?;
    found.sort_by(|one, other| one["name"].as_str().cmp(&other["name"].as_str()));
    Ok(found)
}

/// Formats the estimates as a table.
pub fn table(estimates: &[Value]) -> String {
    let mut text =
        String::from("| benchmark | ns, median | ns for each element |\n|---|---|---|\n");
    let number = |value: &Value| value.as_f64().map_or(String::new(), |ns| format!("{ns:.1}"));
    for estimate in estimates {
        let name = estimate["name"].as_str().unwrap_or_default();
        let (ns, each) = (number(&estimate["ns"]), number(&estimate["ns_per_element"]));
        text.push_str(&format!("| {name} | {ns} | {each} |\n"));
    }
    text
}

fn walk(folder: &Path, found: &mut Vec<Value>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        if !path.is_dir() {
            continue;
        }
        match path.file_name().is_some_and(|name| name == "new") {
            true => found.extend(estimate(&path)),
            false => walk(&path, found)?,
        }
    }
    Ok(())
}

/// Reads one benchmark's estimate. Returns `None` when the files are not in criterion's format.
fn estimate(folder: &Path) -> Option<Value> {
    let read = |name| -> Option<Value> {
        serde_json::from_str(&fs::read_to_string(folder.join(name)).ok()?).ok()
    };
    let (benchmark, estimates) = (read("benchmark.json")?, read("estimates.json")?);
    let ns = estimates["median"]["point_estimate"].as_f64()?;
    let elements = benchmark["throughput"]["Elements"].as_f64();
    Some(json!({
        "name": benchmark["full_id"].as_str()?,
        "ns": ns,
        "ns_per_element": elements.map(|elements| ns / elements),
        "lower": estimates["median"]["confidence_interval"]["lower_bound"],
        "upper": estimates["median"]["confidence_interval"]["upper_bound"],
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_found_by_element() {
        let folder = std::env::temp_dir().join(format!("bench_report_{}", std::process::id()));
        let new = folder.join("group/case/new");
        fs::create_dir_all(&new).unwrap();
        let benchmark = json!({"full_id": "group/case", "throughput": {"Elements": 32}});
        let interval = json!({"lower_bound": 60.0, "upper_bound": 70.0});
        let median = json!({"point_estimate": 64.0, "confidence_interval": interval});
        fs::write(new.join("benchmark.json"), benchmark.to_string()).unwrap();
        fs::write(new.join("estimates.json"), json!({"median": median}).to_string()).unwrap();
        let found = estimates(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((&found[0]["ns"], &found[0]["ns_per_element"]), (&json!(64.0), &json!(2.0)));
        assert_eq!(found[0]["name"], "group/case");
        assert!(table(&found).ends_with("| group/case | 64.0 | 2.0 |\n"));
    }
}
