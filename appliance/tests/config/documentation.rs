//! Checks docs/configuration.md and the examples against the code.

use std::collections::BTreeMap;

use firstack::config::Config;
use firstack::config::live::is_live;
use firstack::config::schema::{Fallback, KEYS};

use crate::{EXAMPLES, ROLES, example, repository};

/// A key's type and default, as written in the documentation, and whether it is marked as one that needs
/// a restart.
type Row = (String, String, bool);

fn documentation() -> String {
    std::fs::read_to_string(repository("docs/configuration.md")).unwrap()
}

fn documented() -> BTreeMap<String, Row> {
    let mut rows = BTreeMap::new();
    for line in documentation().lines() {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let ["", key, takes, default, meaning, ""] = cells[..] else { continue };
        let unmarked = key.strip_suffix(" ↻");
        let own = unmarked.unwrap_or(key);
        let Some(key) = own.strip_prefix('`').and_then(|key| key.strip_suffix('`')) else {
            continue;
        };
        assert!(!meaning.is_empty(), "{key} has no meaning");
        let row = (takes.to_owned(), default.to_owned(), unmarked.is_some());
        assert!(rows.insert(key.to_owned(), row).is_none(), "{key} is documented twice");
    }
    rows
}

fn known() -> BTreeMap<String, Row> {
    let row = |key: &firstack::config::schema::Key| {
        let default = match key.fallback {
            Fallback::Required => "*required*".to_owned(),
            Fallback::Value(value) => format!("`{value}`"),
            Fallback::Derived(words) => words.to_owned(),
        };
        (key.path.to_owned(), (key.expected(), default, !is_live(key.path)))
    };
    KEYS.iter().map(row).collect()
}

#[test]
fn documentation_and_code_know_the_same_keys_and_defaults() {
    assert_eq!(KEYS.len(), known().len(), "a key is in the schema twice");
    let (documented, known) = (documented(), known());
    for (key, row) in &known {
        let mark = if row.2 { " ↻" } else { "" };
        let line = format!("| `{key}`{mark} | {} | {} | ... |", row.0, row.1);
        assert_eq!(documented.get(key), Some(row), "docs/configuration.md should have: {line}");
    }
    for key in documented.keys() {
        assert!(known.contains_key(key), "docs/configuration.md has {key}, the code has not");
    }
}

#[test]
fn every_example_of_the_documentation_is_accepted() {
    let documentation = documentation();
    let mut roles: Vec<_> = documentation
        .split("```toml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .map(|example| match Config::parse("configuration.md", example) {
            Ok(config) => config.role.name(),
            Err(errors) => panic!("{errors}\nin\n{example}"),
        })
        .collect();
    roles.sort_unstable();
    assert_eq!(roles, ["gateway", "gateway", "replica", "replica", "switch", "switch"]);
}

#[test]
fn the_configuration_that_the_readme_shows_is_accepted() {
    let readme = std::fs::read_to_string(repository("README.md")).unwrap();
    let blocks: Vec<_> = readme.split("```toml\n").skip(1).collect();
    assert_eq!(blocks.len(), 1);
    let example = blocks[0].split("```").next().unwrap();
    Config::parse("README.md", example).unwrap_or_else(|errors| panic!("{errors}"));
}

#[test]
fn every_example_file_is_accepted() {
    let folder = std::fs::read_dir(repository("docs/examples")).unwrap();
    // Examples for routers are in subdirectories.
    let files = folder.map(|file| file.unwrap().path()).filter(|path| path.is_file());
    let mut names: Vec<_> = files.map(|path| path.file_stem().unwrap().to_owned()).collect();
    names.sort();
    assert_eq!(names, EXAMPLES);
    for name in EXAMPLES {
        let config =
            Config::parse(name, &example(name)).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(Some(config.role.name()), name.split('-').next());
    }
    for role in ROLES {
        let path = repository(&format!("docs/examples/{role}.toml"));
        let config = Config::load(&path).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(Config::parse("again", &example(role)).unwrap(), config);
    }
}
