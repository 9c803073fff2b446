//! Every scenario below `scenarios`, through the library's replay; every frame that left, and
//! every one that came in and was meant to be sound, past two decoders that are not ours.

use std::path::{Path, PathBuf};

use appliance::config::Config;
use appliance::replay::{self, Options, Report};
use firstack_packets::Frame;
use firstack_tests::decoder;
use firstack_tests::scenario::Scenario;
use firstack_tests::scenario::check::Job;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// The library's replay.
fn library(job: &Job) -> Result<String, String> {
    let config = Config::load(&job.config).map_err(|errors| errors.to_string())?;
    let options = Options {
        inside: job.inside.clone(),
        outside: job.outside.clone(),
        out: job.out.clone(),
        report: Report::Json,
    };
    let mut print = Vec::new();
    let damage = replay::run(&config, &options, &mut print).map_err(|error| error.to_string())?;
    if damage.is_empty() {
        String::from_utf8(print).map_err(|error| error.to_string())
    } else {
        Err(damage.join("\n"))
    }
}

/// The scenarios named in `FIRSTACK_SCENARIO` (a part of the name), otherwise all.
fn scenarios() -> Vec<Scenario> {
    let wanted = std::env::var("FIRSTACK_SCENARIO").unwrap_or_default();
    let mut scenarios = Vec::new();
    for scenario in Scenario::load_all(&directory()) {
        scenarios.push(scenario.unwrap_or_else(|error| panic!("{error}")));
    }
    scenarios.retain(|scenario| scenario.name().contains(&wanted));
    assert!(!scenarios.is_empty(), "no scenario is called {wanted}");
    scenarios
}

#[test]
fn every_scenario_comes_out_as_written() {
    let scenarios = scenarios();
    let mut failures = Vec::new();
    for scenario in &scenarios {
        let result = scenario.check(&library);
        match (&scenario.defect, result) {
            (None, Ok(_)) => {}
            (None, Err(report)) => failures.push(report),
            (Some(defect), Err(report)) => {
                println!("known defect: {defect}\n{report}");
            }
            (Some(_), Ok(_)) => {
                failures.push(format!("{}\n  works: take its `defect` line out", scenario.name()));
            }
        }
    }
    let (count, all) = (failures.len(), scenarios.len());
    assert!(failures.is_empty(), "{count} of {all} scenarios\n\n{}", failures.join("\n"));
}

#[test]
fn other_decoders_find_nothing_wrong_with_what_leaves() {
    let mut frames = decoder::Frames::default();
    for scenario in &scenarios() {
        let outcome =
            scenario.replay(&library).unwrap_or_else(|e| panic!("{}: {e}", scenario.name()));
        // What came in malformed and leaves so is none of the appliance's making.
        let out = scenario.steps.iter().flat_map(|step| &step.out).map(|(_, frame)| frame);
        let malformed: Vec<_> = out.filter(|frame| !frame.is_sound()).map(Frame::bytes).collect();
        for step in scenario.steps.iter().filter(|step| step.frame.is_sound()) {
            frames.add(format!("{}:{} in", scenario.name(), step.line), step.frame.bytes());
        }
        for record in outcome.left().into_iter().flatten() {
            if !malformed.contains(&record.bytes) {
                frames.add(format!("{} out", scenario.name()), record.bytes);
            }
        }
    }
    let complaints = frames.complaints();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn every_scenario_says_where_its_rule_stands() {
    for scenario in &scenarios() {
        let text = std::fs::read_to_string(&scenario.path).unwrap_or_default();
        let comment: Vec<_> = text.lines().take_while(|line| line.starts_with('#')).collect();
        let comment = comment.join(" ");
        let cites =
            ["op ", "ops ", "section ", "sections "].iter().any(|word| comment.contains(word));
        assert!(cites, "{} cites neither an operation nor a section", scenario.name());
    }
}
