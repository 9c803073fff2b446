//! Which operations of the patent's figures no code, or no test, cites. An operation that either
//! leaves out must have its reason in tests/operations.txt.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// An operation and why it may be missing.
struct Operation {
    number: u16,
    title: String,
    exception: Option<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn operations() -> Vec<Operation> {
    let text = std::fs::read_to_string(root().join("tests/operations.txt")).unwrap();
    let operation = |line: &str| {
        let (what, exception) = match line.split_once(" | ") {
            Some((what, why)) => (what, Some(why.trim().to_owned())),
            None => (line, None),
        };
        let (number, title) = what.split_once(' ').unwrap();
        Operation { number: number.parse().unwrap(), title: title.trim().to_owned(), exception }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(operation).collect()
}

/// All files below a folder with one of these endings.
fn files(folder: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            files(&path, endings, found);
        } else if endings.contains(&ending) {
            found.push(path);
        }
    }
}

/// The operations that a text cites: "op 510", "ops 404, 406", "op 508-512".
fn cited(text: &str, known: &[Operation]) -> BTreeSet<u16> {
    let mut all = BTreeSet::new();
    for (at, _) in text.match_indices("op") {
        let before = text[..at].chars().next_back();
        if before.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            continue;
        }
        let rest = text[at + 2..].trim_start_matches('s').trim_start_matches([' ', '-']);
        let list = rest.split(|c: char| !c.is_ascii_digit() && !" ,-".contains(c)).next();
        for part in list.unwrap_or_default().split(',') {
            let mut ends = part.trim().split('-').filter_map(|number| number.parse::<u16>().ok());
            let Some(first) = ends.next() else { break };
            let last = ends.next().unwrap_or(first);
            all.extend(known.iter().map(|op| op.number).filter(|n| (first..=last).contains(n)));
        }
    }
    all
}

fn cited_below(folders: &[&str], known: &[Operation]) -> BTreeSet<u16> {
    let mut found = Vec::new();
    for folder in folders {
        files(&root().join(folder), &["rs", "scenario", "toml"], &mut found);
    }
    found
        .iter()
        .filter(|path| !path.ends_with("tests/operations.rs"))
        .flat_map(|path| cited(&std::fs::read_to_string(path).unwrap(), known))
        .collect()
}

#[test]
fn every_operation_is_cited_by_code_and_by_a_test_or_has_a_reason() {
    let known = operations();
    let code = cited_below(&["pipeline/src", "appliance/src"], &known);
    let tests = cited_below(&["tests/tests", "tests/src", "tests/scenarios"], &known);
    let mut unexplained = Vec::new();
    for operation in &known {
        let Operation { number, title, exception } = operation;
        let mark = |there: bool| if there { "cited" } else { "-" };
        let (in_code, in_tests) = (code.contains(number), tests.contains(number));
        let reason = exception.as_deref().unwrap_or_default();
        println!("op {number} {:6} {:6} {title}  {reason}", mark(in_code), mark(in_tests));
        if !(in_code && in_tests) && exception.is_none() {
            unexplained.push(*number);
        }
        if in_code && in_tests && exception.is_some() {
            unexplained.push(*number);
        }
    }
    assert!(
        unexplained.is_empty(),
        "not cited by both code and tests, or cited in spite of a reason not to be: {unexplained:?}"
    );
}

#[test]
fn citations_are_read_as_people_write_them() {
    let known = operations();
    let read = |text: &str| cited(text, &known).into_iter().collect::<Vec<_>>();
    assert_eq!(read("// op 510: update"), [510]);
    assert_eq!(read("(ops 404, 406) and op 508-512"), [404, 406, 508, 510, 512]);
    assert_eq!(read("\"op 508, 516\""), [508, 516]);
    assert_eq!(read("op-210"), [210]);
    assert_eq!(read("stop 510, top 510, op 999, op x"), [0; 0]);
}
