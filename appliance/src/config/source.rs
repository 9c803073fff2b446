//! The text of a configuration file that is in use: what a reload compares the file with.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::document::Document;
use super::schema::{self, Expect, HASH_KEY};
use super::{Config, ConfigErrors, Kind, value};

/// A configuration file as it was read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file's absolute path.
    path: PathBuf,
    /// The file's name in errors.
    name: String,
    text: String,
}

impl Source {
    /// Reads a file. Errors name it `path`, as given; a later [`Source::read_again`] finds it wherever
    /// the process's working directory is then.
    ///
    /// # Errors
    /// Why it cannot be read, or is not text.
    pub fn read(path: &Path) -> Result<Self, ConfigErrors> {
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Self::read_as(absolute, path.display().to_string())
    }

    /// Reads the file again. Errors name it by its absolute path.
    ///
    /// # Errors
    /// As for [`Source::read`].
    pub fn read_again(&self) -> Result<Self, ConfigErrors> {
        Self::read_as(self.path.clone(), self.path.display().to_string())
    }

    fn read_as(path: PathBuf, name: String) -> Result<Self, ConfigErrors> {
        let bytes = std::fs::read(&path)
            .map_err(|error| ConfigErrors::one(&name, None, format!("cannot be read: {error}")))?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
            let line = 1 + before.filter(|byte| **byte == b'\n').count();
            ConfigErrors::one(&name, Some(line), "is not text; expected UTF-8".to_owned())
        })?;
        Ok(Self { path, name, text })
    }

    /// Returns a source with this text, for tests and for texts that are in no file.
    pub fn of_text(name: &str, text: &str) -> Self {
        Self { path: name.into(), name: name.to_owned(), text: text.to_owned() }
    }

    /// Returns the file's absolute path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Checks the text.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(&self) -> Result<Config, ConfigErrors> {
        Config::parse(&self.name, &self.text)
    }

    /// Returns the line of a key: a schema path in which each list is followed by the number of its
    /// entry, such as `switch.service[0].replica[1].enabled`. `None` if the file leaves it out.
    pub fn line_of(&self, indexed: &str) -> Option<usize> {
        self.entries().into_iter().find(|entry| entry.indexed == indexed).map(|entry| entry.line)
    }

    /// Returns all keys and sections in double brackets that the text has, in the order of its
    /// lines. A text that is no TOML has none.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let Ok(table) = DeTable::parse(&self.text) else { return Vec::new() };
        let table = table.get_ref();
        let role = Kind::of(table).unwrap_or(Kind::Gateway).name();
        let mut walk =
            Walk { document: Document::new(&self.name, &self.text, role), entries: Vec::new() };
        walk.table(table, &Paths::default());
        walk.entries.sort_by_key(|entry| entry.line);
        walk.entries
    }

    /// Returns the name of the role, which stands for `<role>` in defaults.
    pub(super) fn role(&self) -> &'static str {
        let table = DeTable::parse(&self.text).ok();
        table.and_then(|table| Kind::of(table.get_ref())).unwrap_or(Kind::Gateway).name()
    }
}

/// A key of a file, or a section in double brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// The dotted path without list indices, for the schema.
    pub schema: String,
    /// The path with the names of sections in double brackets, such as
    /// `switch.service[shop].content`: the same after a reload, wherever the section stands.
    pub shown: String,
    /// The path with the numbers of such sections.
    indexed: String,
    /// The line.
    pub line: usize,
    /// The value; `None` for a section.
    pub value: Option<Value>,
}

/// A value of a key.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The value in words that do not depend on how it is written.
    meaning: String,
    /// The value for operators.
    pub shown: String,
}

/// Two values are equal if they mean the same, such as "60s" and "1m".
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.meaning == other.meaning
    }
}

impl Eq for Value {}

impl Value {
    /// Returns the value of the key at `path`.
    pub(super) fn of(path: &str, found: &DeValue<'_>) -> Self {
        let expect = schema::find(path).map(|key| key.expect);
        let written = written(found);
        let meaning = match expect {
            Some(Expect::Duration) => value::duration(found).map(|time| format!("{time:?}")).ok(),
            _ => None,
        };
        let is_secret = expect == Some(HASH_KEY);
        let shown = if is_secret { "(not shown)".to_owned() } else { written.clone() };
        Self { meaning: meaning.unwrap_or(written), shown }
    }
}

impl Value {
    /// Returns what stands for a value that is not given.
    pub(super) fn in_words(words: &str) -> Self {
        // No value is written like this.
        Self { meaning: format!("({words})"), shown: format!("({words})") }
    }

    /// Returns the value, marked as the default for operators.
    pub(super) fn marked_default(self) -> Self {
        Self { shown: format!("{} (the default)", self.shown), ..self }
    }
}

/// Returns a value in one way of writing it.
fn written(found: &DeValue<'_>) -> String {
    match found {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(_) => value::integer(found).map_or_else(|what| what, |n| n.to_string()),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(is) => is.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let entries: Vec<_> = list.iter().map(|entry| written(entry.get_ref())).collect();
            format!("[{}]", entries.join(", "))
        }
        DeValue::Table(table) => {
            let pairs = table
                .iter()
                .map(|(key, value)| format!("{} = {}", key.get_ref(), written(value.get_ref())));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The paths of a place in a document.
#[derive(Clone, Debug, Default)]
struct Paths {
    schema: String,
    shown: String,
    indexed: String,
}

impl Paths {
    fn key(&self, name: &str) -> Self {
        let join = |path: &str| match path {
            "" => name.to_owned(),
            _ => format!("{path}.{name}"),
        };
        Self { schema: join(&self.schema), shown: join(&self.shown), indexed: join(&self.indexed) }
    }

    fn entry(&self, label: &str, number: usize) -> Self {
        Self {
            schema: self.schema.clone(),
            shown: format!("{}[{label}]", self.shown),
            indexed: format!("{}[{number}]", self.indexed),
        }
    }
}

struct Walk<'d> {
    document: Document<'d>,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>, at: &Paths) {
        for (name, found) in table.iter() {
            let paths = at.key(name.get_ref());
            let line = self.document.line(found.span().start);
            let list = found.get_ref().as_array();
            let is_section = |list: &&toml::de::DeArray<'_>| {
                matches!(
                    schema::find(&paths.schema).map(|key| key.expect),
                    Some(Expect::Sections(..))
                ) && list.iter().all(|entry| entry.get_ref().as_table().is_some())
            };
            if let Some(table) = found.get_ref().as_table() {
                self.table(table, &paths);
            } else if let Some(list) = list.filter(is_section) {
                let tables: Vec<_> =
                    list.iter().filter_map(|entry| entry.get_ref().as_table()).collect();
                let lines = list.iter().map(|entry| self.document.line(entry.span().start));
                let lines: Vec<_> = lines.collect();
                let labelled = labels(&tables).into_iter().zip(tables).zip(lines);
                for (number, ((label, table), line)) in labelled.enumerate() {
                    let paths = paths.entry(&label, number);
                    self.push(&paths, line, None);
                    self.table(table, &paths);
                }
            } else {
                let value = Value::of(&paths.schema, found.get_ref());
                self.push(&paths, line, Some(value));
            }
        }
    }

    fn push(&mut self, paths: &Paths, line: usize, value: Option<Value>) {
        let Paths { schema, shown, indexed } = paths.clone();
        self.entries.push(Entry { schema, shown, indexed, line, value });
    }
}

/// The keys that name a section in double brackets, the first that is given.
const NAMING: [&str; 4] = ["name", "prefix", "mac", "address"];

/// Returns names for the sections of a list, by which they are found again in another version of the
/// file: those that counters and commands use, where there are such.
fn labels(tables: &[&DeTable<'_>]) -> Vec<String> {
    let text = |table: &DeTable<'_>, key: &str| {
        table.get(key).and_then(|value| value.get_ref().as_str()).map(str::to_owned)
    };
    let first_port = |table: &DeTable<'_>| {
        let ports = table.get("ports")?.get_ref().as_array()?;
        value::port(ports.iter().next()?.get_ref()).ok()
    };
    let own = |table: &&DeTable<'_>| NAMING.iter().find_map(|key| text(table, key));
    let names: Vec<_> = tables.iter().map(own).map(Option::unwrap_or_default).collect();
    let mut labels: Vec<String> = Vec::new();
    for (table, name) in tables.iter().zip(&names) {
        let is_shared = names.iter().filter(|other| *other == name).count() > 1;
        let port = first_port(table).filter(|_| is_shared);
        let mut label = match port {
            Some(port) => format!("{name}:{port}"),
            None => name.clone(),
        };
        if label.is_empty() || labels.contains(&label) {
            label = format!("{label}#{}", labels.len() + 1);
        }
        labels.push(label);
    }
    labels
}
