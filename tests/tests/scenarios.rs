//! Replays every scenario below `scenarios` with the library. Gives every frame that left, and every
//! sound one that came in, to two independent decoders. Checks that what scenarios and comments
//! cite exists.

use std::path::{Path, PathBuf};

use firstack::config::Config;
use firstack::replay::{self, Options, Report};
use firstack_packets::Frame;
use firstack_tests::citation::Documents;
use firstack_tests::decoder;
use firstack_tests::scenario::Scenario;
use firstack_tests::scenario::check::Job;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn directory() -> PathBuf {
    root().join("tests/scenarios")
}

/// The library's replay.
fn library(job: &Job) -> Result<String, String> {
    replay_with(job, false)
}

/// The library's replay, with a reload before each packet.
fn reloading(job: &Job) -> Result<String, String> {
    replay_with(job, true)
}

fn replay_with(job: &Job, reloads: bool) -> Result<String, String> {
    let config = Config::load(&job.config).map_err(|errors| errors.to_string())?;
    let options = Options {
        inside: job.inside.clone(),
        outside: job.outside.clone(),
        out: job.out.clone(),
        report: Report::Json,
        reloads,
    };
    let mut print = Vec::new();
    let remarks = replay::run(&config, &options, &mut print).map_err(|error| error.to_string())?;
    match [remarks.damage, remarks.notes].concat() {
        said if said.is_empty() => String::from_utf8(print).map_err(|error| error.to_string()),
        said => Err(said.join("\n")),
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

/// Packets, verdicts and counters are as without it.
#[test]
fn a_reload_of_the_same_configuration_before_every_packet_changes_nothing() {
    let scenarios = scenarios();
    let sound = scenarios.iter().filter(|scenario| scenario.defect.is_none());
    for scenario in sound {
        let [usual, reloaded] = [scenario.replay(&library), scenario.replay(&reloading)];
        let usual = usual.unwrap_or_else(|error| panic!("{}: {error}", scenario.name()));
        let reloaded = reloaded.unwrap_or_else(|error| panic!("{}: {error}", scenario.name()));
        assert_eq!(usual.packets, reloaded.packets, "{}", scenario.name());
        assert_eq!(usual.counters, reloaded.counters, "{}", scenario.name());
        assert!(usual.captures == reloaded.captures, "{}: captures", scenario.name());
    }
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

/// The files below a folder with this ending.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path, ending) } else { vec![path] };
    let is_one = |path: &PathBuf| path.extension().is_some_and(|found| found == ending);
    entries.flat_map(below).filter(is_one).collect()
}

fn documents() -> Documents {
    Documents::load(&root()).unwrap()
}

#[test]
fn every_scenario_cites_the_section_in_which_its_rule_stands() {
    let documents = documents();
    let mut wrong = Vec::new();
    for scenario in &scenarios() {
        let text = std::fs::read_to_string(&scenario.path).unwrap();
        if let Err(error) = documents.check_scenario(&text) {
            wrong.push(format!("{}: {error}", scenario.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn comments_cite_sections_that_exist() {
    let documents = documents();
    let mut wrong = Vec::new();
    for folder in ["pipeline/src", "appliance/src", "tests/src", "tests/tests"] {
        for path in files(&root().join(folder), "rs") {
            // Its tests have citations of what does not exist.
            if path.ends_with("tests/src/citation.rs") {
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            if let Err(error) = documents.check_text(&text) {
                wrong.push(format!("{}: {error}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_example_of_the_readme_is_a_scenario() {
    let readme = std::fs::read_to_string(root().join("tests/README.md")).unwrap();
    let example = readme.split("```scenario\n").nth(1).and_then(|rest| rest.split("```").next());
    let scenario = directory().join("gateway/race/refused-by-replica.scenario");
    assert_eq!(example, Some(std::fs::read_to_string(scenario).unwrap().as_str()));
}
