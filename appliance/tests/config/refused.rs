//! Files that are refused, each with the expected error lines.
//!
//! The expected lines are at the end of each file, as comments that begin with `#!`. After a
//! deliberate change of wording, `FIRSTACK_BLESS=1` rewrites them; the diff is the review.

use std::path::{Path, PathBuf};

use firstack::config::Config;

const MARK: &str = "#! ";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config")
}

fn bad_files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    files
}

#[test]
fn every_bad_file_is_refused_in_the_expected_words() {
    let mut different = Vec::new();
    let files = bad_files();
    assert!(files.len() > 30, "the bad files are not where they should be");
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let (lines, marked): (Vec<_>, Vec<_>) =
            text.lines().partition(|line| !line.starts_with(MARK));
        let expected: Vec<_> = marked.iter().map(|line| line[MARK.len()..].to_owned()).collect();
        let actual: Vec<_> = match Config::parse(name, &text) {
            Ok(_) => Vec::new(),
            Err(errors) => errors.iter().map(ToString::to_string).collect(),
        };
        assert!(!actual.is_empty(), "{name} is accepted");
        if std::env::var_os("FIRSTACK_BLESS").is_some() {
            let mut text = lines.join("\n").trim_end().to_owned();
            text.push_str("\n\n");
            actual.iter().for_each(|line| text.push_str(&format!("{MARK}{line}\n")));
            std::fs::write(&path, text).unwrap();
        } else if actual != expected {
            different.push(format!(
                "{name}:\n  expected\n    {}\n  actual\n    {}",
                expected.join("\n    "),
                actual.join("\n    ")
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn errors_print_one_line_each_in_the_order_of_the_file() {
    let errors = Config::parse("g.toml", "role = \"gateway\"\nx = 1\nlog.level = 3\n").unwrap_err();
    let printed = errors.to_string();
    assert_eq!(printed.lines().count(), errors.iter().count());
    let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
    assert!(lines.is_sorted(), "{printed}");
    assert!(!printed.ends_with('\n'));
}

#[test]
fn a_file_that_cannot_be_read_is_one_error_with_its_name() {
    let missing = folder().join("no-such-file.toml");
    let errors = Config::load(&missing).unwrap_err();
    let printed = errors.to_string();
    assert!(printed.starts_with(&format!("{}: cannot be read: ", missing.display())), "{printed}");
    assert_eq!(errors.iter().count(), 1);
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"role = \"gateway\"\n\n# caf\xe9\n").unwrap();
    let printed = Config::load(file.path()).unwrap_err().to_string();
    assert_eq!(printed, format!("{}:3: is not text; expected UTF-8", file.path().display()));
}
