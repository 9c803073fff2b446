//! docs/patent.md shows for each operation of the patent's figures the functions that carry it out,
//! the counters and the scenarios. This test collects them: each operation has to be cited beside a
//! statement (`// op 510`) and in a test, or needs its reason in tests/operations.txt.
//! `FIRSTACK_BLESS=1` rewrites the page.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use firstack_tests::citation;
use firstack_tests::sources::{Source, files, read, root};
use pipeline::verdict::Verdict;

const PAGE: &str = "docs/patent.md";

const HEAD: &str = "\
# The patent

Where firstack carries out what the figures of US patent 7,072,979 (\"Wide area load balancing of web
traffic\") describe: one table per figure, one row per operation. The descriptions are ours, not the
patent's text, and use the words of the [glossary](glossary.md): SYN for \"start packet\", SYN/ACK for
\"acknowledgement packet\", decapsulate for \"crack\".

firstack does more than the figures show, and deviates from them in places:
[protocol.md](protocol.md), section 14, lists both.

- *Functions* are those that cite the operation, beside a statement or in their doc comment. Paths
  are below `pipeline/src`, unless they begin with `appliance`.
- *Counters* are the [verdicts](counters.md) that name the operation.
- *Scenarios* are counted in the table, and listed below it, as paths below `tests/scenarios`.

In code and tests, `grep -rnE 'ops? .*510'` finds operation 510: lists name each operation singly.

This page is generated from `tests/operations.txt` and the code.
";

/// The tables: title, and how the figures that belong to it begin.
const TABLES: [(&str, &str); 5] = [
    ("Figure 2: the gateway tags a SYN", "2"),
    ("Figure 3: the switch copies it to the replicas", "3"),
    ("Figures 4A, 4B and 4C: a replica answers, in configurations A, B and C", "4"),
    ("Figures 5A, 5B and 5C: the gateway decides the race", "5"),
    ("Figures 6A, 6B and 6C: the gateway translates", "6"),
];

/// Labels, or examples of citations: neither code nor test.
const NOT_SCANNED: [&str; 2] = ["pipeline/src/verdict.rs", "tests/src/citation.rs"];

/// An operation, and where it is cited.
#[derive(Default)]
struct Operation {
    figures: String,
    statement: String,
    /// Why no code carries it out, or no test cites it.
    reason: Option<String>,
    /// `path:function`.
    functions: BTreeSet<String>,
    beside_a_statement: bool,
    in_a_test: bool,
    scenarios: BTreeSet<String>,
}

/// All operations, and what is wrong with citations: "path:line: ...".
struct Citations {
    operations: BTreeMap<u16, Operation>,
    faults: Vec<String>,
}

impl Citations {
    fn collect() -> Self {
        let text = read("tests/operations.txt");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let operations = lines.map(Operation::parse).collect();
        let mut citations = Self { operations, faults: Vec::new() };
        let sources = ["pipeline/src", "appliance/src"].map(Source::below);
        for source in sources.iter().flatten().filter(|s| is_scanned(&s.path)) {
            citations.add_code(source);
        }
        let folders = ["pipeline/src", "appliance/src", "appliance/tests", "tests/src"];
        for path in folders.iter().chain(&["tests/tests", "tests/scenarios"]).flat_map(|f| files(f))
        {
            citations.add_test(&path);
        }
        citations
    }

    /// Adds what the comments of a source file cite. Strings are labels.
    fn add_code(&mut self, source: &Source) {
        for cited in citation::operations(&source.comments()) {
            let function = source.function_at(cited.line);
            for number in cited.numbers {
                let Some(operation) = self.operations.get_mut(&number) else { continue };
                operation.beside_a_statement |= source.is_beside_a_statement(cited.line);
                if let Some(function) = &function {
                    let path = source.path.strip_prefix("pipeline/src/");
                    let path = path.unwrap_or(&source.path);
                    operation.functions.insert(format!("{path}:{function}"));
                }
            }
        }
    }

    /// Checks every citation of a file of code or tests, and adds those of tests.
    fn add_test(&mut self, path: &str) {
        if !is_scanned(path) || ![".rs", ".scenario", ".toml"].iter().any(|end| path.ends_with(end))
        {
            return;
        }
        let is_test = path.starts_with("tests/") || path.contains("/tests");
        for cited in citation::operations(&read(path)) {
            let place = format!("{path}:{}", cited.line + 1);
            if cited.has_range {
                self.faults.push(format!("{place}: a range; list the operations singly"));
            }
            for number in cited.numbers {
                match self.operations.get_mut(&number) {
                    None => self.faults.push(format!("{place}: there is no operation {number}")),
                    Some(operation) if is_test => {
                        operation.in_a_test = true;
                        let scenario = path.strip_prefix("tests/scenarios/");
                        let scenario = scenario.and_then(|path| path.strip_suffix(".scenario"));
                        operation.scenarios.extend(scenario.map(str::to_owned));
                    }
                    Some(_) => {}
                }
            }
        }
    }

    fn page(&self) -> String {
        let mut page = HEAD.to_owned();
        for (title, figure) in TABLES {
            let _ = writeln!(page, "\n## {title}\n");
            page.push_str("| op | figures | the patent | functions | counters | scenarios |\n");
            page.push_str("|---|---|---|---|---|---|\n");
            let rows = || self.operations.iter().filter(|(_, op)| op.figures.starts_with(figure));
            for (number, operation) in rows() {
                page.push_str(&operation.row(*number));
            }
            page.push_str("\nScenarios:\n\n");
            for (number, operation) in rows().filter(|(_, op)| !op.scenarios.is_empty()) {
                let names = operation.scenarios.iter().map(|name| format!("`{name}`"));
                page.push_str(&list_item(&format!("{number}:"), names));
            }
        }
        page
    }
}

impl Operation {
    fn parse(line: &str) -> (u16, Self) {
        let mut columns = line.split(" | ").map(|column| column.trim().to_owned());
        let mut next = || columns.next().unwrap_or_else(|| panic!("a column is missing: {line}"));
        let number = next().parse().unwrap_or_else(|_| panic!("not a number: {line}"));
        let operation = Self { figures: next(), statement: next(), ..Self::default() };
        (number, Self { reason: columns.next(), ..operation })
    }

    fn row(&self, number: u16) -> String {
        let Self { figures, statement, reason, functions, scenarios, .. } = self;
        let code = |names: &BTreeSet<String>| {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            names.join("<br>")
        };
        let counters = Verdict::ALL.iter().filter(|v| names(v.operation()).contains(&number));
        let counters = code(&counters.map(|verdict| verdict.name().to_owned()).collect());
        let functions = match reason {
            Some(reason) if functions.is_empty() => format!("none: {reason}"),
            Some(reason) => format!("{}<br>{reason}", code(functions)),
            None => code(functions),
        };
        let count = scenarios.len();
        format!("| {number} | {figures} | {statement} | {functions} | {counters} | {count} |\n")
    }

    /// What is missing, or too much.
    fn fault(&self) -> Option<&'static str> {
        match (self.beside_a_statement, self.in_a_test, &self.reason) {
            (false, _, None) => Some("cited beside no statement of the code"),
            (_, false, None) => Some("cited by no test"),
            (true, true, Some(_)) => Some("cited, in spite of a reason not to be"),
            _ => None,
        }
    }
}

fn is_scanned(path: &str) -> bool {
    !NOT_SCANNED.contains(&path)
}

/// The numbers in a verdict's `operation()`.
fn names(operation: &str) -> Vec<u16> {
    citation::operations(operation).into_iter().flat_map(|cited| cited.numbers).collect()
}

/// A list's item of words separated by commas, wrapped at 100 columns.
fn list_item(head: &str, words: impl Iterator<Item = String>) -> String {
    let mut words = words.peekable();
    let (mut text, mut width) = (format!("- {head}"), head.len() + 2);
    while let Some(word) = words.next() {
        let comma = if words.peek().is_some() { "," } else { "" };
        width += word.len() + comma.len() + 1;
        if width > 100 {
            text.push_str("\n ");
            width = word.len() + comma.len() + 2;
        }
        let _ = write!(text, " {word}{comma}");
    }
    text + "\n"
}

#[test]
fn citations_name_single_operations_that_exist() {
    let faults = Citations::collect().faults;
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_operation_is_cited_by_code_and_by_a_test_or_has_a_reason() {
    let citations = Citations::collect();
    let fault = |(number, op): (&u16, &Operation)| Some(format!("op {number}: {}", op.fault()?));
    let faults: Vec<_> = citations.operations.iter().filter_map(fault).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn verdicts_name_operations_that_exist() {
    let known = Citations::collect().operations;
    for verdict in Verdict::ALL {
        let (name, operation) = (verdict.name(), verdict.operation());
        let numbers = names(operation);
        assert_eq!(numbers.is_empty(), operation.is_empty(), "{name}: {operation}");
        assert!(numbers.iter().all(|number| known.contains_key(number)), "{name}: {operation}");
    }
}

#[test]
fn the_page_about_the_patent_is_up_to_date() {
    let page = Citations::collect().page();
    if std::env::var_os("FIRSTACK_BLESS").is_some() {
        std::fs::write(root().join(PAGE), &page).unwrap();
    }
    let found = std::fs::read_to_string(root().join(PAGE)).unwrap_or_default();
    assert!(found == page, "{PAGE} is out of date: FIRSTACK_BLESS=1 rewrites it");
}
