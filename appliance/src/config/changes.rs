//! The difference between two versions of a configuration file, for operators: which keys and
//! sections were added, removed and changed, and which of them need a restart.
//!
//! It is made of what the files say, key by key of the schema, and not of the checked settings: a key
//! that is added to the schema takes part without further code.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml::de::DeTable;

use super::live;
use super::schema::{self, Fallback};
use super::source::{Entry, Source, Value};

/// What happened to a key or a section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A section in double brackets is new.
    Added,
    /// A section in double brackets is gone.
    Removed,
    /// A key has another value.
    Changed {
        /// The value before.
        from: String,
        /// The value from now on.
        to: String,
    },
}

/// One difference between two versions of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path of the key or section, with the names of sections in double brackets, such as
    /// `switch.service[shop].replica[lisbon].enabled`.
    pub path: String,
    /// The line in the new version; in the old one, for what the new one does not have.
    pub line: usize,
    /// What happened.
    pub what: What,
    /// Whether it needs a restart.
    pub needs_restart: bool,
}

/// Formats the change as one line: `switch.max_copies: 8 -> 4 (line 12)`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, what, .. } = self;
        match what {
            What::Added => write!(f, "added {path} (line {line})"),
            What::Removed => write!(f, "removed {path} (was line {line})"),
            What::Changed { from, to } => write!(f, "changed {path}: {from} -> {to} (line {line})"),
        }
    }
}

/// Returns what differs between two versions of a file, in the order of the lines: first what the new
/// one has, then what is gone.
pub fn changes(old: &Source, new: &Source) -> Vec<Change> {
    let (before, after) = (old.entries(), new.entries());
    let find = |entries: &[Entry]| -> BTreeMap<String, Entry> {
        entries.iter().map(|entry| (entry.shown.clone(), entry.clone())).collect()
    };
    let (was, is) = (find(&before), find(&after));
    let sections = |entries: &[Entry]| -> BTreeSet<String> {
        let sections = entries.iter().filter(|entry| entry.value.is_none());
        sections.map(|entry| entry.shown.clone()).collect()
    };
    let (were, are) = (sections(&before), sections(&after));
    let in_both = |entry: &&Entry| {
        around(&entry.shown).all(|section| were.contains(section) && are.contains(section))
    };
    let mut all = Vec::new();
    for entry in after.iter().filter(in_both) {
        let before = was.get(&entry.shown);
        match &entry.value {
            None if before.is_none() => all.push(change(entry, What::Added)),
            None => {}
            Some(value) => {
                let before = before.and_then(|entry| entry.value.clone());
                let before = before.unwrap_or_else(|| default(&entry.schema, old.role()));
                if before != *value {
                    let (from, to) = (before.shown, value.shown.clone());
                    all.push(change(entry, What::Changed { from, to }));
                }
            }
        }
    }
    for entry in before.iter().filter(in_both).filter(|entry| !is.contains_key(&entry.shown)) {
        match &entry.value {
            None => all.push(change(entry, What::Removed)),
            Some(value) => {
                let after = default(&entry.schema, new.role());
                if after != *value {
                    let (from, to) = (value.shown.clone(), after.shown);
                    all.push(change(entry, What::Changed { from, to }));
                }
            }
        }
    }
    all
}

fn change(entry: &Entry, what: What) -> Change {
    let needs_restart = !live::is_live(&entry.schema);
    Change { path: entry.shown.clone(), line: entry.line, what, needs_restart }
}

/// Returns the paths of the sections in double brackets around a key or section.
fn around(shown: &str) -> impl Iterator<Item = &str> {
    let ends = shown.match_indices(']').map(|(at, _)| at + 1);
    ends.filter(|end| *end < shown.len() && shown[*end..].starts_with('.')).map(|end| &shown[..end])
}

/// Returns the value of a key that a file leaves out.
fn default(path: &str, role: &str) -> Value {
    let words = |words: &str| Value::in_words(words);
    match schema::find(path).map(|key| key.fallback) {
        Some(Fallback::Value(text)) => {
            let text = format!("key = {}", text.replace("<role>", role));
            let table = DeTable::parse(&text).ok();
            let value = table.as_ref().and_then(|table| table.get_ref().get("key"));
            value.map_or_else(
                || words(&text),
                |value| Value::of(path, value.get_ref()).marked_default(),
            )
        }
        Some(Fallback::Derived(what)) => words(what),
        Some(Fallback::Required) | None => words("not given"),
    }
}

#[cfg(test)]
mod tests;
